//! How much of the past a store remembers.

use fedistill_protocol::RoundId;
use redb::{ReadableTable, WriteTransaction};

use super::{HISTORY, NUMBERS};
use crate::store::history::ClosedRecord;
use crate::store::record::Fail;

/// Of tries that are over, the ones that one transaction forgets at most: two at a time keep up, more are there where
/// the limit was lowered, which is no reason for one round to close late.
const AT_ONCE: usize = 64;

/// Adds what became of a try to the history, and forgets the oldest ones where their tries and contributions are more
/// than `most`. This round's and those of the one before are always there: whoever gave the same again is answered
/// from them.
pub(super) fn remember(
    transaction: &WriteTransaction,
    id: RoundId,
    closed: &ClosedRecord,
    most: u64,
) -> Result<(), Fail> {
    let mut history = transaction.open_table(HISTORY)?;
    let mut numbers = transaction.open_table(NUMBERS)?;
    let known = numbers.get("remembered")?.map(|count| count.value());
    let mut count = match known {
        Some(count) => count,
        // As an older version has left it: counted once.
        None => {
            let mut count = 0;
            for entry in history.iter()? {
                count += weight(entry?.1.value())?;
            }
            count
        }
    };
    let line = serde_json::to_vec(closed)?;
    let key = (id.round, id.attempt);
    // One that had not begun to count may have opened again under its own number.
    if let Some(before) = history.insert(key, line.as_slice())? {
        count = count.saturating_sub(weight(before.value())?);
    }
    count += closed.weight();
    for _ in 0..AT_ONCE {
        let oldest = history.first()?.map(|(key, line)| {
            let of = key.value();
            weight(line.value()).map(|weight| (of, weight))
        });
        let Some((oldest, weight)) = oldest.transpose()? else {
            break;
        };
        if count <= most || oldest.0.saturating_add(1) >= id.round {
            break;
        }
        history.remove(oldest)?;
        numbers.insert("begins", u64::from(oldest.0) + 1)?;
        count = count.saturating_sub(weight);
    }
    numbers.insert("remembered", count)?;
    Ok(())
}

/// Of one line of the history.
fn weight(line: &[u8]) -> Result<u64, Fail> {
    let closed: ClosedRecord = serde_json::from_slice(line)?;
    Ok(closed.weight())
}

#[cfg(test)]
mod tests;
