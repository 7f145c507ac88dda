use fedistill_protocol::{AnswerKind, Loss, LossTerm};
use thiserror::Error;

use crate::kernels;

/// What a student's logits are held against.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// A class each.
    Hard(&'a [u32]),
    /// A row of soft labels each.
    Soft {
        /// What the values are.
        kind: AnswerKind,
        /// `samples x classes`, row-major.
        values: &'a [f32],
    },
}

/// A sum of weighted losses against targets: what a student minimises on one batch.
#[derive(Clone, Copy, Debug)]
pub struct Objective<'a> {
    terms: &'a [LossTerm],
    targets: Targets<'a>,
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
}

impl<'a> Objective<'a> {
    /// The sum of `terms` against `targets`.
    pub fn new(terms: &'a [LossTerm], targets: Targets<'a>) -> Self {
        Self { terms, targets }
    }

    /// The mean loss of a batch of logits, `samples x classes`; writes its gradient with respect
    /// to them to `gradient`.
    ///
    /// With `n` samples, `p` the target's and `q` the logits' softmax (at temperature T for KL):
    /// cross-entropies have the gradient `(q - p) / n`, `T^2 KL` has `T (q - p) / n` (Hinton et
    /// al. 2015, section 2), L1 and MSE are means over all values.
    ///
    /// # Errors
    /// A loss that does not go with these targets, or targets of another shape.
    pub fn evaluate(
        &self,
        logits: &[f32],
        classes: usize,
        gradient: &mut Vec<f32>,
    ) -> Result<f32, ObjectiveError> {
        self.check(logits.len(), classes)?;
        gradient.clear();
        gradient.resize(logits.len(), 0.0);
        let samples = (logits.len() / classes.max(1)).max(1) as f64;
        let mut loss = 0.0;
        for term in self.terms {
            let weight = f64::from(term.weight) / samples;
            if let Some(sum) = self.fast(term.loss, weight, classes, logits, gradient) {
                loss += weight * sum;
                continue;
            }
            let rows = logits.chunks(classes).zip(gradient.chunks_mut(classes));
            for (sample, (logits, gradient)) in rows.enumerate() {
                loss += weight * self.row(term.loss, sample, logits, weight, gradient)?;
            }
        }
        Ok(loss as f32)
    }

    /// The sum of the usual losses over a batch; adds `weight` times their gradient. `None` for
    /// others, which go row by row in f64.
    fn fast(
        &self,
        loss: Loss,
        weight: f64,
        classes: usize,
        logits: &[f32],
        gradient: &mut [f32],
    ) -> Option<f64> {
        let mut scratch = vec![0.0; 2 * classes];
        let (half, slope) = (&mut scratch[..classes], weight as f32);
        match (loss, self.targets) {
            (Loss::CrossEntropy, Targets::Hard(labels)) => Some(kernels::cross_entropy(
                gradient, logits, labels, half, slope,
            )),
            (
                Loss::Kl { temperature },
                Targets::Soft {
                    kind: AnswerKind::Logits,
                    values,
                },
            ) if temperature <= SHARP => {
                let slope = (weight * f64::from(temperature)) as f32;
                let scale = temperature.recip();
                let scratch = &mut scratch;
                let sum = kernels::divergence(gradient, logits, values, scratch, scale, slope);
                Some(f64::from(temperature).powi(2) * sum)
            }
            (
                Loss::SoftCrossEntropy,
                Targets::Soft {
                    kind: AnswerKind::Logits,
                    values,
                },
            ) => {
                let mut p = vec![0.0; values.len()];
                kernels::softmax_rows(&mut p, values, classes);
                Some(kernels::soft_cross_entropy(
                    gradient, logits, &p, half, slope,
                ))
            }
            _ => None,
        }
    }

    /// The loss of one sample; adds `weight` times its gradient.
    fn row(
        &self,
        loss: Loss,
        sample: usize,
        logits: &[f32],
        weight: f64,
        gradient: &mut [f32],
    ) -> Result<f64, ObjectiveError> {
        let classes = logits.len();
        let (kind, target) = match self.targets {
            Targets::Hard(_) => return Err(mismatch(loss, "hard labels")),
            Targets::Soft { kind, values } => {
                (kind, &values[sample * classes..(sample + 1) * classes])
            }
        };
        match (loss, kind) {
            (Loss::CrossEntropy, _) => Err(mismatch(loss, "soft labels")),
            (Loss::SoftCrossEntropy, _) => {
                let target = distribution(kind, target, 1.0);
                let log = log_softmax(logits, 1.0);
                for ((gradient, p), log) in gradient.iter_mut().zip(&target).zip(&log) {
                    *gradient += (weight * (log.exp() - p)) as f32;
                }
                Ok(-target.iter().zip(&log).map(|(p, log)| p * log).sum::<f64>())
            }
            (Loss::Kl { temperature }, _) => {
                let temperature = f64::from(temperature);
                let target = distribution(kind, target, temperature);
                let log = log_softmax(logits, temperature);
                for ((gradient, p), log) in gradient.iter_mut().zip(&target).zip(&log) {
                    *gradient += (weight * temperature * (log.exp() - p)) as f32;
                }
                let terms = target.iter().zip(&log).filter(|(p, _)| **p > 0.0);
                let divergence: f64 = terms.map(|(p, log)| p * (p.ln() - log)).sum();
                Ok(temperature * temperature * divergence)
            }
            (Loss::L1 | Loss::Mse, AnswerKind::Probabilities) => {
                Err(mismatch(loss, "probabilities, for it compares logits"))
            }
            (Loss::L1 | Loss::Mse, AnswerKind::Logits) => {
                let mut sum = 0.0;
                for ((gradient, z), t) in gradient.iter_mut().zip(logits).zip(target) {
                    let difference = f64::from(*z) - f64::from(*t);
                    let slope = match loss {
                        Loss::Mse => {
                            sum += difference * difference;
                            2.0 * difference
                        }
                        _ => {
                            sum += difference.abs();
                            match difference {
                                0.0 => 0.0,
                                _ => difference.signum(),
                            }
                        }
                    };
                    *gradient += (weight * slope / classes as f64) as f32;
                }
                Ok(sum / classes as f64)
            }
        }
    }

    fn check(&self, logits: usize, classes: usize) -> Result<(), ObjectiveError> {
        let (targets, expected) = match self.targets {
            Targets::Hard(labels) => (labels.len(), logits.checked_div(classes)),
            Targets::Soft { values, .. } => (values.len(), Some(logits)),
        };
        if Some(targets) != expected || !logits.is_multiple_of(classes.max(1)) {
            return Err(ObjectiveError::Shape {
                targets,
                logits,
                classes,
            });
        }
        if let Targets::Hard(labels) = self.targets {
            let beyond = |label: &u32| *label as usize >= classes;
            if let Some(sample) = labels.iter().position(beyond) {
                return Err(ObjectiveError::Label {
                    label: labels[sample],
                    sample,
                    classes,
                });
            }
        }
        Ok(())
    }
}

fn mismatch(loss: Loss, targets: &'static str) -> ObjectiveError {
    ObjectiveError::Targets { loss, targets }
}

/// The soft label at a temperature; probabilities are taken to the power of `1 / T`.
fn distribution(kind: AnswerKind, target: &[f32], temperature: f64) -> Vec<f64> {
    let powers: Vec<f64> = match kind {
        AnswerKind::Logits => {
            return log_softmax(target, temperature)
                .into_iter()
                .map(f64::exp)
                .collect();
        }
        AnswerKind::Probabilities => target
            .iter()
            .map(|&p| f64::from(p.max(0.0)).powf(temperature.recip()))
            .collect(),
    };
    let sum: f64 = powers.iter().sum();
    match sum > 0.0 {
        true => powers.into_iter().map(|power| power / sum).collect(),
        false => vec![1.0 / target.len() as f64; target.len()],
    }
}

fn log_softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = logits
        .iter()
        .map(|&z| (f64::from(z) - f64::from(most)) / temperature);
    let sum: f64 = shifted.clone().map(f64::exp).sum();
    shifted.map(|z| z - sum.ln()).collect()
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn term(loss: Loss) -> LossTerm {
        LossTerm { loss, weight: 1.0 }
    }

    fn value(objective: &Objective<'_>, logits: &[f32]) -> f32 {
        objective.evaluate(logits, 3, &mut Vec::new()).unwrap()
    }

    const SOFT: [Loss; 5] = [
        Loss::SoftCrossEntropy,
        Loss::Kl { temperature: 1.0 },
        Loss::Kl { temperature: 4.0 },
        Loss::L1,
        Loss::Mse,
    ];

    #[test]
    fn losses_have_the_values_of_their_formulas() {
        let logits = [1.0, 2.0, 3.0];
        let hard = [LossTerm {
            loss: Loss::CrossEntropy,
            weight: 2.0,
        }];
        let objective = Objective::new(&hard, Targets::Hard(&[2]));
        assert!((value(&objective, &logits) - 2.0 * 0.407_606).abs() < 1e-5);
        let target = [3.0, 2.0, 0.0];
        for (loss, expected) in [
            (Loss::L1, 5.0 / 3.0),
            (Loss::Mse, 13.0 / 3.0),
            (Loss::SoftCrossEntropy, 2.077_871),
        ] {
            let terms = [term(loss)];
            let targets = Targets::Soft {
                kind: AnswerKind::Logits,
                values: &target,
            };
            let actual = value(&Objective::new(&terms, targets), &logits);
            assert!((actual - expected).abs() < 1e-4, "{loss:?}: {actual}");
        }
    }

    #[test]
    fn high_temperatures_leave_the_gradient_of_a_matched_mean_square() {
        // Hinton et al. 2015, section 2.1: T^2 KL at high T is half the square of centred logits / n.
        let (logits, target) = ([0.5f32, -0.5, 0.0], [1.0f32, -1.5, 0.5]);
        let terms = [term(Loss::Kl {
            temperature: 1000.0,
        })];
        let targets = Targets::Soft {
            kind: AnswerKind::Logits,
            values: &target,
        };
        let mut gradient = Vec::new();
        let loss = Objective::new(&terms, targets)
            .evaluate(&logits, 3, &mut gradient)
            .unwrap();
        let square: f32 = logits
            .iter()
            .zip(&target)
            .map(|(z, t)| (z - t).powi(2))
            .sum();
        assert!((loss - square / 6.0).abs() < 1e-3, "{loss}");
        assert!((gradient[0] - (logits[0] - target[0]) / 3.0).abs() < 1e-3);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let probabilities = Targets::Soft {
            kind: AnswerKind::Probabilities,
            values: &[0.2, 0.3, 0.5],
        };
        let cases: [(Loss, Targets<'_>); 5] = [
            (Loss::Mse, probabilities),
            (Loss::CrossEntropy, probabilities),
            (Loss::L1, Targets::Hard(&[1])),
            (Loss::CrossEntropy, Targets::Hard(&[3])),
            (Loss::CrossEntropy, Targets::Hard(&[1, 1])),
        ];
        for (loss, targets) in cases {
            let terms = [term(loss)];
            let objective = Objective::new(&terms, targets);
            assert!(
                objective.evaluate(&[0.0; 3], 3, &mut Vec::new()).is_err(),
                "{loss:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn gradients_are_the_slopes_of_losses(
            logits in prop::collection::vec(-3.0f32..3.0, 6),
            target in prop::collection::vec(-3.0f32..3.0, 6),
            which in 0usize..6, probabilities: bool,
        ) {
            let (loss, hard) = match which {
                5 => (Loss::CrossEntropy, true),
                other => (SOFT[other], false),
            };
            let plain = matches!(loss, Loss::L1 | Loss::Mse);
            let soft = softmax(&target, 3);
            let targets = match (hard, probabilities && !plain) {
                (true, _) => Targets::Hard(&[2, 0]),
                (_, true) => Targets::Soft { kind: AnswerKind::Probabilities, values: &soft },
                _ => Targets::Soft { kind: AnswerKind::Logits, values: &target },
            };
            let terms = [LossTerm { loss, weight: 0.7 }];
            let objective = Objective::new(&terms, targets);
            let mut gradient = Vec::new();
            let base = objective.evaluate(&logits, 3, &mut gradient).unwrap();
            prop_assert!(base >= -1e-6);
            let h = 1e-2;
            for index in 0..6 {
                // The kink of L1.
                if loss == Loss::L1 && (logits[index] - target[index]).abs() < 2.0 * h { continue }
                let mut at = logits.clone();
                at[index] += h;
                let above = value(&objective, &at);
                at[index] -= 2.0 * h;
                let slope = (above - value(&objective, &at)) / (2.0 * h);
                prop_assert!((slope - gradient[index]).abs() < 2e-3, "{:?} {} {}", loss, slope, gradient[index]);
            }
        }

        #[test]
        fn a_student_that_agrees_has_nothing_to_learn(logits in prop::collection::vec(-5.0f32..5.0, 6)) {
            for loss in SOFT {
                let terms = [term(loss)];
                let targets = Targets::Soft { kind: AnswerKind::Logits, values: &logits };
                let mut gradient = Vec::new();
                let objective = Objective::new(&terms, targets);
                let value = objective.evaluate(&logits, 3, &mut gradient).unwrap();
                prop_assert!(gradient.iter().all(|slope| slope.abs() < 1e-6));
                prop_assert!(loss == Loss::SoftCrossEntropy || value.abs() < 1e-6);
            }
        }
    }
}
