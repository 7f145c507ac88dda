//! What PyTorch gave, for tests to hold ours against; see `goldens/README.md`.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;

/// A case: what went in, and what came out.
pub(crate) struct Golden {
    pub(crate) name: &'static str,
    pub(crate) tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Golden {
    pub(crate) fn read(name: &'static str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens");
        let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let (values, _) = view.data().as_chunks::<4>();
            let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
            (name, (view.shape().to_vec(), values.collect()))
        });
        Self {
            name,
            tensors: tensors.collect(),
        }
    }

    /// A tensor, in PyTorch's layout.
    pub(crate) fn values(&self, name: &str) -> &[f32] {
        let found = self.tensors.get(name);
        &found
            .unwrap_or_else(|| panic!("{} has no {name}", self.name))
            .1
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whole numbers.
    pub(crate) fn labels(&self) -> Vec<u32> {
        let labels = self.values("labels").iter();
        labels.map(|label| *label as u32).collect()
    }

    /// A batch, images channels last.
    pub(crate) fn batch(&self, name: &str) -> Vec<f32> {
        let (shape, values) = &self.tensors[name];
        match shape[..] {
            [_, channels, height, width] => {
                let mut out = vec![0.0; values.len()];
                crate::kernels::channels_last(values, &mut out, channels, height * width);
                out
            }
            _ => values.clone(),
        }
    }

    /// Within what single precision costs, relative to the largest value.
    pub(crate) fn close(&self, what: &str, actual: &[f32], expected: &[f32]) {
        assert_eq!(actual.len(), expected.len(), "{} {what}", self.name);
        let most = expected
            .iter()
            .fold(1e-3f32, |most, value| most.max(value.abs()));
        for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
            let gap = (a - e).abs();
            assert!(
                gap <= 2e-5 * most,
                "{} {what} {index}: {a}, PyTorch {e}",
                self.name
            );
        }
    }
}
