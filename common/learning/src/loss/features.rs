//! Losses of features: of each sample, or of how the samples of a batch lie to each other.

use fedistill_protocol::Loss;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;

use super::{ObjectiveError, Soft};

/// Features of a batch, and what they are held against.
pub(super) struct Batch<'a> {
    pub(super) features: &'a [f32],
    pub(super) width: usize,
    pub(super) target: Soft<'a>,
}

/// A linear map from a student's features to a wider or narrower target's (the regressor of FitNets),
/// learnt along with the student.
pub(crate) struct Adaptor {
    /// `width x target width`, row-major.
    pub(crate) weights: Vec<f32>,
    pub(crate) gradients: Vec<f32>,
    from: usize,
    to: usize,
}

impl Adaptor {
    /// A map that starts from `rng`, uniform within `1 / sqrt(from)`.
    pub(crate) fn new(from: usize, to: usize, rng: &mut ChaCha20Rng) -> Self {
        let bound = (from.max(1) as f32).sqrt().recip();
        let weights = (0..from * to).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0));
        Self {
            weights: weights.collect(),
            gradients: vec![0.0; from * to],
            from,
            to,
        }
    }

    /// One with these parameters; `None` if they are not as many as it has.
    pub(crate) fn with_weights(from: u64, to: u64, weights: Vec<f32>) -> Option<Self> {
        let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
        (from.checked_mul(to)? == weights.len()).then(|| Self {
            gradients: vec![0.0; weights.len()],
            weights,
            from,
            to,
        })
    }

    /// The widths of what goes in and of what comes out.
    pub(crate) fn widths(&self) -> (usize, usize) {
        (self.from, self.to)
    }

    pub(crate) fn fits(&self, from: usize, to: usize) -> bool {
        (self.from, self.to) == (from, to)
    }

    fn apply(&self, features: &[f32]) -> Vec<f64> {
        let mut mapped = vec![0.0; features.len() / self.from.max(1) * self.to];
        let rows = mapped
            .chunks_exact_mut(self.to)
            .zip(features.chunks_exact(self.from));
        for (mapped, features) in rows {
            for (feature, weights) in features.iter().zip(self.weights.chunks_exact(self.to)) {
                for (mapped, weight) in mapped.iter_mut().zip(weights) {
                    *mapped += f64::from(*feature) * f64::from(*weight);
                }
            }
        }
        mapped
    }

    /// From the gradient of what came out: adds its own, and gives that of what went in.
    fn back(&mut self, features: &[f32], slopes: &[f64]) -> Vec<f64> {
        let mut into = vec![0.0; features.len()];
        let mut own = vec![0.0f64; self.weights.len()];
        let rows = features
            .chunks_exact(self.from)
            .zip(slopes.chunks_exact(self.to));
        for ((features, slopes), into) in rows.zip(into.chunks_exact_mut(self.from)) {
            for (at, (feature, into)) in features.iter().zip(into).enumerate() {
                let weights = &self.weights[at * self.to..(at + 1) * self.to];
                let own = &mut own[at * self.to..(at + 1) * self.to];
                for ((weight, own), slope) in weights.iter().zip(own).zip(slopes) {
                    *own += f64::from(*feature) * slope;
                    *into += f64::from(*weight) * slope;
                }
            }
        }
        for (gradient, slope) in self.gradients.iter_mut().zip(own) {
            *gradient += slope as f32;
        }
        into
    }
}

impl Batch<'_> {
    fn samples(&self) -> usize {
        self.features.len().checked_div(self.width).unwrap_or(0)
    }

    /// The mean loss of the batch; adds `weight` times its gradient.
    pub(super) fn evaluate(
        &self,
        loss: Loss,
        weight: f64,
        adaptor: Option<&mut Adaptor>,
        gradient: &mut [f32],
    ) -> Result<f64, ObjectiveError> {
        if self.samples() * self.target.width != self.target.values.len() {
            return Err(ObjectiveError::Shape {
                targets: self.target.values.len(),
                logits: self.features.len(),
                classes: self.width,
            });
        }
        let values: Vec<f64> = self.features.iter().map(|f| f64::from(*f)).collect();
        let targets: Vec<f64> = self.target.values.iter().map(|f| f64::from(*f)).collect();
        let same = self.width == self.target.width;
        let width = ObjectiveError::Width {
            actual: self.width,
            expected: self.target.width,
        };
        let (value, slopes) = match (loss, adaptor) {
            (Loss::Features, _) if same => self.distance(&values, &targets),
            (Loss::Features, Some(adaptor)) => {
                let mapped = adaptor.apply(self.features);
                let (value, slopes) = self.distance(&mapped, &targets);
                let scaled: Vec<f64> = slopes.iter().map(|slope| weight * slope).collect();
                let slopes = adaptor.back(self.features, &scaled);
                for (gradient, slope) in gradient.iter_mut().zip(&slopes) {
                    *gradient += *slope as f32;
                }
                return Ok(value);
            }
            (Loss::Attention, _) if same => self.attention(&values, &targets),
            (Loss::Features | Loss::Attention, _) => return Err(width),
            (Loss::Similarity, _) => self.among_speaking(&values, &targets, |own, other| {
                let samples = own.samples;
                similarity(own.values, other.values, samples, own.width, other.width)
            }),
            (Loss::Relational { distance, angle }, _) => {
                let (distance, angle) = (f64::from(distance), f64::from(angle));
                self.among_speaking(&values, &targets, |own, other| {
                    relational(own, other, distance, angle)
                })
            }
            // Of outputs: never asked for here.
            _ => (0.0, vec![0.0; values.len()]),
        };
        for (gradient, slope) in gradient.iter_mut().zip(&slopes) {
            *gradient += (weight * slope) as f32;
        }
        Ok(value)
    }

    /// How samples lie to each other, of those alone whose targets are not silent: a silent one is nowhere.
    fn among_speaking(
        &self,
        values: &[f64],
        targets: &[f64],
        lie: impl Fn(&Points<'_>, &Points<'_>) -> (f64, Vec<f64>),
    ) -> (f64, Vec<f64>) {
        let (width, target_width) = (self.width.max(1), self.target.width.max(1));
        let rows = values
            .chunks_exact(width)
            .zip(targets.chunks_exact(target_width));
        let (mut own, mut other, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (values, targets)) in rows.enumerate() {
            if targets.iter().any(|target| *target != 0.0) {
                own.extend_from_slice(values);
                other.extend_from_slice(targets);
                places.push(place);
            }
        }
        let samples = places.len();
        let of = |values, width| Points {
            values,
            samples,
            width,
        };
        let (value, among) = lie(&of(&own, width), &of(&other, target_width));
        let mut slopes = vec![0.0; values.len()];
        for (place, slope) in places.iter().zip(among.chunks_exact(width)) {
            slopes[place * width..(place + 1) * width].copy_from_slice(slope);
        }
        (value, slopes)
    }

    /// Mean squared difference over all values; a sample whose target is silent adds nothing.
    fn distance(&self, values: &[f64], targets: &[f64]) -> (f64, Vec<f64>) {
        let width = self.target.width.max(1);
        let count = values.len().max(1) as f64;
        let (mut sum, mut slopes) = (0.0, vec![0.0; values.len()]);
        let rows = values.chunks_exact(width).zip(targets.chunks_exact(width));
        for ((values, targets), slopes) in rows.zip(slopes.chunks_exact_mut(width)) {
            if targets.iter().all(|target| *target == 0.0) {
                continue;
            }
            for ((value, target), slope) in values.iter().zip(targets).zip(slopes) {
                sum += (value - target).powi(2);
                *slope = 2.0 * (value - target) / count;
            }
        }
        (sum / count, slopes)
    }

    /// Mean squared distance of unit vectors.
    fn attention(&self, values: &[f64], targets: &[f64]) -> (f64, Vec<f64>) {
        let (samples, width) = (self.samples().max(1) as f64, self.width.max(1));
        let (mut sum, mut slopes) = (0.0, vec![0.0; values.len()]);
        let rows = values.chunks_exact(width).zip(targets.chunks_exact(width));
        for ((values, targets), slopes) in rows.zip(slopes.chunks_exact_mut(width)) {
            let (a, b) = (norm(values), norm(targets));
            if a <= 0.0 || b <= 0.0 {
                continue;
            }
            let units = values.iter().zip(targets).map(|(v, t)| (v / a, t / b));
            let differences: Vec<f64> = units.map(|(u, t)| 2.0 * (u - t) / samples).collect();
            sum += differences
                .iter()
                .map(|d| d * d * samples / 4.0)
                .sum::<f64>();
            unit_back(values, a, &differences, slopes);
        }
        (sum, slopes)
    }
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Adds the gradient of what was scaled to length 1, from that of the unit vector.
fn unit_back(row: &[f64], norm: f64, unit_slopes: &[f64], slopes: &mut [f64]) {
    let along: f64 = row.iter().zip(unit_slopes).map(|(v, s)| v * s).sum::<f64>() / norm;
    for ((slope, value), unit) in slopes.iter_mut().zip(row).zip(unit_slopes) {
        *slope += (unit - along * value / norm) / norm;
    }
}

/// `|| rows of F F^T, each of length 1, less those of the target ||^2 / samples^2`.
fn similarity(
    values: &[f64],
    targets: &[f64],
    samples: usize,
    width: usize,
    target_width: usize,
) -> (f64, Vec<f64>) {
    let gram = |values: &[f64], width: usize| -> Vec<f64> {
        let row = |at: usize| &values[at * width..(at + 1) * width];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        (0..samples)
            .flat_map(|i| (0..samples).map(move |j| (i, j)))
            .map(|(i, j)| dot(row(i), row(j)))
            .collect()
    };
    let (own, other) = (gram(values, width), gram(targets, target_width));
    let all = (samples.max(1) as f64).powi(2);
    let (mut sum, mut of_gram) = (0.0, vec![0.0; own.len()]);
    let rows = own
        .chunks_exact(samples.max(1))
        .zip(other.chunks_exact(samples.max(1)));
    for ((own, other), slopes) in rows.zip(of_gram.chunks_exact_mut(samples.max(1))) {
        let (a, b) = (norm(own).max(TINY), norm(other).max(TINY));
        let differences = own.iter().zip(other).map(|(o, t)| o / a - t / b);
        let differences: Vec<f64> = differences.collect();
        sum += differences.iter().map(|d| d * d).sum::<f64>() / all;
        let unit: Vec<f64> = differences.iter().map(|d| 2.0 * d / all).collect();
        unit_back(own, a, &unit, slopes);
    }
    let mut slopes = vec![0.0; values.len()];
    for i in 0..samples {
        for j in 0..samples {
            // F F^T is symmetric: each pair is there twice.
            let slope = of_gram[i * samples + j] + of_gram[j * samples + i];
            for at in 0..width {
                slopes[i * width + at] += slope * values[j * width + at];
            }
        }
    }
    (sum, slopes)
}

/// Lengths are not taken to be less.
const TINY: f64 = 1e-12;

/// Points, a sample each.
struct Points<'a> {
    values: &'a [f64],
    samples: usize,
    width: usize,
}

impl Points<'_> {
    fn difference(&self, i: usize, j: usize) -> Vec<f64> {
        let row = |at: usize| &self.values[at * self.width..(at + 1) * self.width];
        row(i).iter().zip(row(j)).map(|(a, b)| a - b).collect()
    }

    /// Distances of all pairs, and their mean over those that are not 0.
    fn distances(&self) -> (Vec<f64>, f64) {
        let n = self.samples;
        let pairs = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
        let all: Vec<f64> = pairs.map(|(i, j)| norm(&self.difference(i, j))).collect();
        let apart = all.iter().filter(|d| **d > 0.0);
        let count = apart.clone().count().max(1) as f64;
        let mean = (apart.sum::<f64>() / count).max(TINY);
        (all, mean)
    }
}

/// Huber loss of a difference, with its slope: a square within 1, then straight.
fn huber(difference: f64) -> (f64, f64) {
    match difference.abs() < 1.0 {
        true => (0.5 * difference * difference, difference),
        false => (difference.abs() - 0.5, difference.signum()),
    }
}

fn relational(own: &Points<'_>, other: &Points<'_>, distance: f64, angle: f64) -> (f64, Vec<f64>) {
    let mut slopes = vec![0.0; own.values.len()];
    let mut loss = 0.0;
    if distance > 0.0 {
        loss += distance * by_distance(own, other, distance, &mut slopes);
    }
    if angle > 0.0 {
        loss += angle * by_angle(own, other, angle, &mut slopes);
    }
    (loss, slopes)
}

/// Of distances relative to their mean; adds `weight` times the gradient.
fn by_distance(own: &Points<'_>, other: &Points<'_>, weight: f64, slopes: &mut [f64]) -> f64 {
    let n = own.samples;
    let count = (n * n).max(1) as f64;
    let ((a, mean), (b, other_mean)) = (own.distances(), other.distances());
    let apart = a.iter().filter(|d| **d > 0.0).count().max(1) as f64;
    let (mut sum, mut relative, mut through_mean) = (0.0, vec![0.0; n * n], 0.0);
    for (at, relative) in relative.iter_mut().enumerate() {
        let (value, slope) = huber(a[at] / mean - b[at] / other_mean);
        sum += value / count;
        *relative = slope / count;
        through_mean -= slope / count * a[at] / (mean * mean);
    }
    for i in 0..n {
        for j in 0..n {
            let at = i * n + j;
            if a[at] <= 0.0 {
                continue;
            }
            let slope = weight * (relative[at] / mean + through_mean / apart) / a[at];
            for (k, difference) in own.difference(i, j).iter().enumerate() {
                slopes[i * own.width + k] += slope * difference;
                slopes[j * own.width + k] -= slope * difference;
            }
        }
    }
    sum
}

/// Of the cosines of angles at each point between two others; adds `weight` times the gradient.
fn by_angle(own: &Points<'_>, other: &Points<'_>, weight: f64, slopes: &mut [f64]) -> f64 {
    let (n, width) = (own.samples, own.width);
    let count = (n * n * n).max(1) as f64;
    let units = |points: &Points<'_>, i: usize| -> Vec<(Vec<f64>, f64)> {
        let unit = |j: usize| {
            let difference = points.difference(j, i);
            let length = norm(&difference).max(TINY);
            (difference.iter().map(|d| d / length).collect(), length)
        };
        (0..n).map(unit).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut sum = 0.0;
    for i in 0..n {
        let (mine, theirs) = (units(own, i), units(other, i));
        let mut of_units = vec![vec![0.0; width]; n];
        for j in 0..n {
            for k in 0..n {
                let difference = dot(&mine[j].0, &mine[k].0) - dot(&theirs[j].0, &theirs[k].0);
                let (value, slope) = huber(difference);
                sum += value / count;
                let slope = weight * slope / count;
                for (at, (mine, other)) in mine[j].0.iter().zip(&mine[k].0).enumerate() {
                    of_units[j][at] += slope * other;
                    of_units[k][at] += slope * mine;
                }
            }
        }
        for j in (0..n).filter(|j| *j != i) {
            let (unit, length) = &mine[j];
            let along = dot(unit, &of_units[j]);
            for at in 0..width {
                let slope = (of_units[j][at] - along * unit[at]) / length;
                slopes[j * width + at] += slope;
                slopes[i * width + at] -= slope;
            }
        }
    }
    sum
}
