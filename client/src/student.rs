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

    /// The logits of the samples at `rows`, in that order, `rows x classes`.
    ///
    /// # Errors
    /// What the student reports.
    fn logits_of(&mut self, samples: &Samples, rows: &[usize]) -> Result<Vec<f32>, StudentError> {
        self.logits(&samples.select(rows))
    }

    /// The features of the samples at `rows`, in that order, `rows x width`, and that width: what the
    /// layer takes in that makes logits of it.
    ///
    /// # Errors
    /// What the student reports; by default, that it tells none.
    fn features_of(
        &mut self,
        samples: &Samples,
        rows: &[usize],
    ) -> Result<(Vec<f32>, usize), StudentError> {
        let _ = (samples, rows);
        Err("this student tells no features, which the plan asks for".into())
    }

    /// Work on a plan is about to begin: one that was put away gets ready.
    ///
    /// # Errors
    /// What the student reports.
    fn wake(&mut self) -> Result<(), StudentError> {
        Ok(())
    }

    /// The plan is given up, as it has failed or would leave a student of no use: from now on this one is what it was
    /// when it last woke, with no memory of training since. Whether it could: one that cannot, as by default, stays as it
    /// is, or is restored from the last [`Self::snapshot`] that was kept before.
    ///
    /// # Errors
    /// What the student reports.
    fn undo(&mut self) -> Result<bool, StudentError> {
        Ok(false)
    }

    /// The work on a plan is over, whatever has come of it: until [`Self::wake`] nothing is asked
    /// of the student.
    ///
    /// # Errors
    /// What the student reports.
    fn rest(&mut self) -> Result<(), StudentError> {
        Ok(())
    }

    /// All that its next step depends on, as bytes that [`Self::restore`] understands: with them its
    /// training goes on after a crash. `None` from one that cannot tell, which trains for a plan anew.
    fn snapshot(&self) -> Option<Vec<u8>> {
        None
    }

    /// Goes back to a snapshot: before [`Self::begin`] to what it had learnt, after it to the very step.
    ///
    /// # Errors
    /// What the student reports, such as bytes of another one.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), StudentError> {
        let _ = snapshot;
        Err("this student cannot go on from a snapshot".into())
    }

    /// All that it has learnt, for who saves it; empty where the student sees to that itself.
    fn parameters(&self) -> &[f32] {
        &[]
    }
}

impl Student for Learner {
    fn begin(&mut self, start: Start, optimiser: Optimiser) -> Result<(), StudentError> {
        match start {
            Start::Continue => {}
            Start::Reset => self.reset()?,
            Start::Seeded(seed) => self.reseed(seed)?,
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

    fn logits_of(&mut self, samples: &Samples, rows: &[usize]) -> Result<Vec<f32>, StudentError> {
        Ok(Self::logits_of(self, samples, rows)?)
    }

    fn features_of(
        &mut self,
        samples: &Samples,
        rows: &[usize],
    ) -> Result<(Vec<f32>, usize), StudentError> {
        Ok(Self::features_of(self, samples, rows)?)
    }

    fn wake(&mut self) -> Result<(), StudentError> {
        self.remember();
        Ok(())
    }

    fn undo(&mut self) -> Result<bool, StudentError> {
        self.go_back()?;
        Ok(true)
    }

    fn rest(&mut self) -> Result<(), StudentError> {
        self.forget();
        Ok(())
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        Some(Self::snapshot(self))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), StudentError> {
        Ok(Self::restore(self, snapshot)?)
    }

    fn parameters(&self) -> &[f32] {
        self.model().weights()
    }
}

impl Student for Box<dyn Student> {
    fn begin(&mut self, start: Start, optimiser: Optimiser) -> Result<(), StudentError> {
        self.as_mut().begin(start, optimiser)
    }

    fn step(
        &mut self,
        samples: &[f32],
        objective: &Objective<'_>,
        rng: &mut ChaCha20Rng,
    ) -> Result<f32, StudentError> {
        self.as_mut().step(samples, objective, rng)
    }

    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, StudentError> {
        self.as_mut().logits(samples)
    }

    fn logits_of(&mut self, samples: &Samples, rows: &[usize]) -> Result<Vec<f32>, StudentError> {
        self.as_mut().logits_of(samples, rows)
    }

    fn features_of(
        &mut self,
        samples: &Samples,
        rows: &[usize],
    ) -> Result<(Vec<f32>, usize), StudentError> {
        self.as_mut().features_of(samples, rows)
    }

    fn wake(&mut self) -> Result<(), StudentError> {
        self.as_mut().wake()
    }

    fn undo(&mut self) -> Result<bool, StudentError> {
        self.as_mut().undo()
    }

    fn rest(&mut self) -> Result<(), StudentError> {
        self.as_mut().rest()
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        self.as_ref().snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), StudentError> {
        self.as_mut().restore(snapshot)
    }

    fn parameters(&self) -> &[f32] {
        self.as_ref().parameters()
    }
}
