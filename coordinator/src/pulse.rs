use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Turns the chunks of a transfer into signs of life, a few of them: a client that fetches or gives
/// back is at work as long as something crosses, however long that takes, and however little it
/// says meanwhile.
#[derive(Debug)]
pub(crate) struct Pulse {
    every: Duration,
    last: Mutex<Instant>,
}

impl Pulse {
    /// One that is felt a third of `silence` after `now`, and then that often at the most, so that a
    /// client is never silent for all of it while chunks come.
    pub(crate) fn new(silence: Duration, now: Instant) -> Self {
        Self {
            every: silence / 3,
            last: Mutex::new(now),
        }
    }

    /// A chunk has crossed at `now`: whether that is to be told.
    pub(crate) fn is_felt(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let felt = now.duration_since(*last) >= self.every;
        if felt {
            *last = now;
        }
        felt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_felt_three_times_in_a_silence() {
        let begun = Instant::now();
        let pulse = Pulse::new(Duration::from_secs(3), begun);
        let felt =
            (0..=60).filter(|tenths| pulse.is_felt(begun + Duration::from_millis(100 * tenths)));
        assert_eq!(felt.collect::<Vec<_>>(), [10, 20, 30, 40, 50, 60]);
    }
}
