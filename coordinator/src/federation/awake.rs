//! The time of a round: that in which this process runs.

use std::time::{Duration, Instant};

/// A clock that stands still while this process does, as on a machine that is stopped or a process that is frozen: what
/// clients said meanwhile lies in its sockets, and is to be read before a deadline counts. So it stands still as long again,
/// at most for as long as a client may be silent, who may have to connect anew.
///
/// Who reads it has to come back at least each [`Self::TICK`]: from longer gaps it knows.
#[derive(Clone, Debug)]
pub(super) struct Awake {
    /// When it was read last.
    read: Instant,
    /// What it said then.
    told: Instant,
    /// So much later it is by the machine's clock.
    lost: Duration,
    grace: Duration,
}

impl Awake {
    /// The longest time between two looks at it.
    pub(super) const TICK: Duration = Duration::from_secs(1);
    /// Gaps up to this are a machine that is busy.
    const BUSY: Duration = Duration::from_secs(2);

    pub(super) fn new(now: Instant, grace: Duration) -> Self {
        Self {
            read: now,
            told: now,
            lost: Duration::ZERO,
            grace,
        }
    }

    /// The round's time, when it is `now` by the machine's clock.
    pub(super) fn at(&mut self, now: Instant) -> Instant {
        let gap = now.saturating_duration_since(self.read);
        self.read = self.read.max(now);
        if gap > Self::BUSY {
            self.lost += gap + gap.min(self.grace);
            tracing::warn!(
                "this process stood still for {:.1} s: the open round's times are put off by {:.1} s",
                gap.as_secs_f64(),
                (gap + gap.min(self.grace)).as_secs_f64()
            );
        }
        let time = now.checked_sub(self.lost).unwrap_or(self.told);
        self.told = self.told.max(time);
        self.told
    }

    /// When to look at it again, by the machine's clock: at this time of the round, if there is one and it is not too far away.
    pub(super) fn wake(&self, timeout: Option<Instant>) -> Instant {
        let tick = self.read + Self::TICK;
        timeout.map_or(tick, |timeout| tick.min(timeout + self.lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_that_this_process_has_not_lived_through_does_not_count() {
        let begun = Instant::now() + 1000 * SECOND;
        let mut clock = Awake::new(begun, 60 * SECOND);
        let mut now = begun;
        for _ in 0..5 {
            now += Awake::TICK;
            assert_eq!(clock.at(now), now);
        }
        let (before, due) = (now, now + 3 * SECOND);
        assert_eq!(clock.wake(Some(due)), now + Awake::TICK);
        // Frozen: it stands still meanwhile, and as long again.
        now += 10 * SECOND;
        assert_eq!(clock.at(now), before);
        for _ in 0..10 {
            now += SECOND;
            assert_eq!(clock.at(now), before);
        }
        now += SECOND / 2;
        assert_eq!(clock.at(now), before + SECOND / 2);
        now += 2 * SECOND;
        assert_eq!(clock.at(now), before + SECOND / 2 + 2 * SECOND);
        // Half a second is left, of which nothing is slept too long.
        assert_eq!(clock.wake(Some(due)), now + SECOND / 2);
        assert_eq!(clock.at(clock.wake(Some(due))), due);
    }

    #[test]
    fn it_stands_still_for_no_longer_than_a_client_may_be_silent() {
        let begun = Instant::now() + 1000 * SECOND;
        let mut clock = Awake::new(begun, 60 * SECOND);
        let mut now = begun + 3600 * SECOND;
        assert_eq!(clock.at(now), begun);
        for _ in 0..60 {
            now += SECOND;
            assert_eq!(clock.at(now), begun);
        }
        assert_eq!(clock.at(now + SECOND), begun + SECOND);
        // A machine's clock that goes back would be another matter; nothing goes back here.
        assert_eq!(clock.at(begun), begun + SECOND);
    }
}
