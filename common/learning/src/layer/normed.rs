use std::ops::Range;

use super::depthwise::Convolution;
use super::{Backward, BatchNorm, Forward, Layer, Tensor};
use crate::kernels;

/// Convolutions without a bias, each with the batch normalisation after it.
///
/// What has to come from memory is kept small: a convolution's raw results are all that is kept,
/// the normalised ones are made again where they are read. A few samples go through all that has
/// to be done with them while they are in the cache: the normalisation of what is below, the
/// convolution, the sums for the normalisation above; and the same on the way back. In evaluation
/// normalisations are folded into the convolutions' weights, and samples pass through all of them.
pub(crate) struct Normed {
    width: usize,
    stages: Vec<Stage>,
    /// Values of the widest stage that are worked on before the next ones.
    cached: usize,
    /// What a convolution reads, and the gradient of what it gave, of some samples.
    read: Vec<f32>,
    draw: Vec<f32>,
    /// Gradients of what a stage gave and of what the one below did, of all samples.
    flow: [Vec<f32>; 2],
}

struct Stage {
    convolution: Box<dyn Convolution>,
    norm: BatchNorm,
    /// Where its parameters lie.
    kernel: Range<usize>,
    affine: Range<usize>,
    gathered: Range<usize>,
    /// What the convolution gave.
    raw: Vec<f32>,
    /// Weights with the normalisation folded in.
    folded: Vec<f32>,
}

/// Values of the widest stage that stay in the second cache while they are worked on.
const CACHED: usize = 32 << 10;

impl Normed {
    /// Samples of `width` values go through this convolution and normalisation.
    pub(crate) fn new(width: usize, first: impl Convolution + 'static, norm: BatchNorm) -> Self {
        let empty = Self {
            width,
            stages: Vec::new(),
            cached: CACHED,
            read: Vec::new(),
            draw: Vec::new(),
            flow: [Vec::new(), Vec::new()],
        };
        empty.then(first, norm)
    }

    /// And then through these.
    pub(crate) fn then(mut self, next: impl Convolution + 'static, norm: BatchNorm) -> Self {
        let count = |tensors: Vec<Tensor>| tensors.iter().map(Tensor::len).sum::<usize>();
        let last = self.stages.last();
        let (from, gathered) = last.map_or((0, 0), |last| (last.affine.end, last.gathered.end));
        let kernel = from..from + count(next.tensors());
        self.stages.push(Stage {
            affine: kernel.end..kernel.end + count(norm.tensors()),
            gathered: gathered..gathered + count(norm.gathered()),
            kernel,
            convolution: Box::new(next),
            norm,
            raw: Vec::new(),
            folded: Vec::new(),
        });
        self
    }

    #[cfg(test)]
    pub(crate) fn in_groups_of(self, samples: usize) -> Self {
        Self {
            cached: samples * self.widest(),
            ..self
        }
    }

    /// Values of a sample where there are most.
    fn widest(&self) -> usize {
        let outputs = self.stages.iter().map(|stage| stage.convolution.output());
        outputs.max().unwrap_or(0).max(self.width).max(1)
    }

    /// Samples that are worked on before the next ones.
    fn group(&self) -> usize {
        (self.cached / self.widest()).max(1)
    }

    fn named(&self, tensors: impl Fn(&Stage) -> Vec<(&'static str, Vec<Tensor>)>) -> Vec<Tensor> {
        let mut all = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            for (layer, tensors) in tensors(stage) {
                all.extend(tensors.into_iter().map(|tensor| Tensor {
                    name: format!("{index}.{layer}.{}", tensor.name),
                    ..tensor
                }));
            }
        }
        all
    }

    fn evaluate(&mut self, pass: &Forward<'_>, y: &mut [f32]) {
        for stage in &mut self.stages {
            let gathered = &pass.gathered[stage.gathered.clone()];
            let affine = &pass.weights[stage.affine.clone()];
            let (scales, _) = stage.norm.folded(affine, gathered);
            stage.folded.clear();
            stage
                .folded
                .extend_from_slice(&pass.weights[stage.kernel.clone()]);
            for row in stage.folded.chunks_exact_mut(scales.len()) {
                let pairs = row.iter_mut().zip(scales);
                pairs.for_each(|(weight, scale)| *weight *= scale);
            }
        }
        let (group, width, output) = (self.group(), self.width, self.output());
        let [above, below] = &mut self.flow;
        let groups = pass.x.chunks(group * width);
        for (x, y) in groups.zip(y.chunks_mut(group * output)) {
            let samples = x.len() / width;
            let count = self.stages.len();
            for (index, stage) in self.stages.iter_mut().enumerate() {
                let Stage {
                    convolution,
                    norm,
                    folded,
                    ..
                } = stage;
                let to = match index + 1 == count {
                    true => &mut *y,
                    false => {
                        above.resize(samples * convolution.output(), 0.0);
                        &mut *above
                    }
                };
                let from = if index == 0 { x } else { &*below };
                convolution.convolve(folded, Some(norm.shifts()), from, to);
                if let Some(bound) = norm.bound() {
                    kernels::clamp(to, bound);
                }
                std::mem::swap(above, below);
            }
        }
    }
}

/// What a stage reads of some samples: the input, or what the stage below gives.
fn read<'a>(
    below: Option<&Stage>,
    x: &'a [f32],
    samples: Range<usize>,
    width: usize,
    buffer: &'a mut Vec<f32>,
) -> &'a [f32] {
    let Some(below) = below else {
        return &x[samples.start * width..samples.end * width];
    };
    let output = below.convolution.output();
    buffer.resize(samples.len() * output, 0.0);
    let raw = &below.raw[samples.start * output..samples.end * output];
    below.norm.apply(raw, buffer);
    buffer
}

/// Ranges of at most `group` samples.
fn groups(samples: usize, group: usize) -> impl Iterator<Item = Range<usize>> {
    (0..samples)
        .step_by(group)
        .map(move |from| from..samples.min(from + group))
}

impl Layer for Normed {
    fn name(&self) -> &'static str {
        "normed"
    }

    fn output(&self) -> usize {
        let last = self.stages.last();
        last.map_or(self.width, |last| last.convolution.output())
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.named(
            |Stage {
                 convolution, norm, ..
             }| {
                vec![
                    (convolution.name(), convolution.tensors()),
                    (norm.name(), norm.tensors()),
                ]
            },
        )
    }

    fn gathered(&self) -> Vec<Tensor> {
        self.named(|Stage { norm, .. }| vec![(norm.name(), norm.gathered())])
    }

    fn operations(&self) -> u64 {
        let stages = self.stages.iter();
        stages.map(|stage| stage.convolution.operations()).sum()
    }

    fn held(&self) -> usize {
        let raw: usize = self.stages.iter().map(|s| s.convolution.output()).sum();
        // Of one stage no gradient stays within.
        let flow = match self.stages.len() {
            1 => 0,
            _ => 2 * self.widest(),
        };
        raw + flow
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        if y.is_empty() {
            return;
        }
        if pass.rng.is_none() {
            return self.evaluate(&pass, y);
        }
        let group = self.group();
        for index in 0..self.stages.len() {
            let (below, rest) = self.stages.split_at_mut(index);
            let Some(stage) = rest.first_mut() else { break };
            let output = stage.convolution.output();
            stage.raw.resize(pass.samples * output, 0.0);
            let kernel = &pass.weights[stage.kernel.clone()];
            for samples in groups(pass.samples, group) {
                let raw = samples.start * output..samples.end * output;
                let below = below.last();
                let x = read(below, pass.x, samples.clone(), self.width, &mut self.read);
                let raw = &mut stage.raw[raw];
                stage.convolution.convolve(kernel, None, x, raw);
                if samples.start == 0 {
                    stage.norm.begin(raw);
                }
                stage.norm.measure(raw);
            }
            let affine = &pass.weights[stage.affine.clone()];
            let gathered = &mut pass.gathered[stage.gathered.clone()];
            stage.norm.measured(pass.samples, affine, gathered);
        }
        if let Some(last) = self.stages.last() {
            last.norm.apply(&last.raw, y);
        }
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], mut dx: Option<&mut [f32]>) {
        let Backward {
            weights, samples, ..
        } = pass;
        if samples == 0 {
            return dw.fill(0.0);
        }
        let group = self.group();
        if let Some(last) = self.stages.last_mut() {
            last.norm.begin_back();
            last.norm.measure_back(&last.raw, pass.dy);
        }
        let [above, below_flow] = &mut self.flow;
        let last = self.stages.len() - 1;
        for index in (0..=last).rev() {
            let (below, rest) = self.stages.split_at_mut(index);
            let Some(stage) = rest.first_mut() else { break };
            let dw_norm = &mut dw[stage.affine.clone()];
            stage.norm.measured_back(samples, dw_norm);
            let output = stage.convolution.output();
            let kernel = &weights[stage.kernel.clone()];
            let dkernel = &mut dw[stage.kernel.clone()];
            if let Some(below) = below.last_mut() {
                below.norm.begin_back();
                below_flow.resize(samples * below.convolution.output(), 0.0);
            }
            for range in groups(samples, group) {
                let own = range.start * output..range.end * output;
                let dy: &[f32] = if index == last { pass.dy } else { above };
                let (raw, dy) = (&stage.raw[own.clone()], &dy[own]);
                self.draw.resize(raw.len(), 0.0);
                stage.norm.apply_back(raw, dy, &mut self.draw);
                let x = read(
                    below.last(),
                    pass.x,
                    range.clone(),
                    self.width,
                    &mut self.read,
                );
                let read = (range.start * x.len() / range.len())..;
                let read = read.start..read.start + x.len();
                let dx = match index {
                    0 => dx.as_deref_mut().map(|dx| &mut dx[read.clone()]),
                    _ => Some(&mut below_flow[read.clone()]),
                };
                let dw = (&mut *dkernel, range.start > 0);
                stage
                    .convolution
                    .convolve_back((kernel, x), &self.draw, dw, dx);
                if let Some(below) = below.last_mut() {
                    let raw = &below.raw[read.clone()];
                    below.norm.measure_back(raw, &below_flow[read]);
                }
            }
            std::mem::swap(above, below_flow);
        }
    }
}
