//! What goes wrong again and again, and is not to fill a log with that.

use std::time::{Duration, Instant};

/// Time after which it is said again.
const REMIND: Duration = Duration::from_secs(60);

/// Something that is tried again and again: that it fails is told of once, and then at most each minute.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Option<Failing>);

#[derive(Debug)]
struct Failing {
    since: Instant,
    told: Instant,
}

impl Trouble {
    /// It has failed, now; whether that is to be told.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        match &mut self.0 {
            None => {
                let (since, told) = (now, now);
                self.0 = Some(Failing { since, told });
                true
            }
            Some(failing) => {
                let is_due = now.saturating_duration_since(failing.told) >= REMIND;
                if is_due {
                    failing.told = now;
                }
                is_due
            }
        }
    }

    /// It went well, now; for how long it had failed, if it had.
    pub(crate) fn passed(&mut self, now: Instant) -> Option<Duration> {
        let failing = self.0.take()?;
        Some(now.saturating_duration_since(failing.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_failing_is_told_of_once_a_minute() {
        let second = Duration::from_secs(1);
        let begun = Instant::now();
        let mut trouble = Trouble::default();
        assert_eq!(trouble.passed(begun), None);
        let told: Vec<u32> = (0..130)
            .filter(|at| trouble.failed(begun + *at * second))
            .collect();
        assert_eq!(told, [0, 60, 120]);
        assert_eq!(trouble.passed(begun + 130 * second), Some(130 * second));
        assert_eq!(trouble.passed(begun + 131 * second), None);
        // Another time it is news again.
        assert!(trouble.failed(begun + 132 * second));
        assert!(!trouble.failed(begun + 133 * second));
    }
}
