//! Models on disk: safetensors, with what is needed to build the net again in its metadata.

mod file;
mod import;
mod optimiser;
mod tensors;
mod whole;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::file::{load, load_from, save};
pub use self::import::import;
pub use self::tensors::Tensor;
pub use self::whole::write_whole;
use crate::{Architecture, ArchitectureError, Dataset, Model, ModelError, Net, OptimiserState};

/// What a checkpoint says about its model.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Which net it is; none for a module of the user's own.
    pub architecture: Option<Architecture>,
    /// Shape of a sample, outermost dimension first.
    pub input: Vec<u32>,
    /// Names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
}

impl About {
    /// Holds data against the model; `what` says in messages which model it is.
    ///
    /// # Errors
    /// Classes or a shape of samples that are not the model's.
    pub fn check(&self, what: &str, data: &Dataset) -> Result<(), ModelError> {
        let shape = data.samples().shape();
        if self.classes != data.classes() {
            return Err(ModelError::Other(format!(
                "{what} knows the classes {}, the configuration names {}: make them the same, in the same order",
                self.classes.join(", "),
                data.classes().join(", ")
            )));
        }
        match self.input == shape {
            true => Ok(()),
            false => Err(ModelError::Other(format!(
                "{what} takes samples of shape {:?}, the data's have {shape:?}",
                self.input
            ))),
        }
    }
}

/// A model as it was saved.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What it is.
    pub about: About,
    /// Its parameters, by name, in the order in which the file has them.
    pub tensors: Vec<Tensor>,
    /// The optimiser of the training under way when it was saved.
    pub optimiser: Option<OptimiserState>,
}

/// Why a model cannot be saved or loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be read or written.
    #[error("model {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no safetensors file of ours.
    #[error("model {path}: {why}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The net that the file names cannot be built.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// The parameters are not those of the model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A net of so many values takes 16 MiB.
const SMALL: u64 = 1 << 22;

impl Checkpoint {
    /// Puts the parameters into a model.
    ///
    /// # Errors
    /// A parameter that is missing, of another shape, or that the model does not have.
    pub fn restore(&self, model: &mut dyn Model) -> Result<(), ModelError> {
        let mut weights = Vec::with_capacity(model.weights().len());
        for parameter in model.parameters() {
            let found = self
                .tensors
                .iter()
                .find(|(name, ..)| *name == parameter.name);
            let (_, shape, values) = found.ok_or_else(|| {
                ModelError::Other(format!("no parameter {} in the file", parameter.name))
            })?;
            if *shape != parameter.shape {
                return Err(ModelError::Other(format!(
                    "parameter {} has shape {shape:?} in the file, {:?} in the model",
                    parameter.name, parameter.shape
                )));
            }
            weights.extend(parameter.from_file(values));
        }
        if self.tensors.len() != model.parameters().len() {
            return Err(ModelError::Other(format!(
                "the file has {} parameters, the model {}",
                self.tensors.len(),
                model.parameters().len()
            )));
        }
        model.set_weights(&weights)
    }

    /// Builds the net that was saved.
    ///
    /// # Errors
    /// A checkpoint of a module of the user's own, or parameters that are not those of the net.
    pub fn net(&self) -> Result<Net, CheckpointError> {
        let architecture = self.about.architecture.ok_or_else(|| {
            ModelError::Other("the file names no architecture: build the module in code".to_owned())
        })?;
        let (input, classes) = (&self.about.input, self.about.classes.len());
        // What a file says of itself makes no more room than what it holds, but for small nets.
        let held: u64 = self.tensors.iter().map(|(.., v)| v.len() as u64).sum();
        let wanted = architecture.values(input, classes)?;
        if wanted > held.max(SMALL) {
            return Err(CheckpointError::Model(ModelError::Other(format!(
                "{architecture} for samples of shape {input:?} and {classes} classes has {wanted} values, the file holds {held}"
            ))));
        }
        let mut net = architecture.build(input, classes, 0)?;
        self.restore(&mut net)?;
        Ok(net)
    }
}

#[cfg(test)]
mod tests;
