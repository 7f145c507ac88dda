use super::{Backward, Forward, Layer};
use crate::kernels::{exp, multiversion};

/// The first of the rows of `width` values that a sample has.
pub(crate) struct First(pub(crate) usize);

impl Layer for First {
    fn name(&self) -> &'static str {
        "first"
    }

    fn output(&self) -> usize {
        self.0
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        let size = pass.x.len() / pass.samples.max(1);
        let samples = pass.x.chunks_exact(size.max(1));
        for (x, y) in samples.zip(y.chunks_exact_mut(self.0)) {
            y.copy_from_slice(&x[..self.0]);
        }
    }

    fn backward(&mut self, pass: Backward<'_>, _: &mut [f32], dx: Option<&mut [f32]>) {
        let Some(dx) = dx else { return };
        dx.fill(0.0);
        let size = dx.len() / pass.samples.max(1);
        let samples = dx.chunks_exact_mut(size.max(1));
        for (dx, dy) in samples.zip(pass.dy.chunks_exact(self.0)) {
            dx[..self.0].copy_from_slice(dy);
        }
    }
}

/// The hyperbolic tangent.
pub(crate) struct Tanh(pub(crate) usize);

multiversion! {
    /// By the exponential of [`kernels`](crate::kernels), so that it is the same everywhere.
    fn tanh(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
        }
    }
}

multiversion! {
    fn gradient(dx: &mut [f32], dy: &[f32], y: &[f32]) {
        for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
            *dx = dy * (1.0 - y * y);
        }
    }
}

impl Layer for Tanh {
    fn name(&self) -> &'static str {
        "tanh"
    }

    fn output(&self) -> usize {
        self.0
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        tanh(y, pass.x);
    }

    fn backward(&mut self, pass: Backward<'_>, _: &mut [f32], dx: Option<&mut [f32]>) {
        if let Some(dx) = dx {
            gradient(dx, pass.dy, pass.y);
        }
    }
}
