//! One process at a time in a folder of state.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::{Exit, Failure};

/// The file in the folder that is locked; the system gives the lock back whenever its process ends,
/// however it ends.
const LOCK: &str = "lock";

/// A folder that no other process of ours uses until this is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the folder, which must be there, for this process.
///
/// # Errors
/// Another process has it, the file `lock` cannot be made in it, or its file system knows no locks: nothing
/// would keep two processes apart there, and each would write over what the other has written.
pub fn take(folder: &Path) -> Result<Lock, Failure> {
    take_if_known(folder)?.ok_or_else(|| {
        let why = format!(
            "the file system of {} knows no locks, so nothing would keep a second process from using it too: name a state folder on a disk of this machine",
            folder.display()
        );
        Failure::new(Exit::Data, why)
    })
}

/// The same of a folder that holds nothing which cannot be made again: `None` where its file system knows no locks.
///
/// # Errors
/// Another process has it, or the file `lock` cannot be made in it.
pub fn take_if_known(folder: &Path) -> Result<Option<Lock>, Failure> {
    let path = folder.join(LOCK);
    let fail = |error: std::io::Error| {
        Failure::new(
            Exit::Failed,
            format!("cannot lock {}: {error}", path.display()),
        )
    };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let file = options.open(&path).map_err(fail)?;
    let mut tries = 0..10;
    let locked = loop {
        match file.try_lock() {
            // It may only be somebody who looks whether it is taken.
            Err(TryLockError::WouldBlock) if tries.next().is_some() => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => break other,
        }
    };
    match locked {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            Exit::Data,
            format!(
                "{} is in use by another process: stop that one, or name another state folder",
                folder.display()
            ),
        )),
        // Some network file systems.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(None),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

/// Whether a process has taken the folder; `None` where that cannot be told.
pub fn is_taken(folder: &Path) -> Option<bool> {
    let file = match File::open(folder.join(LOCK)) {
        Ok(file) => file,
        Err(error) => return (error.kind() == ErrorKind::NotFound).then_some(false),
    };
    match file.try_lock_shared() {
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_process_s_until_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(is_taken(folder.path()), Some(false));
        let lock = take(folder.path()).unwrap();
        assert_eq!(is_taken(folder.path()), Some(true));
        let failure = take(folder.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::Data);
        assert!(failure.why.contains("another process"), "{}", failure.why);
        drop(lock);
        assert_eq!(is_taken(folder.path()), Some(false));
        take(folder.path()).unwrap();
        assert!(take(&folder.path().join("none")).is_err());
    }
}
