//! When rounds have their quorum, and what is told of those that have missed it.

use fedistill_federation::{Committed, Missed, Quorum};
use fedistill_protocol::RoundId;

use super::Coordinator;

impl Coordinator {
    /// When a round of so many has enough: a closing one that asks more than rounds wait for, once all are done.
    pub(super) fn quorum(&self, id: RoundId, asked: usize) -> Quorum {
        let quorum = self.settings.quorum;
        match self.closes(id.round) && asked > quorum.most() {
            true => quorum.of_everyone(),
            false => quorum,
        }
    }

    /// A try at a round goes on, for the `number`-th time.
    pub(super) fn extended(&mut self, id: RoundId, number: u32) {
        let least = self.settings.quorum.least();
        let seconds = self.settings.quorum.most_time().as_secs_f64();
        let most = match self.settings.missed {
            Missed::Extend { most } => most.max(number),
            Missed::Reopen | Missed::Settle => number,
        };
        tracing::warn!(
            "round {id} has not its {least} contributions in time: it keeps those it has and waits {seconds} s more, for time {number} of {most}"
        );
        self.observer.round_extended(id, number);
    }

    /// A try at a round is over; perhaps with fewer contributions than its quorum asks for.
    pub(super) fn settled(&mut self, committed: &Committed) {
        let (count, least) = (committed.contributors.len(), self.settings.quorum.least());
        if count < least {
            let id = committed.id;
            tracing::warn!(
                "round {id} has not its {least} contributions in time: it settles for {count}"
            );
            self.observer.round_settled(id, count);
        }
    }
}

#[cfg(test)]
mod tests;
