//! Which process may write: the one that came last, and nothing twice.

use std::time::SystemTime;

use redb::{ReadableTable, WriteTransaction};

use super::{FileStore, NUMBERS};
use crate::store::record::Fail;
use crate::store::{Epoch, StoreError};

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

impl FileStore {
    /// That of the process that had the store last.
    pub(super) fn last_epoch(&self) -> Result<Epoch, Fail> {
        let transaction = self.database.read()?;
        match transaction.open_table(NUMBERS) {
            Ok(numbers) => Ok(epoch_in(&numbers)?),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(Epoch::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on under this epoch or, where the clock has gone past it, its own, as a store that was put back on purpose to
    /// what it had been before; where a process before this one has had the store under it or a later one, that was done,
    /// and nothing changes. Whether that is news.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn roll_back(&mut self, epoch: u64) -> Result<bool, StoreError> {
        let is_news = epoch > self.before;
        if is_news {
            let claimed = self.claim(Some(epoch));
            (self.epoch, self.writes) = claimed.map_err(|error| self.failed(error))?;
        }
        Ok(is_news)
    }

    /// The next epoch, or one that is not below what a rollback names, on disk before anything is done in it.
    pub(super) fn claim(&self, rollback: Option<u64>) -> Result<(Epoch, u64), Fail> {
        let transaction = self.database.write()?;
        let is_new = transaction.list_tables()?.next().is_none();
        self.database.mark(&transaction)?;
        let claimed = {
            let mut numbers = transaction.open_table(NUMBERS)?;
            let before = epoch_in(&numbers)?;
            let number = match rollback {
                Some(named) => named.max(before.number),
                None => before.next(SystemTime::now()),
            };
            let epoch = Epoch {
                number,
                first: if is_new { number } else { before.first },
                rolled_back: rollback.unwrap_or(0).max(before.rolled_back),
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
    pub(super) fn transact(
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
}
