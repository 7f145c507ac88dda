use std::path::{Path, PathBuf};

use crate::idx::{self, Values};
use crate::{DataError, Dataset};

/// Samples to train and to test with, from a folder of IDX files with MNIST's names, each raw or `.gz`.
///
/// | file | what |
/// |---|---|
/// | `train-images-idx3-ubyte` | grey images, or instead of it |
/// | `train-samples-idxD-ubyte`, `train-samples-idxD-float` | samples of any shape; D dimensions, 2 to 4, the first of which is their number |
/// | `train-labels-idx1-ubyte` | their labels |
/// | `train-groups-idx1-ubyte`, `-short` or `-int` | not needed: whose each sample is |
/// | `t10k-images-idx3-ubyte` and so on | the same of the samples to test with |
///
/// There are as many classes as the training labels say, named `0`, `1` and so on.
///
/// Like a [`Dataset`] it has no encoding:
/// ```compile_fail,E0277
/// fn encodes<T: serde::Serialize>() {}
/// encodes::<fedistill_learning::DataFolder>();
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct DataFolder {
    /// To train with.
    pub train: Dataset,
    /// To test with.
    pub test: Dataset,
    /// Whose the samples are, where the folder says it.
    pub groups: Option<Groups>,
}

/// Whose samples are: a number for each person, device or site, the same to train and to test with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Groups {
    /// One for each training sample.
    pub train: Vec<i32>,
    /// One for each test sample, where the folder says it.
    pub test: Option<Vec<i32>>,
}

impl DataFolder {
    /// Reads the folder.
    ///
    /// # Errors
    /// A file that is missing or cannot be used, or files that do not fit.
    pub fn read(folder: &Path) -> Result<Self, DataError> {
        let labels = needed(folder, &["train-labels-idx1-ubyte"])?;
        let most = idx::read(&labels, 1)?.values.into_iter().max().unwrap_or(0);
        let classes: Vec<String> = (0..=most).map(|class| class.to_string()).collect();
        let read = |prefix: &str| {
            let kinds = [
                "2-ubyte", "2-float", "3-ubyte", "3-float", "4-ubyte", "4-float",
            ];
            let any = kinds.map(|kind| format!("{prefix}-samples-idx{kind}"));
            let mut names = vec![format!("{prefix}-images-idx3-ubyte")];
            names.extend(any);
            let samples = needed(folder, &names)?;
            let labels = needed(folder, &[format!("{prefix}-labels-idx1-ubyte")])?;
            Dataset::idx(&samples, &labels, classes.clone())
        };
        let (train, test) = (read("train")?, read("t10k")?);
        let shapes = [&train, &test].map(|set| set.samples().shape());
        if shapes[0] != shapes[1] {
            let why = format!("training and test samples have shapes {shapes:?}");
            return Err(DataError::malformed(folder, why));
        }
        let groups = Groups::read(folder)?;
        if let Some(groups) = &groups {
            groups.hold_against(folder, &train, &test)?;
        }
        Ok(Self {
            train,
            test,
            groups,
        })
    }
}

impl Groups {
    /// Reads a data folder's groups alone; none where it has no such files.
    ///
    /// # Errors
    /// A file that cannot be used, or groups of test samples alone.
    pub fn read(folder: &Path) -> Result<Option<Self>, DataError> {
        let read = |prefix: &str| {
            let kinds = ["ubyte", "short", "int"];
            let names = kinds.map(|kind| format!("{prefix}-groups-idx1-{kind}"));
            let path = names.iter().find_map(|name| find(folder, name));
            path.map(|path| numbers(&path)).transpose()
        };
        match (read("train")?, read("t10k")?) {
            (Some(train), test) => Ok(Some(Self { train, test })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(DataError::malformed(
                folder,
                "test samples have groups, training samples have none: add train-groups-idx1-ubyte",
            )),
        }
    }

    /// Refuses another number of groups than of samples.
    fn hold_against(
        &self,
        folder: &Path,
        train: &Dataset,
        test: &Dataset,
    ) -> Result<(), DataError> {
        let sets = [
            ("training", Some(&self.train), train),
            ("test", self.test.as_ref(), test),
        ];
        for (name, groups, set) in sets {
            if let Some(groups) = groups.filter(|groups| groups.len() != set.len()) {
                let (groups, samples) = (groups.len(), set.len());
                let why =
                    format!("{groups} groups for {samples} {name} samples: give one for each");
                return Err(DataError::malformed(folder, why));
            }
        }
        Ok(())
    }
}

/// The whole numbers of a file.
fn numbers(path: &Path) -> Result<Vec<i32>, DataError> {
    let array = idx::read_any(path)?;
    match (array.values, array.shape.len()) {
        (Values::U8(values), 1) => Ok(values.into_iter().map(i32::from).collect()),
        (Values::I16(values), 1) => Ok(values.into_iter().map(i32::from).collect()),
        (Values::I32(values), 1) => Ok(values),
        _ => Err(DataError::malformed(
            path,
            "groups are whole numbers (u8, i16 or i32) in one dimension",
        )),
    }
}

/// The first of these files that is there.
fn needed<N: AsRef<str>>(folder: &Path, names: &[N]) -> Result<PathBuf, DataError> {
    let found = names.iter().find_map(|name| find(folder, name.as_ref()));
    found.ok_or_else(|| DataError::Missing {
        folder: folder.to_owned(),
        name: names.first().map_or("", AsRef::as_ref).to_owned(),
    })
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let names = [folder.join(name), folder.join(format!("{name}.gz"))];
    names.into_iter().find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idx::Array;

    fn write(folder: &Path, name: &str, shape: &[u32], values: Values) {
        let shape = shape.to_vec();
        idx::write(&folder.join(name), &Array { shape, values }).unwrap();
    }

    fn bytes(values: &[u8]) -> Values {
        Values::U8(values.to_vec())
    }

    #[test]
    fn a_folder_of_four_files_is_a_data_set() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, shape: &[u32], values: &[u8]| {
            write(folder.path(), name, shape, bytes(values));
        };
        let read = || DataFolder::read(folder.path());
        put("train-images-idx3-ubyte", &[2, 1, 2], &[0, 255, 9, 9]);
        put("train-labels-idx1-ubyte", &[2], &[0, 2]);
        put("t10k-images-idx3-ubyte", &[1, 1, 2], &[7, 7]);
        let error = read().unwrap_err().to_string();
        assert!(error.contains("t10k-labels"), "{error}");
        put("t10k-labels-idx1-ubyte", &[1], &[1]);
        let DataFolder {
            train,
            test,
            groups,
        } = read().unwrap();
        assert_eq!((train.len(), test.len(), groups), (2, 1, None));
        assert_eq!(train.classes(), ["0", "1", "2"]);
        assert_eq!(train.samples().shape(), [1, 1, 2]);
        assert_eq!(train.select(&[1]).labels(), [2]);
        put("t10k-labels-idx1-ubyte", &[1], &[3]);
        let error = read().unwrap_err().to_string();
        assert!(error.contains("label 3 of sample 0"), "{error}");
        put("t10k-labels-idx1-ubyte", &[2], &[1, 1]);
        let error = read().unwrap_err().to_string();
        assert!(error.contains("2 labels for 1 samples"), "{error}");
        put("t10k-labels-idx1-ubyte", &[1], &[1]);
        put("t10k-images-idx3-ubyte", &[1, 2, 1], &[7, 7]);
        let error = read().unwrap_err().to_string();
        assert!(error.contains("[[1, 1, 2], [1, 2, 1]]"), "{error}");
    }

    #[test]
    fn windows_and_whose_they_are_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let read = || DataFolder::read(path).map_err(|error| error.to_string());
        let floats = |count: u8| Values::F32((0..count).map(f32::from).collect());
        let missing = read().unwrap_err();
        assert!(missing.contains("train-labels-idx1-ubyte"), "{missing}");
        write(path, "train-labels-idx1-ubyte.gz", &[2], bytes(&[0, 1]));
        write(path, "t10k-labels-idx1-ubyte", &[1], bytes(&[1]));
        let missing = read().unwrap_err();
        assert!(missing.contains("train-images-idx3-ubyte"), "{missing}");
        write(path, "train-samples-idx3-float.gz", &[2, 2, 3], floats(12));
        write(path, "t10k-samples-idx3-float", &[1, 2, 3], floats(6));
        assert_eq!(read().unwrap().groups, None);
        // Test samples' alone say nothing of who trains.
        write(path, "t10k-groups-idx1-short", &[1], Values::I16(vec![-7]));
        let refused = read().unwrap_err();
        assert!(refused.contains("add train-groups"), "{refused}");
        let ids = Values::I32(vec![70_000, -7]);
        write(path, "train-groups-idx1-int.gz", &[2], ids);
        let data = read().unwrap();
        assert_eq!(data.train.samples().shape(), [2, 3]);
        let expected = Groups {
            train: vec![70_000, -7],
            test: Some(vec![-7]),
        };
        assert_eq!(data.groups, Some(expected.clone()));
        assert_eq!(Groups::read(path).unwrap(), Some(expected));
        write(
            path,
            "t10k-groups-idx1-short",
            &[2],
            Values::I16(vec![1, 2]),
        );
        let refused = read().unwrap_err();
        assert!(refused.contains("2 groups for 1 test samples"), "{refused}");
        write(path, "t10k-groups-idx1-short", &[1], Values::F32(vec![1.0]));
        let refused = read().unwrap_err();
        assert!(refused.contains("whole numbers"), "{refused}");
        write(
            path,
            "t10k-groups-idx1-short",
            &[1, 1],
            Values::I16(vec![1]),
        );
        assert!(read().unwrap_err().contains("in one dimension"));
    }
}
