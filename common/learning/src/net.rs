use rand::RngExt;
use rand_chacha::ChaCha20Rng;

use crate::layer::{Chain, Forward, Layer, Start, Tensor};
use crate::model::{Mode, Model, ModelError, Parameter, batch_of};
use crate::{ArchitectureError, seed, zoo};

/// Layers one after the other, with buffers that live as long as the net: no graph is built, and
/// after the first batch nothing is allocated.
pub struct Net {
    input: Vec<u32>,
    chain: Chain,
    parameters: Vec<Parameter>,
    /// What training changes, then what layers gather.
    weights: Vec<f32>,
    gradients: Vec<f32>,
    batch: Vec<f32>,
    samples: usize,
    trained: bool,
}

impl Net {
    /// A net of `layers` whose parameters start from `rng`. The last layer's outputs are the logits.
    pub(crate) fn new(input: Vec<u32>, layers: Vec<Box<dyn Layer>>, rng: &mut ChaCha20Rng) -> Self {
        let width = input.iter().map(|&side| side as usize).product();
        let chain = Chain::new(width, layers);
        let trainable = chain.tensors().iter().map(Tensor::len).sum();
        let (parameters, weights) = draw(&chain, rng);
        Self {
            input,
            chain,
            parameters,
            gradients: vec![0.0; trainable],
            weights,
            batch: Vec::new(),
            samples: 0,
            trained: false,
        }
    }

    /// The stream of a seed from which parameters are drawn.
    pub(crate) fn stream(seed: u64) -> ChaCha20Rng {
        seed::stream(seed, "parameters")
    }

    /// Hidden layers of these sizes, with ReLU; the parameters are drawn under `seed`.
    ///
    /// # Errors
    /// No values or fewer than two classes.
    pub fn mlp(
        shape: &[u32],
        hidden: &[usize],
        classes: usize,
        seed: u64,
    ) -> Result<Self, ArchitectureError> {
        let width: usize = shape.iter().map(|&side| side as usize).product();
        if width == 0 || classes < 2 || hidden.contains(&0) {
            let shape = shape.to_owned();
            return Err(ArchitectureError::Empty { shape, classes });
        }
        let layers = zoo::mlp(width, hidden, 0.0, classes);
        Ok(Self::new(shape.to_owned(), layers, &mut Self::stream(seed)))
    }

    /// Floating-point operations (two to a multiplication and addition) of a forward pass of one
    /// sample, counting products and convolutions. Training takes about three times as many.
    pub fn operations(&self) -> u64 {
        self.chain.operations()
    }

    /// The most values that the net holds for each sample of a batch, beside its parameters: layers'
    /// outputs, what they keep for the backward pass, and gradients on their way.
    pub fn activations(&self) -> usize {
        self.width() + self.chain.held()
    }

    fn width(&self) -> usize {
        self.input.iter().map(|&side| side as usize).product()
    }
}

/// The parameters of all layers, and their values as they start.
fn draw(chain: &Chain, rng: &mut ChaCha20Rng) -> (Vec<Parameter>, Vec<f32>) {
    let mut parameters = Vec::new();
    let mut weights: Vec<f32> = Vec::new();
    // Drawn in the order of files, so that no start depends on how parameters lie in memory.
    for tensor in chain.tensors().into_iter().chain(chain.gathered()) {
        let drawn = (0..tensor.len()).map(|_| match tensor.start {
            Start::Constant(value) => value,
            Start::Uniform(bound) => bound * (2.0 * rng.random::<f32>() - 1.0),
        });
        let drawn: Vec<f32> = drawn.collect();
        let parameter = Parameter {
            name: tensor.name,
            shape: tensor.shape,
            order: tensor.order,
        };
        weights.extend(parameter.from_file(&drawn));
        parameters.push(parameter);
    }
    (parameters, weights)
}

impl Model for Net {
    fn input(&self) -> &[u32] {
        &self.input
    }

    fn classes(&self) -> usize {
        self.chain.output()
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn weights(&self) -> &[f32] {
        &self.weights
    }

    fn trainable(&self) -> usize {
        self.gradients.len()
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
        let rng = match mode {
            Mode::Evaluate => None,
            Mode::Train(rng) => Some(rng),
        };
        self.trained = rng.is_some();
        self.batch.clear();
        self.batch.extend_from_slice(samples);
        let (weights, gathered) = self.weights.split_at_mut(self.gradients.len());
        let pass = Forward {
            weights,
            gathered,
            x: &self.batch,
            samples: self.samples,
            rng,
        };
        Ok(self.chain.run(pass))
    }

    fn features(&self) -> Option<usize> {
        self.chain.features()
    }

    fn last_features(&self) -> &[f32] {
        self.chain.last_features()
    }

    fn reseed(&mut self, seed: u64) -> Result<(), ModelError> {
        (_, self.weights) = draw(&self.chain, &mut Self::stream(seed));
        Ok(())
    }

    fn backward(&mut self, gradient: &[f32]) -> Result<(), ModelError> {
        self.backward_with(gradient, &[])
    }

    fn backward_with(&mut self, gradient: &[f32], features: &[f32]) -> Result<(), ModelError> {
        if !self.trained {
            let why = "a backward pass needs a training pass before it".to_owned();
            return Err(ModelError::Other(why));
        }
        let expected = self.samples * self.classes();
        if gradient.len() != expected {
            return Err(ModelError::Length {
                what: "gradient of the last training pass",
                actual: gradient.len(),
                expected,
            });
        }
        let expected = self.samples * self.features().unwrap_or(0);
        if !features.is_empty() && features.len() != expected {
            return Err(ModelError::Length {
                what: "gradient of the last training pass's features",
                actual: features.len(),
                expected,
            });
        }
        let weights = &self.weights[..self.gradients.len()];
        let gradients = &mut self.gradients;
        self.chain.run_back_with(
            (weights, &self.batch),
            gradient,
            features,
            self.samples,
            gradients,
            None,
        );
        Ok(())
    }

    fn step(&mut self, update: &mut dyn FnMut(&mut [f32], &[f32])) -> Result<(), ModelError> {
        let trainable = self.gradients.len();
        update(&mut self.weights[..trainable], &self.gradients);
        Ok(())
    }
}
