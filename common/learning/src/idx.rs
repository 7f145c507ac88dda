//! IDX files, the format of MNIST (LeCun et al.): raw or gzip, images or labels of unsigned bytes.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0, 1 | 0 |
//! | 2 | 8: unsigned bytes |
//! | 3 | number of dimensions |
//! | 4.. | each dimension as u32 big-endian, then the values, row-major |

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The most values a file may announce: 4 GiB of pixels.
pub const MOST_VALUES: u64 = 1 << 32;

/// An array of unsigned bytes with its dimensions, outermost first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Idx {
    /// `[samples, height, width]` for images, `[samples]` for labels.
    pub shape: Vec<u32>,
    /// The values, row-major.
    pub values: Vec<u8>,
}

/// Why an IDX file cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdxError {
    /// The file cannot be read or written.
    #[error("{path}: {source}: check the path and its permissions")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no IDX file of unsigned bytes.
    #[error("{path} is no whole IDX file of unsigned bytes: {why}: fetch or export it again")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Reads an IDX file of `dimensions` dimensions, raw or gzip as its first bytes say.
///
/// # Errors
/// A file that is missing, of another type or number of dimensions, truncated, or longer than its
/// header says.
pub fn read(path: &Path, dimensions: u8) -> Result<Idx, IdxError> {
    let io = |source| IdxError::Io {
        path: path.to_owned(),
        source,
    };
    let mut start = Vec::new();
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    file.by_ref().take(2).read_to_end(&mut start).map_err(io)?;
    let gzip = start == [0x1f, 0x8b];
    let whole = start.as_slice().chain(file);
    let parsed = match gzip {
        true => parse(flate2::read::MultiGzDecoder::new(whole), dimensions),
        false => parse(whole, dimensions),
    };
    parsed.map_err(|why| IdxError::Malformed {
        path: path.to_owned(),
        why,
    })
}

fn parse(mut bytes: impl Read, dimensions: u8) -> Result<Idx, String> {
    let mut header = [0; 4];
    bytes
        .read_exact(&mut header)
        .map_err(|error| format!("no header ({error})"))?;
    if header != [0, 0, 8, dimensions] {
        return Err(format!(
            "it begins with {header:?}, expected {:?}",
            [0, 0, 8, dimensions]
        ));
    }
    let mut shape = Vec::with_capacity(dimensions.into());
    for _ in 0..dimensions {
        let mut length = [0; 4];
        bytes
            .read_exact(&mut length)
            .map_err(|error| format!("no dimensions ({error})"))?;
        shape.push(u32::from_be_bytes(length));
    }
    let count = shape
        .iter()
        .try_fold(1u64, |count, &length| count.checked_mul(length.into()));
    let Some(count) = count.filter(|count| *count <= MOST_VALUES) else {
        return Err(format!(
            "its shape {shape:?} has more than {MOST_VALUES} values"
        ));
    };
    // Grows with what is really there: a short file that announces much costs little.
    let mut values = Vec::new();
    let limited = bytes.by_ref().take(count + 1).read_to_end(&mut values);
    limited.map_err(|error| format!("values end early ({error})"))?;
    match (values.len() as u64).cmp(&count) {
        std::cmp::Ordering::Equal => Ok(Idx { shape, values }),
        std::cmp::Ordering::Less => Err(format!(
            "it has {} values, its shape {shape:?} announces {count}",
            values.len()
        )),
        std::cmp::Ordering::Greater => Err(format!(
            "bytes follow the {count} values of its shape {shape:?}"
        )),
    }
}

/// Writes an IDX file, gzip where its name ends in `.gz`.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, idx: &Idx) -> Result<(), IdxError> {
    let mut bytes = vec![0, 0, 8, idx.shape.len() as u8];
    bytes.extend(idx.shape.iter().flat_map(|length| length.to_be_bytes()));
    bytes.extend(&idx.values);
    let gzip = path.extension().is_some_and(|extension| extension == "gz");
    let written = File::create(path).and_then(|file| match gzip {
        true => {
            let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            file.write_all(&bytes)?;
            file.finish().map(|_| ())
        }
        false => { file }.write_all(&bytes),
    });
    written.map_err(|source| IdxError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {

    use super::*;

    const RAW: [u8; 18] = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 7, 9];

    fn write(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn refusal(bytes: &[u8], dimensions: u8) -> String {
        let (_folder, path) = write(bytes);
        let error = read(&path, dimensions).unwrap_err().to_string();
        assert!(error.contains("images"), "{error}");
        error
    }

    #[test]
    fn raw_and_gzip_hold_the_same() {
        let expected = Idx {
            shape: vec![1, 2, 1],
            values: vec![7, 9],
        };
        let (_folder, path) = write(&RAW);
        assert_eq!(read(&path, 3).unwrap(), expected);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&RAW).unwrap();
        let (_folder, path) = write(&gzip.finish().unwrap());
        assert_eq!(read(&path, 3).unwrap(), expected);
    }

    #[test]
    fn whatever_is_wrong_is_said() {
        assert!(refusal(&RAW[..17], 3).contains("1 values"));
        assert!(refusal(&RAW[..10], 3).contains("no dimensions"));
        assert!(refusal(&RAW[..3], 3).contains("no header"));
        assert!(refusal(&[], 3).contains("no header"));
        assert!(refusal(&RAW, 1).contains("expected"));
        assert!(refusal(&[&RAW[..], &[1]].concat(), 3).contains("follow"));
        let huge = [&[0, 0, 8, 3][..], &[255; 12]].concat();
        assert!(refusal(&huge, 3).contains("more than"));
        assert!(refusal(&[0x1f, 0x8b, 8, 0], 3).contains("no header"));
        let missing = read(Path::new("no/such/file"), 3).unwrap_err().to_string();
        assert!(missing.contains("no/such/file"), "{missing}");
    }

    #[test]
    fn the_committed_fixture_is_whole() {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fashion-mnist-mini");
        for (prefix, samples) in [("train", 10_000), ("t10k", 2_000)] {
            let images = read(&folder.join(format!("{prefix}-images-idx3-ubyte.gz")), 3).unwrap();
            let labels = read(&folder.join(format!("{prefix}-labels-idx1-ubyte.gz")), 1).unwrap();
            assert_eq!(images.shape, [samples, 28, 28]);
            assert_eq!(labels.shape, [samples]);
            assert!(labels.values.iter().all(|label| *label < 10));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let idx = Idx {
            shape: vec![2, 1, 3],
            values: vec![1, 2, 3, 4, 5, 6],
        };
        for name in ["raw", "small.gz"] {
            let path = folder.path().join(name);
            super::write(&path, &idx).unwrap();
            assert_eq!(read(&path, 3).unwrap(), idx);
        }
        assert!(super::write(&folder.path().join("no/such/folder"), &idx).is_err());
    }
}
