use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which process of all that ever had a store one is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Epoch {
    /// From 1; no two processes have the same, and later ones have larger ones: each one more than the one before,
    /// the first of a store the time of its making in milliseconds since 1970, so that a store that was begun anew is
    /// never taken for the one that it replaces. 0 of nobody.
    pub number: u64,
    /// That of the process that made the store; 0 if it does not say, as one that an older version has made. What was
    /// promised under an earlier epoch was promised over another store.
    pub first: u64,
    /// That of the process for which the store was last put back, on purpose, to what it had been before;
    /// 0 if it never was. What was promised under an earlier epoch may have been forgotten then.
    pub rolled_back: u64,
}

impl Epoch {
    /// The number of the process that comes after it, at `now`.
    pub(super) fn next(self, now: SystemTime) -> u64 {
        match self.number {
            0 => millis(now.duration_since(UNIX_EPOCH).unwrap_or_default()),
            number => number.saturating_add(1),
        }
    }
}

/// From 1, as 0 is nobody's; up to a number that leaves room for all that come after it.
fn millis(since: Duration) -> u64 {
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    millis.clamp(1, u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_at(now: SystemTime) -> u64 {
        Epoch::default().next(now)
    }

    #[test]
    fn stores_that_are_made_one_after_the_other_are_told_apart() {
        let begun = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let made = [0, 2, 5, 1000].map(|ms| first_at(begun + Duration::from_millis(ms)));
        assert!(made.is_sorted_by(|one, next| one < next), "{made:?}");
        // The clock moves none but the first.
        let second = Epoch {
            number: made[0],
            ..Epoch::default()
        };
        assert_eq!(second.next(begun - Duration::from_secs(10)), made[0] + 1);
    }

    #[test]
    fn a_clock_that_is_wrong_leaves_a_number_to_whoever_comes_next() {
        let before = UNIX_EPOCH.checked_sub(Duration::from_secs(3600)).unwrap();
        let mut times = vec![before, UNIX_EPOCH];
        // As far in the future as this system can tell.
        times.extend((0..63).rev().find_map(|bits| {
            let far = Duration::from_secs(1 << bits);
            UNIX_EPOCH.checked_add(far)
        }));
        assert_eq!(times.len(), 3);
        for now in times {
            let number = first_at(now);
            assert!(number > 0, "{now:?}");
            let first = Epoch {
                number,
                ..Epoch::default()
            };
            assert!(first.next(now) > number, "{now:?}");
        }
    }
}
