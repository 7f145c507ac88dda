//! What is done to each element alike.

use super::math::lanes_sum_of_pairs;
use super::multiversion;

multiversion! {
    /// The squared distance of `row` to each of `others`, which are as long.
    pub(crate) fn squared_distances(out: &mut [f32], others: &[f32], row: &[f32]) {
        for (out, other) in out.iter_mut().zip(others.chunks_exact(row.len().max(1))) {
            *out = lanes_sum_of_pairs(row, other, |a, b| (a - b) * (a - b));
        }
    }
}

multiversion! {
    /// `to += from`.
    pub(crate) fn add(to: &mut [f32], from: &[f32]) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
    }
}

multiversion! {
    /// `to = max(to + from, 0)`.
    pub(crate) fn add_relu(to: &mut [f32], from: &[f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            let sum = *to + from;
            *to = if 0.0 > sum { 0.0 } else { sum };
        }
    }
}

multiversion! {
    /// `y = min(max(y, 0), bound)`.
    pub(crate) fn clamp(y: &mut [f32], bound: f32) {
        for y in y {
            let value = if 0.0 > *y { 0.0 } else { *y };
            *y = if value > bound { bound } else { value };
        }
    }
}

multiversion! {
    /// Adds all rows of `from` to `to`, one row long.
    pub(crate) fn add_rows(to: &mut [f32], from: &[f32]) {
        for row in from.chunks_exact(to.len().max(1)) {
            to.iter_mut().zip(row).for_each(|(to, from)| *to += from);
        }
    }
}

multiversion! {
    /// `y = max(x, 0)`.
    pub(crate) fn relu(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = if 0.0 > *x { 0.0 } else { *x };
        }
    }
}

multiversion! {
    /// What passes back through a ReLU that gave `y`: zero where `y` is not positive.
    pub(crate) fn mask(dy: &mut [f32], y: &[f32]) {
        for (dy, y) in dy.iter_mut().zip(y) {
            *dy = if *y > 0.0 { *dy } else { 0.0 };
        }
    }
}

multiversion! {
    /// A step of gradient descent: `w -= rate g`.
    pub(crate) fn descend(weights: &mut [f32], gradients: &[f32], rate: f32) {
        for (weight, gradient) in weights.iter_mut().zip(gradients) {
            *weight -= rate * gradient;
        }
    }
}

multiversion! {
    /// A step with momentum: `v = keep v + g; w -= rate v`.
    pub(crate) fn momentum(
        weights: &mut [f32],
        gradients: &[f32],
        velocities: &mut [f32],
        rate: f32,
        keep: f32,
    ) {
        let steps = weights.iter_mut().zip(gradients).zip(velocities);
        for ((weight, gradient), velocity) in steps {
            *velocity = keep * *velocity + gradient;
            *weight -= rate * *velocity;
        }
    }
}

/// The numbers of a step of AdamW.
#[derive(Clone, Copy)]
pub(crate) struct AdamW {
    pub(crate) rate: f32,
    pub(crate) decay: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) epsilon: f32,
    /// Corrections of the moments' bias.
    pub(crate) first_scale: f32,
    pub(crate) second_scale: f32,
}

multiversion! {
    /// A step of AdamW (Loshchilov and Hutter 2019).
    pub(crate) fn adamw(
        weights: &mut [f32],
        gradients: &[f32],
        first: &mut [f32],
        second: &mut [f32],
        numbers: AdamW,
    ) {
        let AdamW { rate, decay, beta1, beta2, epsilon, first_scale, second_scale } = numbers;
        let moments = first.iter_mut().zip(second);
        for ((weight, gradient), (first, second)) in weights.iter_mut().zip(gradients).zip(moments) {
            *first = beta1 * *first + (1.0 - beta1) * gradient;
            *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
            *weight -= rate * decay * *weight;
            let scale = (*second * second_scale).sqrt() + epsilon;
            *weight -= rate * *first * first_scale / scale;
        }
    }
}
