use std::time::Duration;

use thiserror::Error;

/// When a round has enough: (least, most) x (count, time).
///
/// Within `least_time` a round ends early only once `most` contributions have come; after it, once
/// `least` have. At `most_time` it commits with what it has, or gives up below `least`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quorum {
    least: usize,
    most: usize,
    least_time: Duration,
    most_time: Duration,
}

/// A quorum that no round can meet.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum QuorumError {
    /// Not even one contribution is asked for.
    #[error("a quorum needs at least one contribution")]
    Empty,
    /// The least is above the most.
    #[error("quorum asks for at least {least} but at most {most} contributions")]
    Count {
        /// Fewest contributions.
        least: usize,
        /// Most contributions.
        most: usize,
    },
    /// The shortest time is above the longest.
    #[error("quorum asks for at least {least:?} but at most {most:?}")]
    Time {
        /// Shortest time.
        least: Duration,
        /// Longest time.
        most: Duration,
    },
}

/// What a quorum says at an instant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Commit,
    GiveUp,
    WaitUntil(Duration),
}

impl Quorum {
    /// A quorum of `least..=most` contributions within `least_time..=most_time` of the opening.
    ///
    /// # Errors
    /// Bounds that contradict each other.
    pub fn new(
        least: usize,
        most: usize,
        least_time: Duration,
        most_time: Duration,
    ) -> Result<Self, QuorumError> {
        match (least, most) {
            (0, _) => Err(QuorumError::Empty),
            _ if least > most => Err(QuorumError::Count { least, most }),
            _ if least_time > most_time => Err(QuorumError::Time {
                least: least_time,
                most: most_time,
            }),
            _ => Ok(Self {
                least,
                most,
                least_time,
                most_time,
            }),
        }
    }

    /// The same for a round that is there for each of its clients: it waits for all, as long as this allows.
    #[must_use]
    pub fn of_everyone(self) -> Self {
        Self {
            most: usize::MAX,
            least_time: self.most_time,
            ..self
        }
    }

    /// Most contributions: a round that has them commits at once.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Fewest contributions that a round commits with.
    pub fn least(&self) -> usize {
        self.least
    }

    /// Time after which a round ends, unless it is extended.
    pub fn most_time(&self) -> Duration {
        self.most_time
    }

    /// `awaited`: clients that may still contribute. `extended`: the most time has run out before,
    /// and the least time with it.
    pub(crate) fn judge(
        &self,
        count: usize,
        awaited: usize,
        elapsed: Duration,
        extended: bool,
    ) -> Verdict {
        let enough = count >= self.least;
        let waited = extended || elapsed >= self.least_time;
        if count >= self.most || (enough && (awaited == 0 || waited)) {
            Verdict::Commit
        } else if elapsed >= self.most_time || (!enough && count + awaited < self.least) {
            Verdict::GiveUp
        } else if enough {
            Verdict::WaitUntil(self.least_time)
        } else {
            Verdict::WaitUntil(self.most_time)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn bounds_must_agree() {
        assert_eq!(Quorum::new(0, 1, s(0), s(1)), Err(QuorumError::Empty));
        assert!(matches!(
            Quorum::new(3, 2, s(0), s(1)),
            Err(QuorumError::Count { .. })
        ));
        assert!(matches!(
            Quorum::new(1, 2, s(2), s(1)),
            Err(QuorumError::Time { .. })
        ));
    }

    #[test]
    fn what_is_for_everyone_waits_for_everyone() {
        let everyone = Quorum::new(2, 4, s(10), s(60)).unwrap().of_everyone();
        let cases = [
            (4, 6, s(0), Verdict::WaitUntil(s(60))),
            (9, 1, s(59), Verdict::WaitUntil(s(60))),
            (9, 0, s(5), Verdict::Commit),
            (2, 1, s(60), Verdict::Commit),
            (1, 1, s(60), Verdict::GiveUp),
        ];
        for (count, awaited, elapsed, verdict) in cases {
            let said = everyone.judge(count, awaited, elapsed, false);
            assert_eq!(said, verdict, "{count} {awaited} {elapsed:?}");
        }
    }

    #[test]
    fn counts_and_times_decide_together() {
        let quorum = Quorum::new(2, 4, s(10), s(60)).unwrap();
        let cases = [
            (4, 6, s(0), false, Verdict::Commit),
            (2, 6, s(9), false, Verdict::WaitUntil(s(10))),
            (2, 6, s(10), false, Verdict::Commit),
            (2, 0, s(1), false, Verdict::Commit),
            (1, 6, s(59), false, Verdict::WaitUntil(s(60))),
            (1, 6, s(60), false, Verdict::GiveUp),
            (1, 0, s(1), false, Verdict::GiveUp),
            (0, 2, s(1), false, Verdict::WaitUntil(s(60))),
            (1, 6, s(9), true, Verdict::WaitUntil(s(60))),
            (2, 6, s(0), true, Verdict::Commit),
            (1, 6, s(60), true, Verdict::GiveUp),
        ];
        for (count, awaited, elapsed, extended, verdict) in cases {
            assert_eq!(
                quorum.judge(count, awaited, elapsed, extended),
                verdict,
                "{count} {awaited} {elapsed:?} {extended}"
            );
        }
    }
}
