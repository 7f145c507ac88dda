//! A student that learns nothing, takes as long as one wishes, and says what one knows.

use std::time::Duration;

use fedistill_client::{Student, StudentError};
use fedistill_learning::{Objective, Samples};
use fedistill_protocol::{AnswerKind, Answers, Digest, Optimiser, Start, Version};
use rand_chacha::ChaCha20Rng;

use crate::handmade::PRECISION;

/// Says the same about every sample.
pub struct Scripted {
    row: Vec<f32>,
    rows: u32,
    takes: Box<dyn FnMut() -> Duration + Send>,
}

impl Scripted {
    /// One that answers at once; `number` tells its answers from those of others below 30,000.
    pub(crate) fn new(number: usize, classes: usize, rows: u32) -> Self {
        // Exact as a half: what is packed is what was said.
        let mut row: Vec<f32> = (0..classes)
            .map(|class| (class % 17) as f32 / 8.0)
            .collect();
        let digits = [number % 32, number / 32 % 32, number / 1024 % 32];
        for (value, digit) in row.iter_mut().zip(digits) {
            *value = digit as f32 / 4.0;
        }
        Self {
            row,
            rows,
            takes: Box::new(|| Duration::ZERO),
        }
    }

    /// Takes so long for each training.
    #[must_use]
    pub fn taking(mut self, takes: impl FnMut() -> Duration + Send + 'static) -> Self {
        self.takes = Box::new(takes);
        self
    }

    /// What it says in a round that speaks about all transfer samples, packed as for a peer of its own version.
    pub fn packed(&self) -> Vec<u8> {
        let values = self.row.repeat(self.rows as usize);
        let answers = Answers::new(AnswerKind::Logits, self.row.len() as u32, values).unwrap();
        answers.pack_for(Version::LATEST, PRECISION)
    }

    /// The digest of that.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.packed())
    }
}

impl Student for Scripted {
    fn begin(&mut self, _: Start, _: Optimiser) -> Result<(), StudentError> {
        Ok(())
    }

    fn step(
        &mut self,
        _: &[f32],
        _: &Objective<'_>,
        _: &mut ChaCha20Rng,
    ) -> Result<f32, StudentError> {
        Ok(0.0)
    }

    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, StudentError> {
        self.logits_of(samples, &vec![0; samples.len()])
    }

    fn logits_of(&mut self, _: &Samples, rows: &[usize]) -> Result<Vec<f32>, StudentError> {
        // A thread of its own is at work here, as one that trains would be.
        std::thread::sleep((self.takes)());
        Ok(self.row.repeat(rows.len()))
    }
}
