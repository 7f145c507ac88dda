use std::path::{Path, PathBuf};

use fedistill_protocol::Elements;
use thiserror::Error;

use crate::Samples;
use crate::idx::{self, IdxError};

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
    #[error("no {name} in {folder}, raw or .gz: a data folder holds the four IDX files of MNIST")]
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

    /// Grey images and labels from two IDX files, raw or gzip; the samples have shape
    /// `[1, height, width]`.
    ///
    /// # Errors
    /// A file that cannot be used, or two that do not fit.
    pub fn idx(images: &Path, labels: &Path, classes: Vec<String>) -> Result<Self, DataError> {
        let samples = idx_images(images)?;
        let values = idx::read(labels, 1)?.values;
        let values = values.into_iter().map(u32::from).collect();
        Self::new(labels, samples, values, classes)
    }

    /// The training and the test samples of a folder of four IDX files with MNIST's names, raw or
    /// `.gz`. There are as many classes as the training labels say, named `0`, `1` and so on.
    ///
    /// # Errors
    /// A file that is missing or cannot be used, or files that do not fit.
    pub fn mnist(folder: &Path) -> Result<(Self, Self), DataError> {
        let labels = find(folder, "train-labels-idx1-ubyte")?;
        let most = idx::read(&labels, 1)?.values.into_iter().max().unwrap_or(0);
        let classes: Vec<String> = (0..=most).map(|class| class.to_string()).collect();
        let read = |prefix: &str| {
            let images = find(folder, &format!("{prefix}-images-idx3-ubyte"))?;
            let labels = find(folder, &format!("{prefix}-labels-idx1-ubyte"))?;
            Self::idx(&images, &labels, classes.clone())
        };
        let (train, test) = (read("train")?, read("t10k")?);
        match train.samples.shape() == test.samples.shape() {
            true => Ok((train, test)),
            false => {
                let shapes = [train.samples.shape(), test.samples.shape()];
                Err(DataError::malformed(
                    folder,
                    format!("training and test images have shapes {shapes:?}"),
                ))
            }
        }
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
}

/// The grey images of an IDX file, `[1, height, width]` each.
fn idx_images(path: &Path) -> Result<Samples, DataError> {
    let images = idx::read(path, 3)?;
    let shape = vec![1, images.shape[1], images.shape[2]];
    Samples::new(shape, Elements::U8(images.values)).ok_or_else(|| {
        let most = Samples::MOST_VALUES;
        DataError::malformed(
            path,
            format!("its images have no pixels, or more than {most}"),
        )
    })
}

impl Samples {
    /// The grey images of an IDX file, raw or gzip, `[1, height, width]` each.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn idx(path: &Path) -> Result<Self, DataError> {
        idx_images(path)
    }
}

fn find(folder: &Path, name: &str) -> Result<PathBuf, DataError> {
    let names = [folder.join(name), folder.join(format!("{name}.gz"))];
    let found = names.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| DataError::Missing {
        folder: folder.to_owned(),
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(count: usize) -> Vec<String> {
        (0..count).map(|class| class.to_string()).collect()
    }

    fn write_idx(path: &Path, shape: &[u32], values: &[u8]) {
        let mut bytes = vec![0, 0, 8, shape.len() as u8];
        bytes.extend(shape.iter().flat_map(|side| side.to_be_bytes()));
        bytes.extend(values);
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_folder_of_four_files_is_a_data_set() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_idx(&at("train-images-idx3-ubyte"), &[2, 1, 2], &[0, 255, 9, 9]);
        write_idx(&at("train-labels-idx1-ubyte"), &[2], &[0, 2]);
        write_idx(&at("t10k-images-idx3-ubyte"), &[1, 1, 2], &[7, 7]);
        let error = Dataset::mnist(folder.path()).unwrap_err().to_string();
        assert!(error.contains("t10k-labels"), "{error}");
        write_idx(&at("t10k-labels-idx1-ubyte"), &[1], &[1]);
        let (train, test) = Dataset::mnist(folder.path()).unwrap();
        assert_eq!((train.len(), test.len()), (2, 1));
        assert_eq!(train.classes(), ["0", "1", "2"]);
        assert_eq!(train.samples().shape(), [1, 1, 2]);
        assert_eq!(train.select(&[1]).labels(), [2]);
        write_idx(&at("t10k-labels-idx1-ubyte"), &[1], &[3]);
        let error = Dataset::mnist(folder.path()).unwrap_err().to_string();
        assert!(error.contains("label 3 of sample 0"), "{error}");
        write_idx(&at("t10k-labels-idx1-ubyte"), &[2], &[1, 1]);
        let error = Dataset::mnist(folder.path()).unwrap_err().to_string();
        assert!(error.contains("2 labels for 1 samples"), "{error}");
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
