//! What an answer that was given forbids.

use fedistill_protocol::RoundId;

use crate::journal::Finished;

/// The last plan that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    id: RoundId,
    /// In which it was asked for.
    epoch: u64,
    counted: bool,
}

impl Answered {
    pub(super) fn new(id: RoundId, epoch: u64) -> Self {
        Self {
            id,
            epoch,
            counted: false,
        }
    }

    /// The coordinator has said that an answer counts.
    pub(super) fn count(&mut self, id: RoundId) {
        self.counted |= self.id == id;
    }

    /// The round that was answered, where this one can be asked for after it only by a coordinator that has
    /// forgotten that, and that does not say so: its state is an old copy. A try that nobody was
    /// acknowledged in may be opened again with another plan.
    pub(super) fn forbids(&self, id: RoundId, rolled_back: u64) -> Option<RoundId> {
        let is_over = id < self.id || (id == self.id && self.counted);
        (is_over && self.epoch >= rolled_back).then_some(self.id)
    }
}

impl From<&Finished> for Answered {
    fn from(finished: &Finished) -> Self {
        Self {
            id: finished.id,
            epoch: finished.epoch,
            counted: finished.counted,
        }
    }
}
