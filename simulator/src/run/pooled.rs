//! What one student learns that has all data.

use fedistill_learning::{Architecture, Evaluation, Learner, Schedule};

use super::Plan;
use crate::world::seed_of;
use crate::{Progress, SimulationError, View, World};

/// The upper bound: one student that has all private data in one place, which a federation exists
/// to avoid. It takes as many passes over it as clients do over theirs.
///
/// # Errors
/// A net that does not fit the data.
pub fn pooled(
    world: &World,
    plan: &Plan,
    progress: &Progress,
) -> Result<Evaluation, SimulationError> {
    let all = View::join(&world.private)
        .ok_or_else(|| SimulationError::Internal("no private data".to_owned()))?
        .to_dataset();
    let (shape, classes) = (all.samples().shape(), all.classes().len());
    let architecture = plan.models.first().copied().unwrap_or(Architecture::MlpS);
    let seed = seed_of(plan.seed, "pooled");
    let mut learner = Learner::new(architecture.build(shape, classes, seed)?);
    let schedule = Schedule {
        epochs: plan.rounds as usize * usize::from(plan.training.private_epochs),
        batch: plan.training.batch.into(),
    };
    let epochs = schedule.epochs as u32;
    let told = |epoch: usize, loss: f32| progress.epoch(epoch as u32, epochs, loss);
    learner.fit(&all, schedule, plan.training.optimiser, seed, told)?;
    Ok(learner.evaluate(world.test.samples(), world.test.labels())?)
}
