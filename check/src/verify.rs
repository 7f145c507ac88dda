//! Which promises were broken, if any.

mod both;
mod covered;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use fedistill_client::journal::What;
use fedistill_coordinator::Closed;
use fedistill_protocol::{Name, RoundId};

use crate::{ClientRecord, CoordinatorRecord, Records};
use covered::Covered;

pub use report::{Broken, Invariant, Liveness, Report};

/// Holds records against each other.
pub fn verify(records: &Records, liveness: Option<Liveness>) -> Report {
    let mut report = Report::default();
    let coordinator = records.coordinator.as_ref();
    if let Some(coordinator) = coordinator {
        report.coordinator = true;
        rounds(coordinator, &mut report);
        if let Some(liveness) = liveness {
            alive(coordinator, liveness, &mut report);
        }
    }
    let said = coordinator.map(both::said).unwrap_or_default();
    for client in &records.clients {
        report.clients += 1;
        journal(client, coordinator, &mut report);
        if let Some(coordinator) = coordinator {
            both::receipts(client, coordinator, &mut report);
            both::given(client, &said, &mut report);
        }
    }
    match coordinator {
        Some(_) => both::absent(records, said, &mut report),
        None => {
            let rounds = liveness.map_or("", |_| ", and whether rounds came about");
            report.unverified.push(format!(
                "{} receipts{rounds}: the coordinator's folder is not here",
                report.receipts
            ));
        }
    }
    report
}

/// What a coordinator's history has to be by itself.
fn rounds(coordinator: &CoordinatorRecord, report: &mut Report) {
    let mut committed: BTreeMap<u32, RoundId> = BTreeMap::new();
    let mut before: Option<&Closed> = None;
    // Whose contributions count, and in which round's try.
    let mut counted: BTreeMap<(u32, u32, &Name), RoundId> = BTreeMap::new();
    for closed in &coordinator.history {
        let id = closed.id;
        report.acknowledged += closed.acknowledged.len() + closed.late.len();
        if let Some(before) = before
            && before.epoch > closed.epoch
        {
            let (earlier, later) = (before.epoch, closed.epoch);
            let how = format!(
                "round {id} was closed in epoch {later}, after round {} in epoch {earlier}",
                before.id
            );
            report.wrong(Invariant::Fenced, how);
        }
        before = Some(closed);
        let Some(outcome) = &closed.outcome else {
            report.aborted += 1;
            continue;
        };
        report.committed += 1;
        if let Some(other) = committed.insert(id.round, id) {
            let how = format!("round {} came about twice: {other} and {id}", id.round);
            report.wrong(Invariant::Gapless, how);
        }
        let contributors: BTreeSet<_> = outcome.contributors.iter().collect();
        if contributors.len() != outcome.contributors.len() {
            report.wrong(Invariant::Once, format!("round {id} counts a client twice"));
        }
        let own = contributors.iter().map(|client| (*client, id));
        let late = closed.late.iter().map(|(client, late)| (client, late.of));
        for (client, of) in own.chain(late) {
            if let Some(other) = counted.insert((of.round, of.attempt, client), id) {
                let how = format!(
                    "what {client} gave to round {of} counts in round {other} and in round {id}"
                );
                report.wrong(Invariant::Once, how);
            }
        }
        for client in &contributors {
            if !closed.acknowledged.contains_key(client) {
                let how = format!("round {id} counts {client}, whose contribution it never had");
                report.wrong(Invariant::Once, how);
            }
        }
        for client in closed.acknowledged.keys() {
            if !contributors.contains(client) {
                let how = format!("round {id} acknowledged {client} and does not count it");
                report.wrong(Invariant::Acknowledged, how);
            }
        }
    }
    for (expected, round) in committed.keys().enumerate() {
        if expected as u64 != u64::from(*round) {
            let how = format!("round {expected} never came about, round {round} did");
            report.wrong(Invariant::Gapless, how);
            break;
        }
    }
    if coordinator.round as usize != committed.len() {
        let how = format!(
            "{} rounds came about, and round {} is next",
            committed.len(),
            coordinator.round
        );
        report.wrong(Invariant::Gapless, how);
    }
    let open = coordinator
        .open
        .as_ref()
        .map_or(0, |(_, taken)| taken.len());
    report.acknowledged += open + coordinator.late.len();
    if let Some(last) = before
        && last.epoch > coordinator.epoch
    {
        let how = format!(
            "round {} was closed in epoch {}, the store is of epoch {}",
            last.id, last.epoch, coordinator.epoch
        );
        report.wrong(Invariant::Fenced, how);
    }
}

/// What a client's journal has to be by itself, and where plans of one number are one.
fn journal(client: &ClientRecord, coordinator: Option<&CoordinatorRecord>, report: &mut Report) {
    let rolled_back = coordinator.map(|coordinator| coordinator.rolled_back);
    let (name, covered) = (&client.name, Covered::of(client));
    let mut epoch = 0;
    let mut latest = (0, 0, 0);
    let mut answers: BTreeMap<(u32, u32, &str), &str> = BTreeMap::new();
    let mut given: BTreeSet<(RoundId, &str)> = BTreeSet::new();
    // What it answered last under each number, and in which epoch.
    let mut last: BTreeMap<(u32, u32), (u64, &str)> = BTreeMap::new();
    for line in &client.lines {
        let (round, attempt) = (line.round, line.attempt);
        let id = RoundId { round, attempt };
        if line.epoch < epoch {
            let how = format!("{name} was in epoch {epoch}, then in {}", line.epoch);
            report.wrong(Invariant::Forward, how);
        }
        epoch = epoch.max(line.epoch);
        let plan = line.plan.as_deref().unwrap_or_default();
        let blob = line.blob.as_deref().unwrap_or_default();
        // No process asks two plans under one number; a later one only if it was told to go back.
        let same = last
            .get(&(round, attempt))
            .filter(|(then, _)| {
                let one = *then > 0 && *then == line.epoch;
                one || rolled_back.is_some_and(|rolled_back| *then >= rolled_back)
            })
            .map(|(_, given)| *given);
        match line.what {
            What::Begun | What::Resumed => {
                if (round, attempt) < (latest.1, latest.2) {
                    let (_, before, attempt) = latest;
                    let how = format!("{name} was at round {before}.{attempt}, then at {id}");
                    report.wrong(Invariant::Forward, how);
                }
                latest = latest.max((epoch, round, attempt));
                if same.is_some() || answers.contains_key(&(round, attempt, plan)) {
                    let how = format!("{name} trained for round {id} after it had answered");
                    report.wrong(Invariant::OneAnswer, how);
                }
            }
            What::Finished => {
                given.insert((id, blob));
                let before = answers.insert((round, attempt, plan), blob);
                last.insert((round, attempt), (line.epoch, blob));
                if [before, same]
                    .into_iter()
                    .flatten()
                    .any(|before| before != blob)
                {
                    let how = format!("{name} gave two answers to round {id}");
                    report.wrong(Invariant::OneAnswer, how);
                }
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
}

fn alive(coordinator: &CoordinatorRecord, liveness: Liveness, report: &mut Report) {
    let Liveness {
        quiet_since,
        within,
    } = liveness;
    let until = quiet_since.saturating_add(within);
    let came = coordinator
        .history
        .iter()
        .filter(|closed| closed.outcome.is_some())
        .any(|closed| (quiet_since..=until).contains(&closed.at));
    if !came && !coordinator.over {
        let seconds = within as f64 / 1000.0;
        let how = format!("no round came about in the {seconds} s after the last fault");
        report.wrong(Invariant::Live, how);
    }
}

#[cfg(test)]
mod tests;
