//! What has come of a blob, on disk as it comes, so that the next process need not fetch it again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use fedistill_protocol::blob::Assembler;

/// A file beside the blobs, of the bytes that have come in their order. Nothing is made sure of before the blob is
/// whole and its digest is right: a crash of the machine may cost what has come, never more.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    /// None once it could not be written: what is there stays of use.
    file: Option<File>,
    /// Whether it held anything that an earlier process had got.
    resumed: bool,
}

impl Part {
    /// What is at `path`, which `assembler` goes on with where nothing has come yet; else the file is cut to what has.
    ///
    /// # Errors
    /// What the system reports.
    pub(super) fn open(path: PathBuf, assembler: &mut Assembler) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path)?;
        let length = file.metadata()?.len();
        let mut resumed = false;
        let begun = assembler.offset() == 0;
        if begun && length > 0 && length <= assembler.length() {
            let mut bytes = Vec::new();
            Read::take(&mut file, assembler.length()).read_to_end(&mut bytes)?;
            resumed = assembler.append(&bytes).is_ok();
        }
        let held = assembler.offset();
        if length < held && !resumed {
            // A gap would spoil what follows it.
            return Err(io::Error::other("what has come is not all in it"));
        }
        file.set_len(held)?;
        file.seek(SeekFrom::Start(held))?;
        Ok(Self {
            path,
            file: Some(file),
            resumed,
        })
    }

    /// Whether any of the blob is from an earlier process.
    pub(crate) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Takes in what comes next.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.write_all(bytes)) {
            tracing::warn!(
                "what comes of the transfer set is not kept for the next start: {error}"
            );
            self.file = None;
        }
    }

    /// The blob is whole, or worth nothing.
    pub(crate) fn remove(self) {
        drop(self.file);
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("{}: {error}", self.path.display());
        }
    }
}
