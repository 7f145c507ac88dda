use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fedistill_protocol::Digest;

/// The parameters of all clients' students, while nobody trains them: in memory, in one file, or
/// in both. A client that has never trained takes no room.
///
/// The file has two slots of one size for each client, written in turns, each with the round that
/// it was written in: what a round has left behind stays whole while the next one is under way.
#[derive(Debug)]
pub(crate) struct Students {
    /// Parameters of each client's student.
    lengths: Vec<usize>,
    memory: Option<Vec<Place>>,
    file: Option<Mutex<Slots>>,
}

#[derive(Debug)]
struct Slots {
    path: PathBuf,
    file: File,
    /// Bytes of a slot.
    size: u64,
    /// For each client, the rounds that its slots are of.
    rounds: Vec<[Option<u32>; 2]>,
    /// Whether the file goes with the run.
    passing: bool,
}

/// What is in memory of one client.
type Place = Mutex<Option<Box<[f32]>>>;

/// Bytes before the parameters in a slot: the round plus one, little-endian; 0 for an empty slot.
const HEADER: u64 = 8;

impl Students {
    /// Keeps students of so many parameters each; at `path` where that is given, which then lasts
    /// only as long as this unless it is `lasting`.
    pub(crate) fn new(
        lengths: Vec<usize>,
        memory: bool,
        path: Option<&Path>,
        lasting: bool,
    ) -> Result<Self> {
        let clients = lengths.len();
        let most = lengths.iter().copied().max().unwrap_or(0);
        let file = path
            .map(|path| Slots::create(path, clients, most, !lasting).map(Mutex::new))
            .transpose()?;
        let places = || (0..clients).map(|_| Mutex::default()).collect();
        Ok(Self {
            memory: memory.then(places),
            lengths,
            file,
        })
    }

    /// Appends the parameters of a client's student to `into`; whether it has any.
    pub(crate) fn load(&self, client: usize, into: &mut Vec<f32>) -> Result<bool> {
        if let Some(places) = &self.memory {
            let place = lock(&places[client]);
            into.extend(place.iter().flat_map(|kept| kept.iter()));
            return Ok(place.is_some());
        }
        match &self.file {
            Some(file) => lock(file).read(client, self.lengths[client], into),
            None => Ok(false),
        }
    }

    /// Keeps what a client's student is after its work for `round`.
    pub(crate) fn save(&self, client: usize, round: u32, parameters: &[f32]) -> Result<()> {
        if parameters.len() != self.lengths[client] {
            return Err(Error::new(ErrorKind::InvalidInput, "another student"));
        }
        if let Some(places) = &self.memory {
            let mut place = lock(&places[client]);
            match &mut *place {
                Some(kept) => kept.copy_from_slice(parameters),
                None => *place = Some(parameters.into()),
            }
        }
        match &self.file {
            Some(file) => lock(file).write(client, round, parameters),
            None => Ok(()),
        }
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
    fn create(path: &Path, clients: usize, most: usize, passing: bool) -> Result<Self> {
        let explain = |error: Error| {
            let path = path.display();
            Error::new(error.kind(), format!("students in {path}: {error}"))
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(explain)?;
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        Ok(Self {
            file: options.open(path).map_err(explain)?,
            path: path.to_owned(),
            size: HEADER + 4 * most as u64,
            rounds: vec![[None; 2]; clients],
            passing,
        })
    }

    /// The slot that was written last, if any.
    fn last(&self, client: usize) -> Option<usize> {
        let [a, b] = self.rounds[client];
        (a.is_some() || b.is_some()).then_some(usize::from(b > a))
    }

    fn seek(&mut self, client: usize, slot: usize) -> Result<()> {
        let place = (2 * client + slot) as u64 * self.size;
        self.file.seek(SeekFrom::Start(place)).map(|_| ())
    }

    fn read(&mut self, client: usize, length: usize, into: &mut Vec<f32>) -> Result<bool> {
        let Some(slot) = self.last(client) else {
            return Ok(false);
        };
        self.seek(client, slot)?;
        let mut bytes = vec![0; HEADER as usize + 4 * length];
        self.file.read_exact(&mut bytes)?;
        let (values, _) = bytes[HEADER as usize..].as_chunks::<4>();
        into.extend(values.iter().map(|value| f32::from_le_bytes(*value)));
        Ok(true)
    }

    fn write(&mut self, client: usize, round: u32, parameters: &[f32]) -> Result<()> {
        let last = self.last(client);
        let slot = match last {
            Some(slot) if self.rounds[client][slot] == Some(round) => slot,
            Some(slot) => 1 - slot,
            None => 0,
        };
        let mut bytes = Vec::with_capacity(HEADER as usize + 4 * parameters.len());
        bytes.extend((u64::from(round) + 1).to_le_bytes());
        bytes.extend(parameters.iter().flat_map(|value| value.to_le_bytes()));
        self.seek(client, slot)?;
        self.file.write_all(&bytes)?;
        self.rounds[client][slot] = Some(round);
        Ok(())
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        if self.passing {
            // What cannot be removed does no harm.
            let _ = fs::remove_file(&self.path);
        }
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
        for (memory, path) in [(true, None), (false, Some(path.as_path()))] {
            let students = Students::new(lengths.clone(), memory, path, false).unwrap();
            for round in 0..3 {
                let add = round as f32;
                students.save(0, round, &[1.0 + add, 2.0, 3.0]).unwrap();
                students.save(2, round, &[add, f32::NAN, 0.0]).unwrap();
            }
            let mut read = vec![7.0];
            assert!(students.load(0, &mut read).unwrap());
            assert!(!students.load(1, &mut read).unwrap());
            assert_eq!(read, [7.0, 3.0, 2.0, 3.0]);
            assert!(students.save(1, 3, &[1.0, 2.0]).is_err());
            let (trained, digest) = students.digest().unwrap();
            assert_eq!(trained, [3, 3]);
            digests.push(digest);
        }
        assert_eq!(digests[0], digests[1]);
        assert!(!path.exists(), "the file outlives the run");
    }
}
