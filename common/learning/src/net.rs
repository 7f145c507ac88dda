use rand::RngExt;
use rand_chacha::ChaCha20Rng;

use crate::layer::{Backward, Layer, Start};
use crate::model::{Mode, Model, ModelError, Parameter, batch_of};

/// Layers one after the other, with buffers that live as long as the net: no graph is built, and
/// after the first batch nothing is allocated.
pub struct Net {
    input: Vec<u32>,
    layers: Vec<Placed>,
    parameters: Vec<Parameter>,
    weights: Vec<f32>,
    gradients: Vec<f32>,
    batch: Vec<f32>,
    samples: usize,
    trained: bool,
    /// Gradients with respect to a layer's output and input, taking turns.
    flow: [Vec<f32>; 2],
}

/// A layer, where its parameters lie, and its last output.
struct Placed {
    layer: Box<dyn Layer>,
    range: std::ops::Range<usize>,
    output: Vec<f32>,
}

impl Net {
    /// A net of `layers` whose parameters start from `rng`. The last layer's outputs are the logits.
    pub(crate) fn new(input: Vec<u32>, layers: Vec<Box<dyn Layer>>, rng: &mut ChaCha20Rng) -> Self {
        let mut parameters = Vec::new();
        let mut weights: Vec<f32> = Vec::new();
        let mut placed = Vec::new();
        for (index, layer) in layers.into_iter().enumerate() {
            let start = weights.len();
            for tensor in layer.tensors() {
                let parameter = Parameter {
                    name: format!("{index}.{}.{}", layer.name(), tensor.name),
                    shape: tensor.shape,
                };
                weights.extend((0..parameter.len()).map(|_| match tensor.start {
                    Start::Constant(value) => value,
                    Start::Uniform(bound) => bound * (2.0 * rng.random::<f32>() - 1.0),
                }));
                parameters.push(parameter);
            }
            placed.push(Placed {
                layer,
                range: start..weights.len(),
                output: Vec::new(),
            });
        }
        Self {
            input,
            layers: placed,
            parameters,
            gradients: vec![0.0; weights.len()],
            weights,
            batch: Vec::new(),
            samples: 0,
            trained: false,
            flow: [Vec::new(), Vec::new()],
        }
    }

    /// The most values that the net holds for each sample of a batch, beside its parameters: layers'
    /// outputs, what they keep for the backward pass, and gradients on their way.
    pub fn activations(&self) -> usize {
        let outputs = || self.layers.iter().map(|placed| placed.layer.output());
        let widest = outputs().max().unwrap_or(0).max(self.width());
        2 * self.width() + 2 * outputs().sum::<usize>() + 2 * widest
    }

    fn width(&self) -> usize {
        self.input.iter().map(|&side| side as usize).product()
    }
}

impl Model for Net {
    fn input(&self) -> &[u32] {
        &self.input
    }

    fn classes(&self) -> usize {
        self.layers.last().map_or(0, |last| last.layer.output())
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn weights(&self) -> &[f32] {
        &self.weights
    }

    fn set_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        if weights.len() != self.weights.len() {
            return Err(ModelError::Length {
                what: "set of parameters",
                actual: weights.len(),
                expected: self.weights.len(),
            });
        }
        self.weights.copy_from_slice(weights);
        Ok(())
    }

    fn forward(&mut self, samples: &[f32], mode: Mode<'_>) -> Result<&[f32], ModelError> {
        self.samples = batch_of(samples, self.width())?;
        let mut rng = match mode {
            Mode::Evaluate => None,
            Mode::Train(rng) => Some(rng),
        };
        self.trained = rng.is_some();
        self.batch.clear();
        self.batch.extend_from_slice(samples);
        let mut x: &[f32] = &self.batch;
        for placed in &mut self.layers {
            let Placed {
                layer,
                range,
                output,
            } = placed;
            output.resize(self.samples * layer.output(), 0.0);
            let weights = &self.weights[range.clone()];
            layer.forward(weights, x, output, self.samples, rng.as_deref_mut());
            x = output;
        }
        Ok(x)
    }

    fn backward(&mut self, gradient: &[f32]) -> Result<(), ModelError> {
        let expected = match self.trained {
            true => self.samples * self.classes(),
            false => 0,
        };
        if gradient.len() != expected {
            return Err(ModelError::Length {
                what: "gradient of the last training pass",
                actual: gradient.len(),
                expected,
            });
        }
        let [dy, dx] = &mut self.flow;
        dy.clear();
        dy.extend_from_slice(gradient);
        for index in (0..self.layers.len()).rev() {
            let (below, rest) = self.layers.split_at_mut(index);
            let Some(placed) = rest.first_mut() else {
                break;
            };
            let x = below.last().map_or(&self.batch, |below| &below.output);
            // Nobody needs the gradient of the data itself.
            let wanted = match index {
                0 => None,
                _ => {
                    dx.resize(x.len(), 0.0);
                    Some(dx.as_mut_slice())
                }
            };
            let pass = Backward {
                weights: &self.weights[placed.range.clone()],
                x,
                y: &placed.output,
                dy,
                samples: self.samples,
            };
            let gradients = &mut self.gradients[placed.range.clone()];
            placed.layer.backward(pass, gradients, wanted);
            std::mem::swap(dy, dx);
        }
        Ok(())
    }

    fn step(&mut self, update: &mut dyn FnMut(&mut [f32], &[f32])) -> Result<(), ModelError> {
        update(&mut self.weights, &self.gradients);
        Ok(())
    }
}
