mod fence;
mod open_try;
mod remembered;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fedistill_federation::Event;
use fedistill_program::database::{DatabaseError, Handle, lacks_room};
use fedistill_protocol::{Name, RoundId, RoundPlan};
use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::history::ClosedRecord;
use super::record::Fail;
use super::{Closed, Epoch, Outcome, Saved, StateRecord, Store, StoreError, Subject};

/// `state`, `lessons`, `teacher`, `plan`, `cohort`: one value each.
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
/// The open round's events in their order, as JSON.
const EVENTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("events");
/// The packed answers of the event with the same number.
const ANSWERS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("answers");

/// Tries that are over: round and attempt, and what became of each, as JSON.
const HISTORY: TableDefinition<'_, (u32, u32), &[u8]> = TableDefinition::new("history");
/// `epoch`, `first` and `rolled-back`: see [`Epoch`]; `writes`: how many transactions there were; `remembered`: how
/// many tries and contributions the history has; `begins`: the first round of which it has forgotten nothing.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// Bytes of the file that are held in memory: a round's contributions are written once and hardly
/// read. As the history grows, this fills up, in hours or days: it is memory that a coordinator comes to.
const CACHE: usize = 1 << 20;
/// Of what is written here; a change that older versions would misread takes the next number.
const FORMAT: u64 = 1;

/// One file, written with transactions (redb): after a crash it is as after the last one.
#[derive(Debug)]
pub struct FileStore {
    database: Handle,
    epoch: Epoch,
    /// The number of the process that had it before this one.
    before: u64,
    /// How many transactions the file had when this process last saw one of its own come about.
    writes: u64,
    /// Whether the one that was tried last may have come about though it failed.
    unsure: bool,
    /// How many tries that are over, and contributions to them, are remembered.
    remembered: u64,
}

#[derive(Deserialize, Serialize)]
struct Head {
    round: u32,
    #[serde(default)]
    over: bool,
    #[serde(default)]
    state: StateRecord,
    /// Older versions write none, and read past it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Subject>,
    /// The end of a pause, in milliseconds since 1970. Older versions write none, and read past it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opens: Option<u64>,
}

impl Head {
    /// A time before 1970 is over.
    fn millis(at: SystemTime) -> Option<u64> {
        u64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    }

    /// A time that this system cannot tell is none.
    fn time(millis: u64) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_millis(millis))
    }
}

impl FileStore {
    /// Tries that are over, and contributions to them, that a store remembers if it is not told otherwise: some 180
    /// bytes each.
    pub const REMEMBERED: u64 = 1_000_000;

    /// Opens the store in `path`, or makes it, readable by its owner alone.
    ///
    /// # Errors
    /// A file that another process has open, or that cannot be used.
    pub fn open_at(path: &Path) -> Result<Self, StoreError> {
        let mut this = Self::open_as_it_is(path)?;
        let last = this.last_epoch().map_err(|error| this.failed(error))?;
        this.before = last.number;
        (this.epoch, this.writes) = this.claim(None).map_err(|error| this.failed(error))?;
        Ok(this)
    }

    /// Opens a store to look at it: its epoch is that of the process that had it last.
    ///
    /// # Errors
    /// A file that is not there, that another process has open, or that cannot be used.
    pub fn look_at(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Failed {
                path: path.to_owned(),
                why: "it is not there".to_owned(),
            });
        }
        let mut this = Self::open_as_it_is(path)?;
        this.epoch = this.last_epoch().map_err(|error| this.failed(error))?;
        Ok(this)
    }

    /// Remembers so many tries that are over, and contributions to them, in place of [`Self::REMEMBERED`]; those of the
    /// last round that came about always.
    #[must_use]
    pub fn remembering(mut self, most: u64) -> Self {
        self.remembered = most;
        self
    }

    /// The first round of which nothing is forgotten.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn begins(&self) -> Result<u32, StoreError> {
        self.read_begins().map_err(|error| self.failed(error))
    }

    fn read_begins(&self) -> Result<u32, Fail> {
        let transaction = self.database.read()?;
        let numbers = match transaction.open_table(NUMBERS) {
            Ok(numbers) => numbers,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let begins = numbers.get("begins")?.map_or(0, |round| round.value());
        Ok(begins.try_into()?)
    }

    fn open_as_it_is(path: &Path) -> Result<Self, StoreError> {
        let opened = Handle::open(path, CACHE, FORMAT);
        let database = opened.map_err(|error| match error {
            DatabaseError::InUse { path } => StoreError::InUse { path },
            DatabaseError::NoRoom { path } => StoreError::NoRoom { path },
            DatabaseError::Failed { path, why } => StoreError::Failed { path, why },
            other => StoreError::Failed {
                path: path.to_owned(),
                why: other.to_string(),
            },
        })?;
        let epoch = Epoch::default();
        Ok(Self {
            database,
            epoch,
            before: 0,
            writes: 0,
            unsure: false,
            remembered: Self::REMEMBERED,
        })
    }

    /// Tries that are over, the last one first, until one is what is looked for.
    fn read_back(&self, mut is_it: impl FnMut(&Closed) -> bool) -> Result<Vec<Closed>, Fail> {
        let transaction = self.database.read()?;
        let history = match transaction.open_table(HISTORY) {
            Ok(history) => history,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut tries = Vec::new();
        for entry in history.iter()?.rev() {
            let (key, closed) = entry?;
            let (round, attempt) = key.value();
            let closed: ClosedRecord = serde_json::from_slice(closed.value())?;
            let closed = closed.closed(RoundId { round, attempt })?;
            let is_last = is_it(&closed);
            tries.push(closed);
            if is_last {
                break;
            }
        }
        Ok(tries)
    }

    fn failed(&self, why: Fail) -> StoreError {
        self.database.failed();
        let why = match why.downcast::<StoreError>() {
            Ok(known) => return *known,
            Err(other) => other,
        };
        let path = self.database.path().to_owned();
        match lacks_room(why.as_ref()) {
            true => StoreError::NoRoom { path },
            false => StoreError::Failed {
                path,
                why: why.to_string(),
            },
        }
    }

    fn read(&self) -> Result<Saved, Fail> {
        let transaction = self.database.read()?;
        let values = match transaction.open_table(VALUES) {
            Ok(values) => values,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Saved::default()),
            Err(error) => return Err(error.into()),
        };
        let value = |key: &str| -> Result<Option<Vec<u8>>, Fail> {
            Ok(values.get(key)?.map(|bytes| bytes.value().to_vec()))
        };
        let mut saved = Saved::default();
        if let Some(head) = value("state")? {
            let head: Head = serde_json::from_slice(&head)?;
            saved.round = head.round;
            saved.over = head.over;
            saved.subject = head.subject;
            saved.opens = head.opens.and_then(Head::time);
            let bytes = value("lessons")?.unwrap_or_default();
            (saved.state, saved.exchange) = head.state.restore(&bytes)?;
            saved.teacher = value("teacher")?.map(|bytes| {
                let (floats, _) = bytes.as_chunks::<4>();
                floats.iter().map(|b| f32::from_le_bytes(*b)).collect()
            });
        }
        saved.open = open_try::read(&transaction)?;
        Ok(saved)
    }

    fn write_open(&mut self, plan: &RoundPlan, cohort: &BTreeMap<Name, u32>) -> Result<(), Fail> {
        self.transact(|this, transaction| {
            open_try::end(transaction, this.epoch, None, this.remembered)?;
            open_try::begin(transaction, plan, cohort, &[Event::Opened(plan.id)])
        })
    }

    fn write_more(&mut self, more: &[Event]) -> Result<(), Fail> {
        self.transact(|_, transaction| open_try::write_events(transaction, more))
    }

    fn write_close(&mut self, next: &Saved, outcome: &Outcome) -> Result<(), Fail> {
        let (state, bytes) = StateRecord::of(&next.state, &next.exchange);
        let head = Head {
            round: next.round,
            over: next.over,
            state,
            subject: next.subject.clone(),
            opens: next.opens.and_then(Head::millis),
        };
        self.transact(|this, transaction| {
            open_try::end(transaction, this.epoch, Some(outcome), this.remembered)?;
            {
                let mut values = transaction.open_table(VALUES)?;
                values.insert("state", serde_json::to_vec(&head)?.as_slice())?;
                values.insert("lessons", bytes.as_slice())?;
                if let Some(teacher) = &next.teacher {
                    let bytes: Vec<u8> = teacher.iter().flat_map(|v| v.to_le_bytes()).collect();
                    values.insert("teacher", bytes.as_slice())?;
                }
            }
            if let Some(open) = &next.open {
                open_try::begin(transaction, &open.plan, &open.cohort, &open.events)?;
            }
            Ok(())
        })
    }
}

impl Store for FileStore {
    fn load(&mut self) -> Result<Saved, StoreError> {
        self.read().map_err(|error| self.failed(error))
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn history(&mut self) -> Result<Vec<Closed>, StoreError> {
        let mut tries = self
            .read_back(|_| false)
            .map_err(|error| self.failed(error))?;
        tries.reverse();
        Ok(tries)
    }

    fn last(&mut self) -> Result<Option<Closed>, StoreError> {
        let tries = self.read_back(|closed| closed.outcome.is_some());
        let last = tries.map_err(|error| self.failed(error))?.pop();
        Ok(last.filter(|closed| closed.outcome.is_some()))
    }

    fn open(&mut self, plan: &RoundPlan, cohort: &BTreeMap<Name, u32>) -> Result<(), StoreError> {
        let written = self.write_open(plan, cohort);
        written.map_err(|error| self.failed(error))
    }

    fn append(&mut self, _: RoundId, events: &[Event]) -> Result<(), StoreError> {
        let written = self.write_more(events);
        written.map_err(|error| self.failed(error))
    }

    fn close(&mut self, next: &Saved, outcome: &Outcome) -> Result<(), StoreError> {
        let written = self.write_close(next, outcome);
        written.map_err(|error| self.failed(error))
    }
}

#[cfg(test)]
mod tests;
