//! The time of a round, and of whoever waits for one: that in which this process runs.

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
                "this process stood still for {:.1} s: the times of what it waits for are put off by {:.1} s",
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
        let timeout = timeout.and_then(|timeout| timeout.checked_add(self.lost));
        timeout.map_or(tick, |timeout| tick.min(timeout))
    }
}

/// How long to wait for something at the most, of the time in which this process runs; for ever, if nothing is said.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    clock: Awake,
    begun: Instant,
    most: Option<Duration>,
}

impl Patience {
    /// Begins to wait.
    pub(super) fn new(now: Instant, most: Option<Duration>, grace: Duration) -> Self {
        Self {
            clock: Awake::new(now, grace),
            begun: now,
            most,
        }
    }

    /// How long it has waited, if that is too long, when it is `now` by the machine's clock.
    pub(super) fn is_over(&mut self, now: Instant) -> Option<Duration> {
        let most = self.most?;
        let waited = self.clock.at(now).saturating_duration_since(self.begun);
        (waited >= most).then_some(waited)
    }

    /// When to ask again, by the machine's clock; never, if it waits for ever.
    pub(super) fn wake(&self) -> Option<Instant> {
        // An end that no clock comes to is none.
        self.most
            .map(|most| self.clock.wake(self.begun.checked_add(most)))
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

    #[test]
    fn who_waits_loses_no_patience_while_this_process_stands_still() {
        let begun = Instant::now() + 1000 * SECOND;
        let mut patience = Patience::new(begun, Some(5 * SECOND), 60 * SECOND);
        let mut now = begun;
        // 3 of 5 s, in which it asks when it is told to.
        for _ in 0..3 {
            now = patience.wake().unwrap();
            assert_eq!(patience.is_over(now), None);
        }
        assert_eq!(now, begun + 3 * SECOND);
        // Frozen for longer than is left; what came meanwhile may take as long to be heard.
        now += 8 * SECOND;
        assert_eq!(patience.is_over(now), None);
        let thawed = now;
        while patience.is_over(now).is_none() {
            now = patience.wake().unwrap();
        }
        assert_eq!(now, thawed + (8 + 2) * SECOND);
        assert_eq!(patience.is_over(now), Some(5 * SECOND));
    }

    #[test]
    fn who_waits_for_ever_is_not_woken() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun, None, SECOND);
        assert_eq!(patience.wake(), None);
        assert_eq!(patience.is_over(begun + 100_000 * SECOND), None);
        // Nor does it end at once, or panic, where the end is out of sight.
        let mut patience = Patience::new(begun, Some(Duration::MAX), SECOND);
        assert_eq!(patience.wake(), Some(begun + Awake::TICK));
        assert_eq!(patience.is_over(begun + SECOND), None);
    }
}
