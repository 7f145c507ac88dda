use super::{Backward, Forward, Layer, Start, Tensor};
use crate::kernels::{lanes_sum, multiversion};

/// Layer normalisation (Ba, Kiros and Hinton 2016): each row of `width` values gets mean 0 and
/// variance 1, then each place a gain and a bias. A sample is `rows` rows.
pub(crate) struct LayerNorm {
    rows: usize,
    width: usize,
    epsilon: f32,
    /// Mean and inverse deviation of each row.
    statistics: Vec<[f32; 2]>,
}

impl LayerNorm {
    /// `epsilon` is added to variances.
    pub(crate) fn new(rows: usize, width: usize, epsilon: f32) -> Self {
        Self {
            rows,
            width,
            epsilon,
            statistics: Vec::new(),
        }
    }
}

multiversion! {
    fn normalise(y: &mut [f32], x: &[f32], statistics: &mut [[f32; 2]], gain: &[f32], bias: &[f32], epsilon: f32) {
        let width = gain.len();
        let bias = &bias[..width];
        let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((y, x), kept) in rows.zip(statistics) {
            let mean = lanes_sum(width, |at| x[at]) / width as f32;
            let variance = lanes_sum(width, |at| (x[at] - mean) * (x[at] - mean)) / width as f32;
            let inverse = (variance + epsilon).sqrt().recip();
            *kept = [mean, inverse];
            for at in 0..width {
                y[at] = gain[at] * ((x[at] - mean) * inverse) + bias[at];
            }
        }
    }
}

multiversion! {
    /// Adds to the gain's and the bias's gradients.
    fn parameter_gradients(dgain: &mut [f32], dbias: &mut [f32], dy: &[f32], x: &[f32], statistics: &[[f32; 2]]) {
        let width = dgain.len();
        let dbias = &mut dbias[..width];
        let rows = dy.chunks_exact(width).zip(x.chunks_exact(width));
        for ((dy, x), [mean, inverse]) in rows.zip(statistics) {
            for at in 0..width {
                dgain[at] += dy[at] * ((x[at] - mean) * inverse);
                dbias[at] += dy[at];
            }
        }
    }
}

multiversion! {
    /// `dx = inverse (gain dy - mean(gain dy) - normal mean(gain dy normal))`.
    fn input_gradient(dx: &mut [f32], dy: &[f32], x: &[f32], statistics: &[[f32; 2]], gain: &[f32]) {
        let width = gain.len();
        let rows = dx.chunks_exact_mut(width).zip(dy.chunks_exact(width));
        for (((dx, dy), x), [mean, inverse]) in rows.zip(x.chunks_exact(width)).zip(statistics) {
            let normal = |at: usize| (x[at] - mean) * inverse;
            let sum = lanes_sum(width, |at| gain[at] * dy[at]) / width as f32;
            let product = lanes_sum(width, |at| gain[at] * dy[at] * normal(at)) / width as f32;
            for at in 0..width {
                dx[at] = inverse * (gain[at] * dy[at] - sum - normal(at) * product);
            }
        }
    }
}

impl Layer for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn output(&self) -> usize {
        self.rows * self.width
    }

    fn tensors(&self) -> Vec<Tensor> {
        let tensor = |name, start| Tensor::plain(name, vec![self.width], Start::Constant(start));
        vec![tensor("weight", 1.0), tensor("bias", 0.0)]
    }

    fn held(&self) -> usize {
        2 * self.rows
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        let (gain, bias) = pass.weights.split_at(self.width);
        self.statistics.resize(pass.samples * self.rows, [0.0; 2]);
        normalise(y, pass.x, &mut self.statistics, gain, bias, self.epsilon);
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        dw.fill(0.0);
        let (dgain, dbias) = dw.split_at_mut(self.width);
        parameter_gradients(dgain, dbias, pass.dy, pass.x, &self.statistics);
        if let Some(dx) = dx {
            let gain = &pass.weights[..self.width];
            input_gradient(dx, pass.dy, pass.x, &self.statistics, gain);
        }
    }
}
