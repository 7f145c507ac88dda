//! When a round is over, and how.

use std::time::{Duration, Instant};

use super::{Committed, Event, Missed, Output, Round, Stage, Waiting};
use crate::quorum::Verdict;

impl Round {
    /// Ends the round where it is time to.
    pub(super) fn judge(&mut self, now: Instant) {
        if self.stage == Stage::Over {
            return;
        }
        let elapsed = now.duration_since(self.began);
        match self.verdict(elapsed) {
            Verdict::WaitUntil(_) => {}
            Verdict::Commit => self.commit(),
            Verdict::GiveUp => self.miss(now, elapsed),
        }
    }

    pub(super) fn verdict(&self, elapsed: Duration) -> Verdict {
        let (taken, awaited) = (self.members.taken(), self.members.working());
        let extended = self.extensions > 0;
        self.config.quorum.judge(taken, awaited, elapsed, extended)
    }

    /// The quorum is missed, or can only be met by who is gone.
    fn miss(&mut self, now: Instant, elapsed: Duration) {
        let due = elapsed >= self.config.quorum.most_time();
        // Clients that are gone may come back until the time is up; the unwilling will not.
        let possible = self.members.len() - self.members.unwilling();
        let hope = possible >= self.config.quorum.least();
        match self.config.missed {
            _ if hope && !due => {}
            // One more that is at work is one more to settle for.
            Missed::Settle if self.members.working() > 0 && !due => {}
            Missed::Settle if self.members.taken() > 0 => self.commit(),
            Missed::Extend { most } if hope && self.extensions < most => self.extend(now),
            Missed::Reopen | Missed::Extend { .. } | Missed::Settle => self.abort(),
        }
    }

    fn extend(&mut self, now: Instant) {
        self.extensions += 1;
        self.began = now;
        let event = Event::Extended(self.extensions);
        self.persist(event, Waiting::Extension(self.extensions));
    }

    fn commit(&mut self) {
        let committed = self.committed();
        let event = Event::Committed(committed.contributors.clone());
        self.stage = Stage::Over;
        let outcome = Output::Committed(committed);
        self.persist(event, Waiting::Outcome(Box::new(outcome)));
    }

    fn abort(&mut self) {
        self.stage = Stage::Over;
        self.persist(Event::Aborted, Waiting::Outcome(Box::new(Output::Aborted)));
    }

    /// What it has come to so far.
    pub(super) fn committed(&self) -> Committed {
        Committed {
            asked: self.config.cohort.len(),
            id: self.config.id,
            contributors: self.members.contributors(),
            late: self.late.folded(),
            sum: self.sum.clone(),
            each: self.each.clone(),
        }
    }
}
