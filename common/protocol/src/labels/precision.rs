//! How many bits a value takes, and what it becomes.

use super::AnswerKind;
use crate::codec::{Decode, Encode};

impl AnswerKind {
    /// What its values become at a precision.
    pub(super) fn form(self, precision: Precision) -> Form {
        match (self, precision.bits()) {
            _ if precision == Precision::Peak => Form::Peaks,
            (_, None) => Form::Floats,
            (Self::Probabilities, Some(bits)) => Form::Parts(bits),
            (_, Some(bits)) => Form::Steps(bits),
        }
    }
}

/// What values become.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// Numbers, all of them or the largest.
    Floats,
    /// The largest of each row, and two levels.
    Peaks,
    /// Symbols of so many bits: parts of a whole, of which a row may have none.
    Parts(u32),
    /// Symbols of so many bits: steps between the least and the largest value of a block.
    Steps(u32),
}

/// How many bits a value takes on the wire.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, PartialEq)]
pub enum Precision {
    /// 32 bits: the value itself.
    F32,
    /// 16 bits, IEEE 754 binary16, rounded to nearest; values beyond its range become its largest.
    F16,
    /// 8 bits. Of logits, the nearest of 256 steps between the least and the largest value of a block
    /// of [`super::Answers::BLOCK`] values, which are there too as f32; of probabilities, so many of 255 parts.
    U8,
    /// 4 bits: 16 steps, or 15 parts.
    U4,
    /// 2 bits: 4 steps, or 3 parts.
    U2,
    /// 1 bit: of probabilities, a vote for the largest; of logits and features, the largest of its block or the
    /// least.
    U1,
    /// So many values of each row, at least 1: the largest, at 16 bits, and which ones they are. The others
    /// share evenly what those leave of 1; of logits and features all are what they are on average.
    Top(u8),
    /// Which value of each row is the largest, how much that is, and what all others are on average, both as one of 16
    /// levels: some 1 bit a value of ten classes. Peers of version 3 do not know it, and cannot read plans that ask
    /// for it.
    Peak,
}

impl Precision {
    /// All that keep every value, finest first.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::U8, Self::U4, Self::U2, Self::U1];

    /// Its number in packed answers.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::U8 => 2,
            Self::U4 => 3,
            Self::U2 => 4,
            Self::U1 => 5,
            Self::Top(_) => Self::TOP,
            Self::Peak => 7,
        }
    }

    /// The number of [`Self::Top`], whose count follows the header.
    pub(super) const TOP: u8 = 6;

    /// What a user means who asks for it: one bit of logits is [`Self::Peak`].
    #[must_use]
    pub fn of(self, kind: AnswerKind) -> Self {
        match (self, kind) {
            (Self::U1, AnswerKind::Logits) => Self::Peak,
            (other, _) => other,
        }
    }

    /// What nobody could pack with, as the end of a sentence.
    pub(crate) fn fault(self) -> Option<String> {
        (self == Self::Top(0)).then(|| "keeps no value of a row".to_owned())
    }

    /// Bits of a symbol, where values become symbols.
    pub(super) fn bits(self) -> Option<u32> {
        match self {
            Self::F32 | Self::F16 | Self::Top(_) | Self::Peak => None,
            Self::U8 => Some(8),
            Self::U4 => Some(4),
            Self::U2 => Some(2),
            Self::U1 => Some(1),
        }
    }
}
