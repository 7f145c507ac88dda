//! Data sets from CSV: a header, a column of labels, and numbers.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use fedistill_protocol::Elements;

use crate::{DataError, Dataset, Samples};

impl Dataset {
    /// Rows of a CSV file with a header. The column `label` holds the name of a class; all others
    /// are numbers, in the order of the header, and make a sample of shape `[columns]`.
    ///
    /// # Errors
    /// A file that cannot be read, no such column, a name that is no class, or a field that is no
    /// finite number: the error has file, line and column.
    pub fn csv(path: &Path, label: &str, classes: Vec<String>) -> Result<Self, DataError> {
        Self::csv_from(path, open(path)?, label, classes)
    }

    /// The same of bytes from elsewhere; errors call them `path`.
    ///
    /// # Errors
    /// As [`Self::csv`].
    pub fn csv_from(
        path: &Path,
        bytes: impl Read,
        label: &str,
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        let (samples, names) = read(path, bytes, Some(label))?;
        let mut labels = Vec::with_capacity(names.len());
        for (line, name) in names {
            let class = classes.iter().position(|class| *class == name);
            let class = class.ok_or_else(|| {
                let why = format!(
                    "line {line}: {name:?} in column {label:?} is none of the {} classes",
                    classes.len()
                );
                DataError::malformed(path, why)
            })?;
            labels.push(class as u32);
        }
        Self::new(path, samples, labels, classes)
    }
}

impl Samples {
    /// Rows of a CSV file with a header, as [`Dataset::csv`] reads them; the column `label`, where
    /// one is named, is passed over.
    ///
    /// # Errors
    /// As there.
    pub fn csv(path: &Path, label: Option<&str>) -> Result<Self, DataError> {
        Ok(read(path, open(path)?, label)?.0)
    }
}

fn open(path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(|error| DataError::malformed(path, format!("cannot read it: {error}")))
}

/// The samples, and line and text of each label.
fn read(
    path: &Path,
    bytes: impl Read,
    label: Option<&str>,
) -> Result<(Samples, Vec<(u64, String)>), DataError> {
    let fail = |why: String| DataError::malformed(path, why);
    // It buffers by itself.
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader
        .headers()
        .map_err(|error| fail(format!("cannot read its header: {error}")))?
        .clone();
    let at = label
        .map(|label| {
            let found = header.iter().position(|name| name == label);
            found.ok_or_else(|| fail(format!("no column {label:?} in its header")))
        })
        .transpose()?;
    let mut values = Vec::new();
    let mut labels = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| fail(error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        for (column, field) in record.iter().enumerate() {
            if Some(column) == at {
                labels.push((line, field.to_owned()));
                continue;
            }
            let value: Option<f32> = field.trim().parse().ok();
            let value = value.filter(|value| value.is_finite()).ok_or_else(|| {
                let name = header.get(column).unwrap_or_default();
                fail(format!(
                    "line {line}: {field:?} in column {name:?} is no number"
                ))
            })?;
            values.push(value);
        }
    }
    let columns = header.len() - usize::from(at.is_some());
    let samples = Samples::new(vec![columns as u32], Elements::F32(values))
        .ok_or_else(|| fail("it has no columns but the label".to_owned()))?;
    Ok((samples, labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Dataset, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        std::fs::write(&path, text).unwrap();
        Dataset::csv(&path, "kind", vec!["calm".to_owned(), "storm".to_owned()])
    }

    #[test]
    fn columns_are_values_and_names_are_classes() {
        let data = read("wind,kind,rain\n1.5,storm,2\n-3,calm,0\n").unwrap();
        assert_eq!(data.labels(), [1, 0]);
        let mut values = Vec::new();
        data.samples().gather(&[0, 1], &mut values);
        assert_eq!(values, [1.5, 2.0, -3.0, 0.0]);
        assert_eq!(data.samples().shape(), [2]);
    }

    #[test]
    fn errors_name_line_and_column() {
        let error = |text| read(text).unwrap_err().to_string();
        assert!(error("wind,rain\n1,2\n").contains("no column \"kind\""));
        let text = error("wind,kind\n1,calm\nx,calm\n");
        assert!(
            text.contains("line 3") && text.contains("\"wind\""),
            "{text}"
        );
        assert!(error("wind,kind\nNaN,calm\n").contains("no number"));
        assert!(error("wind,kind\n1,fog\n").contains("\"fog\""));
        assert!(
            error("wind,kind\n1\n").contains("line: 2"),
            "{}",
            error("wind,kind\n1\n")
        );
        assert!(error("kind\ncalm\n").contains("no columns"));
    }
}
