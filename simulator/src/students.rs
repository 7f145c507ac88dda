use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fedistill_protocol::Digest;

/// The parameters of all clients' students, while nobody trains them: in memory, or in one file that
/// lasts as long as this. A client that has never trained takes no room.
#[derive(Debug)]
pub(crate) struct Students {
    /// Parameters of each client's student.
    lengths: Vec<usize>,
    places: Places,
    /// Clients whose student has become another since somebody last asked for them.
    changed: Mutex<BTreeSet<usize>>,
}

#[derive(Debug)]
enum Places {
    Memory(Vec<Mutex<Option<Box<[f32]>>>>),
    File(Mutex<Slots>),
}

/// A file with a slot of one size for each client.
#[derive(Debug)]
struct Slots {
    path: PathBuf,
    file: File,
    /// Bytes of a slot.
    size: u64,
    /// Which slots are written.
    written: Vec<bool>,
}

impl Students {
    /// Keeps students of so many parameters each, in memory.
    pub(crate) fn in_memory(lengths: Vec<usize>) -> Self {
        let places = lengths.iter().map(|_| Mutex::default()).collect();
        Self {
            lengths,
            places: Places::Memory(places),
            changed: Mutex::default(),
        }
    }

    /// Keeps them in a file at `path`, which is made anew.
    pub(crate) fn in_file(lengths: Vec<usize>, path: &Path) -> Result<Self> {
        let slots = Slots::create(path, &lengths)?;
        Ok(Self {
            lengths,
            places: Places::File(Mutex::new(slots)),
            changed: Mutex::default(),
        })
    }

    /// Number of clients.
    pub(crate) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Parameters of each client's student.
    pub(crate) fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Clients whose student has become another since this was last called, ascending.
    pub(crate) fn take_changed(&self) -> BTreeSet<usize> {
        std::mem::take(&mut *lock(&self.changed))
    }

    /// Appends the parameters of a client's student to `into`; whether it has any.
    pub(crate) fn load(&self, client: usize, into: &mut Vec<f32>) -> Result<bool> {
        match &self.places {
            Places::Memory(places) => {
                let place = lock(&places[client]);
                into.extend(place.iter().flat_map(|kept| kept.iter()));
                Ok(place.is_some())
            }
            Places::File(slots) => lock(slots).read(client, self.lengths[client], into),
        }
    }

    /// Keeps what a client's student has become.
    pub(crate) fn save(&self, client: usize, parameters: &[f32]) -> Result<()> {
        if parameters.len() != self.lengths[client] {
            return Err(Error::new(ErrorKind::InvalidInput, "another student"));
        }
        match &self.places {
            Places::Memory(places) => {
                let mut place = lock(&places[client]);
                match &mut *place {
                    Some(kept) => kept.copy_from_slice(parameters),
                    None => *place = Some(parameters.into()),
                }
                Ok(())
            }
            Places::File(slots) => lock(slots).write(client, parameters),
        }?;
        lock(&self.changed).insert(client);
        Ok(())
    }

    /// The number of parameters of each student that has trained, and the blake3 digest of all of
    /// them in the order of clients.
    pub(crate) fn digest(&self) -> Result<(Vec<usize>, Digest)> {
        let mut hasher = blake3::Hasher::new();
        let (mut lengths, mut parameters, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (client, length) in self.lengths.iter().enumerate() {
            parameters.clear();
            if self.load(client, &mut parameters)? {
                lengths.push(*length);
                encode(&parameters, &mut bytes);
                hasher.update(&bytes);
            }
        }
        let digest = Digest::from_bytes(*hasher.finalize().as_bytes());
        Ok((lengths, digest))
    }
}

impl Slots {
    fn create(path: &Path, lengths: &[usize]) -> Result<Self> {
        let explain = |error: Error| {
            let path = path.display();
            Error::new(error.kind(), format!("students in {path}: {error}"))
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(explain)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        // As all files of models: for their owner's eyes.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let most = lengths.iter().copied().max().unwrap_or(0);
        Ok(Self {
            file: options.open(path).map_err(explain)?,
            path: path.to_owned(),
            size: 4 * most as u64,
            written: vec![false; lengths.len()],
        })
    }

    fn seek(&mut self, client: usize) -> Result<()> {
        let place = client as u64 * self.size;
        self.file.seek(SeekFrom::Start(place)).map(|_| ())
    }

    fn read(&mut self, client: usize, length: usize, into: &mut Vec<f32>) -> Result<bool> {
        if !self.written[client] {
            return Ok(false);
        }
        self.seek(client)?;
        let mut bytes = vec![0; 4 * length];
        self.file.read_exact(&mut bytes)?;
        let (values, _) = bytes.as_chunks::<4>();
        into.extend(values.iter().map(|value| f32::from_le_bytes(*value)));
        Ok(true)
    }

    fn write(&mut self, client: usize, parameters: &[f32]) -> Result<()> {
        let mut bytes = Vec::new();
        encode(parameters, &mut bytes);
        self.seek(client)?;
        self.file.write_all(&bytes)?;
        self.written[client] = true;
        Ok(())
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // What cannot be removed does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

fn encode(parameters: &[f32], bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend(parameters.iter().flat_map(|value| value.to_le_bytes()));
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_come_back_from_memory_and_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/students.bin");
        let lengths = vec![3, 1, 3];
        let mut digests = Vec::new();
        for students in [
            Students::in_memory(lengths.clone()),
            Students::in_file(lengths.clone(), &path).unwrap(),
        ] {
            for round in 0..3 {
                let add = round as f32;
                students.save(0, &[1.0 + add, 2.0, 3.0]).unwrap();
                students.save(2, &[add, f32::NAN, 0.0]).unwrap();
            }
            let mut read = vec![7.0];
            assert!(students.load(0, &mut read).unwrap());
            assert!(!students.load(1, &mut read).unwrap());
            assert_eq!(read, [7.0, 3.0, 2.0, 3.0]);
            assert!(students.save(1, &[1.0, 2.0]).is_err());
            assert_eq!(
                students.take_changed().into_iter().collect::<Vec<_>>(),
                [0, 2]
            );
            assert!(students.take_changed().is_empty());
            let (trained, digest) = students.digest().unwrap();
            assert_eq!(trained, [3, 3]);
            digests.push(digest);
        }
        assert_eq!(digests[0], digests[1]);
        assert!(!path.exists(), "the file outlives the run");
    }
}
