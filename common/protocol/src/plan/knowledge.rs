//! What comes down with a plan, and what that speaks about.

use super::PhaseData;
use crate::codec::{Decode, Encode};
use crate::{AnswerKind, Answers, Digest, LossTerm, Precision, Rows, Toward};

/// What answers speak about, a row each.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum About {
    /// These samples of the transfer set.
    Rows(Rows),
    /// The classes, in their order.
    Classes,
}

impl About {
    /// Number of rows, of answers that have so many classes.
    pub fn count(&self, classes: u32) -> u32 {
        match self {
            Self::Rows(rows) => rows.count(),
            Self::Classes => classes,
        }
    }

    pub(super) fn check(&self, samples: u32) -> Result<(), String> {
        match self {
            Self::Rows(rows) => rows.check(samples),
            Self::Classes => Ok(()),
        }
    }
}

/// What is known of some transfer samples, or of the classes, as a blob of packed [`Answers`].
///
/// Where several speak of one sample, a student takes the one that is closest to what it says itself
/// (COMET, Cho et al. 2023).
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Knowledge {
    /// Name of the blob.
    pub blob: Digest,
    /// Length of the blob in bytes.
    pub bytes: u64,
    /// What its values are.
    pub kind: AnswerKind,
    /// Values of a row: classes, or the width of features.
    pub width: u32,
    /// What it speaks about.
    pub about: About,
    /// How its values are packed.
    pub precision: Precision,
    /// A shorter way to the same, for who holds what came before it.
    pub update: Option<Update>,
}

/// A way from answers that somebody holds to others: see [`Answers::update`].
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Update {
    /// Name of the blob that it starts from.
    pub base: Digest,
    /// Name of the blob that holds the update.
    pub blob: Digest,
    /// Length of that in bytes.
    pub bytes: u64,
}

impl Knowledge {
    /// The widest features: a student of others learns a map from its own to these, with the state of an optimiser.
    pub const MOST_FEATURES: u32 = 8192;

    /// Number of values, of answers that have so many classes.
    pub(super) fn values(&self, classes: u32) -> u64 {
        u64::from(self.about.count(classes)) * u64::from(self.width)
    }

    /// Bytes of the same answers whole and uncoded: 4 a value.
    pub fn raw_bytes(&self, classes: u32) -> u64 {
        4 * self.values(classes)
    }

    /// The most bytes that the blob may have.
    pub fn most_bytes(&self, classes: u32) -> u64 {
        let rows = self.about.count(classes);
        Answers::most_bytes(self.kind, rows, self.width, self.precision)
    }

    pub(super) fn check(&self, samples: u32, classes: u32) -> Result<(), String> {
        self.about.check(samples)?;
        if let Some(fault) = self.precision.fault() {
            return Err(fault);
        }
        let rows = self.about.count(classes);
        if self.kind != AnswerKind::Features && self.width != classes {
            return Err(format!("of {} columns for {classes} classes", self.width));
        }
        if self.kind == AnswerKind::Features && self.width > Self::MOST_FEATURES {
            return Err(format!(
                "of features {} wide, which may be at most {}",
                self.width,
                Self::MOST_FEATURES
            ));
        }
        let (values, most) = (self.values(classes), self.most_bytes(classes));
        let longest = self.update.map_or(0, |update| update.bytes);
        if values > Answers::MOST_VALUES || longest.max(self.bytes) > most {
            return Err(format!(
                "of {} bytes about {rows} rows of {} columns",
                longest.max(self.bytes),
                self.width
            ));
        }
        Ok(())
    }

    /// Whether a loss can hold against it what a student says.
    pub(super) fn serves(&self, data: PhaseData, term: &LossTerm) -> bool {
        let about = match self.about {
            About::Rows(_) => data == PhaseData::Transfer && term.toward == Toward::Knowledge,
            About::Classes => data == PhaseData::Private && term.toward == Toward::Classes,
        };
        let kind = match self.kind {
            AnswerKind::Features => term.loss.is_of_features(),
            AnswerKind::Logits => !term.loss.is_of_features(),
            AnswerKind::Probabilities => !term.loss.compares_values(),
        };
        about && kind
    }
}
