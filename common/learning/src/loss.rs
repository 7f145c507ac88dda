//! What a student minimises on one batch: losses that add up, and their gradients.

mod features;
mod outputs;
mod targets;

use fedistill_protocol::{AnswerKind, Loss, LossTerm, Toward};
use thiserror::Error;

pub(crate) use features::Adaptor;
pub use targets::{Soft, Targets};

use crate::kernels;

/// A sum of weighted losses against targets: what a student minimises on one batch.
#[derive(Clone, Copy, Debug)]
pub struct Objective<'a> {
    terms: &'a [LossTerm],
    targets: Targets<'a>,
    epoch: usize,
}

/// What a student says of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Outputs<'a> {
    /// `samples x classes`, row-major.
    pub logits: &'a [f32],
    /// Number of classes.
    pub classes: usize,
    /// `samples x width`, row-major, and that width; `None` where a student tells none.
    pub features: Option<(&'a [f32], usize)>,
}

/// Gradients with respect to [`Outputs`].
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    /// As many as logits.
    pub logits: Vec<f32>,
    /// As many as features; none where no loss is of features.
    pub features: Vec<f32>,
}

/// Losses and targets that do not fit together.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// A loss that needs other targets.
    #[error("loss {loss:?} cannot be taken against {targets}")]
    Targets {
        /// Which loss.
        loss: Loss,
        /// What there is.
        targets: &'static str,
    },
    /// A loss toward something that is not here.
    #[error("loss {loss:?} is toward {toward:?}, of which nothing is known")]
    Missing {
        /// Which loss.
        loss: Loss,
        /// What is missing.
        toward: Toward,
    },
    /// A loss of features of a student that tells none.
    #[error("loss {0:?} is of features, which this student does not tell")]
    NoFeatures(Loss),
    /// Features of another width than the target's, where no map between them can be learnt.
    #[error("features of width {actual} cannot be held against features of width {expected}")]
    Width {
        /// The student's.
        actual: usize,
        /// The target's.
        expected: usize,
    },
    /// Another number of targets than of logits.
    #[error("{targets} targets for {logits} logits of {classes} classes")]
    Shape {
        /// Values of the targets.
        targets: usize,
        /// Values of the logits.
        logits: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A hard label beyond the classes.
    #[error("label {label} of sample {sample} is not below {classes}")]
    Label {
        /// The label.
        label: u32,
        /// Its place in the batch.
        sample: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A hard label of a class that the client is said not to hold.
    #[error("label {label} of sample {sample} has frequency 0")]
    NotHeld {
        /// The label.
        label: u32,
        /// Its place in the batch.
        sample: usize,
    },
}

impl<'a> Objective<'a> {
    /// The sum of `terms` against `targets`, in the first epoch of a phase.
    pub fn new(terms: &'a [LossTerm], targets: Targets<'a>) -> Self {
        Self {
            terms,
            targets,
            epoch: 0,
        }
    }

    /// The same in this epoch of a phase, from 0: weights may change with it.
    #[must_use]
    pub fn at_epoch(self, epoch: usize) -> Self {
        Self { epoch, ..self }
    }

    /// Whether a loss is of features.
    pub fn wants_features(&self) -> bool {
        self.terms.iter().any(|term| term.loss.is_of_features())
    }

    /// The width of the features that a student's, of width `from`, are to come close to, where that is another.
    pub(crate) fn hint(&self, from: usize) -> Option<usize> {
        let hints = self.terms.iter().filter(|term| term.loss == Loss::Features);
        let mut widths = hints.filter_map(|term| Some(self.targets.features(term).ok()?.width));
        widths.find(|width| *width != from)
    }

    /// The mean loss of a batch of logits, `samples x classes`; writes its gradient with respect
    /// to them to `gradient`. The formulas are those of [`Loss`]; means are over samples and, of L1 and
    /// MSE, classes.
    ///
    /// # Errors
    /// A loss that does not go with these targets, targets of another shape, or a loss of features.
    pub fn evaluate(
        &self,
        logits: &[f32],
        classes: usize,
        gradient: &mut Vec<f32>,
    ) -> Result<f32, ObjectiveError> {
        let mut gradients = Gradients {
            logits: std::mem::take(gradient),
            features: Vec::new(),
        };
        let outputs = Outputs {
            logits,
            classes,
            features: None,
        };
        let loss = self.evaluate_all(outputs, &mut gradients);
        *gradient = gradients.logits;
        loss
    }

    /// The same of logits and features.
    ///
    /// # Errors
    /// A loss that does not go with these targets or outputs, or targets of another shape.
    pub fn evaluate_all(
        &self,
        outputs: Outputs<'_>,
        gradients: &mut Gradients,
    ) -> Result<f32, ObjectiveError> {
        self.evaluate_with(outputs, None, gradients)
    }

    /// The same with a map from the student's features to the target's, where one is needed.
    pub(crate) fn evaluate_with(
        &self,
        outputs: Outputs<'_>,
        mut adaptor: Option<&mut Adaptor>,
        gradients: &mut Gradients,
    ) -> Result<f32, ObjectiveError> {
        let Outputs {
            logits, classes, ..
        } = outputs;
        self.targets.check(logits.len(), classes)?;
        let samples = (logits.len() / classes.max(1)).max(1);
        gradients.logits.clear();
        gradients.logits.resize(logits.len(), 0.0);
        gradients.features.clear();
        if let Some(adaptor) = &mut adaptor {
            adaptor.gradients.fill(0.0);
        }
        let mut loss = 0.0;
        for term in self.terms {
            let weight = f64::from(term.weight_at(self.epoch));
            loss += match term.loss.is_of_features() {
                true => {
                    let (features, width) = outputs
                        .features
                        .ok_or(ObjectiveError::NoFeatures(term.loss))?;
                    gradients.features.resize(features.len(), 0.0);
                    let target = self.targets.features(term)?;
                    let adaptor = adaptor.as_deref_mut();
                    let gradient = &mut gradients.features;
                    let of = features::Batch {
                        features,
                        width,
                        target,
                    };
                    weight * of.evaluate(term.loss, weight, adaptor, gradient)?
                }
                false => {
                    let share = weight / samples as f64;
                    let gradient = &mut gradients.logits;
                    share * self.of_logits(term, share, logits, classes, gradient)?
                }
            };
        }
        Ok(loss as f32)
    }

    /// The sum of a loss over a batch; adds `weight` times its gradient.
    fn of_logits(
        &self,
        term: &LossTerm,
        weight: f64,
        logits: &[f32],
        classes: usize,
        gradient: &mut [f32],
    ) -> Result<f64, ObjectiveError> {
        let mut scratch = vec![0.0; 2 * classes];
        let (half, slope) = (&mut scratch[..classes], weight as f32);
        if term.loss.is_of_labels() {
            let labels = self.targets.hard_of(term)?;
            return match term.loss {
                Loss::HeldCrossEntropy { adjust } => {
                    let logits = self.targets.adjusted(term, logits, classes, adjust)?;
                    Ok(kernels::cross_entropy(
                        gradient, &logits, labels, half, slope,
                    ))
                }
                Loss::CrossEntropy { smoothing } if smoothing > 0.0 => Ok(outputs::smoothed(
                    gradient, logits, labels, half, slope, smoothing,
                )),
                _ => Ok(kernels::cross_entropy(
                    gradient, logits, labels, half, slope,
                )),
            };
        }
        let target = self.targets.outputs(term)?;
        if target.kind == AnswerKind::Probabilities && term.loss.compares_values() {
            return Err(ObjectiveError::Targets {
                loss: term.loss,
                targets: "probabilities, for it compares logits",
            });
        }
        // Of a class that nobody else holds nothing is known.
        let partly = term.toward == Toward::Classes && target.is_partly_silent();
        if !partly
            && let Some(sum) = self.fast(term.loss, target, weight, classes, logits, gradient)
        {
            return Ok(sum);
        }
        let mut loss = 0.0;
        let rows = logits.chunks(classes).zip(gradient.chunks_mut(classes));
        for (sample, (logits, gradient)) in rows.enumerate() {
            let row = target.row(sample);
            if partly && row.iter().all(|value| *value == 0.0) {
                continue;
            }
            let of = outputs::Row {
                logits,
                kind: target.kind,
                target: row,
                label: self.targets.label(sample),
            };
            loss += of.evaluate(term.loss, weight, gradient);
        }
        Ok(loss)
    }

    /// The sum of the usual losses over a batch; adds `weight` times their gradient. `None` for
    /// others, which go row by row in f64.
    fn fast(
        &self,
        loss: Loss,
        target: Soft<'_>,
        weight: f64,
        classes: usize,
        logits: &[f32],
        gradient: &mut [f32],
    ) -> Option<f64> {
        let (mut scratch, given) = (vec![0.0; 3 * classes], target.values);
        match (loss, target.kind) {
            (Loss::Kl { temperature }, kind) if temperature <= SHARP => {
                let slope = (weight * f64::from(temperature)) as f32;
                let scale = temperature.recip();
                let sum = match kind {
                    AnswerKind::Probabilities => kernels::divergence_from_shares(
                        gradient,
                        logits,
                        given,
                        &mut scratch,
                        scale,
                        slope,
                    ),
                    _ => {
                        let scratch = &mut scratch[..2 * classes];
                        kernels::divergence(gradient, logits, given, scratch, scale, slope)
                    }
                };
                Some(f64::from(temperature).powi(2) * sum)
            }
            (Loss::SoftCrossEntropy, kind) => {
                let mut p = vec![0.0; given.len()];
                match kind {
                    AnswerKind::Probabilities => kernels::shares_rows(&mut p, given, classes),
                    _ => kernels::softmax_rows(&mut p, given, classes),
                }
                let row = &mut scratch[..classes];
                let slope = weight as f32;
                Some(kernels::soft_cross_entropy(
                    gradient, logits, &p, row, slope,
                ))
            }
            _ => None,
        }
    }
}

/// The softmax of each row of `logits`, `samples x classes`, at temperature 1.
pub fn softmax(logits: &[f32], classes: usize) -> Vec<f32> {
    let mut out = vec![0.0; logits.len()];
    kernels::softmax_rows(&mut out, logits, classes.max(1));
    out
}

/// Up to this temperature single precision has digits enough for T^2 KL.
const SHARP: f32 = 32.0;

#[cfg(test)]
mod goldens;
#[cfg(test)]
mod tests;
