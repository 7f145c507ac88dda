use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataError, Dataset, Samples};

/// Where samples are, as configurations write it; relative paths mean what [`Self::start_from`] makes of them.
///
/// ```toml
/// idx = { images = "train-images-idx3-ubyte.gz", labels = "train-labels-idx1-ubyte.gz" }
/// csv = { file = "sensors.csv", label = "state" }
/// folder = { path = "photos", shape = [3, 32, 32] }
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// Samples, and labels where there are some, in IDX files, raw or gzip.
    Idx {
        /// The file of images, or of samples of any other kind.
        images: PathBuf,
        /// The file of labels.
        labels: Option<PathBuf>,
    },
    /// A table of numbers with a header.
    Csv {
        /// The file.
        file: PathBuf,
        /// The column that holds the name of the class.
        label: Option<String>,
    },
    /// PNG and JPEG images; where labels are needed, in a folder a class.
    Folder {
        /// The folder.
        path: PathBuf,
        /// What images are brought to: `[1 or 3, height, width]`.
        shape: Vec<u32>,
    },
}

impl Source {
    /// The samples with their labels.
    ///
    /// # Errors
    /// Files that cannot be used, or that have no labels.
    pub fn labelled(&self, classes: Vec<String>) -> Result<Dataset, DataError> {
        match self {
            Self::Idx {
                images,
                labels: Some(labels),
            } => Dataset::idx(images, labels, classes),
            Self::Csv {
                file,
                label: Some(label),
            } => Dataset::csv(file, label, classes),
            Self::Folder { path, shape } => Dataset::image_folder(path, shape, classes),
            Self::Idx { images: path, .. } => Err(DataError::malformed(
                path,
                "labels are needed: name their file in idx.labels",
            )),
            Self::Csv { file: path, .. } => Err(DataError::malformed(
                path,
                "labels are needed: name their column in csv.label",
            )),
        }
    }

    /// The samples alone; labels, where there are some, are not read.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn samples(&self) -> Result<Samples, DataError> {
        match self {
            Self::Idx { images, .. } => Samples::idx(images),
            Self::Csv { file, label } => Samples::csv(file, label.as_deref()),
            Self::Folder { path, shape } => Samples::image_folder(path, shape),
        }
    }

    /// Makes relative paths start from `folder`.
    pub fn start_from(&mut self, folder: &Path) {
        let (first, second) = match self {
            Self::Idx { images, labels } => (images, labels.as_mut()),
            Self::Csv { file, .. } => (file, None),
            Self::Folder { path, .. } => (path, None),
        };
        for path in [first].into_iter().chain(second) {
            *path = folder.join(&path);
        }
    }

    /// What a path given on a command line is: a folder of images, a table, or else IDX images.
    /// Images are brought to `shape`; `label` is a column to pass over.
    #[must_use]
    pub fn guess(path: PathBuf, shape: &[u32], label: Option<String>) -> Self {
        let shape = shape.to_owned();
        match path.extension().is_some_and(|extension| extension == "csv") {
            _ if path.is_dir() => Self::Folder { path, shape },
            true => Self::Csv { file: path, label },
            false => Self::Idx {
                images: path,
                labels: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn labels_are_read_where_they_are_needed_only() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("t.csv"),
            "a,kind,b\n1,calm,2\n3,storm,4\n",
        )
        .unwrap();
        let classes = vec!["calm".to_owned(), "storm".to_owned()];
        let mut source = Source::Csv {
            file: "t.csv".into(),
            label: Some("kind".to_owned()),
        };
        source.start_from(folder.path());
        let data = source.labelled(classes.clone()).unwrap();
        assert_eq!(data.labels(), [0, 1]);
        assert_eq!(source.samples().unwrap(), *data.samples());
        let unlabelled = Source::Csv {
            file: folder.path().join("t.csv"),
            label: None,
        };
        let error = unlabelled.labelled(classes).unwrap_err();
        assert!(error.to_string().contains("csv.label"), "{error}");
        let error = unlabelled.samples().unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("\"calm\""),
            "{error}"
        );
    }

    #[test]
    fn a_folder_without_labels_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("more")).unwrap();
        for name in ["b.png", "more/a.png"] {
            let image = image::GrayImage::from_pixel(2, 2, image::Luma([7]));
            image.save(folder.path().join(name)).unwrap();
        }
        let source = Source::guess(folder.path().to_owned(), &[1, 2, 2], None);
        assert_eq!(source.samples().unwrap().len(), 2);
        let csv = Source::guess("x.csv".into(), &[2], None);
        assert!(matches!(csv, Source::Csv { .. }));
        let error = Source::guess("x.gz".into(), &[2], None).samples();
        assert!(error.unwrap_err().to_string().contains("x.gz"));
    }
}
