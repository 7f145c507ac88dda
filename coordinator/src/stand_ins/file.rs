//! What stand-ins said, in a file beside the teacher's: `teacher.probes` beside `teacher.safetensors`.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `fedprobe` |
//! | 4 | version 1, little-endian |
//! | 32 | blake3 of the teacher's file |
//! | 32 | [`Dataset::digest`] of the labelled samples |
//! | rest | logits on the first of them, as [`Answers::pack`] packs 32 bits |

use std::fs;
use std::path::{Path, PathBuf};

use fedistill_learning::Dataset;
use fedistill_learning::checkpoint::write_whole;
use fedistill_protocol::{AnswerKind, Answers, Digest, Precision, ProtocolError};
use thiserror::Error;

use crate::Labelled;

const MAGIC: [u8; 8] = *b"fedprobe";
const VERSION: [u8; 4] = 1u32.to_le_bytes();

/// What such a file is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct About {
    /// The teacher's file.
    pub teacher: Digest,
    /// The labelled samples, with their labels.
    pub labelled: Digest,
    /// Rows of logits that there are.
    pub rows: u32,
    /// Number of classes.
    pub classes: u32,
}

impl About {
    /// About the teacher in the file `teacher`, which has learnt `labelled`.
    ///
    /// # Errors
    /// A teacher's file that cannot be read.
    pub fn of(teacher: &Path, labelled: &Dataset) -> Result<Self, StandInsError> {
        let bytes = fs::read(teacher).map_err(|source| StandInsError::Io {
            path: teacher.to_owned(),
            source,
        })?;
        Ok(Self {
            teacher: Digest::of(&bytes),
            labelled: labelled.digest(),
            rows: labelled.len().min(Labelled::MOST) as u32,
            classes: labelled.classes().len() as u32,
        })
    }
}

/// Why a file of what stand-ins said cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StandInsError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is about something else, or no such file at all.
    #[error("{path}: {fault}: train the teacher again, or remove this file")]
    Fault {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with the bytes of such a file.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// It does not begin as such files do.
    #[error("`fedistill-coordinator teacher train` has not written it")]
    Foreign,
    /// Of a version that is not known here.
    #[error("another version of fedistill has written it")]
    Version,
    /// The teacher's file is not what it was.
    #[error("it is about another teacher than the file beside it")]
    Teacher,
    /// The samples, or their labels, are not what they were.
    #[error("it is about other labelled samples than the configuration names")]
    Labelled,
    /// Logits that cannot be unpacked.
    #[error("its logits: {0}")]
    Logits(#[from] ProtocolError),
}

/// Where it is, for the teacher in this file.
pub fn beside(teacher: &Path) -> PathBuf {
    let path = teacher.with_extension("probes");
    match path == teacher {
        true => teacher.with_extension("probes.probes"),
        false => path,
    }
}

/// The bytes of such a file.
pub fn encode(about: &About, logits: &Answers) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &VERSION].concat();
    bytes.extend(about.teacher.as_bytes());
    bytes.extend(about.labelled.as_bytes());
    bytes.extend(logits.pack(Precision::F32));
    bytes
}

/// The logits in the bytes of such a file, which have to be about this.
///
/// # Errors
/// Bytes that are not, or that [`encode`] has not made.
pub fn decode(bytes: &[u8], about: &About) -> Result<Answers, Fault> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(Fault::Foreign)?;
    let rest = rest.strip_prefix(&VERSION).ok_or(Fault::Version)?;
    let (teacher, rest) = rest.split_first_chunk().ok_or(Fault::Foreign)?;
    let (labelled, rest) = rest.split_first_chunk().ok_or(Fault::Foreign)?;
    if Digest::from_bytes(*labelled) != about.labelled {
        return Err(Fault::Labelled);
    }
    if Digest::from_bytes(*teacher) != about.teacher {
        return Err(Fault::Teacher);
    }
    let logits = Answers::unpack(rest, AnswerKind::Logits, about.rows, about.classes)?;
    Ok(logits)
}

/// Writes such a file, whole or not at all.
///
/// # Errors
/// A path that cannot be written.
pub fn save(path: &Path, about: &About, logits: &Answers) -> Result<(), StandInsError> {
    write_whole(path, &encode(about, logits)).map_err(|source| StandInsError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Reads what [`save`] wrote about this.
///
/// # Errors
/// A file that cannot be read, is about something else, or is malformed.
pub fn load(path: &Path, about: &About) -> Result<Answers, StandInsError> {
    let bytes = fs::read(path).map_err(|source| StandInsError::Io {
        path: path.to_owned(),
        source,
    })?;
    decode(&bytes, about).map_err(|fault| StandInsError::Fault {
        path: path.to_owned(),
        fault,
    })
}

/// Removes it, where there is one: what it was about is there no more.
///
/// # Errors
/// A file that cannot be removed.
pub fn forget(path: &Path) -> Result<(), StandInsError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(StandInsError::Io {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About {
            teacher: Digest::of(b"teacher"),
            labelled: Digest::of(b"labelled"),
            rows: 3,
            classes: 2,
        }
    }

    fn logits() -> Answers {
        let values = vec![0.1, -2.5, 0.0, 0.0, 7.0, 1e-9];
        Answers::new(AnswerKind::Logits, 2, values).unwrap()
    }

    #[test]
    fn what_was_said_comes_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = beside(&folder.path().join("teacher.safetensors"));
        assert_eq!(path, folder.path().join("teacher.probes"));
        assert_ne!(beside(&path), path);
        save(&path, &about(), &logits()).unwrap();
        assert_eq!(load(&path, &about()).unwrap(), logits());
        forget(&path).unwrap();
        assert!(!path.exists());
        forget(&path).unwrap();
        assert!(matches!(
            load(&path, &about()),
            Err(StandInsError::Io { .. })
        ));
    }

    #[test]
    fn what_is_about_something_else_is_refused() {
        let bytes = encode(&about(), &logits());
        let teacher = Digest::of(b"another");
        let other = |about: About| decode(&bytes, &about).unwrap_err();
        let (fresh, moved) = (About { teacher, ..about() }, About { rows: 2, ..about() });
        assert_eq!(other(fresh), Fault::Teacher);
        assert!(matches!(other(moved), Fault::Logits(_)));
        let labelled = Digest::of(b"others");
        let moved = About {
            labelled,
            ..about()
        };
        assert_eq!(other(moved), Fault::Labelled);
        let path = Path::new("t.probes").to_owned();
        let fault = other(moved);
        let text = StandInsError::Fault { path, fault }.to_string();
        assert!(text.contains("train the teacher again"), "{text}");
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let bytes = encode(&about(), &logits());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], &about()).is_err(), "{length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(decode(&longer, &about()).is_err());
        let foreign = [b"x", &bytes[..]].concat();
        assert_eq!(decode(&foreign, &about()), Err(Fault::Foreign));
        let mut newer = bytes.clone();
        newer[8] += 1;
        assert_eq!(decode(&newer, &about()), Err(Fault::Version));
        let mut wild = bytes;
        let end = wild.len() - 4;
        wild[end..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(matches!(decode(&wild, &about()), Err(Fault::Logits(_))));
    }
}
