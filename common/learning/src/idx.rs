//! IDX files, the format of MNIST (LeCun et al.): raw or gzip.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0, 1 | 0 |
//! | 2 | type of the values: 8 u8, 11 i16, 12 i32, 13 f32; i8 (9) and f64 (14) are not read |
//! | 3 | number of dimensions |
//! | 4.. | each dimension as u32 big-endian, then the values, row-major and big-endian |

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The most bytes of values that a file may announce: 4 GiB.
pub const MOST_BYTES: u64 = 1 << 32;

/// An array of unsigned bytes with its dimensions, outermost first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Idx {
    /// `[samples, height, width]` for images, `[samples]` for labels.
    pub shape: Vec<u32>,
    /// The values, row-major.
    pub values: Vec<u8>,
}

/// An array of values of some type with its dimensions, outermost first.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// At least one dimension.
    pub shape: Vec<u32>,
    /// The values, row-major.
    pub values: Values,
}

/// Values of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// `ubyte` in names of files.
    U8(Vec<u8>),
    /// `short`.
    I16(Vec<i16>),
    /// `int`.
    I32(Vec<i32>),
    /// `float`; finite or not.
    F32(Vec<f32>),
}

impl From<Idx> for Array {
    fn from(Idx { shape, values }: Idx) -> Self {
        let values = Values::U8(values);
        Self { shape, values }
    }
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
    /// The file is no IDX file, or not of the type and dimensions that are needed.
    #[error("{path} is no whole IDX file: {why}: fetch or export it again")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Reads an IDX file of unsigned bytes of `dimensions` dimensions, raw or gzip as its first bytes say.
///
/// # Errors
/// A file that is missing, of another type or number of dimensions, truncated, or longer than its
/// header says.
pub fn read(path: &Path, dimensions: u8) -> Result<Idx, IdxError> {
    let header = [0, 0, Kind::U8 as u8, dimensions];
    let Array { shape, values } = open(path, Some(header))?;
    match values {
        Values::U8(values) => Ok(Idx { shape, values }),
        _ => Err(malformed(path, "its values are no bytes".to_owned())),
    }
}

/// Reads an IDX file of any type and number of dimensions that there is, raw or gzip.
///
/// # Errors
/// A file that is missing, of no such type, without dimensions, truncated, or longer than its header
/// says.
pub fn read_any(path: &Path) -> Result<Array, IdxError> {
    open(path, None)
}

/// The same of bytes from elsewhere; errors call them `path`.
///
/// # Errors
/// As [`read_any`].
pub fn read_any_from(path: &Path, bytes: impl BufRead) -> Result<Array, IdxError> {
    read_from(path, bytes, None)
}

/// Types of values, as files number them.
#[derive(Clone, Copy)]
enum Kind {
    U8 = 8,
    I16 = 11,
    I32 = 12,
    F32 = 13,
}

impl Kind {
    const ALL: [Self; 4] = [Self::U8, Self::I16, Self::I32, Self::F32];

    /// Bytes of a value.
    fn size(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
        }
    }
}

fn malformed(path: &Path, why: String) -> IdxError {
    IdxError::Malformed {
        path: path.to_owned(),
        why,
    }
}

/// Reads a file that begins with this header, where one is given.
fn open(path: &Path, header: Option<[u8; 4]>) -> Result<Array, IdxError> {
    let file = File::open(path).map_err(|source| io(path, source))?;
    read_from(path, BufReader::new(file), header)
}

fn io(path: &Path, source: std::io::Error) -> IdxError {
    IdxError::Io {
        path: path.to_owned(),
        source,
    }
}

fn read_from(
    path: &Path,
    mut bytes: impl BufRead,
    header: Option<[u8; 4]>,
) -> Result<Array, IdxError> {
    let mut start = Vec::new();
    let first = bytes.by_ref().take(2).read_to_end(&mut start);
    first.map_err(|source| io(path, source))?;
    let gzip = start == [0x1f, 0x8b];
    let whole = start.as_slice().chain(bytes);
    let parsed = match gzip {
        true => parse(flate2::read::MultiGzDecoder::new(whole), header),
        false => parse(whole, header),
    };
    parsed.map_err(|why| malformed(path, why))
}

fn parse(mut bytes: impl Read, expected: Option<[u8; 4]>) -> Result<Array, String> {
    let mut header = [0; 4];
    bytes
        .read_exact(&mut header)
        .map_err(|error| format!("no header ({error})"))?;
    if let Some(expected) = expected.filter(|expected| header != *expected) {
        return Err(format!("it begins with {header:?}, expected {expected:?}"));
    }
    let kind = |code| Kind::ALL.into_iter().find(|kind| *kind as u8 == code);
    let (kind, dimensions) = match header {
        [0, 0, code, dimensions] if dimensions > 0 => (kind(code), dimensions),
        _ => (None, 0),
    };
    let Some(kind) = kind else {
        return Err(format!(
            "it begins with {header:?}, expected two zeros, a type of 8 (u8), 11 (i16), 12 (i32) or 13 (f32), and how many dimensions"
        ));
    };
    let size = kind.size();
    let mut shape = Vec::with_capacity(dimensions.into());
    for _ in 0..dimensions {
        let mut length = [0; 4];
        bytes
            .read_exact(&mut length)
            .map_err(|error| format!("no dimensions ({error})"))?;
        shape.push(u32::from_be_bytes(length));
    }
    let announced = shape
        .iter()
        .try_fold(size, |bytes: u64, &length| bytes.checked_mul(length.into()));
    let Some(announced) = announced.filter(|bytes| *bytes <= MOST_BYTES) else {
        return Err(format!(
            "its shape {shape:?} has more than {MOST_BYTES} bytes"
        ));
    };
    // Grows with what is really there: a short file that announces much costs little.
    let mut values = Vec::new();
    let limited = bytes.by_ref().take(announced + 1).read_to_end(&mut values);
    limited.map_err(|error| format!("values end early ({error})"))?;
    let count = announced / size;
    match (values.len() as u64).cmp(&announced) {
        std::cmp::Ordering::Equal => Ok(Array {
            shape,
            values: Values::parse(kind, values),
        }),
        std::cmp::Ordering::Less => Err(format!(
            "it has {} values, its shape {shape:?} announces {count}",
            values.len() as u64 / size
        )),
        std::cmp::Ordering::Greater => Err(format!(
            "bytes follow the {count} values of its shape {shape:?}"
        )),
    }
}

impl Values {
    /// Of whole values.
    fn parse(kind: Kind, bytes: Vec<u8>) -> Self {
        fn each<const N: usize, T>(bytes: &[u8], value: fn([u8; N]) -> T) -> Vec<T> {
            let (values, _) = bytes.as_chunks();
            values.iter().map(|&bytes| value(bytes)).collect()
        }
        match kind {
            Kind::U8 => Self::U8(bytes),
            Kind::I16 => Self::I16(each(&bytes, i16::from_be_bytes)),
            Kind::I32 => Self::I32(each(&bytes, i32::from_be_bytes)),
            Kind::F32 => Self::F32(each(&bytes, f32::from_be_bytes)),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::U8(_) => Kind::U8,
            Self::I16(_) => Kind::I16,
            Self::I32(_) => Kind::I32,
            Self::F32(_) => Kind::F32,
        }
    }

    fn append_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::U8(values) => bytes.extend(values),
            Self::I16(values) => bytes.extend(values.iter().flat_map(|value| value.to_be_bytes())),
            Self::I32(values) => bytes.extend(values.iter().flat_map(|value| value.to_be_bytes())),
            Self::F32(values) => bytes.extend(values.iter().flat_map(|value| value.to_be_bytes())),
        }
    }
}

/// Writes an IDX file, gzip where its name ends in `.gz`.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, array: &Array) -> Result<(), IdxError> {
    let mut bytes = vec![0, 0, array.values.kind() as u8, array.shape.len() as u8];
    bytes.extend(array.shape.iter().flat_map(|length| length.to_be_bytes()));
    array.values.append_to(&mut bytes);
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
    fn values_of_each_type_are_big_endian() {
        let parsed = |code, bytes: &[u8], count: u8| {
            let raw = [&[0, 0, code, 1, 0, 0, 0, count], bytes].concat();
            let (_folder, path) = write(&raw);
            read_any(&path).unwrap()
        };
        let short = parsed(11, &[1, 0, 255, 254], 2);
        assert_eq!(short.values, Values::I16(vec![256, -2]));
        let int = parsed(12, &[0, 1, 0, 0], 1);
        assert_eq!(int.values, Values::I32(vec![65_536]));
        let float = parsed(13, &[0x3f, 0x80, 0, 0, 0xc0, 0x20, 0, 0], 2);
        assert_eq!(float.values, Values::F32(vec![1.0, -2.5]));
        assert_eq!(float.shape, [2]);
    }

    #[test]
    fn what_is_of_no_known_type_is_refused() {
        for header in [[0, 0, 9, 1], [0, 0, 14, 1], [0, 0, 8, 0], [1, 0, 8, 1]] {
            let (_folder, path) = write(&[&header[..], &[0; 12]].concat());
            let error = read_any(&path).unwrap_err().to_string();
            assert!(error.contains("a type of 8 (u8)"), "{error}");
        }
        let floats = [0, 0, 13, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0];
        let (_folder, path) = write(&floats);
        let error = read_any(&path).unwrap_err().to_string();
        assert!(error.contains("it has 1 values"), "{error}");
        // Bytes are what is limited.
        let huge = [0, 0, 13, 1, 0x40, 0, 0, 1];
        let (_folder, path) = write(&huge);
        let error = read_any(&path).unwrap_err().to_string();
        assert!(error.contains("more than"), "{error}");
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        for values in [
            Values::U8(vec![1, 2, 3, 4, 5, 255]),
            Values::I16(vec![1, -2, 3, 4, 5, 300]),
            Values::I32(vec![1, -2, 3, 4, 5, 70_000]),
            Values::F32(vec![1.5, -2.0, 3.0, 4.0, 5.0, 0.1]),
        ] {
            let shape = vec![2, 1, 3];
            let array = Array { shape, values };
            for name in ["raw", "small.gz"] {
                let path = folder.path().join(name);
                super::write(&path, &array).unwrap();
                assert_eq!(read_any(&path).unwrap(), array);
            }
            assert!(super::write(&folder.path().join("no/such/folder"), &array).is_err());
        }
    }
}
