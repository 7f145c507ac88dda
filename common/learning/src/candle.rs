use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::init::NormalOrUniform;
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, ModuleT, VarBuilder};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::model::{Mode, Model, ModelError, Parameter, batch_of};
use crate::seed;

/// Any candle module as a [`Model`]: its own forward pass, candle's gradients, our losses and
/// optimisers.
///
/// Some of candle's operations have no gradient, silently: `candle_nn::LayerNorm`,
/// `ops::softmax_last_dim` and `rms_norm` among them; and `max_pool2d` has a wrong one (candle
/// 0.11.1). A parameter that gets no gradient is therefore an error here. Candle's dropout cannot
/// be seeded: a module that uses it is not reproducible.
pub struct CandleModel<M> {
    module: M,
    device: Device,
    input: Vec<u32>,
    classes: usize,
    variables: Vec<Var>,
    parameters: Vec<Parameter>,
    weights: Vec<f32>,
    gradients: Vec<f32>,
    output: Option<Tensor>,
    logits: Vec<f32>,
}

impl<M: ModuleT + Send> CandleModel<M> {
    /// The module that `build` makes, for samples of `shape` and with logits for `classes`, on
    /// `device`; its parameters are drawn under `seed`, each from a stream of its own name.
    ///
    /// The module gets batches of shape `[samples, ..shape]`.
    ///
    /// # Errors
    /// What `build` reports.
    pub fn build(
        shape: Vec<u32>,
        classes: usize,
        seed: u64,
        device: Device,
        build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
    ) -> Result<Self, ModelError> {
        let init = SeededInit::new(seed);
        let builder = VarBuilder::from_backend(Box::new(init.clone()), DType::F32, device.clone());
        let module = build(builder)?;
        let made = init.made();
        let parameters: Vec<Parameter> = made
            .iter()
            .map(|(name, variable)| Parameter {
                name: name.clone(),
                shape: variable.dims().to_vec(),
                order: None,
            })
            .collect();
        let variables: Vec<Var> = made.into_iter().map(|(_, variable)| variable).collect();
        let mut weights = Vec::new();
        for variable in &variables {
            weights.extend(variable.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(Self {
            module,
            device,
            input: shape,
            classes,
            variables,
            parameters,
            gradients: vec![0.0; weights.len()],
            weights,
            output: None,
            logits: Vec::new(),
        })
    }

    fn write_back(&self) -> Result<(), ModelError> {
        let mut rest = self.weights.as_slice();
        for variable in &self.variables {
            let (own, after) = rest.split_at(variable.elem_count());
            variable.set(&Tensor::from_slice(own, variable.shape(), &self.device)?)?;
            rest = after;
        }
        Ok(())
    }
}

impl<M: ModuleT + Send> Model for CandleModel<M> {
    fn input(&self) -> &[u32] {
        &self.input
    }

    fn classes(&self) -> usize {
        self.classes
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
        self.write_back()
    }

    fn forward(&mut self, samples: &[f32], mode: Mode<'_>) -> Result<&[f32], ModelError> {
        let sides = self.input.iter().map(|&side| side as usize);
        let count = batch_of(samples, sides.clone().product())?;
        let shape: Vec<usize> = std::iter::once(count).chain(sides).collect();
        let batch = Tensor::from_slice(samples, shape, &self.device)?;
        let train = matches!(mode, Mode::Train(_));
        let output = self.module.forward_t(&batch, train)?;
        if output.elem_count() != count * self.classes {
            return Err(ModelError::Length {
                what: "output of the module",
                actual: output.elem_count(),
                expected: count * self.classes,
            });
        }
        self.logits = output.flatten_all()?.to_vec1()?;
        self.output = train.then_some(output);
        Ok(&self.logits)
    }

    fn backward(&mut self, gradient: &[f32]) -> Result<(), ModelError> {
        let wrong = |expected| ModelError::Length {
            what: "gradient of the last training pass",
            actual: gradient.len(),
            expected,
        };
        let output = self.output.take().ok_or_else(|| wrong(0))?;
        if gradient.len() != output.elem_count() {
            return Err(wrong(output.elem_count()));
        }
        // The sum of logits times their gradient has the loss's gradient in every parameter.
        let gradient = Tensor::from_slice(gradient, output.shape(), &self.device)?;
        let gradients = (output * gradient)?.sum_all()?.backward()?;
        self.gradients.clear();
        for (variable, parameter) in self.variables.iter().zip(&self.parameters) {
            let gradient = gradients.get(variable).ok_or_else(|| {
                ModelError::Other(format!(
                    "parameter {} gets no gradient: an operation above it has none in candle",
                    parameter.name
                ))
            })?;
            self.gradients
                .extend(gradient.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }

    fn step(&mut self, update: &mut dyn FnMut(&mut [f32], &[f32])) -> Result<(), ModelError> {
        update(&mut self.weights, &self.gradients);
        self.write_back()
    }
}

/// Makes candle parameters from a seed, which candle itself cannot do on a CPU.
#[derive(Clone, Debug)]
pub struct SeededInit {
    seed: u64,
    made: Arc<Mutex<Vec<(String, Var)>>>,
}

impl SeededInit {
    /// Each parameter is drawn from the stream of `seed` and its name.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            made: Arc::default(),
        }
    }

    /// The parameters so far, in the order in which they were made.
    pub fn made(&self) -> Vec<(String, Var)> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(String, Var)>> {
        // A list of handles is whole whenever it is not locked.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Option<Var> {
        let made = self.lock();
        let found = made.iter().find(|(known, _)| known == name);
        found.map(|(_, variable)| variable.clone())
    }
}

impl SimpleBackend for SeededInit {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        if let Some(variable) = self.find(name) {
            return Ok(variable.as_tensor().clone());
        }
        let mut rng = seed::stream(self.seed, &format!("parameters/{name}"));
        let count = shape.elem_count();
        let mut uniform = |low: f64, high: f64| -> Vec<f32> {
            let draw = || (low + (high - low) * rng.random::<f64>()) as f32;
            std::iter::repeat_with(draw).take(count).collect()
        };
        let values = match init {
            Init::Const(value) => vec![value as f32; count],
            Init::Uniform { lo, up } => uniform(lo, up),
            Init::Kaiming {
                dist,
                fan,
                non_linearity,
            } => {
                let deviation = non_linearity.gain() / (fan.for_shape(&shape) as f64).sqrt();
                match dist {
                    NormalOrUniform::Uniform => {
                        let bound = 3f64.sqrt() * deviation;
                        uniform(-bound, bound)
                    }
                    NormalOrUniform::Normal => normal(&mut rng, 0.0, deviation, count),
                }
            }
            Init::Randn { mean, stdev } => normal(&mut rng, mean, stdev, count),
        };
        let tensor = Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?;
        let variable = Var::from_tensor(&tensor)?;
        let tensor = variable.as_tensor().clone();
        self.lock().push((name.to_owned(), variable));
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        let found = self.find(name).map(|variable| variable.as_tensor().clone());
        found.ok_or_else(|| candle_core::Error::msg(format!("no parameter {name} yet")))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

fn normal(rng: &mut rand_chacha::ChaCha20Rng, mean: f64, deviation: f64, count: usize) -> Vec<f32> {
    let draw = || {
        let value: f64 = StandardNormal.sample(rng);
        (mean + deviation * value) as f32
    };
    std::iter::repeat_with(draw).take(count).collect()
}
