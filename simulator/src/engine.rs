//! What trains the students of many clients: a desk for each worker, with one resident model of
//! each architecture, into which a client's parameters are swapped for as long as it works.

use std::sync::{Arc, Mutex, PoisonError};

use fedistill_client::{Student, StudentError};
use fedistill_learning::{Architecture, ArchitectureError, Learner, Model, Objective, Samples};
use fedistill_protocol::{Optimiser, Start};
use rand_chacha::ChaCha20Rng;

use crate::students::Students;
use crate::world::seed_of;

/// What all simulated clients train with.
pub(crate) struct Engine {
    shape: Vec<u32>,
    classes: usize,
    seed: u64,
    students: Arc<Students>,
    /// Desks that nobody works at.
    free: Mutex<Vec<Desk>>,
}

/// A worker's models, one of each architecture that it has met, and a buffer for parameters.
#[derive(Default)]
struct Desk {
    models: Vec<(Architecture, Learner)>,
    buffer: Vec<f32>,
}

impl Engine {
    pub(crate) fn new(shape: Vec<u32>, classes: usize, seed: u64, students: Arc<Students>) -> Self {
        Self {
            shape,
            classes,
            seed,
            students,
            free: Mutex::default(),
        }
    }

    /// The student of a client. It costs nothing before it works for the first time.
    pub(crate) fn student(self: &Arc<Self>, client: usize, model: Architecture) -> Swapped {
        Swapped {
            engine: Arc::clone(self),
            client,
            model,
            work: None,
        }
    }

    /// The parameters that a client's student begins with follow from the client's own seed.
    fn fresh(
        &self,
        client: usize,
        model: Architecture,
    ) -> Result<fedistill_learning::Net, ArchitectureError> {
        let seed = seed_of(self.seed, &format!("student/{client}"));
        model.build(&self.shape, self.classes, seed)
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Desk>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A student that has a model only while it works.
pub(crate) struct Swapped {
    engine: Arc<Engine>,
    client: usize,
    model: Architecture,
    work: Option<Work>,
}

struct Work {
    desk: Desk,
    /// Which of the desk's models.
    at: usize,
}

impl Swapped {
    fn learner(&mut self) -> Result<&mut Learner, StudentError> {
        match &mut self.work {
            Some(Work { desk, at, .. }) => Ok(&mut desk.models[*at].1),
            None => Err("the student is put away".into()),
        }
    }
}

impl Student for Swapped {
    fn begin(&mut self, start: Start, optimiser: Optimiser) -> Result<(), StudentError> {
        let start = match start {
            Start::Reset => {
                // What the resident model began with is another client's.
                let fresh = self.engine.fresh(self.client, self.model)?;
                self.learner()?.set_weights(fresh.weights())?;
                Start::Continue
            }
            other => other,
        };
        Student::begin(self.learner()?, start, optimiser)
    }

    fn step(
        &mut self,
        samples: &[f32],
        objective: &Objective<'_>,
        rng: &mut ChaCha20Rng,
    ) -> Result<f32, StudentError> {
        Student::step(self.learner()?, samples, objective, rng)
    }

    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, StudentError> {
        Student::logits(self.learner()?, samples)
    }

    fn logits_of(&mut self, samples: &Samples, rows: &[usize]) -> Result<Vec<f32>, StudentError> {
        Student::logits_of(self.learner()?, samples, rows)
    }

    fn features_of(
        &mut self,
        samples: &Samples,
        rows: &[usize],
    ) -> Result<(Vec<f32>, usize), StudentError> {
        Student::features_of(self.learner()?, samples, rows)
    }

    fn wake(&mut self) -> Result<(), StudentError> {
        let mut desk = self.engine.free().pop().unwrap_or_default();
        desk.buffer.clear();
        let known = self.engine.students.load(self.client, &mut desk.buffer)?;
        let at = desk.models.iter().position(|(of, _)| *of == self.model);
        match (known, at) {
            (true, Some(at)) => desk.models[at].1.set_weights(&desk.buffer)?,
            (known, _) => {
                let fresh = self.engine.fresh(self.client, self.model)?;
                let weights = if known { &desk.buffer } else { fresh.weights() };
                match at {
                    Some(at) => desk.models[at].1.set_weights(weights)?,
                    None => {
                        let mut learner = Learner::new(fresh);
                        if known {
                            learner.set_weights(&desk.buffer)?;
                        }
                        desk.models.push((self.model, learner));
                    }
                }
            }
        }
        let at = at.unwrap_or(desk.models.len() - 1);
        self.work = Some(Work { desk, at });
        Ok(())
    }

    fn undo(&mut self) -> Result<bool, StudentError> {
        // What it was lies where it was put away: nothing of this plan has been kept yet.
        if let Some(Work { desk, .. }) = self.work.take() {
            self.engine.free().push(desk);
        }
        self.wake()?;
        Ok(true)
    }

    fn rest(&mut self) -> Result<(), StudentError> {
        let Some(Work { desk, at }) = self.work.take() else {
            return Ok(());
        };
        let weights = desk.models[at].1.model().weights();
        let saved = self.engine.students.save(self.client, weights);
        self.engine.free().push(desk);
        Ok(saved?)
    }

    fn parameters(&self) -> &[f32] {
        match &self.work {
            Some(Work { desk, at, .. }) => desk.models[*at].1.model().weights(),
            None => &[],
        }
    }
}
