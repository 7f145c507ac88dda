//! What processes have kept, held against each other after any run with faults.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fedistill_check::{ClientRecord, Liveness, Records, Report, verify};
use fedistill_coordinator::Closed;

/// A time without faults, from its beginning on: a round comes about soon after.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    since: u64,
    within: u64,
}

impl Quiet {
    /// It begins now, and a round is to come about `within` this time: twice a round's deadline.
    pub fn begins(within: Duration) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            since: since.as_millis() as u64,
            within: within.as_millis() as u64,
        }
    }

    pub(crate) fn liveness(self) -> Liveness {
        Liveness {
            quiet_since: self.since,
            within: self.within,
        }
    }
}

/// Reads these state folders, all of a federation, and fails where a promise was broken, where there was nothing to
/// look at, or where something cannot be told from them.
pub fn sound(folders: &[PathBuf], quiet: Option<Quiet>) -> (Records, Report) {
    let records = Records::read(folders.iter().map(PathBuf::as_path)).unwrap();
    let report = verify(&records, quiet.map(Quiet::liveness));
    assert_eq!(report.broken, [], "{report}");
    // None of them lost its state.
    assert!(report.noted.is_empty(), "{report}");
    assert!(report.unverified.is_empty(), "{report}");
    assert!(
        report.committed > 0 && report.receipts > 0,
        "nothing was looked at: {report}"
    );
    (records, report)
}

/// A coordinator's state and what clients without a folder say of themselves, held against each other; and its history.
pub fn judge(
    state: &Path,
    clients: Vec<ClientRecord>,
    quiet: Option<Quiet>,
) -> (Report, Vec<Closed>) {
    let mut records = Records::read([state]).unwrap();
    records.clients = clients;
    let report = verify(&records, quiet.map(Quiet::liveness));
    let history = records.coordinator.map(|coordinator| coordinator.history);
    (report, history.unwrap_or_default())
}
