use std::fs;
use std::path::{Path, PathBuf};

use fedistill_learning::checkpoint::write_whole;
use fedistill_protocol::Digest;

/// Blobs on disk, each in a file named by its digest; only the last one put there stays. Nothing depends on
/// it: what is missing or damaged is fetched again.
#[derive(Debug)]
pub struct BlobFolder(PathBuf);

impl BlobFolder {
    /// Blobs in `folder`, which is made when the first one is put there.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn path(&self, blob: Digest) -> PathBuf {
        self.0.join(blob.to_string())
    }

    /// The blob, if it is here and whole.
    pub(crate) fn get(&self, blob: Digest, bytes: u64) -> Option<Vec<u8>> {
        let path = self.path(blob);
        // One of another length need not be read.
        if fs::metadata(&path).ok()?.len() != bytes {
            return None;
        }
        let read = fs::read(path).ok()?;
        (Digest::of(&read) == blob).then_some(read)
    }

    /// Puts a blob there and removes all others.
    pub(crate) fn put(&self, blob: Digest, bytes: &[u8]) -> std::io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let path = self.path(blob);
        write_whole(&path, bytes)?;
        self.sweep(&path)
    }

    fn sweep(&self, keep: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path != keep {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_whole_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobFolder::new(folder.path().join("blobs"));
        let (first, second) = (b"first".as_slice(), b"second".as_slice());
        let (a, b) = (Digest::of(first), Digest::of(second));
        assert_eq!(blobs.get(a, 5), None);
        blobs.put(a, first).unwrap();
        assert_eq!(blobs.get(a, 5).as_deref(), Some(first));
        assert_eq!(blobs.get(a, 6), None);
        blobs.put(b, second).unwrap();
        assert_eq!(blobs.get(a, 5), None);
        fs::write(blobs.path(b), "sEcond").unwrap();
        assert_eq!(blobs.get(b, 6), None);
    }
}
