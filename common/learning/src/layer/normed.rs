use super::depthwise::Convolution;
use super::{Backward, BatchNorm, Forward, Layer, Tensor};
use crate::kernels;

/// A convolution without a bias, and the batch normalisation after it: two steps in training, one in
/// evaluation, where the normalisation is folded into the convolution's weights.
pub(crate) struct Normed<C> {
    convolution: C,
    norm: BatchNorm,
    own: usize,
    raw: Vec<f32>,
    draw: Vec<f32>,
    folded: Vec<f32>,
}

impl<C: Convolution> Normed<C> {
    pub(crate) fn new(convolution: C, norm: BatchNorm) -> Self {
        let own = convolution.tensors().iter().map(Tensor::len).sum();
        Self {
            convolution,
            norm,
            own,
            raw: Vec::new(),
            draw: Vec::new(),
            folded: Vec::new(),
        }
    }
}

fn named(layer: &dyn Layer, tensors: Vec<Tensor>) -> impl Iterator<Item = Tensor> {
    let name = layer.name();
    tensors.into_iter().map(move |tensor| Tensor {
        name: format!("{name}.{}", tensor.name),
        ..tensor
    })
}

impl<C: Convolution> Layer for Normed<C> {
    fn name(&self) -> &'static str {
        "normed"
    }

    fn output(&self) -> usize {
        self.convolution.output()
    }

    fn tensors(&self) -> Vec<Tensor> {
        let own = named(&self.convolution, self.convolution.tensors());
        own.chain(named(&self.norm, self.norm.tensors())).collect()
    }

    fn gathered(&self) -> Vec<Tensor> {
        named(&self.norm, self.norm.gathered()).collect()
    }

    fn operations(&self) -> u64 {
        self.convolution.operations()
    }

    fn held(&self) -> usize {
        2 * self.output()
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        let (weights, norm) = pass.weights.split_at(self.own);
        if pass.rng.is_none() {
            let channels = self.norm.channels();
            let (scales, shifts) = self.norm.folded(norm, pass.gathered);
            self.folded.clear();
            self.folded.extend_from_slice(weights);
            for row in self.folded.chunks_exact_mut(channels) {
                row.iter_mut()
                    .zip(scales)
                    .for_each(|(w, scale)| *w *= scale);
            }
            self.convolution.convolve(&self.folded, shifts, pass.x, y);
            if let Some(bound) = self.norm.bound() {
                kernels::clamp(y, bound);
            }
            return;
        }
        self.raw.resize(y.len(), 0.0);
        let convolution = Forward {
            weights,
            gathered: &mut [],
            x: pass.x,
            samples: pass.samples,
            rng: None,
        };
        self.convolution.forward(convolution, &mut self.raw);
        let pass = Forward {
            weights: norm,
            x: &self.raw,
            ..pass
        };
        self.norm.forward(pass, y);
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        let (weights, norm) = pass.weights.split_at(self.own);
        let (dweights, dnorm) = dw.split_at_mut(self.own);
        self.draw.resize(self.raw.len(), 0.0);
        let of_norm = Backward {
            weights: norm,
            x: &self.raw,
            y: pass.y,
            dy: pass.dy,
            samples: pass.samples,
        };
        self.norm.backward(of_norm, dnorm, Some(&mut self.draw));
        let of_convolution = Backward {
            weights,
            x: pass.x,
            y: &self.raw,
            dy: &mut self.draw,
            samples: pass.samples,
        };
        self.convolution.backward(of_convolution, dweights, dx);
    }
}
