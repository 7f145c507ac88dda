//! What a database writes through: a file of which it is known whether all of it may be on disk.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// Whether a sync has failed. The system then takes what it could not write for written: what is read is no longer
/// what is on disk, and the next sync succeeds without it (Rebello et al. 2020, "Can applications recover from fsync
/// failures?").
#[derive(Clone, Debug, Default)]
pub(super) struct Unsure(Arc<AtomicBool>);

impl Unsure {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// What was read since comes from the disk.
    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Reads of this file come from the disk from here on, but for what is still to be written to it: what the system only
/// takes for written is let go of.
///
/// # Errors
/// A file that cannot be opened.
pub(super) fn forget(path: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let file = File::open(path)?;
        // A file system that keeps nothing of it has nothing to let go of.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = path;
    Ok(())
}

/// A file of redb's that says where a sync of it has failed.
#[derive(Debug)]
pub(super) struct Backend {
    file: FileBackend,
    unsure: Unsure,
}

impl Backend {
    /// The file in `path`, which is there.
    ///
    /// # Errors
    /// A file that cannot be opened; one of no length, which a database would be begun in.
    pub(super) fn open(path: &Path, unsure: Unsure) -> Result<Self, redb::DatabaseError> {
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() == 0 {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty");
            return Err(error.into());
        }
        Ok(Self {
            file: FileBackend::new(file)?,
            unsure,
        })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().inspect_err(|_| self.unsure.set())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One whose syncs succeed, and one whose syncs fail: it is no file that a disk holds.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_sync_that_fails_is_remembered() {
        let backend = |file| Backend {
            file: FileBackend::new(file).unwrap(),
            unsure: Unsure::default(),
        };
        let sound = backend(tempfile::tempfile().unwrap());
        sound.sync_data().unwrap();
        assert!(!sound.unsure.is_set());
        let null = File::options().read(true).write(true).open("/dev/null");
        let failing = backend(null.unwrap());
        assert!(failing.sync_data().is_err());
        assert!(failing.unsure.is_set());
        failing.unsure.clear();
        assert!(!failing.unsure.is_set());
    }
}
