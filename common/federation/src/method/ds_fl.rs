use fedistill_protocol::{AnswerKind, Answers};

use super::{Ask, Method, MethodError, Training, distil_then_train, expect_kind, softmax};
use crate::Partial;

/// DS-FL (Itahara et al. 2020): the mean of clients' probabilities, as it is or sharpened. The
/// teacher learns from the mean and has no vote in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DsFl {
    reduction: Reduction,
}

/// What becomes of the mean of probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reduction {
    /// Simple aggregation: the mean itself.
    Simple,
    /// Entropy-reduction aggregation: `softmax(mean / T)`, a softmax of probabilities.
    Entropy {
        /// The temperature T, above 0; the paper's value is 0.1.
        temperature: f32,
    },
}

impl DsFl {
    /// Simple aggregation, `ds-fl:sa`.
    pub const fn simple() -> Self {
        Self {
            reduction: Reduction::Simple,
        }
    }

    /// Entropy-reduction aggregation at the paper's temperature of 0.1, `ds-fl:era`.
    pub const fn era() -> Self {
        Self {
            reduction: Reduction::Entropy { temperature: 0.1 },
        }
    }
}

impl Method for DsFl {
    fn name(&self) -> String {
        match self.reduction {
            Reduction::Simple => "ds-fl:sa".to_owned(),
            Reduction::Entropy { .. } => "ds-fl:era".to_owned(),
        }
    }

    fn ask(&self, training: &Training, labels: bool) -> Ask {
        Ask {
            knowledge: labels.then_some(AnswerKind::Probabilities),
            phases: distil_then_train(training, labels),
            report: Some(AnswerKind::Probabilities),
        }
    }

    /// Rows are projected back onto the simplex first, so that nobody counts for more than one.
    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        expect_kind(answers, AnswerKind::Probabilities)?;
        let rows = answers.values().chunks(answers.classes().max(1) as usize);
        let values: Vec<f32> = rows.flat_map(on_simplex).collect();
        Ok(sum.add(weight, &values)?)
    }

    fn aggregate(
        &self,
        sum: &Partial,
        _: Option<&Answers>,
        classes: u32,
    ) -> Result<Option<Answers>, MethodError> {
        let Some(mean) = sum.mean() else {
            return Ok(None);
        };
        let labels = match self.reduction {
            Reduction::Simple => mean,
            Reduction::Entropy { temperature } => mean
                .chunks(classes.max(1) as usize)
                .flat_map(|row| softmax(row, temperature.recip()))
                .collect(),
        };
        Ok(Some(Answers::new(
            AnswerKind::Probabilities,
            classes,
            labels,
        )?))
    }

    fn teacher_learns(&self) -> bool {
        true
    }
}

/// The row with negative values cut off and scaled to sum to 1; uniform where nothing is left.
fn on_simplex(row: &[f32]) -> Vec<f32> {
    let sum: f64 = row.iter().map(|&value| f64::from(value.max(0.0))).sum();
    match sum > 0.0 {
        true => row
            .iter()
            .map(|&value| (f64::from(value.max(0.0)) / sum) as f32)
            .collect(),
        false => vec![1.0 / row.len() as f32; row.len()],
    }
}
