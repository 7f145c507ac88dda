//! Clients that lie about what they know, to see what that does to a federation and what helps.

mod overheard;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use fedistill_client::{Student, StudentError};
use fedistill_learning::{Objective, Samples, seed};
use fedistill_protocol::{Optimiser, Start};
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

use overheard::About;
pub(crate) use overheard::{Honest, Overheard};

/// So many clients lie in this way; which ones they are follows from the seed. They learn as all others
/// do, and lie only in what they give.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Byzantine {
    /// How many lie.
    pub liars: usize,
    /// How they do.
    pub attack: Attack,
    /// Whether they know the mean of what all honest clients say of the round's samples before they speak, and lie by
    /// that: the strongest of their papers. Otherwise what a liar would say honestly stands for it.
    pub knowing: bool,
}

/// A way to lie about the classes of a sample, by what honest clients hold likely. Features, which are of no class, it gives with the wrong sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attack {
    /// Loss maximisation (Roux et al. 2024): sure of the class that is the least likely.
    Lma,
    /// Class prior (Roux et al. 2024): sure of the class that goes least together with the likeliest one,
    /// by the covariance of classes over the samples that it is asked about.
    Cpa,
    /// Rank permutation (FDLA, Tang et al. 2024): the values that it believes in, dealt out in the wrong
    /// order, the largest to the least likely class and so on.
    Fdla,
}

impl Attack {
    const ALL: [(&str, Self); 3] = [("lma", Self::Lma), ("cpa", Self::Cpa), ("fdla", Self::Fdla)];
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, attack)| attack == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Byzantine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once(':').and_then(|(liars, attack)| {
            let (attack, knowing) = match attack.strip_suffix(":knowing") {
                Some(attack) => (attack, true),
                None => (attack, false),
            };
            let attack = Attack::ALL.iter().find(|(name, _)| *name == attack)?.1;
            let liars = liars.parse().ok().filter(|liars| *liars > 0)?;
            Some(Self {
                liars,
                attack,
                knowing,
            })
        });
        parsed.ok_or_else(|| {
            format!(
                "{text:?}: write N:lma, N:cpa or N:fdla, with N the clients that lie, at least 1, and :knowing after it where they know what the honest say"
            )
        })
    }
}

impl fmt::Display for Byzantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.liars, self.how())
    }
}

impl Serialize for Byzantine {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Byzantine {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Byzantine {
    /// How they lie, as a user writes it.
    pub fn how(self) -> String {
        let knowing = if self.knowing { ":knowing" } else { "" };
        format!("{}{knowing}", self.attack)
    }

    /// Which of so many clients lie.
    pub fn among(self, clients: usize, seed: u64) -> BTreeSet<usize> {
        let mut rng = seed::stream(seed, "byzantine");
        let order = seed::permutation(clients, &mut rng).into_iter();
        order.take(self.liars).collect()
    }
}

/// A student that learns as it is told to, and lies when its client asks it about some samples. Who
/// looks over its shoulder and asks it about all sees what it is.
pub(crate) struct Liar<S> {
    student: S,
    attack: Attack,
    /// Where it knows what honest clients say.
    overheard: Option<Arc<Overheard>>,
    /// How often it was asked.
    asked: usize,
}

impl<S> Liar<S> {
    pub(crate) fn new(student: S, attack: Attack, overheard: Option<Arc<Overheard>>) -> Self {
        Self {
            student,
            attack,
            overheard,
            asked: 0,
        }
    }
}

impl<S: Student> Student for Liar<S> {
    fn begin(&mut self, start: Start, optimiser: Optimiser) -> Result<(), StudentError> {
        self.student.begin(start, optimiser)
    }

    fn step(
        &mut self,
        samples: &[f32],
        objective: &Objective<'_>,
        rng: &mut ChaCha20Rng,
    ) -> Result<f32, StudentError> {
        self.student.step(samples, objective, rng)
    }

    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, StudentError> {
        self.student.logits(samples)
    }

    fn logits_of(&mut self, samples: &Samples, rows: &[usize]) -> Result<Vec<f32>, StudentError> {
        let mut logits = self.student.logits_of(samples, rows)?;
        let classes = logits.len() / rows.len().max(1);
        if let Some(overheard) = &self.overheard {
            let mean = overheard.mean(self.asked, &About::of(samples, rows), classes)?;
            self.asked += 1;
            logits = mean.unwrap_or(logits);
        }
        let together = Together::of(&logits, classes);
        for row in logits.chunks_exact_mut(classes.max(1)) {
            lie(self.attack, row, &together);
        }
        Ok(logits)
    }

    fn features_of(
        &mut self,
        samples: &Samples,
        rows: &[usize],
    ) -> Result<(Vec<f32>, usize), StudentError> {
        let (mut features, width) = self.student.features_of(samples, rows)?;
        features.iter_mut().for_each(|value| *value = -*value);
        Ok((features, width))
    }

    fn wake(&mut self) -> Result<(), StudentError> {
        self.student.wake()
    }

    fn undo(&mut self) -> Result<bool, StudentError> {
        self.student.undo()
    }

    fn rest(&mut self) -> Result<(), StudentError> {
        self.student.rest()
    }

    fn parameters(&self) -> &[f32] {
        self.student.parameters()
    }
}

/// A logit that leaves nothing to the other classes, and that every method can add up.
const SURE: f32 = 60.0;

/// Puts a lie in the place of a row of logits.
fn lie(attack: Attack, row: &mut [f32], together: &Together) {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[a].total_cmp(&row[b]).then(a.cmp(&b)));
    let (Some(&least), Some(&most)) = (order.first(), order.last()) else {
        return;
    };
    let sure_of = match attack {
        Attack::Lma => least,
        Attack::Cpa => together.apart_from(most, row.len()),
        Attack::Fdla => {
            let values: Vec<f32> = order.iter().rev().map(|&class| row[class]).collect();
            for (class, value) in order.into_iter().zip(values) {
                row[class] = value;
            }
            return;
        }
    };
    row.fill(0.0);
    row[sure_of] = SURE;
}

/// Which classes go together: sums over all that a student says, as probabilities.
struct Together {
    rows: f64,
    sums: Vec<f64>,
    products: Vec<f64>,
}

impl Together {
    fn of(logits: &[f32], classes: usize) -> Self {
        let (mut rows, mut sums) = (0.0, vec![0.0; classes]);
        let mut products = vec![0.0; classes * classes];
        let probabilities = fedistill_learning::softmax(logits, classes);
        for row in probabilities.chunks_exact(classes.max(1)) {
            rows += 1.0;
            for (a, &p) in row.iter().enumerate() {
                sums[a] += f64::from(p);
                let products = products[a * classes..].iter_mut();
                let both = products.zip(row);
                both.for_each(|(sum, &q)| *sum += f64::from(p) * f64::from(q));
            }
        }
        Self {
            rows,
            sums,
            products,
        }
    }

    /// The class of the least covariance with this one, the first of equals.
    fn apart_from(&self, class: usize, classes: usize) -> usize {
        let covariance = |other: usize| {
            let mean = |class: usize| self.sums[class] / self.rows;
            self.products[class * classes + other] / self.rows - mean(class) * mean(other)
        };
        let all = (0..classes).map(|other| (other, covariance(other)));
        let least = all.min_by(|(_, a), (_, b)| a.total_cmp(b));
        least.map_or(class, |(other, _)| other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(attack: Attack, heard: &[f32], row: [f32; 3]) -> [f32; 3] {
        let mut told = row;
        lie(attack, &mut told, &Together::of(heard, 3));
        told
    }

    #[test]
    fn lies_are_of_the_class_that_does_most_harm() {
        let row = [2.0, -1.0, 0.5];
        // Where the first class is likely the second one is too, and the third is not.
        let heard = [4.0, 4.0, -4.0, -4.0, -4.0, 4.0, 2.0, 1.0, -1.0];
        assert_eq!(told(Attack::Lma, &heard, row), [0.0, SURE, 0.0]);
        assert_eq!(told(Attack::Cpa, &heard, row), [0.0, 0.0, SURE]);
        assert_eq!(told(Attack::Fdla, &heard, row), [-1.0, 2.0, 0.5]);
    }

    #[test]
    fn liars_are_so_many_and_follow_from_the_seed() {
        let four: Byzantine = "4:lma".parse().unwrap();
        assert_eq!(four.to_string(), "4:lma");
        assert!(!four.knowing);
        let knowing: Byzantine = "4:lma:knowing".parse().unwrap();
        assert!(knowing.knowing && knowing.to_string() == "4:lma:knowing");
        assert_eq!(knowing.among(10, 1), four.among(10, 1));
        let of = |seed| four.among(10, seed);
        assert_eq!((of(1).len(), of(1)), (4, of(1)));
        assert!((2..9).any(|seed| of(seed) != of(1)));
        for wrong in ["4", "0:lma", "4:hips", "lma:4", "4:knowing", "4:lma:all"] {
            let error = wrong.parse::<Byzantine>().unwrap_err();
            assert!(error.contains("N:lma"), "{error}");
        }
    }
}
