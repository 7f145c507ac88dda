use super::{Backward, Forward, Layer, Start, Tensor};
use crate::kernels::Depthwise;
use crate::model::Order;

/// Depthwise 3 x 3 convolution without a bias, padded by 1; a normalisation follows.
pub(crate) struct DepthwiseConv {
    kernel: Depthwise,
    channels: usize,
}

impl DepthwiseConv {
    pub(crate) fn new(channels: usize, stride: usize, [height, width]: [usize; 2]) -> Self {
        Self {
            kernel: Depthwise::new(height, width, channels, stride),
            channels,
        }
    }
}

impl Layer for DepthwiseConv {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn output(&self) -> usize {
        self.kernel.output()
    }

    fn tensors(&self) -> Vec<Tensor> {
        let shape = vec![self.channels, 1, 3, 3];
        vec![Tensor {
            name: "weight".to_owned(),
            order: Some(Order {
                dimensions: shape.clone(),
                places: vec![2, 3, 1, 0],
            }),
            shape,
            start: Start::Uniform(1.0 / 3.0),
        }]
    }

    fn operations(&self) -> u64 {
        2 * 9 * self.output() as u64
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        self.kernel.forward(pass.weights, None, pass.x, y);
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        self.convolve_back((pass.weights, pass.x), pass.dy, (dw, false), dx);
    }
}

/// What can run with other weights than its own, and a bias, so that a normalisation can be folded
/// into it; and on some samples of a batch at a time.
pub(crate) trait Convolution: Layer {
    /// Writes all of `y`; a row of `weights` has a value for each output channel.
    fn convolve(&mut self, weights: &[f32], bias: Option<&[f32]>, x: &[f32], y: &mut [f32]);

    /// Writes the gradients of weights, on top of what is there where the flag says so, and of `x` where
    /// it is wanted.
    fn convolve_back(
        &mut self,
        weights_and_x: (&[f32], &[f32]),
        dy: &[f32],
        dw_and_keep: (&mut [f32], bool),
        dx: Option<&mut [f32]>,
    );
}

impl Convolution for DepthwiseConv {
    fn convolve(&mut self, weights: &[f32], bias: Option<&[f32]>, x: &[f32], y: &mut [f32]) {
        self.kernel.forward(weights, bias, x, y);
    }

    fn convolve_back(
        &mut self,
        (weights, x): (&[f32], &[f32]),
        dy: &[f32],
        dw: (&mut [f32], bool),
        dx: Option<&mut [f32]>,
    ) {
        self.kernel.backward(weights, x, dy, dw, dx);
    }
}
