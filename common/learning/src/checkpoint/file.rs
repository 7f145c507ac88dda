//! A checkpoint's file, which says of itself what it holds.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::optimiser::SavedOptimiser;
use super::tensors::{Floats, tensors};
use super::{About, Checkpoint, CheckpointError, whole};
use crate::{Model, OptimiserState};

/// The key of the one entry of metadata: more would be written in no fixed order.
const KEY: &str = "fedistill";
const FIRST: &str = "optimiser.first";
const SECOND: &str = "optimiser.second";

#[derive(Deserialize, Serialize)]
struct Meta {
    #[serde(flatten)]
    about: About,
    optimiser: Option<SavedOptimiser>,
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
        optimiser: optimiser.map(SavedOptimiser::from),
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
    whole::write(path, &bytes, true).map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    })
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
            optimiser: saved.into(),
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
