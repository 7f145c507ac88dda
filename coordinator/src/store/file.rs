use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use fedistill_federation::{Event, Folded};
use fedistill_program::database::{DatabaseError, Handle, lacks_room};
use fedistill_protocol::{Message, Name, RoundId, RoundPlan, frame};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::history::{ClosedRecord, now};
use super::line::{Line, read_plan};
use super::record::Fail;
use super::{Closed, Epoch, OpenRound, Outcome, Saved, StateRecord, Store, StoreError};

/// `state`, `lessons`, `teacher`, `plan`, `cohort`: one value each.
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
/// The open round's events in their order, as JSON.
const EVENTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("events");
/// The packed answers of the event with the same number.
const ANSWERS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("answers");

/// Tries that are over: round and attempt, and what became of each, as JSON.
const HISTORY: TableDefinition<'_, (u32, u32), &[u8]> = TableDefinition::new("history");
/// `epoch`, `first` and `rolled-back`: see [`Epoch`]; `writes`: how many transactions there were.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// Bytes of the file that are held in memory: a round's contributions are written once and hardly
/// read. As the history grows, this fills up, in hours or days: it is memory that a coordinator comes to.
const CACHE: usize = 1 << 20;
/// Of what is written here; a change that older versions would misread takes the next number.
const FORMAT: u64 = 1;

fn epoch_in(numbers: &impl ReadableTable<&'static str, u64>) -> Result<Epoch, redb::StorageError> {
    Ok(Epoch {
        number: numbers.get("epoch")?.map_or(0, |epoch| epoch.value()),
        first: numbers.get("first")?.map_or(0, |epoch| epoch.value()),
        rolled_back: numbers.get("rolled-back")?.map_or(0, |epoch| epoch.value()),
    })
}

fn writes_in(numbers: &impl ReadableTable<&'static str, u64>) -> Result<u64, redb::StorageError> {
    Ok(numbers.get("writes")?.map_or(0, |writes| writes.value()))
}

/// One file, written with transactions (redb): after a crash it is as after the last one.
#[derive(Debug)]
pub struct FileStore {
    database: Handle,
    epoch: Epoch,
    /// How many transactions the file had when this process last saw one of its own come about.
    writes: u64,
    /// Whether the one that was tried last may have come about though it failed.
    unsure: bool,
}

#[derive(Deserialize, Serialize)]
struct Head {
    round: u32,
    #[serde(default)]
    over: bool,
    #[serde(default)]
    state: StateRecord,
}

impl FileStore {
    /// Opens the store in `path`, or makes it, readable by its owner alone.
    ///
    /// # Errors
    /// A file that another process has open, or that cannot be used.
    pub fn open_at(path: &Path) -> Result<Self, StoreError> {
        let mut this = Self::open_as_it_is(path)?;
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
            writes: 0,
            unsure: false,
        })
    }

    fn last_epoch(&self) -> Result<Epoch, Fail> {
        let transaction = self.database.read()?;
        match transaction.open_table(NUMBERS) {
            Ok(numbers) => Ok(epoch_in(&numbers)?),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(Epoch::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on under this epoch, as a store that was put back on purpose to what it had been before; where
    /// others have had the store under it or a later one since, that was done, and nothing changes.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn roll_back(&mut self, epoch: u64) -> Result<(), StoreError> {
        if epoch >= self.epoch.number {
            let claimed = self.claim(Some(epoch));
            (self.epoch, self.writes) = claimed.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// The next epoch, or the one that a rollback names, on disk before anything is done in it.
    fn claim(&self, rollback: Option<u64>) -> Result<(Epoch, u64), Fail> {
        let transaction = self.database.write()?;
        let is_new = transaction.list_tables()?.next().is_none();
        self.database.mark(&transaction)?;
        let claimed = {
            let mut numbers = transaction.open_table(NUMBERS)?;
            let before = epoch_in(&numbers)?;
            let number = rollback.unwrap_or_else(|| before.next(SystemTime::now()));
            let epoch = Epoch {
                number,
                first: if is_new { number } else { before.first },
                rolled_back: rollback.unwrap_or(before.rolled_back),
            };
            numbers.insert("epoch", epoch.number)?;
            numbers.insert("first", epoch.first)?;
            numbers.insert("rolled-back", epoch.rolled_back)?;
            let writes = writes_in(&numbers)? + 1;
            numbers.insert("writes", writes)?;
            (epoch, writes)
        };
        transaction.commit()?;
        Ok(claimed)
    }

    /// Writes in one transaction. After one that failed, the same is tried again, and may have come about: a system can
    /// say that it had no room and have written all of it.
    ///
    /// # Errors
    /// A file that cannot be written, or that another process has written to meanwhile.
    fn transact(
        &mut self,
        write: impl FnOnce(&Self, &WriteTransaction) -> Result<(), Fail>,
    ) -> Result<(), Fail> {
        let transaction = self.database.write()?;
        let next = self.writes + 1;
        let found = {
            let mut numbers = transaction.open_table(NUMBERS)?;
            // It is closed and opened again where a disk is full, and may be another's, or another one, by then.
            let latest = epoch_in(&numbers)?.number;
            if latest != self.epoch.number {
                return Err(Box::new(StoreError::Overtaken {
                    path: self.database.path().to_owned(),
                    found: latest,
                    own: self.epoch.number,
                }));
            }
            let found = writes_in(&numbers)?;
            numbers.insert("writes", next)?;
            found
        };
        if found == self.writes {
            write(self, &transaction)?;
        } else if found != next || !self.unsure {
            return Err(
                "another process has written to it: one state folder is one coordinator's".into(),
            );
        }
        // Where it is there already, this makes sure that it is on disk too.
        self.unsure = true;
        transaction.commit()?;
        (self.writes, self.unsure) = (next, false);
        Ok(())
    }

    /// The open try goes into the history, and is no longer open.
    fn end(&self, transaction: &WriteTransaction, outcome: Option<&Outcome>) -> Result<(), Fail> {
        let mut values = transaction.open_table(VALUES)?;
        let plan = values.remove("plan")?.map(|plan| plan.value().to_vec());
        values.remove("cohort")?;
        let mut events = transaction.open_table(EVENTS)?;
        if let Some(plan) = plan {
            let id = read_plan(&plan)?.id;
            let (mut acknowledged, mut late) = (BTreeMap::new(), BTreeMap::new());
            for entry in events.iter()? {
                let line: Line = serde_json::from_slice(entry?.1.value())?;
                match line {
                    Line::Taken { client, blob, .. } => {
                        acknowledged.insert(client.parse()?, blob.parse()?);
                    }
                    Line::Folded {
                        client,
                        round,
                        attempt,
                        blob,
                        ..
                    } => {
                        let of = RoundId { round, attempt };
                        let blob = blob.parse()?;
                        late.insert(client.parse()?, Folded { of, blob });
                    }
                    _ => {}
                }
            }
            let closed = ClosedRecord::from(&Closed {
                id,
                epoch: self.epoch.number,
                at: now(),
                acknowledged,
                late,
                outcome: outcome.cloned(),
            });
            let mut history = transaction.open_table(HISTORY)?;
            let closed = serde_json::to_vec(&closed)?;
            history.insert((id.round, id.attempt), closed.as_slice())?;
        }
        events.retain(|_, _| false)?;
        transaction.open_table(ANSWERS)?.retain(|_, _| false)?;
        Ok(())
    }

    fn read_history(&self) -> Result<Vec<Closed>, Fail> {
        let transaction = self.database.read()?;
        let history = match transaction.open_table(HISTORY) {
            Ok(history) => history,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut all = Vec::new();
        for entry in history.iter()? {
            let (key, closed) = entry?;
            let (round, attempt) = key.value();
            let closed: ClosedRecord = serde_json::from_slice(closed.value())?;
            all.push(closed.closed(RoundId { round, attempt })?);
        }
        Ok(all)
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
            let bytes = value("lessons")?.unwrap_or_default();
            (saved.state, saved.exchange) = head.state.restore(&bytes)?;
            saved.teacher = value("teacher")?.map(|bytes| {
                let (floats, _) = bytes.as_chunks::<4>();
                floats.iter().map(|b| f32::from_le_bytes(*b)).collect()
            });
        }
        if let (Some(plan), Some(cohort)) = (value("plan")?, value("cohort")?) {
            let plan = read_plan(&plan)?;
            let cohort: BTreeMap<String, u32> = serde_json::from_slice(&cohort)?;
            let cohort = cohort
                .into_iter()
                .map(|(name, weight)| Ok((name.parse()?, weight)))
                .collect::<Result<_, Fail>>()?;
            let mut events = Vec::new();
            let answers = transaction.open_table(ANSWERS)?;
            for entry in transaction.open_table(EVENTS)?.iter()? {
                let (number, line) = entry?;
                let packed = answers.get(number.value())?.map(|a| a.value().to_vec());
                let line: Line = serde_json::from_slice(line.value())?;
                events.push(line.event(packed)?);
            }
            saved.open = Some(OpenRound {
                plan,
                cohort,
                events,
            });
        }
        Ok(saved)
    }

    fn write_open(&mut self, plan: &RoundPlan, cohort: &BTreeMap<Name, u32>) -> Result<(), Fail> {
        self.transact(|this, transaction| {
            this.end(transaction, None)?;
            begin(transaction, plan, cohort, &[Event::Opened(plan.id)])
        })
    }

    fn write_more(&mut self, more: &[Event]) -> Result<(), Fail> {
        self.transact(|_, transaction| write_events(transaction, more))
    }

    fn write_close(&mut self, next: &Saved, outcome: &Outcome) -> Result<(), Fail> {
        let (state, bytes) = StateRecord::of(&next.state, &next.exchange);
        let head = Head {
            round: next.round,
            over: next.over,
            state,
        };
        self.transact(|this, transaction| {
            this.end(transaction, Some(outcome))?;
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
                begin(transaction, &open.plan, &open.cohort, &open.events)?;
            }
            Ok(())
        })
    }
}

/// A try is open, where none was.
fn begin(
    transaction: &WriteTransaction,
    plan: &RoundPlan,
    cohort: &BTreeMap<Name, u32>,
    events: &[Event],
) -> Result<(), Fail> {
    let frame = frame::encode(&Message::Plan(plan.clone()))?;
    let cohort: BTreeMap<&str, u32> = cohort.iter().map(|(n, w)| (n.as_str(), *w)).collect();
    {
        let mut values = transaction.open_table(VALUES)?;
        values.insert("plan", frame.as_slice())?;
        values.insert("cohort", serde_json::to_vec(&cohort)?.as_slice())?;
    }
    write_events(transaction, events)
}

impl Store for FileStore {
    fn load(&mut self) -> Result<Saved, StoreError> {
        self.read().map_err(|error| self.failed(error))
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn history(&mut self) -> Result<Vec<Closed>, StoreError> {
        self.read_history().map_err(|error| self.failed(error))
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

/// Adds to the open round's events.
fn write_events(transaction: &WriteTransaction, more: &[Event]) -> Result<(), Fail> {
    let mut events = transaction.open_table(EVENTS)?;
    let mut answers = transaction.open_table(ANSWERS)?;
    let next = events.last()?.map_or(0, |(number, _)| number.value() + 1);
    for (number, event) in (next..).zip(more) {
        let (line, packed) = Line::of(event)?;
        events.insert(number, serde_json::to_vec(&line)?.as_slice())?;
        if let Some(packed) = packed {
            answers.insert(number, packed.as_slice())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
