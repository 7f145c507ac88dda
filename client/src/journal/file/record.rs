//! What the journal's values say, as JSON.

use std::fmt;
use std::sync::Arc;

use fedistill_protocol::{Digest, RoundId, RoundPlan};
use serde::{Deserialize, Serialize};

use super::Fail;
use crate::journal::{Begun, Finished, Progress};

/// Whose journal it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Owner {
    pub(super) federation: String,
    pub(super) client: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { federation, client } = self;
        write!(f, "client {client} of federation {federation}")
    }
}

#[derive(Deserialize, Serialize)]
pub(super) struct FinishedRecord {
    round: u32,
    attempt: u32,
    #[serde(default)]
    epoch: u64,
    plan: String,
    blob: String,
    counted: bool,
}

impl FinishedRecord {
    pub(super) fn is_of(&self, id: RoundId) -> bool {
        (self.round, self.attempt) == (id.round, id.attempt)
    }

    pub(super) fn count(&mut self) {
        self.counted = true;
    }

    /// With the answer itself, which is kept beside it.
    ///
    /// # Errors
    /// A record that makes no sense, or another answer.
    pub(super) fn finished(self, packed: Arc<[u8]>) -> Result<Finished, Fail> {
        let blob: Digest = self.blob.parse()?;
        if Digest::of(&packed) != blob {
            return Err("the answer given last is damaged".into());
        }
        Ok(Finished {
            id: id(self.round, self.attempt),
            epoch: self.epoch,
            plan: self.plan.parse()?,
            blob,
            packed,
            counted: self.counted,
        })
    }
}

impl From<&Finished> for FinishedRecord {
    fn from(finished: &Finished) -> Self {
        Self {
            round: finished.id.round,
            attempt: finished.id.attempt,
            epoch: finished.epoch,
            plan: finished.plan.to_string(),
            blob: finished.blob.to_string(),
            counted: finished.counted,
        }
    }
}

#[derive(Deserialize, Serialize)]
pub(super) struct ProgressRecord {
    round: u32,
    attempt: u32,
    plan: String,
    phase: u32,
    epochs: u16,
    /// As text: JSON has no numbers of 128 bits.
    noise: String,
}

impl ProgressRecord {
    /// # Errors
    /// A plan that cannot be written.
    pub(super) fn of(plan: &RoundPlan, progress: &Progress) -> Result<Self, Fail> {
        Ok(Self {
            round: plan.id.round,
            attempt: plan.id.attempt,
            plan: plan.identity()?.to_string(),
            phase: progress.phase,
            epochs: progress.epochs,
            noise: progress.noise.to_string(),
        })
    }

    pub(super) fn is_of(&self, plan: &RoundPlan, identity: &str) -> bool {
        id(self.round, self.attempt) == plan.id && self.plan == identity
    }

    /// # Errors
    /// A record that makes no sense.
    pub(super) fn begun(&self) -> Result<Begun, Fail> {
        Ok(Begun {
            id: id(self.round, self.attempt),
            plan: self.plan.parse()?,
        })
    }

    /// With the student as the phase began and as it is now, which are kept beside it.
    ///
    /// # Errors
    /// A record that makes no sense.
    pub(super) fn progress(&self, began: Vec<u8>, now: Vec<u8>) -> Result<Progress, Fail> {
        Ok(Progress {
            phase: self.phase,
            epochs: self.epochs,
            noise: self.noise.parse()?,
            began,
            now,
        })
    }
}

const fn id(round: u32, attempt: u32) -> RoundId {
    RoundId { round, attempt }
}
