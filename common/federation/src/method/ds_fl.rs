use fedistill_protocol::{AnswerKind, Answers};

use super::catalogue::{Entry, Variant};
use super::parameter::{Given, Parameter};
use super::{
    Ask, Centre, Method, MethodError, Outlook, Taken, Wanted, by_row, distil_then_train, mean,
    pass_on, softmax, take_probabilities,
};
use crate::{Partial, State};

/// DS-FL (Itahara et al. 2020): the mean of clients' probabilities, as it is or sharpened. The
/// teacher learns from the mean and has no vote in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DsFl {
    reduction: Reduction,
    name: String,
}

/// What becomes of the mean of probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reduction {
    /// Simple aggregation: the mean itself.
    Simple,
    /// Entropy-reduction aggregation: `softmax(mean / T)`, a softmax of probabilities.
    Entropy {
        /// The temperature T, above 0; the paper's value is 0.1.
        temperature: f32,
    },
    /// Enhanced entropy-reduction aggregation (SCARLET, Azuma et al. 2025): `mean^beta`, scaled to sum
    /// to 1. At 1 it is simple aggregation.
    Enhanced {
        /// The power, above 0.
        beta: f32,
    },
}

pub(super) const ENTRY: Entry = Entry {
    name: "ds-fl",
    variants: &[
        Variant {
            name: "sa",
            what: "simple aggregation: the mean as it is",
            own: &[],
        },
        Variant {
            name: "era",
            what: "entropy-reduction aggregation: softmax(mean / T), a softmax of probabilities",
            own: &["temperature"],
        },
        Variant {
            name: "enhanced-era",
            what: "mean^beta, scaled to sum to 1 (SCARLET, Azuma et al. 2025)",
            own: &["beta"],
        },
    ],
    source: "Itahara et al. 2020",
    summary: "The mean of clients' probabilities on unlabelled samples, as it is or sharpened, is distilled into students and teacher.",
    up: "probabilities on N samples: 4NC",
    down: "their aggregate on the N samples of the round before: 4NC",
    loss: "KL to what came down; then cross-entropy",
    good: "even data; `era` under mild label skew",
    bad: "strong label skew, where a mean of logits does better (`tests/claims/`)",
    differs: "students distil before they train privately, in one round instead of two halves of it: the same steps in the same order",
    parameters: &[
        Parameter {
            key: "temperature",
            symbol: "T",
            what: "of `era`: the lower, the sharper",
            default: 0.1,
            range: (0.001, 10.0),
            one_of: &[],
            whole: false,
            source: "the paper's experiments",
        },
        Parameter {
            key: "beta",
            symbol: "β",
            what: "of `enhanced-era`: the higher, the sharper; 1 is `sa`",
            default: 2.0,
            range: (0.1, 20.0),
            one_of: &[],
            whole: false,
            source: "the value for its strongest skew",
        },
    ],
    make: |given| Box::new(DsFl::new(given)),
};

impl DsFl {
    fn new(given: &Given) -> Self {
        let reduction = match given.variant() {
            "era" => Reduction::Entropy {
                temperature: given.get("temperature") as f32,
            },
            "enhanced-era" => Reduction::Enhanced {
                beta: given.get("beta") as f32,
            },
            _ => Reduction::Simple,
        };
        Self {
            reduction,
            name: given.name(),
        }
    }
}

impl Reduction {
    /// What becomes of a mean; a silent row stays silent.
    pub(super) fn apply(self, mean: Answers) -> Result<Answers, MethodError> {
        let kind = AnswerKind::Probabilities;
        Ok(match self {
            // To the bit what it was.
            Self::Simple | Self::Enhanced { beta: 1.0 } => mean,
            Self::Entropy { temperature } => {
                by_row(kind, &mean, |row| softmax(row, temperature.recip()))?
            }
            Self::Enhanced { beta } => by_row(kind, &mean, |row| raised(row, beta))?,
        })
    }
}

/// `row^beta`, scaled to sum to 1.
fn raised(row: &[f32], beta: f32) -> Vec<f32> {
    let most = row.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let powers: Vec<f64> = row
        .iter()
        .map(|&p| f64::from(p.max(0.0) / most).powf(beta.into()))
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}

impl Method for DsFl {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Probabilities)
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        Ask::train(distil_then_train(outlook.training, state), true)
            .report(Wanted::on(AnswerKind::Probabilities, outlook.fresh))
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        take_probabilities(sum, weight, answers)
    }

    fn conclude(
        &self,
        _: &Outlook<'_>,
        taken: Taken<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        let rows = taken.rows()?;
        match mean(taken, AnswerKind::Probabilities)? {
            Some(mean) => pass_on(rows, self.reduction.apply(mean)?, centre, state),
            None => Ok(()),
        }
    }
}
