use std::time::Duration;

use rand::{Rng, RngExt};

/// How long to wait before connecting again: full jitter, a uniform time below a ceiling that
/// doubles with each failure (Brooker, "Exponential backoff and jitter", AWS 2015), so that the
/// clients of a coordinator that was away do not all come back at once.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The first ceiling.
    pub base: Duration,
    /// The highest ceiling.
    pub most: Duration,
    failures: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(60))
    }
}

impl Backoff {
    /// Ceilings from `base` to `most`.
    pub const fn new(base: Duration, most: Duration) -> Self {
        Self {
            base,
            most,
            failures: 0,
        }
    }

    /// The wait after one more failure.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let ceiling = self
            .base
            .saturating_mul(1 << self.failures.min(20))
            .min(self.most);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(rng.random::<f64>())
    }

    /// The wait where coming back at once would do harm, as another device would be pushed out by
    /// it: between five and ten times the highest ceiling.
    pub fn long(&self, rng: &mut impl Rng) -> Duration {
        let most = self.most.saturating_mul(10);
        most.mul_f64(0.5 + 0.5 * rng.random::<f64>())
    }

    /// The wait where the other side has asked to stay away for `asked`: that, and up to half of it more,
    /// so that not all come back at once.
    pub fn after(&self, asked: Duration, rng: &mut impl Rng) -> Duration {
        // Nobody may ask for more than a day.
        let asked = asked.min(Duration::from_secs(24 * 3600));
        asked.mul_f64(1.0 + 0.5 * rng.random::<f64>())
    }

    /// Something worked: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_most_and_fill_the_whole_range() {
        let mut rng = fedistill_learning::seed::stream(1, "backoff");
        let (base, most) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(base, most);
        assert!(backoff.next(&mut rng) <= base);
        let waits: Vec<Duration> = (0..1000).map(|_| backoff.next(&mut rng)).collect();
        assert!(waits.iter().all(|wait| *wait <= most));
        let late = &waits[10..];
        assert!(late.iter().any(|wait| *wait < most / 10));
        assert!(late.iter().any(|wait| *wait > most * 9 / 10));
        let long = backoff.long(&mut rng);
        assert!(long >= most * 5 && long <= most * 10, "{long:?}");
        let asked = Duration::from_secs(8);
        let after: Vec<Duration> = (0..100).map(|_| backoff.after(asked, &mut rng)).collect();
        assert!(
            after
                .iter()
                .all(|wait| *wait >= asked && *wait <= asked * 3 / 2)
        );
        assert!(after.iter().any(|wait| *wait > asked * 5 / 4));
        assert_eq!(backoff.after(Duration::ZERO, &mut rng), Duration::ZERO);
        backoff.reset();
        assert!(backoff.next(&mut rng) <= base);
    }
}
