use super::{Backward, Forward, Layer, Start, Tensor};
use crate::kernels::{self, Ending, Left, Panels, Right, add_rows, product, transpose};
use crate::model::Order;

/// `y = x W + b`, then ReLU if wished; starts as PyTorch's does, uniform within `1 / sqrt(inputs)`.
///
/// W lies `inputs x outputs`, as products read it.
pub(crate) struct Linear {
    inputs: usize,
    outputs: usize,
    /// Of each sample.
    rows: usize,
    /// Bound of the matrix at the start, with a bias of 0, where that is not PyTorch's.
    bound: Option<f32>,
    /// Of the images that come in, where it follows convolutions.
    channels: usize,
    ending: Ending,
    panels: Panels,
    /// The matrix, or the output's gradient.
    turned: Vec<f32>,
    turned_dx: Vec<f32>,
}

impl Linear {
    pub(crate) fn new(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            rows: 1,
            bound: None,
            channels: inputs,
            ending: Ending::Plain,
            panels: Panels::default(),
            turned: Vec::new(),
            turned_dx: Vec::new(),
        }
    }

    /// Its inputs are images that lie channels last; in files they come channels first.
    pub(crate) fn after_images(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    /// Samples are `rows` rows, each of which it is applied to.
    pub(crate) fn over(self, rows: usize) -> Self {
        Self { rows, ..self }
    }

    /// The matrix starts uniform within `bound`, the bias at 0.
    pub(crate) fn spread(self, bound: f32) -> Self {
        Self {
            bound: Some(bound),
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

impl Layer for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn output(&self) -> usize {
        self.rows * self.outputs
    }

    fn tensors(&self) -> Vec<Tensor> {
        let usual = Start::Uniform((self.inputs as f32).sqrt().recip());
        let (start, of_bias) = match self.bound {
            Some(bound) => (Start::Uniform(bound), Start::Constant(0.0)),
            None => (usual, usual),
        };
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
        vec![weight, Tensor::plain("bias", vec![self.outputs], of_bias)]
    }

    fn operations(&self) -> u64 {
        2 * (self.rows * self.inputs * self.outputs) as u64
    }

    fn held(&self) -> usize {
        self.rows * (self.inputs + self.outputs)
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let (matrix, bias) = pass.weights.split_at(outputs * inputs);
        // Packing goes over the matrix once more; it pays once a few tiles read it.
        let right = match pass.samples * self.rows >= PACKED {
            true => {
                self.panels
                    .pack(matrix, inputs, outputs, |row| row * outputs);
                Right::Packed(&self.panels)
            }
            false => Right::Plain(matrix),
        };
        let blocks = pass.x.chunks(BLOCK * inputs);
        for (x, y) in blocks.zip(y.chunks_mut(BLOCK * outputs)) {
            let left = Left::new(x, x.len() / inputs, inputs);
            let start = kernels::Start::Bias(bias);
            product(y, start, left, right, outputs, self.ending);
        }
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let rows = pass.samples * self.rows;
        let dy = pass.dy;
        if self.ending == Ending::Relu {
            kernels::mask(dy, pass.y);
        }
        let (dmatrix, dbias) = dw.split_at_mut(outputs * inputs);
        if rows == 0 {
            dmatrix.fill(0.0);
        }
        let blocks = pass.x.chunks(BLOCK * inputs);
        for (block, (x, dy)) in blocks.zip(dy.chunks(BLOCK * outputs)).enumerate() {
            let left = Left::transposed(x, x.len() / inputs, inputs);
            let start = match block {
                0 => kernels::Start::Zero,
                _ => kernels::Start::Keep,
            };
            product(
                dmatrix,
                start,
                left,
                Right::Plain(dy),
                outputs,
                Ending::Plain,
            );
        }
        dbias.fill(0.0);
        add_rows(dbias, dy);
        let Some(dx) = dx else { return };
        let matrix = &pass.weights[..outputs * inputs];
        // Either the matrix is turned or the batch, twice: whichever is less.
        if rows > outputs.min(inputs) {
            self.turned.resize(matrix.len(), 0.0);
            transpose(&mut self.turned, matrix, inputs, outputs);
            self.panels
                .pack(&self.turned, outputs, inputs, |row| row * inputs);
            let right = Right::Packed(&self.panels);
            let blocks = dy.chunks(BLOCK * outputs);
            for (dy, dx) in blocks.zip(dx.chunks_mut(BLOCK * inputs)) {
                let left = Left::new(dy, dy.len() / outputs, outputs);
                product(dx, kernels::Start::Zero, left, right, inputs, Ending::Plain);
            }
            return;
        }
        // dx^T = W dy^T
        self.turned.resize(dy.len(), 0.0);
        self.turned_dx.resize(dx.len(), 0.0);
        transpose(&mut self.turned, dy, rows, outputs);
        let left = Left::new(matrix, inputs, outputs);
        let right = Right::Plain(&self.turned);
        let turned = &mut self.turned_dx;
        product(
            turned,
            kernels::Start::Zero,
            left,
            right,
            rows,
            Ending::Plain,
        );
        transpose(dx, &self.turned_dx, inputs, rows);
    }
}

/// Rows from which on the matrix is packed.
const PACKED: usize = 32;

/// Rows worked on at a time, so that they stay in the second cache.
const BLOCK: usize = 256;
