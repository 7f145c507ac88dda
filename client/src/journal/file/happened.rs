//! Lines of the history as they are added.

use std::time::{SystemTime, UNIX_EPOCH};

use fedistill_protocol::RoundId;
use redb::{ReadableTable, WriteTransaction};

use super::{Fail, HISTORY, Journal, Line, NUMBERS, What};

/// What a line of the history tells, beside when.
pub(super) struct Happened {
    pub(super) id: RoundId,
    pub(super) what: What,
    /// Where that may not be the latest epoch.
    pub(super) asked_in: Option<u64>,
    pub(super) plan: Option<String>,
    pub(super) blob: Option<String>,
}

impl Happened {
    pub(super) fn new(id: RoundId, what: What) -> Self {
        Self {
            id,
            what,
            asked_in: None,
            plan: None,
            blob: None,
        }
    }
}

/// Adds a line to the history.
pub(super) fn note(transaction: &WriteTransaction, happened: Happened) -> Result<(), Fail> {
    let numbers = transaction.open_table(NUMBERS)?;
    let epoch = numbers.get("epoch")?.map_or(0, |epoch| epoch.value());
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let Happened {
        id,
        what,
        asked_in,
        plan,
        blob,
    } = happened;
    let line = Line {
        at: since.map_or(0, |since| since.as_millis() as u64),
        epoch,
        asked_in: asked_in.filter(|asked_in| *asked_in != epoch),
        round: id.round,
        attempt: id.attempt,
        what,
        plan,
        blob,
    };
    let mut history = transaction.open_table(HISTORY)?;
    let next = history.last()?.map_or(0, |(number, _)| number.value() + 1);
    history.insert(next, serde_json::to_vec(&line)?.as_slice())?;
    if let Some(old) = next.checked_sub(Journal::LINES) {
        history.remove(old)?;
    }
    Ok(())
}
