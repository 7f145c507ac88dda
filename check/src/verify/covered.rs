use fedistill_client::journal::{Journal, What};
use fedistill_protocol::RoundId;

use crate::ClientRecord;

/// Which tries at rounds a client's journal can speak about: it may have been begun after others, and forgets its oldest
/// lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Covered {
    /// The try that its first line is about; `None` of one without lines.
    pub(super) first: Option<RoundId>,
    /// Whether lines may be missing before the first.
    forgetful: bool,
    /// Whether what was answered to the first try is among those.
    cut: bool,
}

impl Covered {
    pub(super) fn of(client: &ClientRecord) -> Self {
        let first = client.lines.first();
        let forgetful = client.lines.len() as u64 >= Journal::LINES;
        Self {
            first: first.map(|line| RoundId {
                round: line.round,
                attempt: line.attempt,
            }),
            forgetful,
            cut: forgetful && first.is_some_and(|line| line.what == What::Counted),
        }
    }

    /// Whether an answer to this try would be in it.
    pub(super) fn has(self, id: RoundId) -> bool {
        self.first
            .is_some_and(|first| first < id || (first == id && !self.cut))
    }

    /// Whether a receipt of this try must follow its answer.
    pub(super) fn tells_of(self, id: RoundId) -> bool {
        !self.forgetful || self.has(id)
    }
}
