//! What of a run is on disk while it lasts, so that it can go on after a stop.

mod stage;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fedistill_coordinator::StoreError;
use fedistill_program::database::{DatabaseError, Handle};
use fedistill_protocol::Digest;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use self::stage::Head;
pub(crate) use self::stage::Stage;
use crate::config::Config;
use crate::{Outcome, SimulationError};

/// The file in the folder for results.
const FILE: &str = "run.redb";
/// Bytes of it in memory.
pub(crate) const CACHE: usize = 16 << 20;
/// Of what is written here; a change that older versions would misread takes the next number.
const FORMAT: u64 = 1;

/// `config` and `world`: what is run, as JSON, and the digest of its data.
const RUN: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("run");
/// Of each federation that is run, by its name: `head` and, where it is over, `outcome`, as JSON;
/// `lessons`, what belongs to the head, and `teacher`, 4 bytes a parameter.
const STAGES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("stages");
/// Its rows, by round, as JSON.
const ROWS: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("rows");
/// Its students' parameters, by client, 4 bytes each.
const STUDENTS: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("students");

/// A run's state on disk: as it was after the last round that was kept, whatever stops the process.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    database: Handle,
    pace: Mutex<Pace>,
}

/// When state is kept.
#[derive(Clone, Copy, Debug)]
struct Pace {
    every: Duration,
    last: Instant,
    /// What it took the last time.
    cost: Duration,
    /// Whether there is anything in the file that is worth keeping.
    kept: bool,
}

/// Keeping takes at most a share of 1 in so many of a run's time.
const SHARE: u32 = 20;

/// Whatever goes wrong below; it becomes a line that names the file.
type Fail = Box<dyn std::error::Error + Send + Sync>;

impl Journal {
    /// Of a run that begins.
    ///
    /// # Errors
    /// A run in the same folder that was not finished, or another process at work in it.
    pub fn begin(config: &Config) -> Result<Arc<Self>, SimulationError> {
        let journal = Self::open(&config.out.join(FILE), config.checkpoints())?;
        let at = journal.tried(journal.where_it_is())?;
        if let Some((stage, round)) = at {
            return Err(SimulationError::Settings(format!(
                "{} holds a run that was not finished ({stage}, after round {round}): go on with --resume, or remove that file to begin afresh",
                journal.path.display()
            )));
        }
        journal.pace().kept = false;
        journal.tried(journal.write(|transaction| {
            journal.database.mark(transaction)?;
            let config = serde_json::to_vec(config)?;
            let mut run = transaction.open_table(RUN)?;
            run.insert("config", config.as_slice())?;
            run.remove("world")?;
            Ok(())
        }))?;
        Ok(Arc::new(journal))
    }

    /// What was begun in this folder and is not finished, whether or not a round of it was kept; `None` where nothing was.
    ///
    /// # Errors
    /// A file that cannot be used, or that another process uses.
    pub fn unfinished(folder: &Path) -> Result<Option<Config>, SimulationError> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let journal = Self::open(&path, Duration::MAX)?;
        match journal.tried(journal.run("config"))? {
            Some(_) => journal.tried(journal.config()).map(Some),
            None => Ok(None),
        }
    }

    /// Of a run that goes on.
    ///
    /// # Errors
    /// None in the folder, or one that `config` does not describe.
    pub fn resume(config: &Config) -> Result<Arc<Self>, SimulationError> {
        let path = config.out.join(FILE);
        if !path.exists() {
            return Err(Self::nothing_in(&config.out));
        }
        let journal = Self::open(&path, config.checkpoints())?;
        // One that was stopped before its first round was kept goes on from its beginning.
        if journal.tried(journal.run("config"))?.is_none() {
            return Err(Self::nothing_in(&config.out));
        }
        let begun = journal.tried(journal.config())?;
        match begun.differs_from(config) {
            None => Ok(Arc::new(journal)),
            Some(key) => Err(SimulationError::Settings(format!(
                "{} was begun with another {key}: a run goes on as it began",
                journal.path.display()
            ))),
        }
    }

    /// What to say where there is nothing to go on with.
    pub(crate) fn nothing_in(folder: &Path) -> SimulationError {
        SimulationError::Settings(format!(
            "no run to go on with in {}: leave --resume out to begin one",
            folder.display()
        ))
    }

    fn open(path: &Path, every: Duration) -> Result<Self, SimulationError> {
        let database = Handle::open(path, CACHE, FORMAT).map_err(|error| match error {
            DatabaseError::InUse { path } => SimulationError::Settings(format!(
                "{} is in use by another process: name another folder with --out",
                path.display()
            )),
            other => SimulationError::Damaged(other),
        })?;
        let pace = Pace {
            every,
            last: Instant::now(),
            cost: Duration::ZERO,
            kept: true,
        };
        Ok(Self {
            path: path.to_owned(),
            database,
            pace: Mutex::new(pace),
        })
    }

    /// Refuses data, a teacher or a program that is not what the run began with.
    ///
    /// # Errors
    /// Other data, or a file that cannot be used.
    pub(crate) fn hold_against(&self, world: Digest) -> Result<(), SimulationError> {
        let known = self.tried(self.run("world"))?;
        match known {
            Some(known) if known == world.as_bytes() => Ok(()),
            Some(_) => Err(SimulationError::Settings(format!(
                "the data, the teacher's file or this program's version is not what {} was begun with: a run goes on as it began",
                self.path.display()
            ))),
            None => self.tried(self.write(|transaction| {
                let mut run = transaction.open_table(RUN)?;
                run.insert("world", &world.as_bytes()[..])?;
                Ok(())
            })),
        }
    }

    /// One federation of the run.
    pub(crate) fn stage(self: &Arc<Self>, name: &str) -> Stage {
        Stage::new(Arc::clone(self), name.to_owned())
    }

    /// The run is over and its results are written: nothing is left to go on with.
    pub fn end(&self) {
        self.pace().kept = false;
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tried<T>(&self, result: Result<T, Fail>) -> Result<T, SimulationError> {
        Ok(result.map_err(|error| self.failed(&error))?)
    }

    fn failed(&self, why: &Fail) -> StoreError {
        StoreError::Failed {
            path: self.path.clone(),
            why: why.to_string(),
        }
    }

    /// A disk that is full, most likely.
    fn unwritten(&self, why: &Fail) -> StoreError {
        match self.pace().kept {
            true => self.failed(
                &format!(
                    "{why}; what was kept before is whole: mend that, then go on with --resume"
                )
                .into(),
            ),
            false => self.failed(why),
        }
    }

    fn write(&self, work: impl FnOnce(&WriteTransaction) -> Result<(), Fail>) -> Result<(), Fail> {
        let transaction = self.database.write()?;
        work(&transaction)?;
        Ok(transaction.commit()?)
    }

    /// A value of the run.
    fn run(&self, key: &str) -> Result<Option<Vec<u8>>, Fail> {
        let transaction = self.database.read()?;
        match transaction.open_table(RUN) {
            Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_vec())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn config(&self) -> Result<Config, Fail> {
        let config = self.run("config")?.ok_or("what is run is missing")?;
        Ok(serde_json::from_slice(&config)?)
    }

    /// The stage that was kept last, and its last round.
    fn where_it_is(&self) -> Result<Option<(String, u32)>, Fail> {
        let transaction = self.database.read()?;
        let table = match transaction.open_table(STAGES) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut found = None;
        for entry in table.iter()? {
            let (key, value) = entry?;
            let (stage, what) = key.value();
            if what == "head" {
                let head: Head = serde_json::from_slice(value.value())?;
                return Ok(Some((stage.to_owned(), head.round)));
            }
            if what == "outcome" {
                let outcome: Outcome = serde_json::from_slice(value.value())?;
                found = Some((stage.to_owned(), outcome.rounds.len() as u32));
            }
        }
        Ok(found)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if !self.pace().kept {
            // What cannot be removed is overwritten by the next run.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
