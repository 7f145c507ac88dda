//! Models on disk: safetensors, with what is needed to build the net again in its metadata.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use fedistill_protocol::Optimiser;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use thiserror::Error;

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

/// A tensor's name, shape and values.
pub type Tensor = (String, Vec<usize>, Vec<f32>);

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

/// The key of the one entry of metadata: more would be written in no fixed order.
const KEY: &str = "fedistill";
const FIRST: &str = "optimiser.first";
const SECOND: &str = "optimiser.second";

/// A net of so many values takes 16 MiB.
const SMALL: u64 = 1 << 22;

#[derive(Deserialize, Serialize)]
struct Meta {
    #[serde(flatten)]
    about: About,
    optimiser: Option<SavedOptimiser>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
struct SavedOptimiser {
    steps: u64,
    learning_rate: f32,
    momentum: Option<f32>,
    weight_decay: Option<f32>,
}

struct Floats<'a>(&'a [usize], Cow<'a, [f32]>);

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.0
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(
            self.1
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        )
    }

    fn data_len(&self) -> usize {
        4 * self.1.len()
    }
}

/// Writes `model` to `path`, whole or not at all, readable by its owner alone: parameters tell of
/// what they were learnt from.
///
/// # Errors
/// A path that cannot be written.
pub fn save(
    path: &Path,
    model: &dyn Model,
    about: &About,
    optimiser: Option<&OptimiserState>,
) -> Result<(), CheckpointError> {
    let malformed = |why: String| CheckpointError::Malformed {
        path: path.to_owned(),
        why,
    };
    let meta = Meta {
        about: about.clone(),
        optimiser: optimiser.map(saved),
    };
    let meta = serde_json::to_string(&meta).map_err(|error| malformed(error.to_string()))?;
    let mut rest = model.weights();
    let mut tensors = Vec::new();
    for parameter in model.parameters() {
        let (own, after) = rest.split_at(parameter.len());
        let values = Cow::Owned(parameter.to_file(own));
        tensors.push((parameter.name.clone(), Floats(&parameter.shape, values)));
        rest = after;
    }
    let lengths = optimiser.map(|state| ([state.first.len()], [state.second.len()]));
    if let (Some(state), Some((first, second))) = (optimiser, &lengths) {
        tensors.push((FIRST.to_owned(), Floats(first, Cow::Borrowed(&state.first))));
        tensors.push((
            SECOND.to_owned(),
            Floats(second, Cow::Borrowed(&state.second)),
        ));
    }
    let meta = HashMap::from([(KEY.to_owned(), meta)]);
    let bytes = safetensors::serialize(tensors, Some(meta))
        .map_err(|error| malformed(error.to_string()))?;
    write(path, &bytes, true).map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file so that a crash leaves the old one or the new one.
///
/// # Errors
/// What the system reports.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write(path, bytes, false)
}

fn write(path: &Path, bytes: &[u8], secret: bool) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    if secret {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = secret;
    let mut file = options.open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Reads what [`save`] wrote.
///
/// # Errors
/// A file that cannot be read, is no safetensors file, lacks our metadata, or holds a value that
/// is no finite f32.
pub fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let bytes = fs::read(path).map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    })?;
    load_from(path, &bytes)
}

/// The same of bytes from elsewhere; errors call them `path`.
///
/// # Errors
/// As [`load`].
pub fn load_from(path: &Path, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let malformed = |why: String| CheckpointError::Malformed {
        path: path.to_owned(),
        why,
    };
    let (_, header) = SafeTensors::read_metadata(bytes)
        .map_err(|error| malformed(format!("no safetensors file: {error}")))?;
    let meta = header
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get(KEY))
        .ok_or_else(|| {
            malformed(format!(
                "no {KEY:?} in its metadata: not saved by fedistill"
            ))
        })?;
    let meta: Meta =
        serde_json::from_str(meta).map_err(|error| malformed(format!("its metadata: {error}")))?;
    let mut tensors = tensors(path, bytes)?;
    let mut take = |name: &str| {
        let at = tensors.iter().position(|(known, ..)| known == name)?;
        Some(tensors.remove(at).2)
    };
    let (first, second) = (take(FIRST), take(SECOND));
    let optimiser = match (meta.optimiser, first, second) {
        (Some(saved), Some(first), Some(second)) => Some(OptimiserState {
            optimiser: unsaved(saved),
            steps: saved.steps,
            first,
            second,
        }),
        _ => None,
    };
    Ok(Checkpoint {
        about: meta.about,
        tensors,
        optimiser,
    })
}

/// All tensors of a safetensors file, in its order.
fn tensors(path: &Path, bytes: &[u8]) -> Result<Vec<Tensor>, CheckpointError> {
    let read = |(name, view): (String, TensorView<'_>)| {
        let values = values(path, &name, &view)?;
        Ok((name, view.shape().to_vec(), values))
    };
    views(path, bytes)?.into_iter().map(read).collect()
}

fn views<'a>(
    path: &Path,
    bytes: &'a [u8],
) -> Result<Vec<(String, TensorView<'a>)>, CheckpointError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| CheckpointError::Malformed {
        path: path.to_owned(),
        why: format!("no safetensors file: {error}"),
    })?;
    Ok(file.tensors())
}

fn values(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, CheckpointError> {
    let malformed = |why: String| CheckpointError::Malformed {
        path: path.to_owned(),
        why,
    };
    if view.dtype() != Dtype::F32 {
        let kind = view.dtype();
        return Err(malformed(format!("tensor {name} holds {kind:?}, not F32")));
    }
    let (values, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(malformed(format!(
            "tensor {name} holds a value that is not finite"
        ))),
    }
}

/// Fills `model` from any safetensors file; `names` says what a parameter is called there, where
/// it is not called as here. What else is in the file is passed over, whatever it holds.
///
/// # Errors
/// A file that cannot be used, or that lacks a parameter of this shape: the error lists what the
/// model needs and what the file has.
pub fn import(
    path: &Path,
    model: &mut dyn Model,
    names: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let bytes = fs::read(path).map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    })?;
    let tensors = views(path, &bytes)?;
    let mut weights = Vec::with_capacity(model.weights().len());
    for parameter in model.parameters() {
        let theirs = names.get(&parameter.name).unwrap_or(&parameter.name);
        let found = tensors
            .iter()
            .find(|(name, view)| name == theirs && *view.shape() == parameter.shape);
        let Some((_, view)) = found else {
            let has: Vec<String> = tensors
                .iter()
                .map(|(name, view)| format!("{name} {:?}", view.shape()))
                .collect();
            let needs = model.parameters().iter();
            let needs: Vec<String> = needs.map(|p| format!("{} {:?}", p.name, p.shape)).collect();
            return Err(CheckpointError::Malformed {
                path: path.to_owned(),
                why: format!(
                    "no tensor {theirs} of shape {:?}: the model needs {}; the file has {}",
                    parameter.shape,
                    needs.join(", "),
                    has.join(", ")
                ),
            });
        };
        weights.extend(parameter.from_file(&values(path, theirs, view)?));
    }
    Ok(model.set_weights(&weights)?)
}

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

fn saved(state: &OptimiserState) -> SavedOptimiser {
    let (learning_rate, momentum, weight_decay) = match state.optimiser {
        Optimiser::Sgd {
            learning_rate,
            momentum,
        } => (learning_rate, Some(momentum), None),
        Optimiser::AdamW {
            learning_rate,
            weight_decay,
        } => (learning_rate, None, Some(weight_decay)),
    };
    SavedOptimiser {
        steps: state.steps,
        learning_rate,
        momentum,
        weight_decay,
    }
}

fn unsaved(saved: SavedOptimiser) -> Optimiser {
    match saved.weight_decay {
        Some(weight_decay) => Optimiser::AdamW {
            learning_rate: saved.learning_rate,
            weight_decay,
        },
        None => Optimiser::Sgd {
            learning_rate: saved.learning_rate,
            momentum: saved.momentum.unwrap_or(0.0),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_makes_no_room_for_a_large_net() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge");
        let net = Architecture::MlpS.build(&[2], 2, 7).unwrap();
        let mut about = About {
            architecture: Some(Architecture::MlpL),
            input: vec![4_000_000],
            classes: ["a", "b"].map(str::to_owned).to_vec(),
        };
        save(&path, &net, &about, None).unwrap();
        // 8 GB of parameters, and as many gradients.
        let error = load(&path).unwrap().net().err().unwrap().to_string();
        assert!(
            error.contains("[4000000]") && error.contains("the file holds 322"),
            "{error}"
        );
        about.input = vec![u32::MAX; 3];
        save(&path, &net, &about, None).unwrap();
        assert!(load(&path).unwrap().net().is_err());
    }

    #[test]
    fn a_net_comes_back_whole_and_a_broken_file_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("student.safetensors");
        let net = Architecture::ConvS.build(&[1, 8, 8], 3, 7).unwrap();
        let about = About {
            architecture: Some(Architecture::ConvS),
            input: vec![1, 8, 8],
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
        };
        let adam = Optimiser::AdamW {
            learning_rate: 0.001,
            weight_decay: 0.01,
        };
        let mut optimiser = OptimiserState::new(adam, net.weights().len());
        let mut weights = net.weights().to_vec();
        optimiser.step(&mut weights, &vec![0.5; net.weights().len()]);
        save(&path, &net, &about, Some(&optimiser)).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.about, about);
        assert_eq!(loaded.optimiser, Some(optimiser));
        assert_eq!(loaded.net().unwrap().weights(), net.weights());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let bytes = fs::read(&path).unwrap();
        save(&path, &net, &about, loaded.optimiser.as_ref()).unwrap();
        assert_eq!(
            fs::read(&path).unwrap(),
            bytes,
            "the same model, the same bytes"
        );

        let mut names = BTreeMap::new();
        let mut same = Architecture::ConvS.build(&[1, 8, 8], 3, 8).unwrap();
        import(&path, &mut same, &names).unwrap();
        assert_eq!(same.weights(), net.weights());
        let first = net.parameters()[0].name.clone();
        names.insert(first, "other".to_owned());
        let error = import(&path, &mut same, &names).unwrap_err().to_string();
        assert!(
            error.contains("no tensor other") && error.contains("the file has"),
            "{error}"
        );

        // As PyTorch's batch norm has it.
        let counter = TensorView::new(Dtype::I64, vec![], &[7; 8]).unwrap();
        let more = views(&path, &bytes).unwrap().into_iter();
        let more = more.chain([("bn.num_batches_tracked".to_owned(), counter)]);
        let more = safetensors::serialize(more, None).unwrap();
        let foreign = folder.path().join("foreign.safetensors");
        fs::write(&foreign, more).unwrap();
        import(&foreign, &mut same, &BTreeMap::new()).unwrap();

        let mut other = Architecture::MlpS.build(&[1, 8, 8], 3, 7).unwrap();
        let error = loaded.restore(&mut other).unwrap_err().to_string();
        assert!(error.contains("no parameter 0.linear.weight"), "{error}");
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("no safetensors file"), "{error}");
        assert!(
            load(&folder.path().join("none"))
                .unwrap_err()
                .to_string()
                .contains("none")
        );
    }
}
