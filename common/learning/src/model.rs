use rand_chacha::ChaCha20Rng;
use thiserror::Error;

/// Whether a forward pass is for training: some layers (dropout) then draw from the generator.
#[derive(Debug)]
pub enum Mode<'a> {
    /// Outputs as they count.
    Evaluate,
    /// Outputs that a backward pass follows.
    Train(&'a mut ChaCha20Rng),
}

/// Name and shape of one tensor of a model's parameters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parameter {
    /// Unique in its model, `"2.conv.weight"` for example.
    pub name: String,
    /// Its dimensions in files, outermost first: as PyTorch has them.
    pub shape: Vec<usize>,
    /// How it lies in memory, where that is not as in files.
    pub order: Option<Order>,
}

/// How a tensor lies in memory: its dimensions in files, in another order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Order {
    /// The file's dimensions; one of the tensor's shape may be several here.
    pub dimensions: Vec<usize>,
    /// Which of them come first in memory, outermost first.
    pub places: Vec<usize>,
}

impl Parameter {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values as they lie in files, from those in memory.
    pub fn to_file(&self, memory: &[f32]) -> Vec<f32> {
        let mut file = memory.to_vec();
        if let Some(order) = &self.order {
            let pairs = order.places_in_file().zip(memory);
            pairs.for_each(|(at, value)| file[at] = *value);
        }
        file
    }

    /// Values as they lie in memory, from those in files; as many as [`Self::len`].
    pub fn from_file(&self, file: &[f32]) -> Vec<f32> {
        match &self.order {
            None => file.to_vec(),
            Some(order) => order.places_in_file().map(|at| file[at]).collect(),
        }
    }
}

impl Order {
    /// For each value in memory, its place in files.
    fn places_in_file(&self) -> impl Iterator<Item = usize> {
        let mut strides = vec![1; self.dimensions.len()];
        for dimension in (1..self.dimensions.len()).rev() {
            strides[dimension - 1] = strides[dimension] * self.dimensions[dimension];
        }
        let count: usize = self.dimensions.iter().product();
        (0..count).map(move |mut index| {
            let mut at = 0;
            for &place in self.places.iter().rev() {
                at += index % self.dimensions[place] * strides[place];
                index /= self.dimensions[place];
            }
            at
        })
    }
}

/// What can be trained: logits from samples, and gradients from the logits' gradients.
///
/// All parameters lie in one slice, in the order of [`Self::parameters`], and so do their
/// gradients; an optimiser needs to know no more.
pub trait Model: Send {
    /// Shape of a sample, outermost dimension first.
    fn input(&self) -> &[u32];

    /// Number of logits.
    fn classes(&self) -> usize;

    /// What the parameters are, in the order in which they lie.
    fn parameters(&self) -> &[Parameter];

    /// The parameters: first all that training changes, then what a model only gathers, such as the
    /// running statistics of batch normalisation.
    fn weights(&self) -> &[f32];

    /// How many of [`Self::weights`] training changes.
    fn trainable(&self) -> usize {
        self.weights().len()
    }

    /// Sets the parameters.
    ///
    /// # Errors
    /// Another number of values.
    fn set_weights(&mut self, weights: &[f32]) -> Result<(), ModelError>;

    /// The logits of a batch, `samples x classes`; `samples` holds whole samples.
    ///
    /// # Errors
    /// A part of a sample, or what the model itself reports.
    fn forward(&mut self, samples: &[f32], mode: Mode<'_>) -> Result<&[f32], ModelError>;

    /// Takes the gradient of a loss with respect to the last training pass's logits, and leaves
    /// its gradient with respect to the parameters for [`Self::step`].
    ///
    /// # Errors
    /// Another length than the logits had, or what the model itself reports.
    fn backward(&mut self, gradient: &[f32]) -> Result<(), ModelError>;

    /// Width of the model's features: what goes into the layer that makes logits of it. `None` where it
    /// tells none.
    fn features(&self) -> Option<usize> {
        None
    }

    /// The features of the last batch, `samples x width`; empty where the model tells none.
    fn last_features(&self) -> &[f32] {
        &[]
    }

    /// As [`Self::backward`], with the gradient of a loss with respect to the features too.
    ///
    /// # Errors
    /// Another length than logits or features had, or a model that tells no features.
    fn backward_with(&mut self, gradient: &[f32], features: &[f32]) -> Result<(), ModelError> {
        let _ = (gradient, features);
        let why = "this model tells no features".to_owned();
        Err(ModelError::Other(why))
    }

    /// Draws the parameters anew under `seed`, as a new model's are.
    ///
    /// # Errors
    /// A model that cannot.
    fn reseed(&mut self, seed: u64) -> Result<(), ModelError> {
        let _ = seed;
        let why = "this model cannot draw its parameters anew".to_owned();
        Err(ModelError::Other(why))
    }

    /// Lets `update` change the trainable parameters, given the gradients of the last backward pass.
    ///
    /// # Errors
    /// What the model itself reports.
    fn step(&mut self, update: &mut dyn FnMut(&mut [f32], &[f32])) -> Result<(), ModelError>;
}

/// What can go wrong inside a model.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A slice of another length than the model works with.
    #[error("{what} has {actual} values, this model needs {expected}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Its length.
        actual: usize,
        /// What it should have been, or be a multiple of.
        expected: usize,
    },
    /// What candle reported.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// What a model of the user's own reported.
    #[error("{0}")]
    Other(String),
}

/// How many samples there are in `samples`.
pub(crate) fn batch_of(samples: &[f32], width: usize) -> Result<usize, ModelError> {
    match samples.len().checked_div(width) {
        Some(count) if count * width == samples.len() => Ok(count),
        _ => Err(ModelError::Length {
            what: "batch",
            actual: samples.len(),
            expected: width,
        }),
    }
}
