//! What became of a coordinator's state between two epochs.

use std::fmt;

use crate::CoordinatorRecord;

/// Whether what was said in one epoch is known in another, later one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Between {
    /// It is: one process, or ones that had one state after the other.
    OneState,
    /// The state was lost, and another one begun in this epoch.
    BegunAnew(u64),
    /// It was put back to what it had been before, on purpose, in this epoch.
    PutBack(u64),
    /// Nobody can tell: the coordinator's folder is not here, or does not say so much.
    Unknown,
}

impl Between {
    /// Between a coordinator of epoch `then` and one of epoch `now`; either is 0 where none was named.
    pub(super) fn of(coordinator: Option<&CoordinatorRecord>, then: u64, now: u64) -> Self {
        if then > 0 && then == now {
            return Self::OneState;
        }
        let Some(coordinator) = coordinator else {
            return Self::Unknown;
        };
        let CoordinatorRecord {
            first, rolled_back, ..
        } = *coordinator;
        if (1..=now).contains(&first) && (1..first).contains(&then) {
            return Self::BegunAnew(first);
        }
        // What an older version has made does not say when: before the first round that it knows of.
        let known = match (first, coordinator.history.first()) {
            (0, Some(closed)) => closed.epoch,
            (0, None) => coordinator.epoch,
            (first, _) => first,
        };
        match then {
            _ if then < known => Self::Unknown,
            _ if then >= rolled_back => Self::OneState,
            _ if now >= rolled_back => Self::PutBack(rolled_back),
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneState => f.write_str("the coordinator's state is one"),
            Self::BegunAnew(epoch) => write!(
                f,
                "the coordinator's state was lost and begun anew in epoch {epoch}"
            ),
            Self::PutBack(epoch) => {
                write!(f, "the coordinator's state was put back in epoch {epoch}")
            }
            Self::Unknown => f.write_str(
                "a coordinator's state was lost and begun anew between them, or put back",
            ),
        }
    }
}
