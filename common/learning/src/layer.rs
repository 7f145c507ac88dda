//! Layers with backward passes by hand, on row-major slices: a batch is `samples x values`, and
//! images lie channels last.

mod activation;
mod attention;
mod batch_norm;
mod chain;
mod channels_last;
mod conv;
mod depthwise;
mod embedding;
mod gelu;
mod layer_norm;
mod linear;
mod norm;
mod normed;
mod padding;
mod pool;
mod pooler;
mod residual;

use rand_chacha::ChaCha20Rng;

pub(crate) use activation::{Dropout, Relu};
pub(crate) use attention::Attention;
pub(crate) use batch_norm::BatchNorm;
pub(crate) use chain::Chain;
pub(crate) use channels_last::ChannelsLast;
pub(crate) use conv::Conv;
pub(crate) use depthwise::DepthwiseConv;
pub(crate) use embedding::Embedding;
pub(crate) use gelu::Gelu;
pub(crate) use layer_norm::LayerNorm;
pub(crate) use linear::Linear;
pub(crate) use norm::GroupNorm;
pub(crate) use normed::Normed;
pub(crate) use padding::Padding;
pub(crate) use pool::{GlobalPool, MaxPool};
pub(crate) use pooler::{First, Tanh};
pub(crate) use residual::Residual;

use crate::model::Order;

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
    pub(crate) name: String,
    /// Dimensions in files, as in PyTorch.
    pub(crate) shape: Vec<usize>,
    /// How it lies in memory, where that differs.
    pub(crate) order: Option<Order>,
    pub(crate) start: Start,
}

impl Tensor {
    /// One that lies in memory as in files.
    pub(crate) fn plain(name: &str, shape: Vec<usize>, start: Start) -> Self {
        Self {
            name: name.to_owned(),
            shape,
            order: None,
            start,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What goes into a forward pass.
pub(crate) struct Forward<'a> {
    pub(crate) weights: &'a [f32],
    /// What the layer gathers in training; see [`Layer::gathered`].
    pub(crate) gathered: &'a mut [f32],
    pub(crate) x: &'a [f32],
    pub(crate) samples: usize,
    /// There in training.
    pub(crate) rng: Option<&'a mut ChaCha20Rng>,
}

/// What a backward pass knows: `x` and `y` are the forward pass's input and output.
pub(crate) struct Backward<'a> {
    pub(crate) weights: &'a [f32],
    pub(crate) x: &'a [f32],
    pub(crate) y: &'a [f32],
    /// The output's gradient; the layer may overwrite it.
    pub(crate) dy: &'a mut [f32],
    pub(crate) samples: usize,
}

/// One layer; its parameters lie in a slice that the net owns.
pub(crate) trait Layer: Send {
    fn name(&self) -> &'static str;

    /// Values per sample that come out.
    fn output(&self) -> usize;

    /// What training changes.
    fn tensors(&self) -> Vec<Tensor> {
        Vec::new()
    }

    /// What the layer gathers in training forward passes and uses in evaluation.
    fn gathered(&self) -> Vec<Tensor> {
        Vec::new()
    }

    /// Multiplications and additions of a forward pass of one sample; what is not a product counts
    /// nothing.
    fn operations(&self) -> u64 {
        0
    }

    /// Values that the layer keeps for each sample, beside its output.
    fn held(&self) -> usize {
        0
    }

    /// Writes all of `y`.
    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]);

    /// Writes all of `dw`, and all of `dx` where the layer below wants it.
    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>);
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod goldens;
