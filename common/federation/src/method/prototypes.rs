//! The coordinator's trainable prototypes of FedTGP: an embedding of each class through two layers.

use rand::RngExt;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;

/// How the coordinator trains them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tuition {
    /// Passes over a round's prototypes.
    pub(super) epochs: u32,
    /// Prototypes a step, at least 1.
    pub(super) batch: usize,
    /// Length of a step.
    pub(super) rate: f32,
    /// The largest margin.
    pub(super) threshold: f32,
}

/// `prototype(c) = relu(embedding(c) A + a) B + b`, all of one width.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prototypes {
    classes: usize,
    width: usize,
    /// Embeddings, A, a, B, b, one after the other.
    weights: Vec<f32>,
}

/// A forward pass.
struct Pass {
    hidden: Vec<f32>,
    rows: Vec<f32>,
}

impl Prototypes {
    fn length(classes: usize, width: usize) -> usize {
        classes * width + 2 * (width * width + width)
    }

    /// Drawn under `seed`: embeddings normally, as evenly as sums of uniform values are, layers within
    /// `1 / sqrt(width)`.
    pub(super) fn new(classes: usize, width: usize, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let bound = (width as f32).sqrt().recip();
        let mut weights = Vec::with_capacity(Self::length(classes, width));
        for _ in 0..classes * width {
            let sum: f32 = (0..12).map(|_| rng.random::<f32>()).sum();
            weights.push(sum - 6.0);
        }
        while weights.len() < Self::length(classes, width) {
            weights.push(bound * (2.0 * rng.random::<f32>() - 1.0));
        }
        Self {
            classes,
            width,
            weights,
        }
    }

    /// What [`Self::bytes`] wrote; `None` for anything else.
    pub(super) fn read(bytes: &[u8], classes: usize, width: usize) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let fits = rest.is_empty() && words.len() == Self::length(classes, width);
        fits.then(|| Self {
            classes,
            width,
            weights: words.iter().map(|word| f32::from_le_bytes(*word)).collect(),
        })
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.weights.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// The prototypes of all classes, `classes x width`.
    pub(super) fn all(&self) -> Vec<f32> {
        self.forward().rows
    }

    /// Where A, a, B and b begin.
    fn places(&self) -> [usize; 4] {
        let (square, width) = (self.width * self.width, self.width);
        let first = self.classes * width;
        [
            first,
            first + square,
            first + square + width,
            first + 2 * square + width,
        ]
    }

    fn forward(&self) -> Pass {
        let width = self.width;
        let [a, a_off, b, b_off] = self.places();
        let layer = |input: &[f32], matrix: usize, offset: usize, relu: bool| -> Vec<f32> {
            let mut out = Vec::with_capacity(input.len());
            for row in input.chunks_exact(width) {
                let mut sums = self.weights[offset..offset + width].to_vec();
                for (value, weights) in row.iter().zip(self.weights[matrix..].chunks_exact(width)) {
                    sums.iter_mut()
                        .zip(weights)
                        .for_each(|(sum, w)| *sum += value * w);
                }
                out.extend(sums.into_iter().map(|s| if relu { s.max(0.0) } else { s }));
            }
            out
        };
        let hidden = layer(&self.weights[..a], a, a_off, true);
        let rows = layer(&hidden, b, b_off, false);
        Pass { hidden, rows }
    }

    /// Lets the prototypes come close to clients' prototypes of their class, and apart from others: SGD
    /// on the cross-entropy of `-(distance + margin [same class])`. The margin is the largest distance
    /// between classes' means, at most the threshold.
    pub(super) fn train(&mut self, said: &[(usize, Vec<f32>)], tuition: Tuition, seed: u64) {
        let margin = self.margin(said).min(tuition.threshold);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..said.len()).collect();
        for _ in 0..tuition.epochs {
            order.shuffle(&mut rng);
            for batch in order.chunks(tuition.batch.max(1)) {
                let rows = batch.iter().map(|at| &said[*at]);
                self.step(rows, batch.len(), tuition.rate, margin);
            }
        }
    }

    fn margin(&self, said: &[(usize, Vec<f32>)]) -> f32 {
        let mean = |class: usize| -> Option<Vec<f32>> {
            let rows = said.iter().filter(|(of, _)| *of == class);
            let count = rows.clone().count();
            let mut sum = vec![0.0; self.width];
            for (_, row) in rows {
                sum.iter_mut()
                    .zip(row)
                    .for_each(|(s, f)| *s += f / count as f32);
            }
            (count > 0).then_some(sum)
        };
        let means: Vec<Vec<f32>> = (0..self.classes).filter_map(mean).collect();
        let pairs = means
            .iter()
            .flat_map(|a| means.iter().map(move |b| distance(a, b)));
        pairs.fold(0.0, f32::max)
    }

    fn step<'a>(
        &mut self,
        batch: impl Iterator<Item = &'a (usize, Vec<f32>)>,
        count: usize,
        rate: f32,
        margin: f32,
    ) {
        let (classes, width) = (self.classes, self.width);
        let Pass { hidden, rows } = self.forward();
        let mut slopes = vec![0.0; rows.len()];
        for (class, row) in batch {
            let prototype = |of: usize| &rows[of * width..(of + 1) * width];
            let distances: Vec<f32> = (0..classes)
                .map(|of| distance(row, prototype(of)))
                .collect();
            let logit = |of: usize| -(distances[of] + if of == *class { margin } else { 0.0 });
            let most = (0..classes).map(logit).fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f32> = (0..classes).map(|of| (logit(of) - most).exp()).collect();
            let sum: f32 = powers.iter().sum();
            for of in 0..classes {
                let share = powers[of] / sum - if of == *class { 1.0 } else { 0.0 };
                // Of the negative distance: towards the client's prototype.
                let scale = -share / count as f32 / distances[of].max(1e-6);
                let slopes = &mut slopes[of * width..(of + 1) * width];
                for ((slope, p), f) in slopes.iter_mut().zip(prototype(of)).zip(row) {
                    *slope += scale * (p - f);
                }
            }
        }
        self.descend(&hidden, &slopes, rate);
    }

    /// Takes a step down the gradient of the prototypes.
    fn descend(&mut self, hidden: &[f32], slopes: &[f32], rate: f32) {
        let width = self.width;
        let [a, a_off, b, b_off] = self.places();
        let mut gradient = vec![0.0; self.weights.len()];
        for class in 0..self.classes {
            let at = class * width..(class + 1) * width;
            let (hidden, slopes) = (&hidden[at.clone()], &slopes[at.clone()]);
            let mut of_hidden = vec![0.0; width];
            for (i, value) in hidden.iter().enumerate() {
                let row = b + i * width..b + (i + 1) * width;
                let weights = &self.weights[row.clone()];
                let sum: f32 = weights.iter().zip(slopes).map(|(w, s)| w * s).sum();
                of_hidden[i] = if *value > 0.0 { sum } else { 0.0 };
                let own = gradient[row].iter_mut().zip(slopes);
                own.for_each(|(g, s)| *g += value * s);
            }
            let own = gradient[b_off..b_off + width].iter_mut().zip(slopes);
            own.for_each(|(g, s)| *g += s);
            for i in 0..width {
                let row = a + i * width..a + (i + 1) * width;
                let weights = &self.weights[row.clone()];
                let sum: f32 = weights.iter().zip(&of_hidden).map(|(w, s)| w * s).sum();
                let value = self.weights[class * width + i];
                gradient[class * width + i] += sum;
                let own = gradient[row].iter_mut().zip(&of_hidden);
                own.for_each(|(g, s)| *g += value * s);
            }
            let own = gradient[a_off..a_off + width].iter_mut().zip(&of_hidden);
            own.for_each(|(g, s)| *g += s);
        }
        let steps = self.weights.iter_mut().zip(&gradient);
        steps.for_each(|(weight, slope)| *weight -= rate * slope);
    }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trained_prototypes_are_nearest_to_their_own_class() {
        let said: Vec<(usize, Vec<f32>)> = (0..12)
            .map(|at| {
                let class = at % 3;
                let row = (0..4).map(|i| {
                    if i == class {
                        2.0
                    } else {
                        0.1 * at as f32 / 12.0
                    }
                });
                (class, row.collect())
            })
            .collect();
        let mut prototypes = Prototypes::new(3, 4, 1);
        let tuition = Tuition {
            epochs: 200,
            batch: 10,
            rate: 0.05,
            threshold: 100.0,
        };
        prototypes.train(&said, tuition, 2);
        let rows = prototypes.all();
        for (class, row) in &said {
            let far = |of: usize| distance(row, &rows[of * 4..(of + 1) * 4]);
            let others = (0..3).filter(|of| of != class).map(far);
            assert!(
                far(*class) < others.fold(f32::INFINITY, f32::min),
                "{rows:?}"
            );
        }
        let bytes = prototypes.bytes();
        assert_eq!(Prototypes::read(&bytes, 3, 4), Some(prototypes));
        assert_eq!(Prototypes::read(&bytes, 3, 5), None);
    }

    #[test]
    fn a_step_goes_down_the_gradient() {
        // The loss as its slopes have it, by finite differences of one weight after another.
        let said = [(0usize, vec![1.0, 0.5]), (1, vec![-0.5, 2.0])];
        let loss = |prototypes: &Prototypes| -> f64 {
            let rows = prototypes.all();
            let of = |(class, row): &(usize, Vec<f32>)| {
                let logits: Vec<f64> = (0..2)
                    .map(|c| -f64::from(distance(row, &rows[c * 2..c * 2 + 2])))
                    .collect();
                let sum: f64 = logits.iter().map(|z| z.exp()).sum();
                sum.ln() - logits[*class]
            };
            said.iter().map(of).sum::<f64>() / 2.0
        };
        let start = Prototypes::new(2, 2, 3);
        let mut moved = start.clone();
        moved.step(said.iter(), 2, 1.0, 0.0);
        for at in 0..start.weights.len() {
            let slope = f64::from(start.weights[at] - moved.weights[at]);
            let h = 1e-3f32;
            let (mut above, mut below) = (start.clone(), start.clone());
            above.weights[at] += h;
            below.weights[at] -= h;
            let found = (loss(&above) - loss(&below)) / f64::from(2.0 * h);
            assert!((slope - found).abs() < 1e-3, "{at}: {slope} {found}");
        }
    }
}
