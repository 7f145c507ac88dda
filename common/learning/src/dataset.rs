use std::path::{Path, PathBuf};

use fedistill_protocol::{Digest, Elements};
use thiserror::Error;

use crate::idx::{self, Array, IdxError, Values};
use crate::{DataFolder, Samples};

/// Labelled samples. Private data is held as this, and nothing encodes it.
///
/// ```compile_fail,E0277
/// fn encodes<T: serde::Serialize>() {}
/// encodes::<fedistill_learning::Dataset>();
/// ```
/// No message can be made of one either, while one can of what may leave:
/// ```compile_fail,E0277
/// fn travels<T: Into<fedistill_protocol::Message>>() {}
/// travels::<fedistill_learning::Dataset>();
/// ```
/// ```
/// fn travels<T: Into<fedistill_protocol::Message>>() {}
/// travels::<fedistill_protocol::Contribution>();
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    samples: Samples,
    labels: Vec<u32>,
    classes: Vec<String>,
}

/// Why data cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// An IDX file that cannot be used.
    #[error(transparent)]
    Idx(#[from] IdxError),
    /// None of the names that a file may have is there.
    #[error(
        "no {name} in {folder}, raw or .gz: a data folder holds samples and labels to train and to test with, in IDX files with MNIST's names"
    )]
    Missing {
        /// Which folder.
        folder: PathBuf,
        /// Which file.
        name: String,
    },
    /// Samples and labels of different number.
    #[error(
        "{path} has {labels} labels for {samples} samples: it belongs to another file of samples"
    )]
    Count {
        /// The file of labels.
        path: PathBuf,
        /// Number of labels.
        labels: usize,
        /// Number of samples.
        samples: usize,
    },
    /// A label beyond the classes.
    #[error(
        "{path}: label {label} of sample {sample} is not below {classes}, the number of classes: name all classes, or mend the file"
    )]
    Label {
        /// The file of labels.
        path: PathBuf,
        /// The label.
        label: u32,
        /// Which sample, from 0.
        sample: usize,
        /// Number of classes.
        classes: usize,
    },
    /// Something in a file or folder.
    #[error("{path}: {why}")]
    Malformed {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl DataError {
    pub(crate) fn malformed(path: &Path, why: impl ToString) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

impl Dataset {
    /// Labelled samples; `path` is where they come from, for messages.
    ///
    /// # Errors
    /// No samples, another number of labels than of samples, or a label beyond the classes.
    pub fn new(
        path: &Path,
        samples: Samples,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        if labels.len() != samples.len() {
            return Err(DataError::Count {
                path: path.to_owned(),
                labels: labels.len(),
                samples: samples.len(),
            });
        }
        if labels.is_empty() {
            return Err(DataError::malformed(path, "no samples in it"));
        }
        let beyond = |label: &u32| *label as usize >= classes.len();
        if let Some(sample) = labels.iter().position(beyond) {
            return Err(DataError::Label {
                path: path.to_owned(),
                label: labels[sample],
                sample,
                classes: classes.len(),
            });
        }
        Ok(Self {
            samples,
            labels,
            classes,
        })
    }

    /// Samples and labels from two IDX files, raw or gzip; [`Samples::idx`] says of what shape.
    ///
    /// # Errors
    /// A file that cannot be used, or two that do not fit.
    pub fn idx(samples: &Path, labels: &Path, classes: Vec<String>) -> Result<Self, DataError> {
        let samples = Samples::idx(samples)?;
        let values = idx::read(labels, 1)?.values;
        let values = values.into_iter().map(u32::from).collect();
        Self::new(labels, samples, values, classes)
    }

    /// The training and the test samples of a [`DataFolder`].
    ///
    /// # Errors
    /// A file that is missing or cannot be used, or files that do not fit.
    pub fn mnist(folder: &Path) -> Result<(Self, Self), DataError> {
        let DataFolder { train, test, .. } = DataFolder::read(folder)?;
        Ok((train, test))
    }

    /// All samples of several sets of the same shape and classes, one after the other.
    ///
    /// # Errors
    /// Sets that differ, or none.
    pub fn join(sets: &[Self]) -> Result<Self, DataError> {
        let fail = |why| DataError::malformed(Path::new("joined data"), why);
        let parts: Vec<&Samples> = sets.iter().map(|set| &set.samples).collect();
        let samples = Samples::join(&parts).ok_or_else(|| fail("no sets of one shape"))?;
        let classes = sets[0].classes.clone();
        if sets.iter().any(|set| set.classes != classes) {
            return Err(fail("sets of different classes"));
        }
        let labels = sets.iter().flat_map(|set| &set.labels).copied().collect();
        Self::new(Path::new("joined data"), samples, labels, classes)
    }

    /// The samples without their labels.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// A label each, below the number of classes.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Names of the classes, in the order of every model's outputs.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The samples at `indices`, with their labels, in that order.
    ///
    /// # Panics
    /// An index that is not below [`Self::len`].
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            samples: self.samples.select(indices),
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            classes: self.classes.clone(),
        }
    }

    /// Tells this set from others: its samples with their shape, its labels and the names of its
    /// classes, all in their order. Nothing comes back from that.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let count = |hasher: &mut blake3::Hasher, count: usize| {
            hasher.update(&(count as u64).to_le_bytes());
        };
        hasher.update(&[u8::from(self.samples.is_of_bytes())]);
        count(&mut hasher, self.samples.shape().len());
        for side in self.samples.shape() {
            hasher.update(&side.to_le_bytes());
        }
        count(&mut hasher, self.len());
        self.samples.digest_into(&mut hasher);
        for label in &self.labels {
            hasher.update(&label.to_le_bytes());
        }
        for class in &self.classes {
            count(&mut hasher, class.len());
            hasher.update(class.as_bytes());
        }
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }
}

impl Samples {
    /// The samples of an IDX file, raw or gzip: of three dimensions of bytes, grey images of shape
    /// `[1, height, width]`; of any others of bytes or floats, what comes after the first dimension.
    ///
    /// # Errors
    /// A file that cannot be used, of other values or of one dimension, or with a value that is not
    /// finite.
    pub fn idx(path: &Path) -> Result<Self, DataError> {
        let fail = |why: String| DataError::malformed(path, why);
        let Array { shape, values } = idx::read_any(path)?;
        let (elements, each) = match (values, &shape[..]) {
            (_, [] | [_]) => {
                let why = "it has one dimension, samples have two or more: is it a file of labels?";
                return Err(fail(why.to_owned()));
            }
            (Values::U8(values), &[_, height, width]) => {
                (Elements::U8(values), vec![1, height, width])
            }
            (Values::U8(values), [_, each @ ..]) => (Elements::U8(values), each.to_vec()),
            (Values::F32(values), [_, each @ ..]) => {
                if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                    let why = format!("value {at} is {}, which is no number", values[at]);
                    return Err(fail(why));
                }
                (Elements::F32(values), each.to_vec())
            }
            (Values::I16(_) | Values::I32(_), _) => {
                let why = "samples are of bytes (u8) or floats (f32), these are of whole numbers: write them as floats, brought near one";
                return Err(fail(why.to_owned()));
            }
        };
        Self::new(each, elements).ok_or_else(|| {
            let most = Self::MOST_VALUES;
            fail(format!("its samples have no values, or more than {most}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(count: usize) -> Vec<String> {
        (0..count).map(|class| class.to_string()).collect()
    }

    #[test]
    fn a_digest_tells_sets_apart() {
        let set = |shape: &[u32], elements: Elements, labels: &[u32], names: [&str; 2]| {
            let samples = Samples::new(shape.to_vec(), elements).unwrap();
            let names = names.map(str::to_owned).to_vec();
            let set = Dataset::new(Path::new("set"), samples, labels.to_vec(), names);
            set.unwrap().digest()
        };
        let bytes = |values: [u8; 4]| Elements::U8(values.to_vec());
        let all = [
            set(&[2], bytes([1, 2, 3, 4]), &[0, 1], ["a", "b"]),
            set(&[2], bytes([1, 2, 3, 5]), &[0, 1], ["a", "b"]),
            set(&[2], bytes([1, 2, 3, 4]), &[1, 0], ["a", "b"]),
            set(&[2], bytes([1, 2, 3, 4]), &[0, 1], ["b", "a"]),
            set(&[1, 2], bytes([1, 2, 3, 4]), &[0, 1], ["a", "b"]),
            set(&[4], bytes([1, 2, 3, 4]), &[0], ["a", "b"]),
            set(&[1], Elements::F32(vec![1.0, 2.0]), &[0, 1], ["a", "b"]),
        ];
        for (at, digest) in all.iter().enumerate() {
            let same = all.iter().filter(|other| *other == digest).count();
            assert_eq!(same, 1, "{at}");
        }
        let again = set(&[2], bytes([1, 2, 3, 4]), &[0, 1], ["a", "b"]);
        assert_eq!(again, all[0]);
    }

    #[test]
    fn samples_have_the_shape_that_their_file_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples");
        let read = |shape: &[u32], values: Values| {
            let shape = shape.to_vec();
            idx::write(&path, &Array { shape, values }).unwrap();
            Samples::idx(&path).map_err(|error| error.to_string())
        };
        let bytes = |count| Values::U8(vec![51; count]);
        assert_eq!(read(&[2, 3, 4], bytes(24)).unwrap().shape(), [1, 3, 4]);
        assert_eq!(read(&[2, 3, 2, 2], bytes(24)).unwrap().shape(), [3, 2, 2]);
        assert_eq!(read(&[2, 5], bytes(10)).unwrap().shape(), [5]);
        let floats = Values::F32(vec![1.5, -2.0, 0.0, 9.0]);
        let windows = read(&[1, 2, 2], floats).unwrap();
        assert_eq!(windows.shape(), [2, 2]);
        assert_eq!(windows.to_vec(), [1.5, -2.0, 0.0, 9.0]);
        let refused = |shape: &[u32], values, part: &str| {
            let error = read(shape, values).unwrap_err();
            assert!(error.contains(part) && error.contains("samples"), "{error}");
        };
        refused(&[3], bytes(3), "one dimension");
        refused(&[1, 2], Values::I16(vec![1, 2]), "write them as floats");
        refused(&[1, 2], Values::F32(vec![0.0, f32::NAN]), "value 1 is NaN");
        refused(&[2, 0], bytes(0), "no values");
    }

    #[test]
    fn the_fixture_is_a_data_set() {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fashion-mnist-mini");
        let (train, test) = Dataset::mnist(&folder).unwrap();
        assert_eq!((train.len(), test.len()), (10_000, 2_000));
        assert_eq!(train.classes(), classes(10));
    }
}
