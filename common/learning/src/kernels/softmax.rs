//! Softmax, and losses over it with their gradients, row by row.

use super::math::{exp, lanes_max, lanes_sum, ln};
use super::multiversion;

/// What stands for a row's softmax: `log softmax(z)_i = (z_i - largest) scale - ln sum`.
#[derive(Clone, Copy)]
struct Row {
    largest: f32,
    sum: f32,
}

/// Writes the softmax of `scale * logits`.
#[inline(always)]
fn softmax_row(out: &mut [f32], logits: &[f32], scale: f32) -> Row {
    let logits = &logits[..out.len()];
    let largest = lanes_max(logits);
    for (out, z) in out.iter_mut().zip(logits) {
        *out = exp((z - largest) * scale);
    }
    let sum = lanes_sum(out.len(), |at| out[at]);
    let inverse = sum.recip();
    out.iter_mut().for_each(|out| *out *= inverse);
    Row { largest, sum }
}

multiversion! {
    /// The softmax of each row of `logits`.
    pub(crate) fn softmax_rows(out: &mut [f32], logits: &[f32], classes: usize) {
        let rows = out.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
        for (out, logits) in rows {
            softmax_row(out, logits, 1.0);
        }
    }
}

multiversion! {
    /// Adds `weight (softmax - one-hot)` to `gradient`; returns the sum of all cross-entropies.
    pub(crate) fn cross_entropy(
        gradient: &mut [f32],
        logits: &[f32],
        labels: &[u32],
        scratch: &mut [f32],
        weight: f32,
    ) -> f64 {
        let classes = scratch.len();
        let mut loss = 0.0;
        let rows = gradient.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
        for ((gradient, logits), label) in rows.zip(labels) {
            let row = softmax_row(scratch, logits, 1.0);
            for (gradient, q) in gradient.iter_mut().zip(scratch.iter()) {
                *gradient += weight * q;
            }
            let label = *label as usize;
            gradient[label] -= weight;
            loss += f64::from(row.sum).ln() - f64::from(logits[label] - row.largest);
        }
        loss
    }
}

multiversion! {
    /// Adds `weight (q - p)` to `gradient`, `q` and `p` the softmax of `scale` times logits and
    /// targets; returns the sum of all divergences KL(p || q).
    pub(crate) fn divergence(
        gradient: &mut [f32],
        logits: &[f32],
        targets: &[f32],
        scratch: &mut [f32],
        scale: f32,
        weight: f32,
    ) -> f64 {
        let classes = scratch.len() / 2;
        let (q, p) = scratch.split_at_mut(classes);
        let mut loss = 0.0;
        let rows = gradient.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
        for ((gradient, logits), targets) in rows.zip(targets.chunks_exact(classes)) {
            let own = softmax_row(q, logits, scale);
            let given = softmax_row(p, targets, scale);
            for ((gradient, q), p) in gradient.iter_mut().zip(q.iter()).zip(p.iter()) {
                *gradient += weight * (q - p);
            }
            // Sum of p (log p - log q), with what does not depend on the class taken out.
            let shift = own.largest - given.largest;
            let sum = lanes_sum(classes, |at| p[at] * (targets[at] - logits[at] + shift));
            loss += f64::from(sum * scale) + f64::from(own.sum).ln() - f64::from(given.sum).ln();
        }
        loss
    }
}

/// What stands for a row of shares: `log p_i = logs_i - shift`.
#[derive(Clone, Copy)]
struct Shares {
    shift: f64,
}

/// What is below 0 counts as 0.
#[inline(always)]
fn positive(value: f32) -> f32 {
    if value > 0.0 { value } else { 0.0 }
}

/// Writes a row of targets to the power of `scale`, made to add up to 1, and logarithms of it but for a shift.
/// Where none is above 0, all come out alike.
#[inline(always)]
fn shares_row(p: &mut [f32], logs: &mut [f32], targets: &[f32], scale: f32) -> Shares {
    for ((p, log), target) in p.iter_mut().zip(logs.iter_mut()).zip(targets) {
        *p = positive(*target);
        *log = ln(*p) * scale;
    }
    let mut largest = 0.0;
    if scale != 1.0 {
        // The largest becomes 1, so that no power is too small for all.
        largest = lanes_max(logs);
        for (p, log) in p.iter_mut().zip(logs.iter()) {
            *p = if *p > 0.0 { exp(log - largest) } else { 0.0 };
        }
    }
    let mut sum = lanes_sum(p.len(), |at| p[at]);
    if sum <= 0.0 {
        p.fill(1.0);
        logs.fill(0.0);
        (largest, sum) = (0.0, p.len() as f32);
    }
    let inverse = sum.recip();
    p.iter_mut().for_each(|p| *p *= inverse);
    Shares {
        shift: f64::from(largest) + f64::from(sum).ln(),
    }
}

multiversion! {
    /// Adds `weight (q - p)` to `gradient`, `q` the softmax of `scale` times logits, `p` targets to the power
    /// of `scale`, made to add up to 1; returns the sum of all divergences KL(p || q).
    pub(crate) fn divergence_from_shares(
        gradient: &mut [f32],
        logits: &[f32],
        targets: &[f32],
        scratch: &mut [f32],
        scale: f32,
        weight: f32,
    ) -> f64 {
        let classes = scratch.len() / 3;
        let (q, rest) = scratch.split_at_mut(classes);
        let (p, logs) = rest.split_at_mut(classes);
        let mut loss = 0.0;
        let rows = gradient.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
        for ((gradient, logits), targets) in rows.zip(targets.chunks_exact(classes)) {
            let own = softmax_row(q, logits, scale);
            let given = shares_row(p, logs, targets, scale);
            for ((gradient, q), p) in gradient.iter_mut().zip(q.iter()).zip(p.iter()) {
                *gradient += weight * (q - p);
            }
            let sum = lanes_sum(classes, |at| p[at] * (logs[at] - (logits[at] - own.largest) * scale));
            loss += f64::from(sum) + f64::from(own.sum).ln() - given.shift;
        }
        loss
    }
}

multiversion! {
    /// Writes each row of targets, made to add up to 1; where none is above 0, all come out alike.
    pub(crate) fn shares_rows(p: &mut [f32], targets: &[f32], classes: usize) {
        let rows = p.chunks_exact_mut(classes).zip(targets.chunks_exact(classes));
        for (p, targets) in rows {
            let sum = lanes_sum(classes, |at| positive(targets[at]));
            match sum > 0.0 {
                true => {
                    let inverse = sum.recip();
                    p.iter_mut().zip(targets).for_each(|(p, target)| *p = positive(*target) * inverse);
                }
                false => p.fill((classes as f32).recip()),
            }
        }
    }
}

multiversion! {
    /// Adds `weight (softmax - p)` to `gradient`, `p` rows that sum to 1; returns the sum of all
    /// cross-entropies -p log q.
    pub(crate) fn soft_cross_entropy(
        gradient: &mut [f32],
        logits: &[f32],
        p: &[f32],
        scratch: &mut [f32],
        weight: f32,
    ) -> f64 {
        let classes = scratch.len();
        let mut loss = 0.0;
        let rows = gradient.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
        for ((gradient, logits), p) in rows.zip(p.chunks_exact(classes)) {
            let row = softmax_row(scratch, logits, 1.0);
            for ((gradient, q), p) in gradient.iter_mut().zip(scratch.iter()).zip(p) {
                *gradient += weight * (q - p);
            }
            let sum = lanes_sum(classes, |at| p[at] * (logits[at] - row.largest));
            loss += f64::from(row.sum).ln() - f64::from(sum);
        }
        loss
    }
}

multiversion! {
    /// The gradient of what gave softmax rows `p`, from theirs: `dx = scale p (dp - sum(p dp))`, in place.
    pub(crate) fn softmax_gradient(dp: &mut [f32], p: &[f32], columns: usize, scale: f32) {
        for (dp, p) in dp.chunks_exact_mut(columns).zip(p.chunks_exact(columns)) {
            let sum = lanes_sum(columns, |at| p[at] * dp[at]);
            for (dp, p) in dp.iter_mut().zip(p) {
                *dp = scale * p * (*dp - sum);
            }
        }
    }
}

multiversion! {
    /// Softmax of `scale` times each row, in place.
    pub(crate) fn softmax_in_place(rows: &mut [f32], columns: usize, scale: f32) {
        for row in rows.chunks_exact_mut(columns) {
            let largest = lanes_max(row);
            row.iter_mut().for_each(|z| *z = exp((*z - largest) * scale));
            let sum = lanes_sum(columns, |at| row[at]);
            let inverse = sum.recip();
            row.iter_mut().for_each(|value| *value *= inverse);
        }
    }
}
