use std::time::{SystemTime, UNIX_EPOCH};

/// Which process of all that ever had a store one is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Epoch {
    /// From 1; no two processes have the same, and later ones have larger ones: each one more than the one before,
    /// the first of a store the time of its making in milliseconds since 1970, so that a store that was begun anew is
    /// never taken for the one that it replaces. 0 of nobody.
    pub number: u64,
    /// That of the process for which the store was last put back, on purpose, to what it had been before;
    /// 0 if it never was. What was promised under an earlier epoch may have been forgotten then.
    pub rolled_back: u64,
}

impl Epoch {
    /// The number of the process that comes after it.
    pub(super) fn next(self) -> u64 {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH);
        match self.number {
            0 => now().map_or(1, |since| u64::try_from(since.as_millis()).unwrap_or(1)),
            number => number.saturating_add(1),
        }
    }
}
