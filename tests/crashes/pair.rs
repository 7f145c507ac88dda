//! Two clients and their coordinator.

use std::time::Duration;

use fedistill_tests::{Deployment, Running};

/// Rounds of two clients that wait for nobody who is gone.
pub(crate) const SHORT: &str = "[round]\nleast = 1\nopen-with = 1\nleast-seconds = 0.5\nmost-seconds = 20\nsilence-seconds = 0.6\nsamples = 40\n";

/// Twice a round's deadline.
pub(crate) const TWICE: Duration = Duration::from_secs(40);

/// A federation of two clients without end, its coordinator, and where that listens.
pub(crate) fn pair() -> (Deployment, Running, String) {
    Deployment::brisk(2, SHORT)
}

/// Waits for a round that began after now: the line of one that was closed before may come only now.
pub(crate) fn next_round(coordinator: &mut Running) {
    coordinator.skip();
    for _ in 0..2 {
        coordinator.wait_for(" is over, with");
    }
}
