use std::collections::BTreeMap;

use fedistill_protocol::{About, AnswerKind, Answers};

use super::catalogue::Entry;
use super::parameter::{Given, Parameter};
use super::{
    Ask, Centre, Method, MethodError, Outlook, Taken, Wanted, distil_by, mean, on_simplex, pass_on,
    take_probabilities,
};
use crate::{Lesson, Partial, State};

/// How coefficients are found.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Steps {
    count: u32,
    /// Length, where 1 is the longest that leads down from anywhere.
    rate: f64,
    /// How strongly coefficients are drawn to equal ones.
    rho: f64,
}

/// KT-pFL (Zhang et al. 2021): each client learns from a mix of all of its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KtPfl {
    lambda: f32,
    steps: Steps,
    name: String,
}

pub(super) const ENTRY: Entry = Entry {
    name: "kt-pfl",
    variants: &[],
    source: "KT-pFL, Zhang et al. 2021",
    summary: "Each client gets a mix of all clients' probabilities of its own, in which those weigh more that agree with it.",
    up: "probabilities on N samples: 4NC",
    down: "a mix of one's own: 4NC",
    loss: "λ times KL to what came down; then cross-entropy",
    good: "personal accuracy where clients fall into groups",
    bad: "many clients: the coordinator holds all that came up in a round, and makes as many mixes; global accuracy under label skew",
    differs: "the coefficients are found anew in each round, by projected gradient steps on the squared difference to the client's own probabilities, where the paper carries them along and steps once; distillation and private training take turns, as in the authors' code, so that λ makes the steps of the first longer, which those of AdamW hardly notice, and does not enter the coefficients",
    parameters: &[
        Parameter {
            key: "lambda",
            symbol: "λ",
            what: "weight of the divergence from the mix",
            default: 1.0,
            range: (0.001, 1000.0),
            one_of: &[],
            whole: false,
            source: "that of the authors' code, which has no such weight",
        },
        Parameter {
            key: "rho",
            symbol: "ρ",
            what: "how strongly coefficients are drawn to equal ones",
            default: 0.7,
            range: (0.0, 1000.0),
            one_of: &[],
            whole: false,
            source: "the authors' configuration; ours is relative to the size of a client's own probabilities",
        },
        Parameter {
            key: "steps",
            symbol: "",
            what: "steps to a round's coefficients",
            default: 100.0,
            range: (1.0, 10_000.0),
            one_of: &[],
            whole: true,
            source: "ours: little changes after them",
        },
        Parameter {
            key: "rate",
            symbol: "η_3",
            what: "length of such a step, where 1 is the inverse of the steepest slope's bound: up to there each step leads down",
            default: 1.0,
            range: (0.001, 2.0),
            one_of: &[],
            whole: false,
            source: "ours: the longest that is safe",
        },
    ],
    make: |given| Box::new(KtPfl::new(given)),
};

impl KtPfl {
    fn new(given: &Given) -> Self {
        Self {
            lambda: given.get("lambda") as f32,
            steps: Steps {
                count: given.get("steps") as u32,
                rate: given.get("rate"),
                rho: given.get("rho"),
            },
            name: given.name(),
        }
    }
}

impl Method for KtPfl {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Probabilities)
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        Ask::train(distil_by(outlook.training, state, self.lambda), true)
            .report(Wanted::on(AnswerKind::Probabilities, outlook.fresh))
    }

    fn keeps_each(&self) -> bool {
        true
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
        let Some(mean) = mean(taken, AnswerKind::Probabilities)? else {
            return Ok(());
        };
        let about = || About::Rows(rows.clone());
        pass_on(rows, mean, centre, state)?;
        let said: Vec<Vec<f32>> = taken
            .each
            .values()
            .map(|answers| answers.iter().flat_map(on_simplex).collect())
            .collect();
        let products = products(&said);
        let mut personal = BTreeMap::new();
        for (own, client) in taken.each.keys().enumerate() {
            let shares = coefficients(&products, own, self.steps);
            let values = (0..said[own].len()).map(|at| {
                let mix = said.iter().zip(&shares);
                mix.map(|(said, share)| share * f64::from(said[at]))
                    .sum::<f64>() as f32
            });
            let kind = AnswerKind::Probabilities;
            let answers = Answers::new(kind, taken.classes, values.collect())?;
            let about = about();
            personal.insert(client.clone(), vec![Lesson { about, answers }]);
        }
        state.personal = personal;
        Ok(())
    }
}

/// Mean products of all pairs, so that steps do not depend on the number of values.
fn products(said: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let count = said.first().map_or(1, Vec::len).max(1) as f64;
    let dot = |a: &[f32], b: &[f32]| {
        let pairs = a.iter().zip(b);
        pairs
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
            / count
    };
    let row = |a: &Vec<f32>| said.iter().map(|b| dot(a, b)).collect();
    said.iter().map(row).collect()
}

/// Coefficients c, at least 0 and adding up to 1, that make `|| sum c_l s_l - s_k ||^2 / n` small, with
/// rho / K times `|| c - 1/K ||^2` relative to the size of `s_k`.
fn coefficients(products: &[Vec<f64>], own: usize, steps: Steps) -> Vec<f64> {
    let count = products.len();
    let even = 1.0 / count.max(1) as f64;
    let size = products[own][own].max(f64::MIN_POSITIVE);
    let largest: f64 = products
        .iter()
        .map(|row| row.iter().sum::<f64>())
        .fold(0.0, f64::max);
    let pull = steps.rho * size * even;
    let step = steps.rate / (2.0 * (largest + pull));
    let mut shares = vec![even; count];
    for _ in 0..steps.count {
        let slopes: Vec<f64> = (0..count)
            .map(|l| {
                let mixed: f64 = shares.iter().zip(&products[l]).map(|(c, p)| c * p).sum();
                2.0 * (mixed - products[l][own]) + 2.0 * pull * (shares[l] - even)
            })
            .collect();
        let moved = shares
            .iter()
            .zip(&slopes)
            .map(|(c, slope)| c - step * slope);
        shares = on_probability_simplex(&moved.collect::<Vec<f64>>());
    }
    shares
}

/// The nearest point whose values are at least 0 and add up to 1 (Duchi et al. 2008).
fn on_probability_simplex(point: &[f64]) -> Vec<f64> {
    let mut sorted = point.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut off) = (0.0, 0.0);
    for (at, value) in sorted.iter().enumerate() {
        sum += value;
        let here = (sum - 1.0) / (at + 1) as f64;
        if value - here > 0.0 {
            off = here;
        }
    }
    point.iter().map(|value| (value - off).max(0.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_agree_weigh_more_and_a_strong_pull_makes_all_equal() {
        let said = vec![
            vec![1.0, 0.0, 0.9, 0.1],
            vec![0.9, 0.1, 1.0, 0.0],
            vec![0.0, 1.0, 0.1, 0.9],
        ];
        let products = products(&said);
        let steps = |rho| Steps {
            count: 100,
            rate: 1.0,
            rho,
        };
        let free = coefficients(&products, 0, steps(0.05));
        assert!(free[0] > 0.5 && free[1] > free[2], "{free:?}");
        assert!((free.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let pulled = coefficients(&products, 0, steps(1000.0));
        assert!(
            pulled.iter().all(|share| (share - 1.0 / 3.0).abs() < 0.01),
            "{pulled:?}"
        );
    }
}
