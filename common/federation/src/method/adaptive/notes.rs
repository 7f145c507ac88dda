//! What the method notes for itself, in the store's form.

use fedistill_protocol::{Answers, Precision};

use crate::method::MethodError;

/// What is noted from round to round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Notes {
    /// How many times the mean of clients the teacher weighs, once that is measured.
    pub(super) measured: Option<f64>,
    /// What the teacher said of every transfer sample before it learnt anything: centred logits.
    pub(super) first: Option<Answers>,
    /// Whether clients are to be silent about nothing; noted where no teacher spoke first.
    pub(super) all_speak: bool,
}

/// All that is noted where clients are to be silent about nothing.
const ALL_SPEAK: [u8; 1] = [1];

impl Notes {
    /// Of a transfer set of so many samples: answers on another one are no answers on this.
    pub(super) fn read(bytes: &[u8], samples: u32, name: &str) -> Result<Self, MethodError> {
        let Some((measured, first)) = bytes.split_first_chunk::<8>() else {
            let all_speak = bytes == ALL_SPEAK;
            return match bytes.is_empty() || all_speak {
                true => Ok(Self {
                    all_speak,
                    ..Self::default()
                }),
                false => Err(MethodError::Memory(name.to_owned())),
            };
        };
        let measured = f64::from_le_bytes(*measured);
        let first = match first {
            [] => None,
            packed => Some(Answers::read(packed)?),
        };
        if first.as_ref().is_some_and(|first| first.rows() != samples) {
            return Err(MethodError::Memory(name.to_owned()));
        }
        Ok(Self {
            measured: measured.is_finite().then_some(measured),
            first,
            all_speak: false,
        })
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        if self.all_speak {
            return ALL_SPEAK.to_vec();
        }
        let mut bytes = self.measured.unwrap_or(f64::NAN).to_le_bytes().to_vec();
        if let Some(first) = &self.first {
            bytes.extend(first.pack(Precision::F16));
        }
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
