//! One federation of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use fedistill_coordinator::{Saved, StateRecord, StoreError};
use serde::{Deserialize, Serialize};

use super::{Fail, Journal, ROWS, SHARE, STAGES, STUDENTS};
use crate::board::Seen;
use crate::metrics::{ClientScore, ServerScore};
use crate::students::Students;
use crate::{Outcome, SimulationError};

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
pub(super) struct Head {
    /// The next round.
    pub(super) round: u32,
    over: bool,
    state: StateRecord,
    clients: BTreeMap<usize, ClientScore>,
    server_before: Option<ServerScore>,
    server: Option<ServerScore>,
}

impl Stage {
    /// One of which nothing is known to be kept.
    pub(super) fn new(journal: Arc<Journal>, name: String) -> Self {
        Self {
            journal,
            name,
            rows: 0,
        }
    }

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
            // A simulation that goes on is held against its whole configuration.
            subject: None,
            state,
            exchange,
            teacher: self.value("teacher")?.map(|bytes| floats(&bytes)),
            opens: None,
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
