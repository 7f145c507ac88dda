//! Tells of rounds that have missed their quorum.

use fedistill_federation::{Committed, Missed};
use fedistill_protocol::RoundId;

use super::Coordinator;

impl Coordinator {
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
