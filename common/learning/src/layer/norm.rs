use super::{Backward, Forward, Layer, Start, Tensor};
use crate::kernels::multiversion;

/// Group normalisation (Wu and He 2018): the channels of each group and sample get mean 0 and
/// variance 1, then each channel a gain and a bias. Images lie channels last.
///
/// Unlike batch normalisation, a sample's output does not depend on the rest of its
/// batch, and there are no running statistics that private and transfer data would pull apart.
pub(crate) struct GroupNorm {
    groups: usize,
    channels: usize,
    area: usize,
    /// Of each sample and channel.
    means: Vec<f32>,
    inverse_deviations: Vec<f32>,
    sums: Vec<f32>,
    products: Vec<f32>,
}

const EPSILON: f32 = 1e-5;

multiversion! {
    fn channel_sums(sums: &mut [f32], x: &[f32]) {
        for pixel in x.chunks_exact(sums.len()) {
            sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
        }
    }
}

multiversion! {
    fn channel_squares(sums: &mut [f32], x: &[f32], means: &[f32]) {
        for pixel in x.chunks_exact(sums.len()) {
            for ((sum, x), mean) in sums.iter_mut().zip(pixel).zip(means) {
                *sum += (x - mean) * (x - mean);
            }
        }
    }
}

multiversion! {
    fn normalise(y: &mut [f32], x: &[f32], means: &[f32], inverse: &[f32], gain: &[f32], bias: &[f32]) {
        let channels = means.len();
        let (inverse, gain, bias) = (&inverse[..channels], &gain[..channels], &bias[..channels]);
        for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            for channel in 0..channels {
                let normal = (x[channel] - means[channel]) * inverse[channel];
                y[channel] = gain[channel] * normal + bias[channel];
            }
        }
    }
}

multiversion! {
    /// Of each channel, the sum of dy, and of dy times the normalised input.
    fn gradient_sums(sums: &mut [f32], products: &mut [f32], dy: &[f32], x: &[f32], means: &[f32], inverse: &[f32]) {
        let channels = sums.len();
        let (products, inverse) = (&mut products[..channels], &inverse[..channels]);
        for (dy, x) in dy.chunks_exact(channels).zip(x.chunks_exact(channels)) {
            for channel in 0..channels {
                let normal = (x[channel] - means[channel]) * inverse[channel];
                sums[channel] += dy[channel];
                products[channel] += dy[channel] * normal;
            }
        }
    }
}

multiversion! {
    /// `dx = inverse (gain dy - sum - normal product)`.
    fn input_gradient(dx: &mut [f32], dy: &[f32], x: &[f32], means: &[f32], inverse: &[f32], gain: &[f32], sums: &[f32], products: &[f32]) {
        let channels = means.len();
        let (inverse, gain) = (&inverse[..channels], &gain[..channels]);
        let (sums, products) = (&sums[..channels], &products[..channels]);
        let pixels = dx.chunks_exact_mut(channels).zip(dy.chunks_exact(channels));
        for ((dx, dy), x) in pixels.zip(x.chunks_exact(channels)) {
            for channel in 0..channels {
                let normal = (x[channel] - means[channel]) * inverse[channel];
                dx[channel] = inverse[channel]
                    * (gain[channel] * dy[channel] - sums[channel] - normal * products[channel]);
            }
        }
    }
}

impl GroupNorm {
    /// `groups` divides `channels`; `area` is values per channel.
    pub(crate) fn new(groups: usize, channels: usize, area: usize) -> Self {
        Self {
            groups,
            channels,
            area,
            means: Vec::new(),
            inverse_deviations: Vec::new(),
            sums: vec![0.0; channels],
            products: vec![0.0; channels],
        }
    }

    /// Replaces each channel's value by its group's sum, divided by the number of values in it.
    fn share(&self, values: &mut [f32]) {
        let members = self.channels / self.groups;
        for group in values.chunks_exact_mut(members) {
            let mean = group.iter().sum::<f32>() / (members * self.area) as f32;
            group.fill(mean);
        }
    }
}

impl Layer for GroupNorm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn output(&self) -> usize {
        self.channels * self.area
    }

    fn tensors(&self) -> Vec<Tensor> {
        let tensor = |name, start| Tensor::plain(name, vec![self.channels], Start::Constant(start));
        vec![tensor("weight", 1.0), tensor("bias", 0.0)]
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        let size = self.output();
        let (gain, bias) = pass.weights.split_at(self.channels);
        let mut means = std::mem::take(&mut self.means);
        let mut inverses = std::mem::take(&mut self.inverse_deviations);
        means.clear();
        means.resize(pass.samples * self.channels, 0.0);
        inverses.clear();
        inverses.resize(means.len(), 0.0);
        let samples = pass.x.chunks_exact(size).zip(y.chunks_exact_mut(size));
        let own = means.chunks_exact_mut(self.channels);
        let statistics = own.zip(inverses.chunks_exact_mut(self.channels));
        for ((x, y), (means, inverses)) in samples.zip(statistics) {
            channel_sums(means, x);
            self.share(means);
            channel_squares(inverses, x, means);
            self.share(inverses);
            for inverse in inverses.iter_mut() {
                *inverse = (*inverse + EPSILON).sqrt().recip();
            }
            normalise(y, x, means, inverses, gain, bias);
        }
        (self.means, self.inverse_deviations) = (means, inverses);
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], mut dx: Option<&mut [f32]>) {
        let (size, channels) = (self.output(), self.channels);
        let gain = &pass.weights[..channels];
        dw.fill(0.0);
        let (dgain, dbias) = dw.split_at_mut(channels);
        let mut sums = std::mem::take(&mut self.sums);
        let mut products = std::mem::take(&mut self.products);
        let samples = pass.x.chunks_exact(size).zip(pass.dy.chunks_exact(size));
        for (index, (x, dy)) in samples.enumerate() {
            let own = index * channels..(index + 1) * channels;
            let (means, inverses) = (&self.means[own.clone()], &self.inverse_deviations[own]);
            sums.fill(0.0);
            products.fill(0.0);
            gradient_sums(&mut sums, &mut products, dy, x, means, inverses);
            for channel in 0..channels {
                dbias[channel] += sums[channel];
                dgain[channel] += products[channel];
                sums[channel] *= gain[channel];
                products[channel] *= gain[channel];
            }
            let Some(dx) = dx.as_deref_mut() else {
                continue;
            };
            self.share(&mut sums);
            self.share(&mut products);
            let dx = &mut dx[index * size..(index + 1) * size];
            input_gradient(dx, dy, x, means, inverses, gain, &sums, &products);
        }
        (self.sums, self.products) = (sums, products);
    }
}
