use rand_chacha::ChaCha20Rng;

use super::{Backward, Layer, Start, Tensor};

/// Group normalisation (Wu and He 2018): the channels of each group and sample get mean 0 and
/// variance 1, then each channel a gain and a bias.
///
/// Rather than batch normalisation, because a sample's output does not depend on the rest of its
/// batch, and there are no running statistics that private and transfer data would pull apart.
pub(crate) struct GroupNorm {
    groups: usize,
    channels: usize,
    area: usize,
    /// Of each sample and group.
    inverse_deviation: Vec<f32>,
    /// The normalised input.
    normal: Vec<f32>,
}

const EPSILON: f64 = 1e-5;

impl GroupNorm {
    /// `groups` divides `channels`; `area` is values per channel.
    pub(crate) fn new(groups: usize, channels: usize, area: usize) -> Self {
        Self {
            groups,
            channels,
            area,
            inverse_deviation: Vec::new(),
            normal: Vec::new(),
        }
    }

    fn group(&self) -> usize {
        self.channels / self.groups * self.area
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
        let tensor = |name, start| Tensor {
            name,
            shape: vec![self.channels],
            start: Start::Constant(start),
        };
        vec![tensor("weight", 1.0), tensor("bias", 0.0)]
    }

    fn forward(
        &mut self,
        weights: &[f32],
        x: &[f32],
        y: &mut [f32],
        _: usize,
        _: Option<&mut ChaCha20Rng>,
    ) {
        let size = self.group();
        self.inverse_deviation.clear();
        self.normal.clear();
        for group in x.chunks(size) {
            let mean = group.iter().map(|&x| f64::from(x)).sum::<f64>() / size as f64;
            let squares = group.iter().map(|&x| (f64::from(x) - mean).powi(2));
            let variance = squares.sum::<f64>() / size as f64;
            let inverse = (variance + EPSILON).sqrt().recip() as f32;
            let mean = mean as f32;
            self.inverse_deviation.push(inverse);
            self.normal
                .extend(group.iter().map(|x| (x - mean) * inverse));
        }
        let (gain, bias) = weights.split_at(self.channels);
        let planes = y.chunks_mut(self.area).zip(self.normal.chunks(self.area));
        for (plane, (y, normal)) in planes.enumerate() {
            let channel = plane % self.channels;
            for (y, normal) in y.iter_mut().zip(normal) {
                *y = gain[channel] * normal + bias[channel];
            }
        }
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        let gain = &pass.weights[..self.channels];
        dw.fill(0.0);
        let (dgain, dbias) = dw.split_at_mut(self.channels);
        let planes = pass.dy.chunks(self.area).zip(self.normal.chunks(self.area));
        for (plane, (dy, normal)) in planes.enumerate() {
            let channel = plane % self.channels;
            dbias[channel] += dy.iter().sum::<f32>();
            dgain[channel] += dy.iter().zip(normal).map(|(dy, n)| dy * n).sum::<f32>();
        }
        let Some(dx) = dx else { return };
        let size = self.group();
        let groups = dx
            .chunks_mut(size)
            .zip(pass.dy.chunks(size))
            .zip(self.normal.chunks(size));
        for (index, ((dx, dy), normal)) in groups.enumerate() {
            let first = index % self.groups * (self.channels / self.groups);
            let mut sum = 0.0;
            let mut dot = 0.0;
            for (at, (dx, dy)) in dx.iter_mut().zip(dy).enumerate() {
                *dx = dy * gain[first + at / self.area];
                sum += f64::from(*dx);
                dot += f64::from(*dx) * f64::from(normal[at]);
            }
            let mean = (sum / size as f64) as f32;
            let dot = (dot / size as f64) as f32;
            for (dx, normal) in dx.iter_mut().zip(normal) {
                *dx = self.inverse_deviation[index] * (*dx - mean - normal * dot);
            }
        }
    }
}
