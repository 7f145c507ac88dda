use std::path::Path;

use fedistill_federation::Training;
use fedistill_learning::checkpoint::{self, About};
use fedistill_learning::{Learner, Objective, Samples, Schedule, Targets, seed};
use fedistill_protocol::{Answers, Loss, LossTerm, Toward};

/// What a teacher of the user's own reports.
pub type TeacherError = Box<dyn std::error::Error + Send + Sync>;

/// The model at the centre.
pub trait Teacher: Send {
    /// The logits of all samples, `samples x classes`.
    ///
    /// # Errors
    /// What the teacher reports.
    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, TeacherError>;

    /// Learns from the aggregate: a row of `labels` for each of `samples`.
    ///
    /// # Errors
    /// What the teacher reports.
    fn learn(
        &mut self,
        samples: &Samples,
        labels: &Answers,
        training: &Training,
        seed: u64,
    ) -> Result<(), TeacherError>;

    /// Whether it knew something before the federation began; one that did not says nothing until it
    /// has learnt.
    fn is_trained(&self) -> bool {
        true
    }

    /// All that it knows, so that [`Self::restore`] leads back here.
    fn snapshot(&self) -> Vec<f32>;

    /// Goes back to a snapshot.
    ///
    /// # Errors
    /// A snapshot of another model.
    fn restore(&mut self, snapshot: &[f32]) -> Result<(), TeacherError>;

    /// Writes the model to a file.
    ///
    /// # Errors
    /// A path that cannot be written.
    fn save(&self, path: &Path) -> Result<(), TeacherError>;
}

/// A model of ours as the teacher.
pub struct NetTeacher {
    learner: Learner,
    about: About,
    trained: bool,
}

impl NetTeacher {
    /// A teacher that is `learner`, which `about` describes.
    pub fn new(learner: Learner, about: About) -> Self {
        Self {
            learner,
            about,
            trained: true,
        }
    }

    /// The same, but knowing nothing yet: it only learns from what clients know.
    pub fn untrained(learner: Learner, about: About) -> Self {
        Self {
            trained: false,
            ..Self::new(learner, about)
        }
    }

    /// What it is.
    pub fn about(&self) -> &About {
        &self.about
    }
}

impl Teacher for NetTeacher {
    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, TeacherError> {
        Ok(self.learner.logits(samples)?)
    }

    fn learn(
        &mut self,
        samples: &Samples,
        labels: &Answers,
        training: &Training,
        seed: u64,
    ) -> Result<(), TeacherError> {
        let terms = [LossTerm::new(
            Loss::Kl { temperature: 1.0 },
            Toward::Knowledge,
        )];
        let schedule = Schedule {
            epochs: training.distillation_epochs.into(),
            batch: training.batch.into(),
        };
        let mut order = seed::stream(seed, "teacher/order");
        let mut noise = seed::stream(seed, "teacher/noise");
        let classes = labels.classes() as usize;
        let (mut batch, mut targets) = (Vec::new(), Vec::new());
        self.learner.begin(training.optimiser);
        for indices in schedule.batches(samples.len(), &mut order) {
            batch.clear();
            targets.clear();
            samples.gather(&indices, &mut batch);
            for index in indices {
                targets.extend_from_slice(&labels.values()[index * classes..(index + 1) * classes]);
            }
            let targets = Targets::soft(labels.kind(), classes, &targets);
            let objective = Objective::new(&terms, targets);
            self.learner.step(&batch, &objective, &mut noise)?;
        }
        Ok(())
    }

    fn is_trained(&self) -> bool {
        self.trained
    }

    fn snapshot(&self) -> Vec<f32> {
        self.learner.model().weights().to_vec()
    }

    fn restore(&mut self, snapshot: &[f32]) -> Result<(), TeacherError> {
        Ok(self.learner.set_weights(snapshot)?)
    }

    fn save(&self, path: &Path) -> Result<(), TeacherError> {
        Ok(checkpoint::save(
            path,
            self.learner.model(),
            &self.about,
            None,
        )?)
    }
}
