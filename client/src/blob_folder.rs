mod part;

use std::fs;
use std::path::{Path, PathBuf};

use fedistill_learning::checkpoint::write_whole;
use fedistill_protocol::Digest;
use fedistill_protocol::blob::Assembler;

pub(crate) use self::part::Part;

/// Blobs on disk, each in a file named by its digest; only the last one put there stays, and what has come of the one
/// that is under way. Nothing depends on it: what is missing or damaged is fetched again.
#[derive(Debug)]
pub struct BlobFolder(PathBuf);

/// How the name of a file ends that is not whole.
const PART: &str = ".part";

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
        self.sweep(|other| other == path)
    }

    /// What has come of a blob before, and a place for the rest. What is here of others under way is removed.
    pub(crate) fn part(&self, assembler: &mut Assembler) -> std::io::Result<Part> {
        fs::create_dir_all(&self.0)?;
        let path = self.0.join(format!("{}{PART}", assembler.digest()));
        self.sweep(|other| other == path || !other.to_string_lossy().ends_with(PART))?;
        Part::open(path, assembler)
    }

    fn sweep(&self, keep: impl Fn(&Path) -> bool) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if !keep(&path) {
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

    #[test]
    fn what_has_come_outlives_who_fetched_it_until_it_is_whole_or_another_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobFolder::new(folder.path().join("blobs"));
        let of = |bytes: &[u8]| Assembler::new(Digest::of(bytes), 6, 6).unwrap();
        let come = |what: &[u8], bytes: &[u8]| {
            let mut assembler = of(what);
            let mut part = blobs.part(&mut assembler).unwrap();
            part.push(bytes);
            assembler.offset()
        };
        assert_eq!(come(b"second", b"sec"), 0);
        assert_eq!(come(b"second", b"on"), 3);
        let mut assembler = of(b"second");
        let mut part = blobs.part(&mut assembler).unwrap();
        assert!(part.is_resumed());
        part.push(b"d");
        assembler.append(b"d").unwrap();
        assert_eq!(assembler.finish().unwrap(), b"second");
        // More than there can be is of no use.
        part.push(b"and more");
        assert_eq!(come(b"second", b"s"), 0);
        // One that goes on in the same process says how much is there.
        let mut assembler = of(b"second");
        assembler.append(b"s").unwrap();
        assert!(!blobs.part(&mut assembler).unwrap().is_resumed());
        assembler.append(b"e").unwrap();
        assert!(blobs.part(&mut assembler).is_err());
        assert_eq!(come(b"another", b"ano"), 0);
        assert_eq!(come(b"second", b"sec"), 0);
        blobs.put(Digest::of(b"second"), b"second").unwrap();
        assert_eq!(come(b"second", b""), 0);
        let mut assembler = of(b"second");
        blobs.part(&mut assembler).unwrap().remove();
        let left = fs::read_dir(folder.path().join("blobs")).unwrap();
        assert_eq!(left.count(), 1);
    }
}
