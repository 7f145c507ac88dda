//! What of a run is on disk while it lasts, so that it can go on after a stop.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fedistill_coordinator::{Saved, StateRecord, StoreError};
use fedistill_program::database::{DatabaseError, Handle};
use fedistill_protocol::Digest;
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::board::Seen;
use crate::config::Config;
use crate::metrics::{ClientScore, ServerScore};
use crate::students::Students;
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

    /// What was run in this folder and is not finished; `None` where nothing of it was kept.
    ///
    /// # Errors
    /// A file that cannot be used, or that another process uses.
    pub fn unfinished(folder: &Path) -> Result<Option<Config>, SimulationError> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let journal = Self::open(&path, Duration::MAX)?;
        match journal.tried(journal.where_it_is())? {
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
        if journal.tried(journal.where_it_is())?.is_none() {
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
            other => SimulationError::Settings(format!("{other}; or remove it to begin afresh")),
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
        Stage {
            journal: Arc::clone(self),
            name: name.to_owned(),
            rows: 0,
        }
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

/// One federation of a run, in its journal.
#[derive(Clone)]
pub(crate) struct Stage {
    journal: Arc<Journal>,
    name: String,
    /// Rows that are in the journal.
    rows: usize,
}

/// A federation as it was kept.
pub(crate) struct Kept {
    /// What the next round begins with.
    pub(crate) saved: Saved,
    /// What has been seen so far.
    pub(crate) seen: Seen,
}

#[derive(Deserialize, Serialize)]
struct Head {
    /// The next round.
    round: u32,
    over: bool,
    state: StateRecord,
    clients: Vec<ClientScore>,
    server_before: Option<ServerScore>,
    server: Option<ServerScore>,
}

impl Stage {
    /// Whether it is time to keep it again.
    pub(crate) fn is_due(&self) -> bool {
        let pace = *self.journal.pace();
        // Who asks for every round gets every round.
        pace.every.is_zero() || pace.last.elapsed() >= pace.every.max(SHARE * pace.cost)
    }

    /// Keeps what the next round begins with, what has been seen, and the students that have
    /// changed since this was last called: all of it, or nothing.
    pub(crate) fn keep(
        &mut self,
        saved: &Saved,
        seen: &Seen,
        students: &Students,
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        let written = self.write(saved, seen, students);
        written.map_err(|error| self.journal.unwritten(&error))?;
        self.rows = seen.rows.len();
        let mut pace = self.journal.pace();
        (pace.last, pace.cost, pace.kept) = (Instant::now(), begun.elapsed(), true);
        Ok(())
    }

    fn write(&self, saved: &Saved, seen: &Seen, students: &Students) -> Result<(), Fail> {
        let name = self.name.as_str();
        let (state, lessons) = StateRecord::of(&saved.state, &saved.exchange);
        let head = Head {
            round: saved.round,
            over: saved.over,
            state,
            clients: seen.clients.clone(),
            server_before: seen.server_before,
            server: seen.server,
        };
        self.journal.write(|transaction| {
            let mut stages = transaction.open_table(STAGES)?;
            let head = serde_json::to_vec(&head)?;
            stages.insert((name, "head"), head.as_slice())?;
            let teacher = saved.teacher.as_deref().map(bytes);
            for (what, value) in [("lessons", Some(lessons)), ("teacher", teacher)] {
                match value {
                    Some(value) => stages.insert((name, what), value.as_slice())?,
                    None => stages.remove((name, what))?,
                };
            }
            let mut rows = transaction.open_table(ROWS)?;
            for row in &seen.rows[self.rows..] {
                let value = serde_json::to_vec(row)?;
                rows.insert((name, row.round), value.as_slice())?;
            }
            let mut table = transaction.open_table(STUDENTS)?;
            let mut parameters = Vec::new();
            for client in students.take_changed() {
                parameters.clear();
                students.load(client, &mut parameters)?;
                table.insert((name, client as u32), bytes(&parameters).as_slice())?;
            }
            Ok(())
        })
    }

    /// The federation as it was last kept; its students go to `students`.
    pub(crate) fn load(&mut self, students: &Students) -> Result<Option<Kept>, SimulationError> {
        let kept = self.journal.tried(self.read(students))?;
        self.rows = kept.as_ref().map_or(0, |kept| kept.seen.rows.len());
        Ok(kept)
    }

    fn read(&self, students: &Students) -> Result<Option<Kept>, Fail> {
        let Some(head) = self.value("head")? else {
            return Ok(None);
        };
        let head: Head = serde_json::from_slice(&head)?;
        let lessons = self.value("lessons")?.unwrap_or_default();
        let (state, exchange) = head.state.restore(&lessons)?;
        let transaction = self.journal.database.read()?;
        let all = (self.name.as_str(), 0)..=(self.name.as_str(), u32::MAX);
        let mut rows = Vec::new();
        for entry in transaction.open_table(ROWS)?.range(all.clone())? {
            rows.push(serde_json::from_slice(entry?.1.value())?);
        }
        if rows.len() != head.round as usize {
            return Err("rows are missing".into());
        }
        for entry in transaction.open_table(STUDENTS)?.range(all)? {
            let (key, value) = entry?;
            let client = key.value().1 as usize;
            if client >= students.len() {
                return Err("a student of no client".into());
            }
            students.save(client, &floats(value.value()))?;
        }
        students.take_changed();
        let saved = Saved {
            round: head.round,
            over: head.over,
            state,
            exchange,
            teacher: self.value("teacher")?.map(|bytes| floats(&bytes)),
            open: None,
        };
        let mut seen = Seen::after(rows, students.len());
        seen.clients = head.clients;
        seen.server_before = head.server_before;
        seen.server = head.server;
        Ok(Some(Kept { saved, seen }))
    }

    fn value(&self, what: &str) -> Result<Option<Vec<u8>>, Fail> {
        let transaction = self.journal.database.read()?;
        let table = match transaction.open_table(STAGES) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let value = table.get((self.name.as_str(), what))?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// What this federation came to, if it is over.
    pub(crate) fn outcome(&self) -> Result<Option<Outcome>, SimulationError> {
        let read = || -> Result<Option<Outcome>, Fail> {
            let value = self.value("outcome")?;
            Ok(value.as_deref().map(serde_json::from_slice).transpose()?)
        };
        self.journal.tried(read())
    }

    /// It is over: keeps what it came to and nothing else of it, where it is worth it.
    pub(crate) fn finish(&self, outcome: &Outcome) -> Result<(), SimulationError> {
        if !self.journal.pace().kept && !self.is_due() {
            return Ok(());
        }
        let name = self.name.as_str();
        let all = (name, 0)..=(name, u32::MAX);
        let written = self.journal.write(|transaction| {
            let mut stages = transaction.open_table(STAGES)?;
            let outcome = serde_json::to_vec(outcome)?;
            for what in ["head", "lessons", "teacher"] {
                stages.remove((name, what))?;
            }
            stages.insert((name, "outcome"), outcome.as_slice())?;
            transaction
                .open_table(ROWS)?
                .retain_in(all.clone(), |_, _| false)?;
            transaction
                .open_table(STUDENTS)?
                .retain_in(all, |_, _| false)?;
            Ok(())
        });
        written.map_err(|error| self.journal.unwritten(&error))?;
        self.journal.pace().kept = true;
        Ok(())
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<4>();
    values
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect()
}

#[cfg(test)]
mod tests;
