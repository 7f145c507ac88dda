use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whether a client was told to stop, so that its training ends at the next checkpoint, and why there is none, if the
/// last one could not be written. Known to who talks and to who trains.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    told: AtomicBool,
    unwritten: Mutex<Option<String>>,
}

impl Leaving {
    /// How soon a wait notices.
    const NOTICE: Duration = Duration::from_millis(100);

    /// The client was told to stop.
    pub(crate) fn tell(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// A checkpoint was written, or was not.
    pub(crate) fn wrote<T, E: Display>(&self, result: &Result<T, E>) {
        *self.slot() = result.as_ref().err().map(E::to_string);
    }

    /// Why the last checkpoint is not there, if it is not.
    pub(crate) fn unwritten(&self) -> Option<String> {
        self.slot().clone()
    }

    /// Lets so much time pass, or less once the client was told to stop.
    pub(crate) fn sleep(&self, time: Duration) {
        let begun = Instant::now();
        while !self.is_told() && begun.elapsed() < time {
            std::thread::sleep(Self::NOTICE.min(time));
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<String>> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_since_is_forgotten() {
        let leaving = Leaving::default();
        assert_eq!(leaving.unwritten(), None);
        leaving.wrote(&Err::<(), _>("no room"));
        assert_eq!(leaving.unwritten().as_deref(), Some("no room"));
        leaving.wrote(&Ok::<_, &str>(()));
        assert_eq!(leaving.unwritten(), None);
    }

    #[test]
    fn nobody_sleeps_on_who_is_told_to_stop() {
        let leaving = Leaving::default();
        leaving.tell();
        let begun = Instant::now();
        leaving.sleep(Duration::from_secs(3600));
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
