//! Layers with backward passes by hand, on row-major slices: a batch is `samples x values`.

mod activation;
mod conv;
mod linear;
mod norm;
mod pool;

use rand_chacha::ChaCha20Rng;

pub(crate) use activation::{Dropout, Relu};
pub(crate) use conv::Conv;
pub(crate) use linear::Linear;
pub(crate) use norm::GroupNorm;
pub(crate) use pool::MaxPool;

/// How a parameter starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// The same value everywhere.
    Constant(f32),
    /// Uniform in `-bound..bound`.
    Uniform(f32),
}

/// One tensor of parameters.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) start: Start,
}

/// What a backward pass knows: `x` and `y` are the forward pass's input and output.
pub(crate) struct Backward<'a> {
    pub(crate) weights: &'a [f32],
    pub(crate) x: &'a [f32],
    pub(crate) y: &'a [f32],
    pub(crate) dy: &'a [f32],
    pub(crate) samples: usize,
}

/// One layer; its parameters lie in a slice that the net owns.
pub(crate) trait Layer: Send {
    fn name(&self) -> &'static str;

    /// Values per sample that come out.
    fn output(&self) -> usize;

    fn tensors(&self) -> Vec<Tensor> {
        Vec::new()
    }

    /// Writes all of `y`. `rng` is there in training.
    fn forward(
        &mut self,
        weights: &[f32],
        x: &[f32],
        y: &mut [f32],
        samples: usize,
        rng: Option<&mut ChaCha20Rng>,
    );

    /// Writes all of `dw`, and all of `dx` where the layer below wants it.
    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>);
}

#[cfg(test)]
mod tests;
