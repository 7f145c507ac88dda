use super::{Backward, Forward, Layer};
use crate::kernels::{multiversion, normal};

/// `x` times what the normal distribution has below it (Hendrycks and Gimpel 2016), not the
/// approximation by tanh.
pub(crate) struct Gelu(pub(crate) usize);

multiversion! {
    fn gelu(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = x * normal(*x).0;
        }
    }
}

multiversion! {
    fn gradient(dx: &mut [f32], dy: &[f32], x: &[f32]) {
        for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
            let (below, density) = normal(*x);
            *dx = dy * (below + x * density);
        }
    }
}

impl Layer for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn output(&self) -> usize {
        self.0
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        gelu(y, pass.x);
    }

    fn backward(&mut self, pass: Backward<'_>, _: &mut [f32], dx: Option<&mut [f32]>) {
        if let Some(dx) = dx {
            gradient(dx, pass.dy, pass.x);
        }
    }
}
