use fedistill_federation::{Method, Training};
use fedistill_program::config::Steps;
use serde::Deserialize;

use crate::CoordinatorError;

/// How hard clients and teacher train in a round.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainingConfig {
    /// Passes over private data.
    pub private_epochs: u16,
    /// Passes over the round's transfer samples.
    pub distillation_epochs: u16,
    /// Samples a step.
    pub batch: u16,
    /// How steps are taken.
    pub steps: Steps,
    /// Temperature at which clients distil what came down, by KL, 0.01 to 1000.
    pub distillation_temperature: f32,
    /// Share of a private label that is spread evenly over all classes, 0 up to but not 1.
    pub label_smoothing: f32,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            private_epochs: 1,
            distillation_epochs: 3,
            batch: 50,
            steps: Steps::default(),
            distillation_temperature: Training::TEMPERATURE,
            label_smoothing: Training::SMOOTHING,
        }
    }
}

impl TrainingConfig {
    /// What it asks of clients of this method.
    ///
    /// # Errors
    /// What leads nowhere, or is without effect.
    pub(super) fn with(self, method: &dyn Method) -> Result<Training, CoordinatorError> {
        let training = Training {
            private_epochs: self.private_epochs,
            distillation_epochs: self.distillation_epochs,
            batch: self.batch,
            optimiser: self.steps.into(),
            distillation_temperature: self.distillation_temperature,
            label_smoothing: self.label_smoothing,
        };
        let wrong = |why: String| CoordinatorError::Settings(format!("training.{why}"));
        training.check().map_err(wrong)?;
        let steps = self.steps.check();
        steps.map_err(|why| wrong(format!("steps: {why}")))?;
        training.suits(method).map_err(wrong)?;
        Ok(training)
    }
}
