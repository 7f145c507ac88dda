use fedistill_check::ClientRecord;
use fedistill_client::journal::{Line, What};
use fedistill_protocol::{Digest, Name, RoundId};

/// What a client that has no journal on disk answered and was told: what it can hold its coordinator to.
#[derive(Clone, Debug, Default)]
pub struct Diary(Vec<Line>);

impl Diary {
    /// It answers this.
    pub fn answers(&mut self, id: RoundId, blob: Digest) {
        self.note(id, blob, What::Finished);
    }

    /// It was told that this counts.
    pub fn counts(&mut self, id: RoundId, blob: Digest) {
        self.note(id, blob, What::Counted);
    }

    fn note(&mut self, id: RoundId, blob: Digest, what: What) {
        self.0.push(Line {
            at: 0,
            epoch: 1,
            asked_in: None,
            round: id.round,
            attempt: id.attempt,
            what,
            plan: None,
            blob: Some(blob.to_string()),
        });
    }

    /// As it would have been read from a folder.
    pub fn record(&self, name: &Name) -> ClientRecord {
        ClientRecord {
            name: name.to_string(),
            lines: self.0.clone(),
        }
    }
}
