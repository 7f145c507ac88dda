use rand_chacha::ChaCha20Rng;

use super::{Backward, Layer, Start, Tensor};
use crate::kernels::{Matrix, multiply};

/// `y = x W^T + b`, W of `outputs x inputs`; starts as PyTorch's does, uniform within
/// `1 / sqrt(inputs)`.
pub(crate) struct Linear {
    inputs: usize,
    outputs: usize,
}

impl Linear {
    pub(crate) fn new(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs }
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
        vec![
            Tensor {
                name: "weight",
                shape: vec![self.outputs, self.inputs],
                start,
            },
            Tensor {
                name: "bias",
                shape: vec![self.outputs],
                start,
            },
        ]
    }

    fn forward(
        &mut self,
        weights: &[f32],
        x: &[f32],
        y: &mut [f32],
        samples: usize,
        _: Option<&mut ChaCha20Rng>,
    ) {
        let (matrix, bias) = weights.split_at(self.outputs * self.inputs);
        y.chunks_mut(self.outputs)
            .for_each(|row| row.copy_from_slice(bias));
        let x = Matrix::new(x, samples, self.inputs);
        let matrix = Matrix::new(matrix, self.outputs, self.inputs);
        multiply(y, true, x, matrix.transposed());
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        let size = self.outputs * self.inputs;
        let (dmatrix, dbias) = dw.split_at_mut(size);
        let dy = Matrix::new(pass.dy, pass.samples, self.outputs);
        let x = Matrix::new(pass.x, pass.samples, self.inputs);
        multiply(dmatrix, false, dy.transposed(), x);
        dbias.fill(0.0);
        for row in pass.dy.chunks(self.outputs) {
            dbias.iter_mut().zip(row).for_each(|(sum, dy)| *sum += dy);
        }
        if let Some(dx) = dx {
            let matrix = Matrix::new(&pass.weights[..size], self.outputs, self.inputs);
            multiply(dx, false, dy, matrix);
        }
    }
}
