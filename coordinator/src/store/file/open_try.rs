//! The try that is open: from its opening, event by event, into the history.

use std::collections::BTreeMap;

use fedistill_federation::{Event, Folded};
use fedistill_protocol::{Message, Name, RoundId, RoundPlan, frame};
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::remembered::remember;
use super::{ANSWERS, EVENTS, VALUES};
use crate::store::history::{ClosedRecord, now};
use crate::store::line::{Line, read_plan};
use crate::store::record::Fail;
use crate::store::{Closed, Epoch, OpenRound, Outcome};

/// A try is open, where none was.
pub(super) fn begin(
    transaction: &WriteTransaction,
    plan: &RoundPlan,
    cohort: &BTreeMap<Name, u32>,
    events: &[Event],
) -> Result<(), Fail> {
    let frame = frame::encode(&Message::Plan(plan.clone()))?;
    let cohort: BTreeMap<&str, u32> = cohort.iter().map(|(n, w)| (n.as_str(), *w)).collect();
    {
        let mut values = transaction.open_table(VALUES)?;
        values.insert("plan", frame.as_slice())?;
        values.insert("cohort", serde_json::to_vec(&cohort)?.as_slice())?;
    }
    write_events(transaction, events)
}

/// Adds to the open round's events.
pub(super) fn write_events(transaction: &WriteTransaction, more: &[Event]) -> Result<(), Fail> {
    let mut events = transaction.open_table(EVENTS)?;
    let mut answers = transaction.open_table(ANSWERS)?;
    let next = events.last()?.map_or(0, |(number, _)| number.value() + 1);
    for (number, event) in (next..).zip(more) {
        let (line, packed) = Line::of(event)?;
        events.insert(number, serde_json::to_vec(&line)?.as_slice())?;
        if let Some(packed) = packed {
            answers.insert(number, packed.as_slice())?;
        }
    }
    Ok(())
}

/// The open try goes into the history, as of a process of this epoch, and is no longer open. So much at `most` is
/// remembered: see [`remember`].
pub(super) fn end(
    transaction: &WriteTransaction,
    epoch: Epoch,
    outcome: Option<&Outcome>,
    most: u64,
) -> Result<(), Fail> {
    let mut values = transaction.open_table(VALUES)?;
    let plan = values.remove("plan")?.map(|plan| plan.value().to_vec());
    values.remove("cohort")?;
    let mut events = transaction.open_table(EVENTS)?;
    if let Some(plan) = plan {
        let id = read_plan(&plan)?.id;
        let (mut acknowledged, mut late) = (BTreeMap::new(), BTreeMap::new());
        for entry in events.iter()? {
            let line: Line = serde_json::from_slice(entry?.1.value())?;
            match line {
                Line::Taken { client, blob, .. } => {
                    acknowledged.insert(client.parse()?, blob.parse()?);
                }
                Line::Folded {
                    client,
                    round,
                    attempt,
                    blob,
                    ..
                } => {
                    let of = RoundId { round, attempt };
                    let blob = blob.parse()?;
                    late.insert(client.parse()?, Folded { of, blob });
                }
                _ => {}
            }
        }
        let closed = ClosedRecord::from(&Closed {
            id,
            epoch: epoch.number,
            at: now(),
            acknowledged,
            late,
            outcome: outcome.cloned(),
        });
        remember(transaction, id, &closed, most)?;
    }
    events.retain(|_, _| false)?;
    transaction.open_table(ANSWERS)?.retain(|_, _| false)?;
    Ok(())
}

/// What was written of it; none where none is open.
pub(super) fn read(transaction: &ReadTransaction) -> Result<Option<OpenRound>, Fail> {
    let values = transaction.open_table(VALUES)?;
    let (Some(plan), Some(cohort)) = (values.get("plan")?, values.get("cohort")?) else {
        return Ok(None);
    };
    let plan = read_plan(plan.value())?;
    let cohort: BTreeMap<String, u32> = serde_json::from_slice(cohort.value())?;
    let cohort = cohort
        .into_iter()
        .map(|(name, weight)| Ok((name.parse()?, weight)))
        .collect::<Result<_, Fail>>()?;
    let mut events = Vec::new();
    let answers = transaction.open_table(ANSWERS)?;
    for entry in transaction.open_table(EVENTS)?.iter()? {
        let (number, line) = entry?;
        let packed = answers.get(number.value())?.map(|a| a.value().to_vec());
        let line: Line = serde_json::from_slice(line.value())?;
        events.push(line.event(packed)?);
    }
    Ok(Some(OpenRound {
        plan,
        cohort,
        events,
    }))
}
