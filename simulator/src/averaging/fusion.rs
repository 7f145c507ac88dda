//! How FedDF makes one model of many: ensemble distillation (Lin et al. 2020), at the server.

use std::f64::consts::PI;

use fedistill_federation::method::{Given, Parameter};
use fedistill_learning::{
    Dataset, LearnError, Learner, Objective, Samples, Schedule, Targets, seed,
};
use fedistill_protocol::{AnswerKind, Loss, LossTerm, Optimiser, Toward};

/// What can be set of `feddf`.
pub const FEDDF: [Parameter; 5] = [
    Parameter {
        key: "rate",
        symbol: "η",
        what: "step length of Adam as a round's fusion begins; along half a cosine it falls to 0 at the last step",
        default: 1e-3,
        range: (1e-6, 1.0),
        one_of: &[],
        whole: false,
        source: "the paper",
    },
    Parameter {
        key: "batch",
        symbol: "",
        what: "transfer samples a step of fusion",
        default: 128.0,
        range: (1.0, 60_000.0),
        one_of: &[],
        whole: true,
        source: "the paper",
    },
    Parameter {
        key: "steps",
        symbol: "N",
        what: "most steps of a round's fusion",
        default: 10_000.0,
        range: (1.0, 1_000_000.0),
        one_of: &[],
        whole: true,
        source: "the paper",
    },
    Parameter {
        key: "patience",
        symbol: "",
        what: "steps after the best model so far after which fusion ends; each 100 steps it is measured",
        default: 1000.0,
        range: (1.0, 1_000_000.0),
        one_of: &[],
        whole: true,
        source: "the paper; how often, its authors' code",
    },
    Parameter {
        key: "validation",
        symbol: "",
        what: "labelled samples that it is measured by, taken off the public ones; with `teacher = \"train:N\"` those N in their place; 0: none, the model of the last step is kept",
        default: 200.0,
        range: (0.0, 60_000.0),
        one_of: &[],
        whole: true,
        source: "ours",
    },
];

/// Steps between two times that the model is measured.
const EVERY: u32 = 100;

/// How averaged models are fused: what is given of [`FEDDF`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fusion {
    rate: f32,
    batch: usize,
    steps: u32,
    patience: u32,
    validation: usize,
}

/// What one round's fusion learns from.
pub(super) struct Lesson<'a> {
    /// The public samples.
    pub transfer: &'a Samples,
    /// Those of them that this round is about.
    pub rows: &'a [usize],
    /// The ensemble's mean logits of them, `rows x classes`.
    pub logits: &'a [f32],
    /// At which both sides are compared.
    pub temperature: f32,
    /// What the server may measure by; there may be none.
    pub labelled: &'a Dataset,
    /// Of the order of steps and of what is random in them.
    pub seed: u64,
}

/// The best model so far.
struct Best {
    accuracy: f64,
    step: u32,
    weights: Vec<f32>,
}

/// Whether this value of a key is not the one by default.
fn is_given(key: &str, value: f64) -> bool {
    FEDDF.iter().any(|p| p.key == key && p.default != value)
}

impl Fusion {
    pub(super) fn of(given: &Given) -> Self {
        Self {
            rate: given.get("rate") as f32,
            batch: given.get("batch") as usize,
            steps: given.get("steps") as u32,
            patience: given.get("patience") as u32,
            validation: given.get("validation") as usize,
        }
    }

    /// Labelled samples that the server holds for it, where there are no others.
    pub(crate) fn validation(self) -> usize {
        self.validation
    }

    /// Whether that number is not the one by default.
    pub(crate) fn sets_apart(self) -> bool {
        is_given("validation", self.validation as f64)
    }

    /// Whether a patience is asked for that is no shorter than a whole fusion.
    pub(super) fn is_never_out_of_patience(self) -> bool {
        is_given("patience", self.patience.into()) && self.patience >= self.steps
    }

    /// Whether a patience is asked for where no sample is set apart to measure by.
    pub(super) fn is_never_measured(self) -> bool {
        is_given("patience", self.patience.into()) && self.validation == 0
    }

    /// Samples of a step.
    pub(crate) fn batch(self) -> usize {
        self.batch
    }

    /// The step length of this step, from 0.
    fn rate(self, step: u32) -> f32 {
        let part = f64::from(step) / f64::from(self.steps);
        (f64::from(self.rate) * 0.5 * (1.0 + (PI * part).cos())) as f32
    }

    /// Teaches the averaged model what the ensemble says, and leaves it as it was when most labelled samples came out
    /// right: after none of the steps, it may be. Gives after how many; of as many right, the earlier stands.
    ///
    /// # Errors
    /// Training that runs away.
    pub(super) fn fuse(self, centre: &mut Learner, lesson: &Lesson<'_>) -> Result<u32, LearnError> {
        let classes = centre.model().classes();
        let measure = |centre: &mut Learner| -> Result<f64, LearnError> {
            let evaluation =
                centre.evaluate(lesson.labelled.samples(), lesson.labelled.labels())?;
            Ok(evaluation.accuracy)
        };
        let mut best = match lesson.labelled.is_empty() {
            true => None,
            false => Some(Best {
                accuracy: measure(centre)?,
                step: 0,
                weights: centre.model().weights().to_vec(),
            }),
        };
        centre.begin(Optimiser::AdamW {
            learning_rate: self.rate,
            weight_decay: 0.0,
        });
        let pass = lesson.rows.len().div_ceil(self.batch).max(1);
        let schedule = Schedule {
            epochs: (self.steps as usize).div_ceil(pass),
            batch: self.batch,
        };
        let mut order = seed::stream(lesson.seed, "fusion/order");
        let mut noise = seed::stream(lesson.seed, "fusion/noise");
        let temperature = lesson.temperature;
        let terms = [LossTerm::new(Loss::Kl { temperature }, Toward::Knowledge)];
        let (mut samples, mut values) = (Vec::new(), Vec::new());
        let batches = schedule.batches(lesson.rows.len(), &mut order);
        let mut taken = 0;
        for batch in batches.take(self.steps as usize) {
            samples.clear();
            values.clear();
            let rows: Vec<usize> = batch.iter().map(|&index| lesson.rows[index]).collect();
            lesson.transfer.gather(&rows, &mut samples);
            for index in batch {
                values.extend_from_slice(&lesson.logits[index * classes..(index + 1) * classes]);
            }
            let soft = Targets::soft(AnswerKind::Logits, classes, &values);
            centre.pace(self.rate(taken));
            centre.step(&samples, &Objective::new(&terms, soft), &mut noise)?;
            taken += 1;
            let is_due = taken % EVERY == 0 || taken == self.steps;
            let Some(best) = best.as_mut().filter(|_| is_due) else {
                continue;
            };
            let accuracy = measure(centre)?;
            if accuracy > best.accuracy {
                (best.accuracy, best.step) = (accuracy, taken);
                best.weights.copy_from_slice(centre.model().weights());
            } else if taken - best.step >= self.patience {
                break;
            }
        }
        match best {
            None => Ok(taken),
            Some(best) => {
                centre.set_weights(&best.weights)?;
                Ok(best.step)
            }
        }
    }
}

#[cfg(test)]
mod tests;
