use super::depthwise::Convolution;
use super::{Backward, Forward, Layer, Start, Tensor};
use crate::kernels::{self, Axis, Ending, Window, add_rows};
use crate::model::Order;

/// Convolution, with a bias and ReLU if wished. Images lie channels last; weights `kernel rows x
/// kernel columns x inputs x outputs`.
pub(crate) struct Conv {
    window: Window,
    kernel: [usize; 2],
    inputs: usize,
    outputs: usize,
    bias: bool,
    ending: Ending,
}

impl Conv {
    pub(crate) fn new(rows: Axis, columns: Axis, inputs: usize, outputs: usize) -> Self {
        Self {
            window: Window::new(rows, columns, inputs, outputs),
            kernel: [rows.kernel, columns.kernel],
            inputs,
            outputs,
            bias: true,
            ending: Ending::Plain,
        }
    }

    /// An odd square kernel over images of `height x width`, padded so that a stride of 1 keeps their size.
    pub(crate) fn square(
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        [height, width]: [usize; 2],
    ) -> Self {
        let axis = |size| Axis {
            size,
            kernel,
            stride,
            pad: kernel / 2,
        };
        Self::new(axis(height), axis(width), inputs, outputs)
    }

    /// Without a bias: a normalisation follows.
    pub(crate) fn without_bias(self) -> Self {
        Self {
            bias: false,
            ..self
        }
    }

    pub(crate) fn with_relu(self) -> Self {
        Self {
            ending: Ending::Relu,
            ..self
        }
    }
}

impl Layer for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn output(&self) -> usize {
        self.window.output()
    }

    fn tensors(&self) -> Vec<Tensor> {
        let start = Start::Uniform((self.window.seen() as f32).sqrt().recip());
        let [rows, columns] = self.kernel;
        let shape = vec![self.outputs, self.inputs, rows, columns];
        let weight = Tensor {
            name: "weight".to_owned(),
            order: Some(Order {
                dimensions: shape.clone(),
                places: vec![2, 3, 1, 0],
            }),
            shape,
            start,
        };
        let bias = Tensor::plain("bias", vec![self.outputs], start);
        std::iter::once(weight)
            .chain(self.bias.then_some(bias))
            .collect()
    }

    fn operations(&self) -> u64 {
        2 * (self.window.seen() * self.window.output()) as u64
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        let (kernel, bias) = pass.weights.split_at(self.window.seen() * self.outputs);
        let bias = self.bias.then_some(bias);
        self.window.forward(kernel, bias, pass.x, y, self.ending);
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        if self.ending == Ending::Relu {
            kernels::mask(pass.dy, pass.y);
        }
        let size = self.window.seen() * self.outputs;
        let (dkernel, dbias) = dw.split_at_mut(size);
        if self.bias {
            dbias.fill(0.0);
            add_rows(dbias, pass.dy);
        }
        let kernel = &pass.weights[..size];
        self.window
            .backward(kernel, pass.x, pass.dy, (dkernel, false), dx);
    }
}

impl Convolution for Conv {
    fn convolve(&mut self, weights: &[f32], bias: Option<&[f32]>, x: &[f32], y: &mut [f32]) {
        self.window.forward(weights, bias, x, y, Ending::Plain);
    }

    fn convolve_back(
        &mut self,
        (weights, x): (&[f32], &[f32]),
        dy: &[f32],
        dw: (&mut [f32], bool),
        dx: Option<&mut [f32]>,
    ) {
        self.window.backward(weights, x, dy, dw, dx);
    }
}
