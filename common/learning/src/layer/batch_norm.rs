use super::{Backward, Forward, Layer, Start, Tensor};
use crate::kernels::multiversion;

/// Batch normalisation (Ioffe and Szegedy 2015) of images that lie channels last: in training each
/// channel gets mean 0 and variance 1 over the batch, then a gain and a bias; in evaluation the
/// running statistics take the place of the batch's. As in PyTorch, these move by a tenth each
/// step, and the variance that they gather is the unbiased one.
///
/// With a bound, `min(max(y, 0), bound)` follows (ReLU, ReLU6).
///
/// Some pixels are worked on as one row, so that few channels fill vectors too: what there is for
/// a row repeats what there is for its channels.
///
/// Each pass has parts that take some samples of a batch at a time, so that a neighbour can work on
/// them while they are in the cache.
pub(crate) struct BatchNorm {
    channels: usize,
    area: usize,
    bound: Option<f32>,
    /// Of the last batch.
    means: Vec<f32>,
    inverses: Vec<f32>,
    /// `y = scale x + shift`, for a row.
    scales: Vec<f32>,
    shifts: Vec<f32>,
    /// What distances are measured from, for a row.
    origins: Vec<f32>,
    /// `dx = scale dy + a x + b`, for a row.
    a: Vec<f32>,
    b: Vec<f32>,
    /// Sums of one sample, for a row, and of all so far, of each channel.
    sums: [Vec<f32>; 2],
    totals: Vec<[f64; 2]>,
}

const EPSILON: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

/// Values of a row, at most, that is more than one pixel.
const ROW: usize = 256;

multiversion! {
    /// Of each column, the sum of `x - origin`, and of its square.
    fn moments(sums: &mut [f32], squares: &mut [f32], x: &[f32], origins: &[f32]) {
        let width = sums.len();
        let (squares, origins) = (&mut squares[..width], &origins[..width]);
        let mut pairs = x.chunks_exact(2 * width);
        for pair in &mut pairs {
            let (one, other) = pair.split_at(width);
            let other = &other[..width];
            for at in 0..width {
                let (one, other) = (one[at] - origins[at], other[at] - origins[at]);
                sums[at] += one + other;
                squares[at] += one * one + other * other;
            }
        }
        for row in pairs.remainder().chunks_exact(width) {
            for at in 0..width {
                let distance = row[at] - origins[at];
                sums[at] += distance;
                squares[at] += distance * distance;
            }
        }
    }
}

multiversion! {
    fn affine(y: &mut [f32], x: &[f32], scales: &[f32], shifts: &[f32], bounds: (f32, f32)) {
        let (low, high) = bounds;
        let width = scales.len();
        let shifts = &shifts[..width];
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            for at in 0..width {
                let value = x[at] * scales[at] + shifts[at];
                let value = if low > value { low } else { value };
                y[at] = if value > high { high } else { value };
            }
        }
    }
}

multiversion! {
    /// Of each column, the sum of dy, and of dy times the distance of x to the origin, where
    /// `scale x + shift` is within the bounds.
    fn gradient_sums(
        sums: &mut [f32],
        products: &mut [f32],
        dy: &[f32],
        x: &[f32],
        scales: &[f32],
        shifts: &[f32],
        origins: &[f32],
        bounds: (f32, f32),
    ) {
        let (low, high) = bounds;
        let width = sums.len();
        let (products, origins) = (&mut products[..width], &origins[..width]);
        let (scales, shifts) = (&scales[..width], &shifts[..width]);
        for (dy, x) in dy.chunks_exact(width).zip(x.chunks_exact(width)) {
            for at in 0..width {
                let value = x[at] * scales[at] + shifts[at];
                let dy = if value > low && value < high { dy[at] } else { 0.0 };
                sums[at] += dy;
                products[at] += dy * (x[at] - origins[at]);
            }
        }
    }
}

multiversion! {
    /// `dx = scale dy + a x + b`, with dy only where `scale x + shift` is within the bounds.
    fn input_gradient(
        dx: &mut [f32],
        dy: &[f32],
        x: &[f32],
        scales: &[f32],
        shifts: &[f32],
        a: &[f32],
        b: &[f32],
        bounds: (f32, f32),
    ) {
        let (low, high) = bounds;
        let width = scales.len();
        let (a, b, shifts) = (&a[..width], &b[..width], &shifts[..width]);
        let pixels = dx.chunks_exact_mut(width).zip(dy.chunks_exact(width));
        for ((dx, dy), x) in pixels.zip(x.chunks_exact(width)) {
            for at in 0..width {
                let value = x[at] * scales[at] + shifts[at];
                let dy = if value > low && value < high { dy[at] } else { 0.0 };
                dx[at] = scales[at] * dy + (a[at] * x[at] + b[at]);
            }
        }
    }
}

/// Adds one sample's sums of columns to those of channels.
fn add_up(totals: &mut [[f64; 2]], [one, other]: &[Vec<f32>; 2]) {
    let columns = one.iter().zip(other);
    for (column, (one, other)) in columns.enumerate() {
        let total = &mut totals[column % totals.len()];
        total[0] += f64::from(*one);
        total[1] += f64::from(*other);
    }
}

/// Writes a row of what each channel has.
fn spread(row: &mut [f32], channels: usize, of: impl Fn(usize) -> f32) {
    let (first, rest) = row.split_at_mut(channels);
    for (channel, value) in first.iter_mut().enumerate() {
        *value = of(channel);
    }
    rest.chunks_exact_mut(channels)
        .for_each(|pixel| pixel.copy_from_slice(first));
}

impl BatchNorm {
    pub(crate) fn new(channels: usize, area: usize) -> Self {
        let mut repeat = 1;
        while 2 * repeat * channels <= ROW && area.is_multiple_of(2 * repeat) {
            repeat *= 2;
        }
        let row = || vec![0.0; repeat * channels];
        Self {
            channels,
            area,
            bound: None,
            means: vec![0.0; channels],
            inverses: vec![0.0; channels],
            scales: row(),
            shifts: row(),
            origins: row(),
            a: row(),
            b: row(),
            sums: [row(), row()],
            totals: vec![[0.0; 2]; channels],
        }
    }

    /// Followed by `min(max(y, 0), bound)`.
    pub(crate) fn clamped(self, bound: f32) -> Self {
        Self {
            bound: Some(bound),
            ..self
        }
    }

    pub(crate) fn bound(&self) -> Option<f32> {
        self.bound
    }

    fn bounds(&self) -> (f32, f32) {
        match self.bound {
            Some(bound) => (0.0, bound),
            None => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    /// What was last added to each channel.
    pub(crate) fn shifts(&self) -> &[f32] {
        &self.shifts[..self.channels]
    }

    /// What evaluation multiplies each channel by, and adds to it.
    pub(crate) fn folded(&mut self, weights: &[f32], gathered: &[f32]) -> (&[f32], &[f32]) {
        let channels = self.channels;
        let (means, variances) = gathered.split_at(channels);
        for (inverse, variance) in self.inverses.iter_mut().zip(variances) {
            *inverse = (variance + EPSILON).sqrt().recip();
        }
        self.means.copy_from_slice(means);
        self.scale(weights);
        (&self.scales[..channels], &self.shifts[..channels])
    }

    /// Scales and shifts from means, inverses, gains and biases.
    fn scale(&mut self, weights: &[f32]) {
        let channels = self.channels;
        let (gains, biases) = weights.split_at(channels);
        let (means, inverses) = (&self.means, &self.inverses);
        let scale = |channel: usize| gains[channel] * inverses[channel];
        spread(&mut self.scales, channels, scale);
        spread(&mut self.shifts, channels, |channel| {
            biases[channel] - means[channel] * scale(channel)
        });
    }

    /// Begins to measure a batch that begins so. Distances are from its first pixel, so that a large
    /// mean costs no digits.
    pub(crate) fn begin(&mut self, x: &[f32]) {
        spread(&mut self.origins, self.channels, |channel| x[channel]);
        self.totals.fill([0.0; 2]);
    }

    /// Measures some samples, each in f32, all in f64.
    pub(crate) fn measure(&mut self, x: &[f32]) {
        for x in x.chunks_exact(self.channels * self.area) {
            let [sums, squares] = &mut self.sums;
            sums.fill(0.0);
            squares.fill(0.0);
            moments(sums, squares, x, &self.origins);
            add_up(&mut self.totals, &self.sums);
        }
    }

    /// All samples are measured: the running statistics follow the batch's.
    pub(crate) fn measured(&mut self, samples: usize, weights: &[f32], gathered: &mut [f32]) {
        let count = (samples * self.area) as f64;
        let (running, running_variances) = gathered.split_at_mut(self.channels);
        for (channel, [sum, square]) in self.totals.iter().enumerate() {
            let mean = sum / count;
            let variance = (square / count - mean * mean).max(0.0);
            let unbiased = variance * count / (count - 1.0).max(1.0);
            let mean = (mean + f64::from(self.origins[channel])) as f32;
            self.means[channel] = mean;
            self.inverses[channel] = (variance as f32 + EPSILON).sqrt().recip();
            running[channel] += MOMENTUM * (mean - running[channel]);
            running_variances[channel] += MOMENTUM * (unbiased as f32 - running_variances[channel]);
        }
        self.scale(weights);
    }

    /// Writes what samples come out as.
    pub(crate) fn apply(&self, x: &[f32], y: &mut [f32]) {
        affine(y, x, &self.scales, &self.shifts, self.bounds());
    }

    /// Begins to measure a batch on its way back.
    pub(crate) fn begin_back(&mut self) {
        let means = &self.means;
        spread(&mut self.origins, self.channels, |channel| means[channel]);
        self.totals.fill([0.0; 2]);
    }

    /// Measures some samples on their way back.
    pub(crate) fn measure_back(&mut self, x: &[f32], dy: &[f32]) {
        let bounds = self.bounds();
        let size = self.channels * self.area;
        for (x, dy) in x.chunks_exact(size).zip(dy.chunks_exact(size)) {
            let [sums, products] = &mut self.sums;
            sums.fill(0.0);
            products.fill(0.0);
            let (scales, shifts) = (&self.scales, &self.shifts);
            gradient_sums(sums, products, dy, x, scales, shifts, &self.origins, bounds);
            add_up(&mut self.totals, &self.sums);
        }
    }

    /// All samples are measured: writes the gradients of gains and biases, and gets ready for
    /// [`Self::apply_back`].
    pub(crate) fn measured_back(&mut self, samples: usize, dw: &mut [f32]) {
        let channels = self.channels;
        let (dgains, dbiases) = dw.split_at_mut(channels);
        for (channel, [sum, product]) in self.totals.iter().enumerate() {
            dgains[channel] = *product as f32 * self.inverses[channel];
            dbiases[channel] = *sum as f32;
        }
        // dx = scale (dy - mean(dy) - normal mean(dy normal)), normal = (x - mean) inverse.
        let count = (samples * self.area).max(1) as f32;
        let (scales, means, inverses) = (&self.scales, &self.means, &self.inverses);
        let a = |channel: usize| -scales[channel] * inverses[channel] * dgains[channel] / count;
        spread(&mut self.a, channels, a);
        spread(&mut self.b, channels, |channel| {
            -scales[channel] * dbiases[channel] / count - a(channel) * means[channel]
        });
    }

    /// Writes the gradient of some samples.
    pub(crate) fn apply_back(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let (scales, shifts, bounds) = (&self.scales, &self.shifts, self.bounds());
        input_gradient(dx, dy, x, scales, shifts, &self.a, &self.b, bounds);
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
                self.begin(pass.x);
                self.measure(pass.x);
                self.measured(pass.samples, pass.weights, pass.gathered);
            }
        }
        self.apply(pass.x, y);
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        self.begin_back();
        self.measure_back(pass.x, pass.dy);
        self.measured_back(pass.samples, dw);
        if let Some(dx) = dx {
            self.apply_back(pass.x, pass.dy, dx);
        }
    }
}
