mod snapshot;

use fedistill_protocol::{Loss, LossTerm, Optimiser, Toward};
use rand_chacha::ChaCha20Rng;
use thiserror::Error;

use crate::loss::{Adaptor, Gradients, Objective, ObjectiveError, Outputs};
use crate::model::{Mode, Model, ModelError};
use crate::{Dataset, Evaluation, OptimiserState, Samples, Targets, seed};

/// A model and what training it takes: optimiser, gradient, and the parameters it began with.
pub struct Learner {
    initial: Vec<f32>,
    /// What [`Self::go_back`] leads to.
    remembered: Option<Vec<f32>>,
    optimiser: Option<OptimiserState>,
    /// How steps were asked to be taken.
    steps: Option<Optimiser>,
    adaptor: Option<(Adaptor, OptimiserState)>,
    gradients: Gradients,
    logits: Vec<f32>,
    batch: Vec<f32>,
    model: Box<dyn Model>,
}

/// What can go wrong in a step.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LearnError {
    /// The model's.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Losses or targets that do not fit.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// Training ran away: the loss is no number any more.
    #[error("the loss is no longer finite: lower the learning rate")]
    Diverged,
    /// A step before [`Learner::begin`].
    #[error("no training has begun")]
    NotBegun,
}

/// Passes over samples in shuffled batches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Schedule {
    /// Number of passes.
    pub epochs: usize,
    /// Samples a batch; the last of a pass may be smaller.
    pub batch: usize,
}

impl Schedule {
    /// The batches of all passes over `count` samples, each a list of indices.
    pub fn batches(self, count: usize, rng: &mut ChaCha20Rng) -> impl Iterator<Item = Vec<usize>> {
        (0..self.epochs).flat_map(move |_| {
            let order = seed::permutation(count, rng);
            let batches: Vec<Vec<usize>> =
                order.chunks(self.batch.max(1)).map(<[_]>::to_vec).collect();
            batches
        })
    }
}

impl Learner {
    /// How many samples are evaluated at a time, so that memory does not grow with their number.
    const CHUNK: usize = 256;

    /// A learner that begins with the model's parameters as they are.
    pub fn new(model: impl Model + 'static) -> Self {
        Self {
            initial: model.weights().to_vec(),
            remembered: None,
            optimiser: None,
            steps: None,
            adaptor: None,
            gradients: Gradients::default(),
            logits: Vec::new(),
            batch: Vec::new(),
            model: Box::new(model),
        }
    }

    /// The model.
    pub fn model(&self) -> &dyn Model {
        self.model.as_ref()
    }

    /// The optimiser of the training under way.
    pub fn optimiser(&self) -> Option<&OptimiserState> {
        self.optimiser.as_ref()
    }

    /// Begins a stretch of training with a fresh optimiser.
    pub fn begin(&mut self, optimiser: Optimiser) {
        self.optimiser = Some(OptimiserState::new(optimiser, self.model.trainable()));
        self.steps = Some(optimiser);
        self.adaptor = None;
    }

    /// Takes later steps of the training under way at this learning rate, those of the map of a hint too, if it is
    /// drawn only then; without a training, nothing happens.
    pub fn pace(&mut self, rate: f32) {
        let adaptor = self.adaptor.as_mut().map(|(_, optimiser)| optimiser);
        for optimiser in self.optimiser.as_mut().into_iter().chain(adaptor) {
            optimiser.pace(rate);
        }
        if let (Some(optimiser), Some(steps)) = (&self.optimiser, &mut self.steps) {
            *steps = optimiser.optimiser;
        }
    }

    /// Goes back to the parameters that the learner was made with.
    ///
    /// # Errors
    /// What the model reports.
    pub fn reset(&mut self) -> Result<(), ModelError> {
        self.model.set_weights(&self.initial)
    }

    /// Remembers the parameters as they are, until [`Self::forget`].
    pub fn remember(&mut self) {
        self.remembered = Some(self.model.weights().to_vec());
    }

    /// Gives back the room that [`Self::remember`] takes.
    pub fn forget(&mut self) {
        self.remembered = None;
    }

    /// Goes back to the parameters that are remembered, if any are, and ends the training under way: what its
    /// optimiser holds is of those that are given up.
    ///
    /// # Errors
    /// What the model reports.
    pub fn go_back(&mut self) -> Result<(), ModelError> {
        let Some(remembered) = &self.remembered else {
            return Ok(());
        };
        self.model.set_weights(remembered)?;
        (self.optimiser, self.steps, self.adaptor) = (None, None, None);
        Ok(())
    }

    /// Draws the parameters anew under `seed`, but not those that [`Self::reset`] leads back to.
    ///
    /// # Errors
    /// A model that cannot.
    pub fn reseed(&mut self, seed: u64) -> Result<(), ModelError> {
        self.model.reseed(seed)
    }

    /// Sets the parameters, but not those that [`Self::reset`] leads back to.
    ///
    /// # Errors
    /// Another number of values.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        self.model.set_weights(weights)
    }

    /// One step on a batch of whole samples; returns its mean loss.
    ///
    /// # Errors
    /// A batch or targets that do not fit, or a loss that is no longer finite.
    pub fn step(
        &mut self,
        samples: &[f32],
        objective: &Objective<'_>,
        rng: &mut ChaCha20Rng,
    ) -> Result<f32, LearnError> {
        let optimiser = self.optimiser.as_mut().ok_or(LearnError::NotBegun)?;
        let classes = self.model.classes();
        let logits = self.model.forward(samples, Mode::Train(rng))?;
        let loss = match (objective.wants_features(), self.steps) {
            (true, Some(steps)) => {
                self.logits.clear();
                self.logits.extend_from_slice(logits);
                let width = self.model.features();
                if let Some(from) = width
                    && let Some(to) = objective.hint(from)
                    && !matches!(&self.adaptor, Some((adaptor, _)) if adaptor.fits(from, to))
                {
                    let adaptor = Adaptor::new(from, to, rng);
                    let state = OptimiserState::new(steps, adaptor.weights.len());
                    self.adaptor = Some((adaptor, state));
                }
                let outputs = Outputs {
                    logits: &self.logits,
                    classes,
                    features: width.map(|width| (self.model.last_features(), width)),
                };
                let adaptor = self.adaptor.as_mut().map(|(adaptor, _)| adaptor);
                objective.evaluate_with(outputs, adaptor, &mut self.gradients)?
            }
            _ => objective.evaluate(logits, classes, &mut self.gradients.logits)?,
        };
        if !loss.is_finite() {
            return Err(LearnError::Diverged);
        }
        let Gradients { logits, features } = &self.gradients;
        match objective.wants_features() {
            false => self.model.backward(logits)?,
            true => self.model.backward_with(logits, features)?,
        }
        self.model
            .step(&mut |weights, gradients| optimiser.step(weights, gradients))?;
        if let Some((adaptor, state)) = &mut self.adaptor {
            state.step(&mut adaptor.weights, &adaptor.gradients);
        }
        Ok(loss)
    }

    /// Plain supervised training with cross-entropy, from a fresh optimiser. After each pass
    /// `told` hears its number, from 1, and its mean loss.
    ///
    /// # Errors
    /// Samples that do not fit the model, or a loss that is no longer finite.
    pub fn fit(
        &mut self,
        data: &Dataset,
        schedule: Schedule,
        optimiser: Optimiser,
        seed: u64,
        mut told: impl FnMut(usize, f32),
    ) -> Result<(), LearnError> {
        let terms = [LossTerm::new(
            Loss::CrossEntropy { smoothing: 0.0 },
            Toward::Labels,
        )];
        let mut order = seed::stream(seed, "supervised/order");
        let mut noise = seed::stream(seed, "supervised/noise");
        let (mut samples, mut labels) = (Vec::new(), Vec::new());
        self.begin(optimiser);
        let pass = Schedule {
            epochs: 1,
            ..schedule
        };
        for epoch in 1..=schedule.epochs {
            let mut sum = 0.0;
            for indices in pass.batches(data.len(), &mut order) {
                samples.clear();
                labels.clear();
                data.samples().gather(&indices, &mut samples);
                labels.extend(indices.iter().map(|&index| data.labels()[index]));
                let objective = Objective::new(&terms, Targets::hard(&labels));
                sum += self.step(&samples, &objective, &mut noise)? * labels.len() as f32;
            }
            told(epoch, sum / data.len().max(1) as f32);
        }
        Ok(())
    }

    /// The logits of all `samples`, `samples x classes`.
    ///
    /// # Errors
    /// What the model reports.
    pub fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, ModelError> {
        let rows: Vec<usize> = (0..samples.len()).collect();
        self.logits_of(samples, &rows)
    }

    /// The logits of the samples at `rows`, in that order, `rows x classes`.
    ///
    /// # Errors
    /// What the model reports.
    ///
    /// # Panics
    /// A row that is not below the number of samples.
    pub fn logits_of(&mut self, samples: &Samples, rows: &[usize]) -> Result<Vec<f32>, ModelError> {
        let mut logits = Vec::with_capacity(rows.len() * self.model.classes());
        for chunk in rows.chunks(Self::CHUNK) {
            self.batch.clear();
            samples.gather(chunk, &mut self.batch);
            logits.extend_from_slice(self.model.forward(&self.batch, Mode::Evaluate)?);
        }
        Ok(logits)
    }

    /// The features of the samples at `rows`, in that order, `rows x width`, and that width.
    ///
    /// # Errors
    /// A model that tells none, or what it reports.
    ///
    /// # Panics
    /// A row that is not below the number of samples.
    pub fn features_of(
        &mut self,
        samples: &Samples,
        rows: &[usize],
    ) -> Result<(Vec<f32>, usize), ModelError> {
        let width = self.model.features().ok_or_else(|| {
            let why = "this model tells no features: choose another, or another method";
            ModelError::Other(why.to_owned())
        })?;
        let mut features = Vec::with_capacity(rows.len() * width);
        for chunk in rows.chunks(Self::CHUNK) {
            self.batch.clear();
            samples.gather(chunk, &mut self.batch);
            self.model.forward(&self.batch, Mode::Evaluate)?;
            features.extend_from_slice(self.model.last_features());
        }
        Ok((features, width))
    }

    /// How good the model is on labelled samples.
    ///
    /// # Errors
    /// What the model reports.
    pub fn evaluate(
        &mut self,
        samples: &Samples,
        labels: &[u32],
    ) -> Result<Evaluation, ModelError> {
        let logits = self.logits(samples)?;
        Ok(Evaluation::of(&logits, labels, self.model.classes()))
    }
}
