use fedistill_learning::{Learner, Objective, Samples};
use fedistill_protocol::{Optimiser, Start};
use rand_chacha::ChaCha20Rng;

/// What a student of the user's own reports.
pub type StudentError = Box<dyn std::error::Error + Send + Sync>;

/// A model that learns on this device: of any kind, and of any size.
///
/// Batches are plain slices, `samples x values`, so a student may be made with whatever one likes.
pub trait Student: Send {
    /// A stretch of training begins: from these parameters, with this optimiser and no memory of
    /// earlier steps.
    ///
    /// # Errors
    /// What the student reports.
    fn begin(&mut self, start: Start, optimiser: Optimiser) -> Result<(), StudentError>;

    /// One step on a batch of whole samples: [`Objective::evaluate`] turns logits into loss and
    /// gradient. Returns the mean loss. All randomness comes from `rng`.
    ///
    /// # Errors
    /// What the student reports; a loss that is no longer finite should be one.
    fn step(
        &mut self,
        samples: &[f32],
        objective: &Objective<'_>,
        rng: &mut ChaCha20Rng,
    ) -> Result<f32, StudentError>;

    /// The logits of all samples, `samples x classes`.
    ///
    /// # Errors
    /// What the student reports.
    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, StudentError>;

    /// All that it has learnt, for who saves it; empty where the student sees to that itself.
    fn parameters(&self) -> &[f32] {
        &[]
    }
}

impl Student for Learner {
    fn begin(&mut self, start: Start, optimiser: Optimiser) -> Result<(), StudentError> {
        if start == Start::Reset {
            self.reset()?;
        }
        Self::begin(self, optimiser);
        Ok(())
    }

    fn step(
        &mut self,
        samples: &[f32],
        objective: &Objective<'_>,
        rng: &mut ChaCha20Rng,
    ) -> Result<f32, StudentError> {
        Ok(Self::step(self, samples, objective, rng)?)
    }

    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, StudentError> {
        Ok(Self::logits(self, samples)?)
    }

    fn parameters(&self) -> &[f32] {
        self.model().weights()
    }
}
