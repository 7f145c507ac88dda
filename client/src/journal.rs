//! What a device has promised and what was promised to it: outlives its process, so that it never
//! trains twice for one plan and never gives two answers to it.

mod file;
mod line;

use std::path::PathBuf;
use std::sync::Arc;

use fedistill_protocol::{Digest, RoundId, RoundPlan};
use thiserror::Error;

pub use file::Journal;
pub use line::{Line, What};

/// Something that has to outlive the process.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A coordinator of this epoch is here.
    Epoch(u64),
    /// A plan is begun.
    Begun(Arc<RoundPlan>),
    /// A plan is answered.
    Finished(Finished),
    /// The coordinator says that the answer counts.
    Counted {
        /// In which round.
        id: RoundId,
        /// The answer's digest.
        blob: Digest,
    },
}

/// The answer to a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finished {
    /// Of which round.
    pub id: RoundId,
    /// The epoch of the coordinator that asked for it; 0 of one of an older version, which names none.
    pub epoch: u64,
    /// What was asked: [`RoundPlan::identity`].
    pub plan: Digest,
    /// The answer's digest.
    pub blob: Digest,
    /// The answer, packed; empty where the plan asks for none.
    pub packed: Arc<[u8]>,
    /// Whether the coordinator has said that it counts.
    pub counted: bool,
}

/// A plan that was at work on, as far as another process has kept it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Begun {
    /// Of which round.
    pub id: RoundId,
    /// What was asked: [`RoundPlan::identity`].
    pub plan: Digest,
}

/// What a journal holds of the process before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// The latest epoch that was seen; 0 if none.
    pub epoch: u64,
    /// The answer given last.
    pub finished: Option<Finished>,
    /// The plan whose training was under way, if it had come to a checkpoint.
    pub begun: Option<Begun>,
    /// The student as it was last, as [`crate::Student::snapshot`] tells it.
    pub student: Option<Vec<u8>>,
    /// The student as it was before the plan that was begun; `None` if none had been kept by then.
    pub before: Option<Vec<u8>>,
}

/// How far the training for a plan has come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// The phase that goes on, from 0; the number of phases once all are done.
    pub phase: u32,
    /// Its passes that are done.
    pub epochs: u16,
    /// How much of the phase's noise is used up, in words of its stream.
    pub noise: u128,
    /// The student as the phase began.
    pub began: Vec<u8>,
    /// The student now.
    pub now: Vec<u8>,
}

/// Why a journal cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another process has it open.
    #[error("journal {path} is in use: another client runs on it")]
    InUse {
        /// Which journal.
        path: PathBuf,
    },
    /// It is another client's.
    #[error(
        "journal {path} is of {found}, this is {owner}: give each client a state folder of its own"
    )]
    Foreign {
        /// Which journal.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        owner: String,
    },
    /// The disk, or this user's share of it, is full.
    #[error("journal {path}: there is no room left on its disk")]
    NoRoom {
        /// Which journal.
        path: PathBuf,
    },
    /// It cannot be read or written, or is damaged.
    #[error("journal {path}: {why}")]
    Failed {
        /// Which journal.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}
