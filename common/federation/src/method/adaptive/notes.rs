//! What the method notes for itself, in the store's form.

use fedistill_protocol::{Answers, Precision};

use super::silence::Reach;
use crate::method::MethodError;

/// How many times the mean of clients the teacher weighs, by labelled samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Weight {
    /// It has not been measured.
    #[default]
    Open,
    /// It was, when clients knew little, and will be again.
    ForNow(f64),
    /// It was, for good.
    ForGood(f64),
}

impl Weight {
    /// What was measured last.
    pub(super) fn measured(self) -> Option<f64> {
        match self {
            Self::Open => None,
            Self::ForNow(weight) | Self::ForGood(weight) => Some(weight),
        }
    }

    /// As a number: below 0 what will be measured again.
    fn from_number(number: f64) -> Self {
        match number {
            open if !open.is_finite() => Self::Open,
            again if again.is_sign_negative() => Self::ForNow(-again),
            measured => Self::ForGood(measured),
        }
    }

    fn number(self) -> f64 {
        match self {
            Self::Open => f64::NAN,
            Self::ForNow(weight) => -weight,
            Self::ForGood(weight) => weight,
        }
    }
}

/// What is noted from round to round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Notes {
    /// How much the teacher weighs.
    pub(super) weight: Weight,
    /// What the teacher said of every transfer sample before it learnt anything: centred logits.
    pub(super) first: Option<Answers>,
    /// How far from their own samples clients speak.
    pub(super) reach: Reach,
}

/// The last byte, where clients do not speak as near as they begin; beside it nothing is noted where no teacher spoke first.
const REACHES: [(Reach, u8); 2] = [(Reach::All, 1), (Reach::Wide, 2)];

fn reach(byte: u8) -> Option<Reach> {
    let known = REACHES.iter().find(|(_, known)| *known == byte);
    known.map(|(reach, _)| *reach)
}

impl Notes {
    /// Of a transfer set of so many samples: answers on another one are no answers on this.
    pub(super) fn read(bytes: &[u8], samples: u32, name: &str) -> Result<Self, MethodError> {
        let alone = match bytes {
            [] => Some(Reach::default()),
            [byte] => reach(*byte),
            _ => None,
        };
        if let Some(reach) = alone {
            return Ok(Self {
                reach,
                ..Self::default()
            });
        }
        let Some((weight, first)) = bytes.split_first_chunk::<8>() else {
            return Err(MethodError::Memory(name.to_owned()));
        };
        let weight = Weight::from_number(f64::from_le_bytes(*weight));
        // Answers are exactly as long as they say.
        let last = first.split_last();
        let last = last.and_then(|(byte, shorter)| Some((reach(*byte)?, shorter)));
        let (first, reach) = match (first, last) {
            ([], _) => (None, Reach::default()),
            (packed, Some((reach, shorter))) => match Answers::read(packed) {
                Ok(first) => (Some(first), Reach::default()),
                Err(_) => (Some(Answers::read(shorter)?), reach),
            },
            (packed, _) => (Some(Answers::read(packed)?), Reach::default()),
        };
        if first.as_ref().is_some_and(|first| first.rows() != samples) {
            return Err(MethodError::Memory(name.to_owned()));
        }
        Ok(Self {
            weight,
            first,
            reach,
        })
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(first) = &self.first {
            bytes.extend(self.weight.number().to_le_bytes());
            bytes.extend(first.pack(Precision::F16));
        }
        let noted = REACHES.iter().find(|(reach, _)| *reach == self.reach);
        bytes.extend(noted.map(|(_, byte)| *byte));
        bytes
    }

    /// What the teacher said first of one sample; `None` where it said nothing.
    pub(super) fn teacher(&self, row: u32) -> Option<&[f32]> {
        let first = self.first.as_ref()?;
        let width = first.classes() as usize;
        let start = row as usize * width;
        first.values().get(start..start + width)
    }
}
