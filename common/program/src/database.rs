//! A file with transactions (redb): after a crash it is as after the last one.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use redb::Database;
use redb::backends::FileBackend;
use thiserror::Error;

/// Why a database cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// Another process has it open.
    #[error("{path} is in use by another process")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The file cannot be made, read or written.
    #[error("{path}: {why}")]
    Failed {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}

/// Opens the database in `path`, or makes it, readable by its owner alone. It holds at most `cache`
/// bytes of it in memory.
///
/// # Errors
/// A file that another process has open, or that cannot be used.
pub fn open(path: &Path, cache: usize) -> Result<Database, DatabaseError> {
    let failed = |why: String| DatabaseError::Failed {
        path: path.to_owned(),
        why,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options
        .open(path)
        .map_err(|error| failed(error.to_string()))?;
    let opened = FileBackend::new(file).and_then(|backend| {
        Database::builder()
            .set_cache_size(cache)
            .create_with_backend(backend)
    });
    opened.map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => DatabaseError::InUse {
            path: path.to_owned(),
        },
        other => failed(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_process_s_and_its_owner_s() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.redb");
        let first = open(&path, 1 << 20).unwrap();
        assert!(matches!(
            open(&path, 1 << 20),
            Err(DatabaseError::InUse { .. })
        ));
        drop(first);
        open(&path, 1 << 20).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(&path, "nonsense that is no database").unwrap();
        assert!(matches!(
            open(&path, 1 << 20),
            Err(DatabaseError::Failed { .. })
        ));
    }
}
