//! What each entry changes.

use fedistill_protocol::{Digest, Message, RoundId, RoundPlan, frame};
use redb::{ReadableTable, Table, WriteTransaction};

use super::happened::{Happened, note};
use super::record::{FinishedRecord, ProgressRecord};
use super::{Fail, NUMBERS, VALUES};
use crate::journal::{Entry, Finished, What};

pub(super) fn write(transaction: &WriteTransaction, entry: &Entry) -> Result<(), Fail> {
    match entry {
        Entry::Epoch(epoch) => {
            let mut numbers = transaction.open_table(NUMBERS)?;
            numbers.insert("epoch", epoch)?;
            Ok(())
        }
        Entry::Begun(plan) => begin(transaction, plan),
        Entry::Finished(finished) => finish(transaction, finished),
        Entry::Counted { id, blob } => count(transaction, *id, *blob),
    }
}

/// Work on a plan begins, or goes on from a checkpoint of it.
fn begin(transaction: &WriteTransaction, plan: &RoundPlan) -> Result<(), Fail> {
    let identity = plan.identity()?.to_string();
    let mut values = transaction.open_table(VALUES)?;
    let frame = frame::encode(&Message::Plan(plan.clone()))?;
    values.insert("plan", frame.as_slice())?;
    let progress = values.get("progress")?.map(|p| p.value().to_vec());
    let progress = progress.map(|record| serde_json::from_slice::<ProgressRecord>(&record));
    if let Some(progress) = progress.transpose()?
        && progress.is_of(plan, &identity)
    {
        // Noted when it is taken up.
        return Ok(());
    }
    // Work that was not finished has changed the student: with that this plan begins.
    settle(&mut values)?;
    for gone in ["progress", "began"] {
        values.remove(gone)?;
    }
    drop(values);
    let happened = Happened {
        plan: Some(identity),
        ..Happened::new(plan.id, What::Begun)
    };
    note(transaction, happened)
}

/// The student as it is now is what later plans begin with.
fn settle(values: &mut Table<'_, &str, &[u8]>) -> Result<(), Fail> {
    let now = values.remove("now")?.map(|now| now.value().to_vec());
    if let Some(now) = now {
        values.insert("student", now.as_slice())?;
    }
    Ok(())
}

/// An answer is given: what had come of the training is not needed any more.
fn finish(transaction: &WriteTransaction, finished: &Finished) -> Result<(), Fail> {
    let mut values = transaction.open_table(VALUES)?;
    let record = FinishedRecord::from(finished);
    values.insert("finished", serde_json::to_vec(&record)?.as_slice())?;
    values.insert("answer", finished.packed.as_ref())?;
    settle(&mut values)?;
    for gone in ["plan", "progress", "began"] {
        values.remove(gone)?;
    }
    drop(values);
    let happened = Happened {
        id: finished.id,
        what: What::Finished,
        asked_in: Some(finished.epoch),
        plan: Some(finished.plan.to_string()),
        blob: Some(finished.blob.to_string()),
    };
    note(transaction, happened)
}

/// The coordinator has said that an answer counts.
fn count(transaction: &WriteTransaction, id: RoundId, blob: Digest) -> Result<(), Fail> {
    let mut values = transaction.open_table(VALUES)?;
    let record = values.get("finished")?.map(|r| r.value().to_vec());
    if let Some(record) = record {
        let mut record: FinishedRecord = serde_json::from_slice(&record)?;
        if record.is_of(id) {
            record.count();
            values.insert("finished", serde_json::to_vec(&record)?.as_slice())?;
        }
    }
    drop(values);
    let happened = Happened {
        blob: Some(blob.to_string()),
        ..Happened::new(id, What::Counted)
    };
    note(transaction, happened)
}
