//! What safetensors files are made of.

use std::borrow::Cow;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};

use super::CheckpointError;

/// A tensor's name, shape and values.
pub type Tensor = (String, Vec<usize>, Vec<f32>);

/// Values that are to be written, and their shape.
pub(super) struct Floats<'a>(pub(super) &'a [usize], pub(super) Cow<'a, [f32]>);

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

/// All tensors of a safetensors file, in its order.
pub(super) fn tensors(path: &Path, bytes: &[u8]) -> Result<Vec<Tensor>, CheckpointError> {
    let read = |(name, view): (String, TensorView<'_>)| {
        let values = values(path, &name, &view)?;
        Ok((name, view.shape().to_vec(), values))
    };
    views(path, bytes)?.into_iter().map(read).collect()
}

/// The same, as they lie in the file, whatever they hold.
pub(super) fn views<'a>(
    path: &Path,
    bytes: &'a [u8],
) -> Result<Vec<(String, TensorView<'a>)>, CheckpointError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| CheckpointError::Malformed {
        path: path.to_owned(),
        why: format!("no safetensors file: {error}"),
    })?;
    Ok(file.tensors())
}

/// What a tensor holds, which has to be finite numbers.
pub(super) fn values(
    path: &Path,
    name: &str,
    view: &TensorView<'_>,
) -> Result<Vec<f32>, CheckpointError> {
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
