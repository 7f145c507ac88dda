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
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
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

    /// The parameters.
    fn weights(&self) -> &[f32];

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

    /// Lets `update` change the parameters, given the gradients of the last backward pass.
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
