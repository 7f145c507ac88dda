use rand::RngExt;

use super::{Backward, Forward, Layer};
use crate::kernels;

/// `max(x, 0)`.
pub(crate) struct Relu(pub(crate) usize);

impl Layer for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn output(&self) -> usize {
        self.0
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        kernels::relu(y, pass.x);
    }

    fn backward(&mut self, pass: Backward<'_>, _: &mut [f32], dx: Option<&mut [f32]>) {
        let Some(dx) = dx else { return };
        dx.copy_from_slice(pass.dy);
        kernels::mask(dx, pass.y);
    }
}

/// In training each value is zero with probability `rate`, else divided by `1 - rate`
/// (Srivastava et al. 2014); otherwise nothing changes.
pub(crate) struct Dropout {
    width: usize,
    rate: f32,
    mask: Vec<f32>,
}

impl Dropout {
    pub(crate) fn new(width: usize, rate: f32) -> Self {
        Self {
            width,
            rate,
            mask: Vec::new(),
        }
    }
}

impl Layer for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn output(&self) -> usize {
        self.width
    }

    fn held(&self) -> usize {
        self.width
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        self.mask.clear();
        let Some(rng) = pass.rng else {
            return y.copy_from_slice(pass.x);
        };
        let scale = (1.0 - self.rate).recip();
        let draw = || match rng.random::<f32>() < self.rate {
            true => 0.0,
            false => scale,
        };
        self.mask
            .extend(std::iter::repeat_with(draw).take(pass.x.len()));
        for ((y, x), mask) in y.iter_mut().zip(pass.x).zip(&self.mask) {
            *y = x * mask;
        }
    }

    fn backward(&mut self, pass: Backward<'_>, _: &mut [f32], dx: Option<&mut [f32]>) {
        let Some(dx) = dx else { return };
        for ((dx, dy), mask) in dx.iter_mut().zip(pass.dy.iter()).zip(&self.mask) {
            *dx = dy * mask;
        }
    }
}
