use super::{Backward, Forward, Layer, Start, Tensor};
use crate::kernels::{self, Ending, Left, Panels, Right, add_rows, product, transpose};
use crate::model::Order;

/// `y = x W + b`, then ReLU if wished; starts as PyTorch's does, uniform within `1 / sqrt(inputs)`.
///
/// W lies `inputs x outputs`, as products read it.
pub(crate) struct Linear {
    inputs: usize,
    outputs: usize,
    /// Of the images that come in, where it follows convolutions.
    channels: usize,
    ending: Ending,
    panels: Panels,
    turned_dy: Vec<f32>,
    turned_dx: Vec<f32>,
}

impl Linear {
    pub(crate) fn new(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            channels: inputs,
            ending: Ending::Plain,
            panels: Panels::default(),
            turned_dy: Vec::new(),
            turned_dx: Vec::new(),
        }
    }

    /// Its inputs are images that lie channels last; in files they come channels first.
    pub(crate) fn after_images(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    pub(crate) fn with_relu(self) -> Self {
        Self {
            ending: Ending::Relu,
            ..self
        }
    }
}

impl Layer for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn output(&self) -> usize {
        self.outputs
    }

    fn tensors(&self) -> Vec<Tensor> {
        let start = Start::Uniform((self.inputs as f32).sqrt().recip());
        let area = self.inputs / self.channels.max(1);
        let weight = Tensor {
            name: "weight".to_owned(),
            shape: vec![self.outputs, self.inputs],
            order: Some(Order {
                dimensions: vec![self.outputs, self.channels, area],
                places: vec![2, 1, 0],
            }),
            start,
        };
        vec![weight, Tensor::plain("bias", vec![self.outputs], start)]
    }

    fn operations(&self) -> u64 {
        2 * (self.inputs * self.outputs) as u64
    }

    fn held(&self) -> usize {
        self.inputs + self.outputs
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        let (matrix, bias) = pass.weights.split_at(self.outputs * self.inputs);
        let left = Left::new(pass.x, pass.samples, self.inputs);
        // Packing goes over the matrix once more; it pays once a few tiles read it.
        let right = match pass.samples >= PACKED {
            true => {
                let outputs = self.outputs;
                self.panels
                    .pack(matrix, self.inputs, outputs, |row| row * outputs);
                Right::Packed(&self.panels)
            }
            false => Right::Plain(matrix),
        };
        product(
            y,
            kernels::Start::Bias(bias),
            left,
            right,
            self.outputs,
            self.ending,
        );
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        let (inputs, outputs, samples) = (self.inputs, self.outputs, pass.samples);
        let dy = pass.dy;
        if self.ending == Ending::Relu {
            kernels::mask(dy, pass.y);
        }
        let (dmatrix, dbias) = dw.split_at_mut(outputs * inputs);
        let left = Left::transposed(pass.x, samples, inputs);
        product(
            dmatrix,
            kernels::Start::Zero,
            left,
            Right::Plain(dy),
            outputs,
            Ending::Plain,
        );
        dbias.fill(0.0);
        add_rows(dbias, dy);
        if let Some(dx) = dx {
            // dx^T = W dy^T: the batch is turned rather than the matrix, which is larger.
            let matrix = &pass.weights[..outputs * inputs];
            self.turned_dy.resize(dy.len(), 0.0);
            self.turned_dx.resize(dx.len(), 0.0);
            transpose(&mut self.turned_dy, dy, samples, outputs);
            let left = Left::new(matrix, inputs, outputs);
            let right = Right::Plain(&self.turned_dy);
            let turned = &mut self.turned_dx;
            product(
                turned,
                kernels::Start::Zero,
                left,
                right,
                samples,
                Ending::Plain,
            );
            transpose(dx, &self.turned_dx, inputs, samples);
        }
    }
}

/// Samples from which on the matrix is packed.
const PACKED: usize = 32;
