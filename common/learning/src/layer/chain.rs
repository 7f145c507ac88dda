use super::{Backward, Forward, Layer, Tensor};

/// Layers one after the other, with buffers that live as long as they do: after the first batch
/// nothing is allocated.
pub(crate) struct Chain {
    layers: Vec<Placed>,
    width: usize,
    /// Gradients with respect to a layer's output and input, taking turns.
    flow: [Vec<f32>; 2],
}

/// A layer, where its parameters lie, and its last output.
struct Placed {
    layer: Box<dyn Layer>,
    weights: std::ops::Range<usize>,
    gathered: std::ops::Range<usize>,
    output: Vec<f32>,
}

fn count(tensors: &[Tensor]) -> usize {
    tensors.iter().map(Tensor::len).sum()
}

impl Chain {
    /// `layers`, the first of which takes samples of `width` values.
    pub(crate) fn new(width: usize, layers: Vec<Box<dyn Layer>>) -> Self {
        let (mut weights, mut gathered) = (0, 0);
        let placed = layers.into_iter().map(|layer| {
            let from = (weights, gathered);
            weights += count(&layer.tensors());
            gathered += count(&layer.gathered());
            Placed {
                layer,
                weights: from.0..weights,
                gathered: from.1..gathered,
                output: Vec::new(),
            }
        });
        Self {
            layers: placed.collect(),
            width,
            flow: [Vec::new(), Vec::new()],
        }
    }

    /// Values per sample that go in.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Whether what comes in goes out.
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Runs all layers; the result stays here.
    pub(crate) fn run(&mut self, pass: Forward<'_>) -> &[f32] {
        let Forward {
            weights,
            gathered,
            mut x,
            samples,
            mut rng,
        } = pass;
        for placed in &mut self.layers {
            let Placed {
                layer,
                weights: own,
                gathered: kept,
                output,
            } = placed;
            output.resize(samples * layer.output(), 0.0);
            let pass = Forward {
                weights: &weights[own.clone()],
                gathered: &mut gathered[kept.clone()],
                x,
                samples,
                rng: rng.as_deref_mut(),
            };
            layer.forward(pass, output);
            x = output;
        }
        // The borrow of the input ends here: what is returned is the last layer's own.
        self.layers.last().map_or(&[], |last| &last.output)
    }

    /// What goes into the last layer: its width.
    pub(crate) fn features(&self) -> Option<usize> {
        let (_, before) = self.layers.split_last()?;
        Some(before.last()?.layer.output())
    }

    /// What went into the last layer in the last run.
    pub(crate) fn last_features(&self) -> &[f32] {
        let before = self
            .layers
            .split_last()
            .and_then(|(_, before)| before.last());
        before.map_or(&[], |before| &before.output)
    }

    /// Takes the gradient of the last result; writes all of `dw`, and of `dx` where it is wanted.
    pub(crate) fn run_back(
        &mut self,
        at: (&[f32], &[f32]),
        dy: &[f32],
        samples: usize,
        dw: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        self.run_back_with(at, dy, &[], samples, dw, dx);
    }

    /// The same; `features` is added to the gradient of what went into the last layer, where it is not
    /// empty.
    pub(crate) fn run_back_with(
        &mut self,
        (weights, x): (&[f32], &[f32]),
        dy: &[f32],
        features: &[f32],
        samples: usize,
        dw: &mut [f32],
        mut dx: Option<&mut [f32]>,
    ) {
        let [above, below] = &mut self.flow;
        above.clear();
        above.extend_from_slice(dy);
        let last = self.layers.len().saturating_sub(1);
        for index in (0..self.layers.len()).rev() {
            let (before, rest) = self.layers.split_at_mut(index);
            let Some(placed) = rest.first_mut() else {
                break;
            };
            let x = before.last().map_or(x, |before| &before.output);
            let pass = Backward {
                weights: &weights[placed.weights.clone()],
                x,
                y: &placed.output,
                dy: above,
                samples,
            };
            let dw = &mut dw[placed.weights.clone()];
            match index {
                0 => placed.layer.backward(pass, dw, dx.take()),
                _ => {
                    below.resize(x.len(), 0.0);
                    placed.layer.backward(pass, dw, Some(below));
                    if index == last {
                        let slopes = below.iter_mut().zip(features);
                        slopes.for_each(|(slope, more)| *slope += more);
                    }
                }
            }
            std::mem::swap(above, below);
        }
    }

    fn named(&self, tensors: impl Fn(&dyn Layer) -> Vec<Tensor>) -> Vec<Tensor> {
        let layers = self.layers.iter().enumerate();
        layers
            .flat_map(|(index, placed)| {
                let layer = placed.layer.as_ref();
                tensors(layer).into_iter().map(move |tensor| Tensor {
                    name: format!("{index}.{}.{}", layer.name(), tensor.name),
                    ..tensor
                })
            })
            .collect()
    }
}

impl Layer for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn output(&self) -> usize {
        self.layers
            .last()
            .map_or(self.width, |last| last.layer.output())
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.named(|layer| layer.tensors())
    }

    fn gathered(&self) -> Vec<Tensor> {
        self.named(|layer| layer.gathered())
    }

    fn operations(&self) -> u64 {
        self.layers
            .iter()
            .map(|placed| placed.layer.operations())
            .sum()
    }

    fn held(&self) -> usize {
        let layers = || self.layers.iter().map(|placed| placed.layer.as_ref());
        let widest = layers()
            .map(Layer::output)
            .max()
            .unwrap_or(0)
            .max(self.width);
        let own: usize = layers().map(|layer| layer.output() + layer.held()).sum();
        own + 2 * widest
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        match self.layers.is_empty() {
            true => y.copy_from_slice(pass.x),
            false => y.copy_from_slice(self.run(pass)),
        }
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        if self.layers.is_empty() {
            if let Some(dx) = dx {
                dx.copy_from_slice(pass.dy);
            }
            return;
        }
        self.run_back((pass.weights, pass.x), pass.dy, pass.samples, dw, dx);
    }
}
