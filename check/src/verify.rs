//! Which promises were broken, if any.

mod both;
mod covered;
mod journal;
mod report;
mod states;

use std::collections::{BTreeMap, BTreeSet};

use fedistill_coordinator::Closed;
use fedistill_protocol::{Name, RoundId};

use crate::{CoordinatorRecord, Records};
use journal::journal;

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
            both::receipts(client, coordinator, &said, &mut report);
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
    gapless(coordinator, &committed, report);
    let open = coordinator
        .open
        .as_ref()
        .map_or(0, |(_, taken)| taken.len());
    report.acknowledged += open + coordinator.late.len();
    for client in &coordinator.again {
        let how = format!("{client} is written twice in the open round");
        report.wrong(Invariant::Once, how);
    }
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

/// Of the rounds that the coordinator remembers, none may be missing.
fn gapless(
    coordinator: &CoordinatorRecord,
    committed: &BTreeMap<u32, RoundId>,
    report: &mut Report,
) {
    let begins = coordinator.begins;
    let mut expected = begins;
    for round in committed.range(begins..).map(|(round, _)| *round) {
        if expected != round {
            let how = format!("round {expected} never came about, round {round} did");
            report.wrong(Invariant::Gapless, how);
            break;
        }
        expected = round.saturating_add(1);
    }
    let came = committed.range(begins..).count() as u64;
    if u64::from(coordinator.round) != u64::from(begins) + came {
        let since = match begins {
            0 => String::new(),
            begins => format!(" from round {begins} on"),
        };
        let how = format!(
            "{came} rounds came about{since}, and round {} is next",
            coordinator.round
        );
        report.wrong(Invariant::Gapless, how);
    }
    if begins > 0 {
        report.unverified.push(format!(
            "whether all rounds before round {begins} came about: the coordinator's history begins with that one"
        ));
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
