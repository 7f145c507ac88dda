use fedistill_protocol::{About, AnswerKind, Answers};

use super::catalogue::Entry;
use super::parameter::{Given, Parameter};
use super::{
    Ask, Centre, Method, MethodError, Outlook, Taken, Wanted, distil_by, mean, on_simplex,
    take_probabilities,
};
use crate::{Lesson, Partial, State};

/// COMET (Cho et al. 2023): clustered soft labels, of which a student takes the nearest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comet {
    clusters: usize,
    lambda: f32,
    name: String,
}

pub(super) const ENTRY: Entry = Entry {
    name: "comet",
    variants: &[],
    source: "COMET, Cho et al. 2023",
    summary: "For each sample, clients' probabilities are clustered; all cluster means come down, and a student learns from the one that is nearest to what it says itself.",
    up: "probabilities on N samples: 4NC",
    down: "k means a sample: 4kNC",
    loss: "λ times KL to the nearest of what came down; then cross-entropy",
    good: "groups of clients that disagree for a reason: the same sample means other things to them",
    bad: "label skew of one task, where students need what others know rather than what they know already; as many clusters as clients of a round, where each learns what it said itself",
    differs: "distillation and private training take turns, where the paper adds up their losses; so that λ makes its steps longer, which those of AdamW hardly notice; the teacher learns from the mean over all",
    parameters: &[
        Parameter {
            key: "clusters",
            symbol: "k",
            what: "clusters of each sample",
            default: 2.0,
            range: (1.0, 16.0),
            one_of: &[],
            whole: true,
            source: "the usual setting in its comparisons",
        },
        Parameter {
            key: "lambda",
            symbol: "λ",
            what: "weight of the divergence from the nearest mean",
            default: 1.0,
            range: (0.001, 1000.0),
            one_of: &[],
            whole: false,
            source: "the usual setting in its comparisons",
        },
    ],
    make: |given| Box::new(Comet::new(given)),
};

impl Comet {
    fn new(given: &Given) -> Self {
        Self {
            clusters: given.get("clusters") as usize,
            lambda: given.get("lambda") as f32,
            name: given.name(),
        }
    }
}

impl Method for Comet {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Probabilities)
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        let phases = distil_by(outlook.training, state, self.lambda);
        Ask::train(phases, true).report(Wanted::on(AnswerKind::Probabilities, outlook.fresh))
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
        let classes = taken.classes as usize;
        let mut centroids = vec![Vec::new(); self.clusters];
        for at in 0..rows.count() as usize {
            let said = taken
                .each
                .values()
                .filter_map(|answers| answers.iter().nth(at));
            let said: Vec<Vec<f32>> = said
                .map(on_simplex)
                .filter(|row| row.iter().any(|p| *p > 0.0))
                .collect();
            let found = cluster(&said, self.clusters);
            for (which, centroid) in centroids.iter_mut().enumerate() {
                match found.get(which) {
                    Some(row) => centroid.extend(row),
                    // Fewer said something than there are clusters: the rest is silent.
                    None => centroid.extend(vec![0.0; classes]),
                }
            }
        }
        if let Some(centre) = centre {
            centre.learn(rows, &mean)?;
        }
        let lesson = |values| {
            let about = About::Rows(rows.clone());
            let answers = Answers::new(AnswerKind::Probabilities, taken.classes, values)?;
            Ok::<_, MethodError>(Lesson { about, answers })
        };
        state.common = centroids
            .into_iter()
            .map(lesson)
            .collect::<Result<_, _>>()?;
        Ok(())
    }
}

/// Passes of k-means, after which little changes.
const PASSES: usize = 10;

fn squared(a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// The means of at most `count` clusters (Lloyd 1982), from the first point and those farthest from
/// all chosen before.
fn cluster(points: &[Vec<f32>], count: usize) -> Vec<Vec<f32>> {
    let mut centroids: Vec<Vec<f32>> = points.first().cloned().into_iter().collect();
    let nearest = |centroids: &[Vec<f32>], point: &[f32]| {
        let distances = centroids.iter().map(|centroid| squared(centroid, point));
        let least = |best: (usize, f64), (at, distance): (usize, f64)| match distance < best.1 {
            true => (at, distance),
            false => best,
        };
        distances.enumerate().fold((0, f64::INFINITY), least)
    };
    while centroids.len() < count {
        let distance = |point: &Vec<f32>| nearest(&centroids, point).1;
        let far = points
            .iter()
            .fold(None::<(&Vec<f32>, f64)>, |best, point| match best {
                Some((_, most)) if distance(point) <= most => best,
                _ => Some((point, distance(point))),
            });
        match far {
            Some((point, distance)) if distance > 0.0 => centroids.push(point.clone()),
            _ => break,
        }
    }
    for _ in 0..PASSES {
        let mut sums =
            vec![(vec![0.0f64; centroids.first().map_or(0, Vec::len)], 0u32); centroids.len()];
        for point in points {
            let (sum, count) = &mut sums[nearest(&centroids, point).0];
            *count += 1;
            sum.iter_mut()
                .zip(point)
                .for_each(|(s, p)| *s += f64::from(*p));
        }
        let means = sums
            .into_iter()
            .zip(&centroids)
            .map(|((sum, count), old)| match count {
                0 => old.clone(),
                _ => sum.iter().map(|s| (s / f64::from(count)) as f32).collect(),
            });
        let means: Vec<Vec<f32>> = means.collect();
        if means == centroids {
            break;
        }
        centroids = means;
    }
    centroids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_found() {
        let points: Vec<Vec<f32>> = [[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.2, 0.8]]
            .map(|row| row.to_vec())
            .to_vec();
        let found = cluster(&points, 2);
        for (found, expected) in found.iter().zip([[0.85, 0.15], [0.15, 0.85]]) {
            assert!(squared(found, &expected) < 1e-9, "{found:?}");
        }
        assert_eq!(cluster(&points[..1], 2).len(), 1);
        assert!(cluster(&[], 2).is_empty());
    }
}
