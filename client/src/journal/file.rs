mod entry;
mod happened;
mod record;

use std::path::Path;

use fedistill_program::database::{DatabaseError, Handle, lacks_room};
use fedistill_protocol::{Name, RoundPlan};
use redb::{ReadableTable, TableDefinition};

use self::happened::{Happened, note};
use self::record::{FinishedRecord, Owner, ProgressRecord};
use super::{Entry, JournalError, Kept, Line, Progress, What};

/// `owner`, `finished` and `progress` (JSON), `plan` (a frame), and the bytes of `answer`, `student`,
/// `began` and `now`.
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
/// `epoch`: the latest that was seen.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Lines in their order, as JSON.
const HISTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");

/// Bytes of the file that are held in memory: all of it is written far more often than read.
const CACHE: usize = 4 << 20;
/// Of what is written here; a change that older versions would misread takes the next number.
const FORMAT: u64 = 1;

type Fail = Box<dyn std::error::Error + Send + Sync>;

/// A client's journal: one file, written with transactions (redb). After a crash it is as after the last
/// one.
#[derive(Debug)]
pub struct Journal {
    database: Handle,
}

impl Journal {
    /// Lines of history that are kept: older ones are forgotten.
    pub const LINES: u64 = 100_000;

    /// Opens the journal in `path`, or makes it, readable by its owner alone; it is that of client `name`
    /// of this federation. Returns what it holds too.
    ///
    /// # Errors
    /// A file that another process has open, that is another client's, or that cannot be used.
    pub fn open(path: &Path, federation: &Name, name: &Name) -> Result<(Self, Kept), JournalError> {
        let this = Self::open_any(path)?;
        let owner = Owner {
            federation: federation.to_string(),
            client: name.to_string(),
        };
        let found = this.claim(&owner).map_err(|error| this.senseless(error))?;
        if found != owner {
            return Err(JournalError::Foreign {
                path: path.to_owned(),
                found: found.to_string(),
                owner: owner.to_string(),
            });
        }
        let kept = this.read().map_err(|error| this.senseless(error))?;
        Ok((this, kept))
    }

    /// Opens a journal to look at it, whosever it is.
    ///
    /// # Errors
    /// A file that is not there, that another process has open, or that cannot be used.
    pub fn look_at(path: &Path) -> Result<Self, JournalError> {
        if !path.exists() {
            return Err(JournalError::Failed {
                path: path.to_owned(),
                why: "it is not there".to_owned(),
            });
        }
        Self::open_any(path)
    }

    fn open_any(path: &Path) -> Result<Self, JournalError> {
        let database = Handle::open(path, CACHE, FORMAT).map_err(|error| match error {
            DatabaseError::InUse { path } => JournalError::InUse { path },
            DatabaseError::NoRoom { path } => JournalError::NoRoom { path },
            DatabaseError::Failed { path, why } => JournalError::Failed { path, why },
            other => JournalError::Failed {
                path: path.to_owned(),
                why: other.to_string(),
            },
        })?;
        Ok(Self { database })
    }

    /// Whose it is: `owner`'s if it is nobody's yet.
    fn claim(&self, owner: &Owner) -> Result<Owner, Fail> {
        let transaction = self.database.write()?;
        self.database.mark(&transaction)?;
        let found = {
            let mut values = transaction.open_table(VALUES)?;
            let found = values.get("owner")?.map(|found| found.value().to_vec());
            match found {
                Some(found) => serde_json::from_slice(&found)?,
                None => {
                    values.insert("owner", serde_json::to_vec(owner)?.as_slice())?;
                    owner.clone()
                }
            }
        };
        // All tables are there from now on.
        transaction.open_table(NUMBERS)?;
        transaction.open_table(HISTORY)?;
        transaction.commit()?;
        Ok(found)
    }

    /// Makes an entry durable.
    ///
    /// # Errors
    /// A journal that cannot be written; nothing is changed then.
    pub fn keep(&self, entry: &Entry) -> Result<(), JournalError> {
        self.write(entry).map_err(|error| self.failed(error))
    }

    /// How far the training for this plan had come, if it was begun and did not come to its end.
    ///
    /// # Errors
    /// A journal that cannot be read or written: that training goes on is noted.
    pub fn resume(&self, plan: &RoundPlan) -> Result<Option<Progress>, JournalError> {
        self.take_up(plan).map_err(|error| self.failed(error))
    }

    /// Makes durable how far the training for a plan has come.
    ///
    /// # Errors
    /// A journal that cannot be written; nothing is changed then.
    pub fn checkpoint(&self, plan: &RoundPlan, progress: &Progress) -> Result<(), JournalError> {
        self.write_progress(plan, progress)
            .map_err(|error| self.failed(error))
    }

    /// A plan is given up: nothing stays of its training, and `student` is what it was before. Where none of it was kept,
    /// nothing changes.
    ///
    /// # Errors
    /// A journal that cannot be written; nothing is changed then.
    pub fn give_up(&self, plan: &RoundPlan, student: &[u8]) -> Result<(), JournalError> {
        self.write_given_up(plan, Some(student))
            .map(drop)
            .map_err(|error| self.failed(error))
    }

    /// A plan is given up whose student nobody else knows as it was before: nothing stays of its training, and the student
    /// is the one of the plan before, which this gives back; `None` if none had been kept by then.
    ///
    /// # Errors
    /// A journal that cannot be written; nothing is changed then.
    pub fn go_back(&self, plan: &RoundPlan) -> Result<Option<Vec<u8>>, JournalError> {
        self.write_given_up(plan, None)
            .map_err(|error| self.failed(error))
    }

    /// The name of the client whose journal it is.
    ///
    /// # Errors
    /// A journal that cannot be read, or is nobody's.
    pub fn client(&self) -> Result<String, JournalError> {
        let read = || -> Result<String, Fail> {
            let transaction = self.database.read()?;
            let values = transaction.open_table(VALUES)?;
            let owner = values.get("owner")?.ok_or("it is no client's journal")?;
            Ok(serde_json::from_slice::<Owner>(owner.value())?.client)
        };
        read().map_err(|error| self.failed(error))
    }

    /// What has happened, in its order; the last 100,000 lines.
    ///
    /// # Errors
    /// A journal that cannot be read.
    pub fn history(&self) -> Result<Vec<Line>, JournalError> {
        let read = || -> Result<Vec<Line>, Fail> {
            let transaction = self.database.read()?;
            let history = transaction.open_table(HISTORY)?;
            let lines = history.iter()?.map(|line| {
                let (_, line) = line?;
                Ok(serde_json::from_slice(line.value())?)
            });
            lines.collect()
        };
        read().map_err(|error| self.failed(error))
    }

    /// What it holds cannot be begun with.
    fn senseless(&self, why: Fail) -> JournalError {
        match self.failed(why) {
            JournalError::Failed { path, why } => JournalError::Failed {
                path,
                why: format!(
                    "{why}: put back a copy of it, or move it away to begin without what it holds"
                ),
            },
            other => other,
        }
    }

    fn failed(&self, why: Fail) -> JournalError {
        self.database.failed();
        let path = self.database.path().to_owned();
        match lacks_room(why.as_ref()) {
            true => JournalError::NoRoom { path },
            false => JournalError::Failed {
                path,
                why: why.to_string(),
            },
        }
    }

    fn read(&self) -> Result<Kept, Fail> {
        let transaction = self.database.read()?;
        let values = transaction.open_table(VALUES)?;
        let numbers = transaction.open_table(NUMBERS)?;
        let value = |key: &str| -> Result<Option<Vec<u8>>, Fail> {
            Ok(values.get(key)?.map(|bytes| bytes.value().to_vec()))
        };
        let finished = match value("finished")? {
            None => None,
            Some(record) => {
                let record: FinishedRecord = serde_json::from_slice(&record)?;
                let packed = value("answer")?.unwrap_or_default();
                Some(record.finished(packed.into())?)
            }
        };
        let begun = match value("progress")? {
            None => None,
            Some(record) => {
                let record: ProgressRecord = serde_json::from_slice(&record)?;
                Some(record.begun()?)
            }
        };
        // Work that was not finished has changed the student too.
        let (student, before) = match (value("now")?, value("student")?) {
            (Some(now), before) => (Some(now), before),
            (None, student) => (student, None),
        };
        Ok(Kept {
            epoch: numbers.get("epoch")?.map_or(0, |epoch| epoch.value()),
            finished,
            begun,
            student,
            before,
        })
    }

    fn write(&self, entry: &Entry) -> Result<(), Fail> {
        let transaction = self.database.write()?;
        entry::write(&transaction, entry)?;
        Ok(transaction.commit()?)
    }

    fn take_up(&self, plan: &RoundPlan) -> Result<Option<Progress>, Fail> {
        let identity = plan.identity()?.to_string();
        let transaction = self.database.write()?;
        let progress = {
            let values = transaction.open_table(VALUES)?;
            let value = |key: &str| -> Result<Option<Vec<u8>>, Fail> {
                Ok(values.get(key)?.map(|bytes| bytes.value().to_vec()))
            };
            let Some(record) = value("progress")? else {
                return Ok(None);
            };
            let record: ProgressRecord = serde_json::from_slice(&record)?;
            if !record.is_of(plan, &identity) {
                return Ok(None);
            }
            let (began, now) = (value("began")?, value("now")?);
            record.progress(began.unwrap_or_default(), now.unwrap_or_default())?
        };
        let happened = Happened {
            plan: Some(identity),
            ..Happened::new(plan.id, What::Resumed)
        };
        note(&transaction, happened)?;
        transaction.commit()?;
        Ok(Some(progress))
    }

    /// The student that stays.
    fn write_given_up(
        &self,
        plan: &RoundPlan,
        student: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, Fail> {
        let identity = plan.identity()?.to_string();
        let transaction = self.database.write()?;
        let stays = {
            let mut values = transaction.open_table(VALUES)?;
            let record = values.get("progress")?.map(|p| p.value().to_vec());
            let is_kept = match record {
                Some(record) => {
                    serde_json::from_slice::<ProgressRecord>(&record)?.is_of(plan, &identity)
                }
                None => false,
            };
            if is_kept {
                for gone in ["progress", "began", "now"] {
                    values.remove(gone)?;
                }
                if let Some(student) = student {
                    values.insert("student", student)?;
                }
            }
            values.get("student")?.map(|kept| kept.value().to_vec())
        };
        transaction.commit()?;
        Ok(stays)
    }

    fn write_progress(&self, plan: &RoundPlan, progress: &Progress) -> Result<(), Fail> {
        let record = ProgressRecord::of(plan, progress)?;
        let transaction = self.database.write()?;
        {
            let mut values = transaction.open_table(VALUES)?;
            values.insert("progress", serde_json::to_vec(&record)?.as_slice())?;
            values.insert("began", progress.began.as_slice())?;
            values.insert("now", progress.now.as_slice())?;
        }
        Ok(transaction.commit()?)
    }
}

#[cfg(test)]
mod tests;
