//! What a client's journal has to be by itself, and where plans of one number are one.

use std::collections::{BTreeMap, BTreeSet};

use fedistill_client::journal::{Line, What};
use fedistill_protocol::RoundId;

use super::covered::Covered;
use super::states::Between;
use super::{Invariant, Report};
use crate::{ClientRecord, CoordinatorRecord};

/// An answer that a client has given.
#[derive(Clone, Copy, Debug)]
struct Answer<'a> {
    /// In which it was asked for.
    epoch: u64,
    plan: &'a str,
    blob: &'a str,
}

/// Where a client was asked by one coordinator for what another one had asked for, or had left behind: what happened
/// first of each kind, as one line, and how often.
#[derive(Debug, Default)]
struct Reached<'a>(BTreeMap<(Between, &'a str), (String, BTreeSet<RoundId>)>);

impl<'a> Reached<'a> {
    fn note(&mut self, between: Between, kind: &'a str, id: RoundId, how: impl FnOnce() -> String) {
        let first = self.0.entry((between, kind));
        let (_, rounds) = first.or_insert_with(|| (how(), BTreeSet::new()));
        rounds.insert(id);
    }

    fn tell(self, report: &mut Report) {
        for ((between, _), (how, rounds)) in self.0 {
            let more = match rounds.len().saturating_sub(1) {
                0 => String::new(),
                more => format!("; {more} more rounds likewise"),
            };
            report.noted.push(format!("{how}: {between}{more}"));
        }
    }
}

/// Holds a journal against itself: no process asks two plans under one number, and none that has its state; a later one
/// may where that was lost or put back.
pub(super) fn journal(
    client: &ClientRecord,
    coordinator: Option<&CoordinatorRecord>,
    report: &mut Report,
) {
    let (name, covered) = (&client.name, Covered::of(client));
    let mut epoch = 0;
    let mut latest = (0, id(0, 0));
    let mut answers: BTreeMap<RoundId, Vec<Answer<'_>>> = BTreeMap::new();
    let mut given: BTreeSet<(RoundId, &str)> = BTreeSet::new();
    let mut reached = Reached::default();
    for line in &client.lines {
        let (id, asked_in) = (id(line.round, line.attempt), asked_in(line));
        if line.epoch < epoch {
            let how = format!("{name} was in epoch {epoch}, then in {}", line.epoch);
            report.wrong(Invariant::Forward, how);
        }
        epoch = epoch.max(line.epoch);
        let plan = line.plan.as_deref().unwrap_or_default();
        let blob = line.blob.as_deref().unwrap_or_default();
        let between = |then| Between::of(coordinator, then, asked_in);
        let before = answers.get(&id).map_or(&[][..], Vec::as_slice);
        match line.what {
            What::Begun | What::Resumed => {
                let (then, at) = latest;
                if id < at {
                    match between(then) {
                        Between::OneState => {
                            let how = format!("{name} was at round {at}, then at {id}");
                            report.wrong(Invariant::Forward, how);
                        }
                        lost => reached.note(lost, "back", id, || {
                            format!(
                                "{name} was at round {at} in epoch {then}, then at {id} in epoch {asked_in}"
                            )
                        }),
                    }
                }
                latest = latest.max((asked_in, id));
                if before
                    .iter()
                    .any(|one| between(one.epoch) == Between::OneState)
                {
                    let how = format!("{name} trained for round {id} after it had answered");
                    report.wrong(Invariant::OneAnswer, how);
                }
            }
            What::Finished => {
                given.insert((id, blob));
                let this = Answer {
                    epoch: asked_in,
                    plan,
                    blob,
                };
                let others = before.iter().filter(|one| one.blob != blob);
                let others: Vec<_> = others.map(|one| (one, between(one.epoch))).collect();
                if others
                    .iter()
                    .any(|(_, between)| *between == Between::OneState)
                {
                    let how = format!("{name} gave two answers to round {id}");
                    report.wrong(Invariant::OneAnswer, how);
                } else if let Some((one, lost)) = others.last() {
                    let kind = if one.plan == plan { "again" } else { "another" };
                    reached.note(*lost, kind, id, || two(name, id, one, &this));
                }
                answers.entry(id).or_default().push(this);
            }
            What::Counted => {
                report.receipts += 1;
                let own = given.contains(&(id, blob));
                if !own && covered.tells_of(id) {
                    let how = format!("{name} has a receipt of round {id} for what it never gave");
                    report.wrong(Invariant::OneAnswer, how);
                }
            }
        }
    }
    reached.tell(report);
}

/// Two answers to one number, of coordinators of which the later did not know the earlier one's state.
fn two(name: &str, id: RoundId, one: &Answer<'_>, other: &Answer<'_>) -> String {
    let epochs = format!("epochs {} and {}", one.epoch, other.epoch);
    match one.plan == other.plan {
        true => format!("{name} was asked for round {id} twice, in {epochs}, and answered each"),
        false => {
            format!("{name} was asked two plans of round {id}, in {epochs}, and answered each")
        }
    }
}

/// The epoch of the coordinator that asked.
fn asked_in(line: &Line) -> u64 {
    line.asked_in.unwrap_or(line.epoch)
}

const fn id(round: u32, attempt: u32) -> RoundId {
    RoundId { round, attempt }
}
