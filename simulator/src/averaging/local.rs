//! What clients do in a round of averaged parameters.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fedistill_client::PrivateData;
use fedistill_learning::{Learner, Objective, Schedule, Targets, seed};
use fedistill_protocol::{Loss, LossTerm, Name, Toward};

use super::lock;
use super::sum::Sum;
use crate::{Plan, SimulationError, World};

/// What clients do in one round.
pub(super) struct Work<'a> {
    pub(super) world: &'a World,
    pub(super) plan: &'a Plan,
    /// What they begin with.
    pub(super) parameters: &'a [f32],
    /// The transfer samples on which they are asked for logits.
    pub(super) rows: &'a [usize],
    pub(super) seed: u64,
}

impl Work<'_> {
    /// Means of the parameters, by number of samples, and of the logits of all asked clients.
    pub(super) fn train(
        &self,
        asked: &[usize],
        names: &[Name],
        desks: &[Mutex<Learner>],
    ) -> Result<(Vec<f32>, Vec<f32>), SimulationError> {
        let classes = self.world.test.classes().len();
        let sums = Mutex::new((
            Sum::new(self.parameters.len()),
            Sum::new(self.rows.len() * classes),
        ));
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        // The most work first, so that no worker is left alone with it at the end.
        let mut asked = asked.to_vec();
        asked.sort_by_key(|&client| std::cmp::Reverse(self.world.private[client].len()));
        let asked = &asked;
        std::thread::scope(|scope| {
            for desk in desks {
                let (sums, next, failed) = (&sums, &next, &failed);
                scope.spawn(move || {
                    let mut learner = lock(desk);
                    while let Some(&client) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let done = self.train_one(&mut learner, client, &names[client]);
                        let added = done.and_then(|logits| {
                            let mut sums = lock(sums);
                            let samples = self.world.private[client].len() as i64;
                            sums.0.add(samples, learner.model().weights())?;
                            sums.1.add(1, &logits)
                        });
                        if let Err(error) = added {
                            // The first client's, whoever comes first.
                            let mut failed = lock(failed);
                            if failed.as_ref().is_none_or(|(other, _)| client < *other) {
                                *failed = Some((client, error));
                            }
                        }
                    }
                });
            }
        });
        if let Some((client, error)) = lock(&failed).take() {
            let why = format!("client {}: {error}", names[client]);
            return Err(SimulationError::Settings(why));
        }
        let sums = lock(&sums);
        Ok((sums.0.mean(), sums.1.mean()))
    }

    fn train_one(
        &self,
        learner: &mut Learner,
        client: usize,
        name: &Name,
    ) -> Result<Vec<f32>, SimulationError> {
        let data = &self.world.private[client];
        let training = &self.plan.training;
        learner.set_weights(self.parameters)?;
        learner.begin(training.optimiser);
        let schedule = Schedule {
            epochs: training.private_epochs.into(),
            batch: training.batch.into(),
        };
        let mut order = seed::stream(self.seed, &format!("order/{name}"));
        let mut noise = seed::stream(self.seed, &format!("noise/{name}"));
        let terms = [LossTerm::new(
            Loss::CrossEntropy {
                smoothing: training.label_smoothing,
            },
            Toward::Labels,
        )];
        let (mut samples, mut labels) = (Vec::new(), Vec::new());
        for batch in schedule.batches(data.len(), &mut order) {
            samples.clear();
            labels.clear();
            data.batch(&batch, &mut samples, &mut labels)
                .map_err(|error| SimulationError::Internal(error.to_string()))?;
            let objective = Objective::new(&terms, Targets::hard(&labels));
            learner.step(&samples, &objective, &mut noise)?;
        }
        Ok(learner.logits_of(&self.world.transfer, self.rows)?)
    }
}
