//! Losses of logits, a sample at a time and in f64: those that are not usual enough for a kernel.

use fedistill_protocol::{AnswerKind, Loss};

use crate::kernels;

/// A sample, and what its logits are held against.
pub(super) struct Row<'a> {
    pub(super) logits: &'a [f32],
    pub(super) kind: AnswerKind,
    pub(super) target: &'a [f32],
    pub(super) label: Option<usize>,
}

/// Probabilities are not taken to be lower than this where their logarithm is needed.
const FLOOR: f64 = 1e-8;

impl Row<'_> {
    /// The class of the sample: its label, or the target's most likely class, the first of equals.
    fn class(&self) -> usize {
        let target = self.target;
        let most = |best: usize, class: usize| match target[class] > target[best] {
            true => class,
            false => best,
        };
        let likely = (1..target.len()).fold(0, most);
        self.label.unwrap_or(likely)
    }

    /// The loss of the sample; adds `weight` times its gradient.
    pub(super) fn evaluate(&self, loss: Loss, weight: f64, gradient: &mut [f32]) -> f64 {
        let mut add = |at: usize, slope: f64| gradient[at] += (weight * slope) as f32;
        match loss {
            // Of hard labels: never asked for here.
            Loss::CrossEntropy { .. } | Loss::HeldCrossEntropy { .. } => 0.0,
            // Of features: nor these.
            Loss::Features | Loss::Attention | Loss::Similarity | Loss::Relational { .. } => 0.0,
            Loss::SoftCrossEntropy => {
                let (p, log) = (self.distribution(1.0), log_softmax(self.logits, 1.0));
                for (at, (p, log)) in p.iter().zip(&log).enumerate() {
                    add(at, log.exp() - p);
                }
                -p.iter().zip(&log).map(|(p, log)| p * log).sum::<f64>()
            }
            Loss::Kl { temperature } => {
                let t = f64::from(temperature);
                let (p, log) = (self.distribution(t), log_softmax(self.logits, t));
                for (at, (p, log)) in p.iter().zip(&log).enumerate() {
                    add(at, t * (log.exp() - p));
                }
                t * t * divergence(&p, &log)
            }
            Loss::ReverseKl { temperature } => {
                let t = f64::from(temperature);
                let (p, log) = (self.distribution(t), log_softmax(self.logits, t));
                let ratios: Vec<f64> = p
                    .iter()
                    .zip(&log)
                    .map(|(p, log)| log - p.max(FLOOR).ln())
                    .collect();
                let terms = log.iter().zip(&ratios);
                let sum: f64 = terms.map(|(log, ratio)| log.exp() * ratio).sum();
                for (at, (log, ratio)) in log.iter().zip(&ratios).enumerate() {
                    add(at, t * log.exp() * (ratio - sum));
                }
                t * t * sum
            }
            Loss::L1 | Loss::Mse => {
                let (mut sum, classes) = (0.0, self.logits.len() as f64);
                for (at, (z, target)) in self.logits.iter().zip(self.target).enumerate() {
                    let difference = f64::from(*z) - f64::from(*target);
                    let (value, slope) = match loss {
                        Loss::Mse => (difference * difference, 2.0 * difference),
                        _ if difference == 0.0 => (0.0, 0.0),
                        _ => (difference.abs(), difference.signum()),
                    };
                    sum += value;
                    add(at, slope / classes);
                }
                sum / classes
            }
            Loss::Decoupled {
                temperature,
                target,
                others,
            } => {
                let t = f64::from(temperature);
                let y = self.class();
                let (p, log) = (self.distribution(t), log_softmax(self.logits, t));
                let mut loss = 0.0;
                if target > 0.0 {
                    let alpha = f64::from(target);
                    let (value, slopes) = between_target_and_others(&p, &log, y);
                    loss += alpha * value;
                    slopes
                        .iter()
                        .enumerate()
                        .for_each(|(at, s)| add(at, alpha * t * s));
                }
                if others > 0.0 {
                    let beta = f64::from(others);
                    let (value, slopes) = among_others(&p, &log, y);
                    loss += beta * value;
                    slopes
                        .iter()
                        .enumerate()
                        .for_each(|(at, s)| add(at, beta * t * s));
                }
                t * t * loss
            }
            Loss::NotTrue { temperature } => {
                let t = f64::from(temperature);
                let (p, log) = (self.distribution(t), log_softmax(self.logits, t));
                let (value, slopes) = among_others(&p, &log, self.class());
                slopes.iter().enumerate().for_each(|(at, s)| add(at, t * s));
                t * t * value
            }
        }
    }

    /// The target at a temperature; probabilities are taken to the power of `1 / T`.
    fn distribution(&self, temperature: f64) -> Vec<f64> {
        if self.kind != AnswerKind::Probabilities {
            let log = log_softmax(self.target, temperature);
            return log.into_iter().map(f64::exp).collect();
        }
        let powers = self.target.iter().map(|&p| f64::from(p.max(0.0)));
        let powers: Vec<f64> = match temperature {
            1.0 => powers.collect(),
            _ => powers.map(|p| p.powf(temperature.recip())).collect(),
        };
        let sum: f64 = powers.iter().sum();
        match sum > 0.0 {
            true => powers.into_iter().map(|power| power / sum).collect(),
            false => vec![1.0 / self.target.len() as f64; self.target.len()],
        }
    }
}

/// KL(p || q) of p and log q.
fn divergence(p: &[f64], log: &[f64]) -> f64 {
    let terms = p.iter().zip(log).filter(|(p, _)| **p > 0.0);
    terms.map(|(p, log)| p * (p.ln() - log)).sum()
}

/// Divergence between class y and all others taken together; with its slopes, times T, of each logit.
fn between_target_and_others(p: &[f64], log: &[f64], y: usize) -> (f64, Vec<f64>) {
    let rest =
        |of: &dyn Fn(usize) -> f64| -> f64 { (0..p.len()).filter(|at| *at != y).map(of).sum() };
    let (p_rest, q_rest) = (rest(&|at| p[at]), rest(&|at| log[at].exp()));
    let part = |p: f64, log: f64| match p > 0.0 {
        true => p * (p.ln() - log),
        false => 0.0,
    };
    let value = part(p[y], log[y]) + part(p_rest, q_rest.max(f64::MIN_POSITIVE).ln());
    let difference = log[y].exp() - p[y];
    let slope = |at: usize| match at == y {
        true => difference,
        false => -difference * log[at].exp() / q_rest.max(f64::MIN_POSITIVE),
    };
    (value, (0..p.len()).map(slope).collect())
}

/// Divergence of the distributions over all classes but y; with its slopes, times T, of each logit.
fn among_others(p: &[f64], log: &[f64], y: usize) -> (f64, Vec<f64>) {
    let others = |at: &usize| *at != y;
    let p_rest: f64 = (0..p.len()).filter(others).map(|at| p[at]).sum();
    let least = (0..p.len()).filter(others).map(|at| log[at]);
    let most = least.fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = (0..p.len())
        .filter(others)
        .map(|at| (log[at] - most).exp())
        .sum();
    let log_rest = most + sum.ln();
    let (mut value, mut slopes) = (0.0, vec![0.0; p.len()]);
    if p_rest <= 0.0 {
        // All of the target is on y: it says nothing about the others.
        return (value, slopes);
    }
    for at in (0..p.len()).filter(others) {
        let (p, log) = (p[at] / p_rest, log[at] - log_rest);
        slopes[at] = log.exp() - p;
        if p > 0.0 {
            value += p * (p.ln() - log);
        }
    }
    (value, slopes)
}

pub(super) fn log_softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = logits
        .iter()
        .map(|&z| (f64::from(z) - f64::from(most)) / temperature);
    let sum: f64 = shifted.clone().map(f64::exp).sum();
    shifted.map(|z| z - sum.ln()).collect()
}

/// Cross-entropies with smoothed labels, summed; adds `weight` times their gradient.
pub(super) fn smoothed(
    gradient: &mut [f32],
    logits: &[f32],
    labels: &[u32],
    scratch: &mut [f32],
    weight: f32,
    smoothing: f32,
) -> f64 {
    let classes = scratch.len();
    let even = smoothing / classes as f32;
    let mut p = vec![even; logits.len()];
    for (row, label) in p.chunks_exact_mut(classes).zip(labels) {
        row[*label as usize] += 1.0 - smoothing;
    }
    kernels::soft_cross_entropy(gradient, logits, &p, scratch, weight)
}
