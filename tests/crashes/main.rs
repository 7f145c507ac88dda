//! Processes that are killed, at random instants and right after each write, that are told to stop, or that find their disk
//! full or their state an old copy: nothing that was acknowledged is lost or counts twice. `fedistill-soak` does the same for
//! longer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(target_os = "linux")]
mod copies;
#[cfg(target_os = "linux")]
mod kills;
#[cfg(target_os = "linux")]
mod pair;
#[cfg(target_os = "linux")]
mod room;
#[cfg(target_os = "linux")]
mod stops;

use std::time::Duration;

use fedistill_tests::Storm;

#[test]
fn a_storm_of_kills_loses_nothing() {
    let storm = Storm {
        clients: 3,
        coordinator_kills: 6,
        client_kills: 24,
        pace: Duration::from_secs(2),
        seed: 1,
    };
    let deployment = storm.deployment();
    let aftermath = storm.rage(&deployment);
    let report = &aftermath.report;
    assert_eq!(report.broken, [], "{report}");
    assert!(
        report.committed > 0 && report.receipts > 0,
        "nothing was looked at: {report}"
    );
    assert_eq!(aftermath.recoveries.len(), 6);
    let resumed = aftermath.resumptions.len();
    assert!((1..=6).contains(&resumed), "{resumed}");
}
