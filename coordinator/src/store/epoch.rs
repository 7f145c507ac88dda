use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which process of all that ever had a store one is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Epoch {
    /// From 1; no two processes have the same, and later ones have larger ones: each the time of its start in
    /// milliseconds since 1970, so that a store that was begun anew, or a copy that was put back, is not taken for the one
    /// that it replaces; where that is not above the one before, as with a clock that is behind, one more than it. 0 of
    /// nobody.
    pub number: u64,
    /// That of the process that made the store; 0 if it does not say, as one that an older version has made. What was
    /// promised under an earlier epoch was promised over another store.
    pub first: u64,
    /// The one that was named when the store was last put back, on purpose, to what it had been before; 0 if it never
    /// was. What was promised under an earlier epoch may have been forgotten then. The process that came of it has this
    /// one or a later one.
    pub rolled_back: u64,
}

impl Epoch {
    /// The number of the process that comes after it, at `now`.
    pub(super) fn next(self, now: SystemTime) -> u64 {
        let clock = millis(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        clock.max(self.number.saturating_add(1))
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
    }

    #[test]
    fn processes_on_one_store_and_on_its_copies_are_told_apart() {
        let begun = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let second = Duration::from_secs(1);
        let first = Epoch {
            number: first_at(begun),
            ..Epoch::default()
        };
        // One goes on, and then another one from a copy of what was before.
        let (one, other) = (first.next(begun + second), first.next(begun + 2 * second));
        assert_eq!((one, other), (first.number + 1000, first.number + 2000));
        // In the same instant, or by a clock that was set back, a later one is later all the same.
        for now in [begun, begun - 10 * second] {
            assert_eq!(first.next(now), first.number + 1);
        }
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
