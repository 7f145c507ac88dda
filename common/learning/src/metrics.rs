use serde::{Deserialize, Serialize};

use crate::softmax;

/// How good logits are on labelled samples.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of samples.
    pub samples: usize,
    /// Share of samples whose largest logit is their class, 0 to 1.
    pub accuracy: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Expected calibration error (Guo et al. 2017), 15 bins, 0 to 1: by how much confidence and
    /// accuracy differ.
    pub ece: f64,
}

impl std::fmt::Display for Evaluation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            samples,
            accuracy,
            loss,
            ece,
        } = self;
        let percent = 100.0 * accuracy;
        write!(
            f,
            "{percent:.1} % of {samples} samples, loss {loss:.3}, calibration error {ece:.3}"
        )
    }
}

/// How many samples of one class there are, and how many of them are classified rightly.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Recall {
    /// Samples whose largest logit is their class.
    pub right: usize,
    /// Number of samples.
    pub samples: usize,
}

const BINS: usize = 15;

impl Evaluation {
    /// Holds `logits`, `samples x classes`, against `labels`. All zero where there are none.
    pub fn of(logits: &[f32], labels: &[u32], classes: usize) -> Self {
        Self::by_class(logits, labels, classes).0
    }

    /// The same, and what it is made of: the recall of each class. Labels beyond the classes are wrong,
    /// and of none of them.
    pub fn by_class(logits: &[f32], labels: &[u32], classes: usize) -> (Self, Vec<Recall>) {
        let mut recalls = vec![Recall::default(); classes];
        let mut bins = [(0.0f64, 0.0f64); BINS];
        let mut right = 0usize;
        let mut loss = 0.0;
        let probabilities = softmax(logits, classes);
        for (row, &label) in probabilities.chunks(classes.max(1)).zip(labels) {
            let mut best = 0;
            for (class, probability) in row.iter().enumerate() {
                if *probability > row[best] {
                    best = class;
                }
            }
            // What is no number is no answer.
            let known = row[best].is_finite();
            let hit = known && best == label as usize;
            right += usize::from(hit);
            if let Some(recall) = recalls.get_mut(label as usize) {
                recall.samples += 1;
                recall.right += usize::from(hit);
            }
            let own = row.get(label as usize).copied().unwrap_or(0.0);
            loss -= f64::from(own).max(1e-12).ln();
            let confidence = if known { f64::from(row[best]) } else { 0.0 };
            let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
            bins[bin].0 += confidence;
            bins[bin].1 += f64::from(u8::from(hit));
        }
        let samples = labels.len();
        let count = samples.max(1) as f64;
        let gaps = bins.iter().map(|(sure, right)| (sure - right).abs());
        let evaluation = Self {
            samples,
            accuracy: right as f64 / count,
            loss: loss / count,
            ece: gaps.sum::<f64>() / count,
        };
        (evaluation, recalls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certainty_that_is_deserved_is_calibrated() {
        let sure = [20.0, 0.0, 0.0, 20.0];
        let good = Evaluation::of(&sure, &[0, 1], 2);
        assert_eq!((good.samples, good.accuracy), (2, 1.0));
        assert!(good.ece < 1e-6 && good.loss < 1e-6);
        let bad = Evaluation::of(&sure, &[1, 0], 2);
        assert_eq!(bad.accuracy, 0.0);
        assert!((bad.ece - 1.0).abs() < 1e-6 && bad.loss > 10.0);
        let half = Evaluation::of(&sure, &[0, 0], 2);
        assert!((half.ece - 0.5).abs() < 1e-6);
        assert_eq!(Evaluation::of(&[], &[], 2), Evaluation::default());
    }

    #[test]
    fn what_is_no_number_is_wrong_and_sure_of_nothing() {
        let evaluation = Evaluation::of(&[f32::NAN; 4], &[0, 1], 2);
        assert_eq!((evaluation.accuracy, evaluation.ece), (0.0, 0.0));
        assert!(evaluation.loss.is_finite() && evaluation.loss > 10.0);
    }

    #[test]
    fn recalls_of_classes_make_up_the_accuracy() {
        let logits = [
            1.0,
            0.0,
            0.0,
            0.0,
            1.0,
            0.0,
            1.0,
            0.0,
            0.0,
            f32::NAN,
            0.0,
            0.0,
        ];
        let (evaluation, recalls) = Evaluation::by_class(&logits, &[0, 1, 1, 0], 3);
        let recall = |right, samples| Recall { right, samples };
        assert_eq!(recalls, [recall(1, 2), recall(1, 2), recall(0, 0)]);
        assert_eq!(evaluation.accuracy, 0.5);
        assert_eq!(evaluation, Evaluation::of(&logits, &[0, 1, 1, 0], 3));
    }

    #[test]
    fn no_opinion_costs_the_logarithm_of_the_classes() {
        let evaluation = Evaluation::of(&[0.0; 16], &[0, 0, 1, 3], 4);
        assert!((evaluation.loss - 4f64.ln()).abs() < 1e-6);
        assert_eq!(evaluation.accuracy, 0.5);
        assert!((evaluation.ece - 0.25).abs() < 1e-6);
    }
}
