use super::{Backward, Forward, Layer, Start, Tensor};
use crate::kernels::{self, multiversion};

/// Batch normalisation (Ioffe and Szegedy 2015) of images that lie channels last: in training each
/// channel gets mean 0 and variance 1 over the batch, then a gain and a bias; in evaluation the
/// running statistics take the place of the batch's. As in PyTorch, these move by a tenth each
/// step, and the variance that they gather is the unbiased one.
///
/// With a bound, `min(max(y, 0), bound)` follows (ReLU, ReLU6).
pub(crate) struct BatchNorm {
    channels: usize,
    area: usize,
    bound: Option<f32>,
    /// Of the last batch.
    means: Vec<f32>,
    inverses: Vec<f32>,
    scales: Vec<f32>,
    shifts: Vec<f32>,
    partial: [Vec<f32>; 2],
}

const EPSILON: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

multiversion! {
    /// Of each channel, the sum of `x - origin`, and of its square.
    fn moments(sums: &mut [f32], squares: &mut [f32], x: &[f32], origin: &[f32]) {
        let channels = sums.len();
        let (squares, origin) = (&mut squares[..channels], &origin[..channels]);
        for pixel in x.chunks_exact(channels) {
            for channel in 0..channels {
                let distance = pixel[channel] - origin[channel];
                sums[channel] += distance;
                squares[channel] += distance * distance;
            }
        }
    }
}

multiversion! {
    fn affine(y: &mut [f32], x: &[f32], scales: &[f32], shifts: &[f32], low: f32, high: f32) {
        let channels = scales.len();
        let shifts = &shifts[..channels];
        for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            for channel in 0..channels {
                let value = x[channel] * scales[channel] + shifts[channel];
                let value = if low > value { low } else { value };
                y[channel] = if value > high { high } else { value };
            }
        }
    }
}

multiversion! {
    /// Of each channel, the sum of dy, and of dy times the distance to the mean.
    fn gradient_sums(sums: &mut [f32], products: &mut [f32], dy: &[f32], x: &[f32], means: &[f32]) {
        let channels = sums.len();
        let (products, means) = (&mut products[..channels], &means[..channels]);
        for (dy, x) in dy.chunks_exact(channels).zip(x.chunks_exact(channels)) {
            for channel in 0..channels {
                sums[channel] += dy[channel];
                products[channel] += dy[channel] * (x[channel] - means[channel]);
            }
        }
    }
}

multiversion! {
    /// `dx = scale dy + a x + b`.
    fn input_gradient(dx: &mut [f32], dy: &[f32], x: &[f32], scales: &[f32], a: &[f32], b: &[f32]) {
        let channels = scales.len();
        let (a, b) = (&a[..channels], &b[..channels]);
        let pixels = dx.chunks_exact_mut(channels).zip(dy.chunks_exact(channels));
        for ((dx, dy), x) in pixels.zip(x.chunks_exact(channels)) {
            for channel in 0..channels {
                dx[channel] = scales[channel] * dy[channel] + (a[channel] * x[channel] + b[channel]);
            }
        }
    }
}

impl BatchNorm {
    pub(crate) fn new(channels: usize, area: usize) -> Self {
        let zeros = || vec![0.0; channels];
        Self {
            channels,
            area,
            bound: None,
            means: zeros(),
            inverses: zeros(),
            scales: zeros(),
            shifts: zeros(),
            partial: [zeros(), zeros()],
        }
    }

    /// Followed by `min(max(y, 0), bound)`.
    pub(crate) fn clamped(self, bound: f32) -> Self {
        Self {
            bound: Some(bound),
            ..self
        }
    }

    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    pub(crate) fn bound(&self) -> Option<f32> {
        self.bound
    }

    /// What evaluation multiplies each channel by, and adds to it.
    pub(crate) fn folded(&mut self, weights: &[f32], gathered: &[f32]) -> (&[f32], &[f32]) {
        let (means, variances) = gathered.split_at(self.channels);
        for channel in 0..self.channels {
            let inverse = (variances[channel] + EPSILON).sqrt().recip();
            self.scales[channel] = weights[channel] * inverse;
            self.shifts[channel] =
                weights[self.channels + channel] - means[channel] * self.scales[channel];
        }
        (&self.scales, &self.shifts)
    }

    /// The batch's statistics; the running ones follow them.
    fn measure(&mut self, x: &[f32], gathered: &mut [f32]) {
        let channels = self.channels;
        let count = (x.len() / channels).max(1);
        // Distances to some value of the channel, so that a large mean costs no digits; summed sample by
        // sample in f32, then in f64.
        let origin = &x[..channels];
        let mut totals = vec![[0.0f64; 2]; channels];
        let [sums, squares] = &mut self.partial;
        for x in x.chunks(channels * self.area) {
            sums.fill(0.0);
            squares.fill(0.0);
            moments(sums, squares, x, origin);
            for ((total, sum), square) in totals.iter_mut().zip(sums.iter()).zip(squares.iter()) {
                total[0] += f64::from(*sum);
                total[1] += f64::from(*square);
            }
        }
        let (running, running_variances) = gathered.split_at_mut(channels);
        for (channel, [sum, square]) in totals.into_iter().enumerate() {
            let mean = sum / count as f64;
            let variance = (square / count as f64 - mean * mean).max(0.0);
            let unbiased = variance * count as f64 / (count as f64 - 1.0).max(1.0);
            let mean = (mean + f64::from(origin[channel])) as f32;
            self.means[channel] = mean;
            self.inverses[channel] = (variance as f32 + EPSILON).sqrt().recip();
            running[channel] += MOMENTUM * (mean - running[channel]);
            running_variances[channel] += MOMENTUM * (unbiased as f32 - running_variances[channel]);
        }
    }
}

impl Layer for BatchNorm {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn output(&self) -> usize {
        self.channels * self.area
    }

    fn tensors(&self) -> Vec<Tensor> {
        let tensor = |name, start| Tensor::plain(name, vec![self.channels], Start::Constant(start));
        vec![tensor("weight", 1.0), tensor("bias", 0.0)]
    }

    fn gathered(&self) -> Vec<Tensor> {
        let tensor = |name, start| Tensor::plain(name, vec![self.channels], Start::Constant(start));
        vec![tensor("running_mean", 0.0), tensor("running_var", 1.0)]
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        if pass.x.is_empty() {
            return;
        }
        match pass.rng {
            None => {
                self.folded(pass.weights, pass.gathered);
            }
            Some(_) => {
                self.measure(pass.x, pass.gathered);
                for channel in 0..self.channels {
                    self.scales[channel] = pass.weights[channel] * self.inverses[channel];
                    self.shifts[channel] = pass.weights[self.channels + channel]
                        - self.means[channel] * self.scales[channel];
                }
            }
        }
        let (low, high) = match self.bound {
            Some(bound) => (0.0, bound),
            None => (f32::NEG_INFINITY, f32::INFINITY),
        };
        affine(y, pass.x, &self.scales, &self.shifts, low, high);
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        let channels = self.channels;
        match self.bound {
            Some(bound) if bound < f32::INFINITY => kernels::mask_between(pass.dy, pass.y, bound),
            Some(_) => kernels::mask(pass.dy, pass.y),
            None => {}
        }
        let (dgain, dbias) = dw.split_at_mut(channels);
        dgain.fill(0.0);
        dbias.fill(0.0);
        let [sums, products] = &mut self.partial;
        let size = channels * self.area;
        for (x, dy) in pass.x.chunks(size).zip(pass.dy.chunks(size)) {
            sums.fill(0.0);
            products.fill(0.0);
            gradient_sums(sums, products, dy, x, &self.means);
            kernels::add(dbias, sums);
            kernels::add(dgain, products);
        }
        let inverses = &self.inverses;
        dgain
            .iter_mut()
            .zip(inverses)
            .for_each(|(gain, inverse)| *gain *= inverse);
        let Some(dx) = dx else { return };
        // dx = scale (dy - mean(dy) - normal mean(dy normal)), normal = (x - mean) inverse.
        let count = (pass.x.len() / channels).max(1) as f32;
        let [a, b] = &mut self.partial;
        for channel in 0..channels {
            let scale = self.scales[channel];
            a[channel] = -scale * self.inverses[channel] * dgain[channel] / count;
            b[channel] = -scale * dbias[channel] / count - a[channel] * self.means[channel];
        }
        input_gradient(dx, pass.dy, pass.x, &self.scales, a, b);
    }
}
