//! Models that others have saved.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::CheckpointError;
use super::tensors::{values, views};
use crate::Model;

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
