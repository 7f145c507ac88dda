//! What outlives a coordinator's process.

mod epoch;
mod file;
mod history;
mod line;
mod memory;
mod record;
mod subject;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use fedistill_federation::{Event, State};
use fedistill_protocol::{Name, RoundId, RoundPlan};
use thiserror::Error;

use crate::Exchange;

pub use epoch::Epoch;
pub use file::FileStore;
pub use history::{Closed, Outcome};
pub use memory::MemoryStore;
pub use record::StateRecord;
pub use subject::Subject;
pub(crate) use writer::Writer;

/// A federation as it was when its coordinator last wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// The first round that is not closed.
    pub round: u32,
    /// Whether nothing was left to ask: the federation is over, unless its settings change.
    pub over: bool,
    /// What rounds before it were about; nothing where there were none, or an older version wrote.
    pub subject: Option<Subject>,
    /// What this round sends down, and what its method has noted.
    pub state: State,
    /// What updates start from.
    pub exchange: Exchange,
    /// The teacher's snapshot.
    pub teacher: Option<Vec<f32>>,
    /// When this round may open, by the wall clock, where a pause comes before it.
    pub opens: Option<SystemTime>,
    /// The try at this round that was under way.
    pub open: Option<OpenRound>,
}

/// A round under way.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenRound {
    /// What it asks.
    pub plan: RoundPlan,
    /// Whom, and with what weight each.
    pub cohort: BTreeMap<Name, u32>,
    /// What has happened in it.
    pub events: Vec<Event>,
}

/// Durable rounds. What a method has returned from is on disk, whole. What fails for want of room has changed nothing, or
/// has come about all the same; whoever goes on tries the same again before anything else, and it then comes about once.
pub trait Store: Send {
    /// What was written last.
    ///
    /// # Errors
    /// A store that cannot be read or is damaged.
    fn load(&mut self) -> Result<Saved, StoreError>;

    /// Which process of all that ever had this store this one is.
    fn epoch(&self) -> Epoch;

    /// Tries at rounds that are over, in the order of rounds and attempts; none of a store that forgets
    /// them.
    ///
    /// # Errors
    /// A store that cannot be read or is damaged.
    fn history(&mut self) -> Result<Vec<Closed>, StoreError>;

    /// Of the history, the last round that came about.
    ///
    /// # Errors
    /// A store that cannot be read or is damaged.
    fn last(&mut self) -> Result<Option<Closed>, StoreError> {
        let history = self.history()?.into_iter().rev();
        Ok(history.into_iter().find(|closed| closed.outcome.is_some()))
    }

    /// Whether all of this takes no time worth speaking of, so that it need not be done on a thread of its
    /// own: memory.
    fn is_immediate(&self) -> bool {
        false
    }

    /// A try at a round begins, and its log with [`Event::Opened`]; one that was open is given up, and goes
    /// into the history so.
    ///
    /// # Errors
    /// A store that cannot be written.
    fn open(&mut self, plan: &RoundPlan, cohort: &BTreeMap<Name, u32>) -> Result<(), StoreError>;

    /// This has happened in the open round, in this order: all of it is written, or nothing.
    ///
    /// # Errors
    /// A store that cannot be written.
    fn append(&mut self, id: RoundId, events: &[Event]) -> Result<(), StoreError>;

    /// The open round is closed: its outcome, for the history, and the next round's beginning, which may be
    /// open already, all at once.
    ///
    /// # Errors
    /// A store that cannot be written.
    fn close(&mut self, next: &Saved, outcome: &Outcome) -> Result<(), StoreError>;
}

/// Why a store cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it open.
    #[error("store {path} is in use: another coordinator runs on it")]
    InUse {
        /// Which store.
        path: PathBuf,
    },
    /// Another process has had it since, so that what this one holds is old.
    #[error(
        "store {path} is of epoch {found} by now, this process of epoch {own}: another coordinator has taken it over, or another state was put in its place; nothing more is written"
    )]
    Overtaken {
        /// Which store.
        path: PathBuf,
        /// The epoch of the process that had it last.
        found: u64,
        /// This one's.
        own: u64,
    },
    /// The disk, or this user's share of it, is full.
    #[error("store {path}: there is no room left on its disk")]
    NoRoom {
        /// Which store.
        path: PathBuf,
    },
    /// The thread that writes cannot be started, or has ended before its time.
    #[error("the store's thread {0}")]
    Thread(String),
    /// The file cannot be read or written, or is damaged.
    #[error("store {path}: {why}")]
    Failed {
        /// Which store.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}
