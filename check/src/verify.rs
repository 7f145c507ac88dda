use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fedistill_client::journal::What;
use fedistill_coordinator::Closed;
use fedistill_protocol::{Name, RoundId};
use serde::Serialize;

use crate::{ClientRecord, CoordinatorRecord, Records};

/// What must hold whatever breaks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Invariant {
    /// What was acknowledged counts, once, in a round that came about, or belongs to a try that was given
    /// up; nothing of it is gone.
    Acknowledged,
    /// Nothing counts twice, and nothing that was never acknowledged.
    Once,
    /// Rounds that came about follow each other without a gap, each once.
    Gapless,
    /// No round is closed by a process that another one has followed.
    Fenced,
    /// What a client sees never goes back: neither epochs nor rounds.
    Forward,
    /// A client gives one answer to a plan, and trains for it no more once it is given. Plans of one number are one, whichever
    /// way each was packed, unless the coordinator's state was put back between them.
    OneAnswer,
    /// Once faults have stopped, a round comes about in time.
    Live,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acknowledged => "acknowledged contributions count",
            Self::Once => "nothing counts twice",
            Self::Gapless => "rounds follow without a gap",
            Self::Fenced => "one process at a time closes rounds",
            Self::Forward => "clients never go back",
            Self::OneAnswer => "one answer to a plan",
            Self::Live => "rounds come about",
        })
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Broken {
    /// Which one.
    pub invariant: Invariant,
    /// Where and how, as one line.
    pub how: String,
}

/// When a round had to come about at the latest; milliseconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Liveness {
    /// When the last fault ended.
    pub quiet_since: u64,
    /// How long a round may take from then: twice its deadline.
    pub within: u64,
}

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Rounds that came about.
    pub committed: usize,
    /// Tries at rounds that were given up.
    pub aborted: usize,
    /// Contributions that were acknowledged.
    pub acknowledged: usize,
    /// Receipts that clients hold.
    pub receipts: usize,
    /// Clients whose journals were read.
    pub clients: usize,
    /// All that is wrong.
    pub broken: Vec<Broken>,
}

impl Report {
    fn wrong(&mut self, invariant: Invariant, how: String) {
        self.broken.push(Broken { invariant, how });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for broken in &self.broken {
            writeln!(f, "broken: {}: {}", broken.invariant, broken.how)?;
        }
        let Self {
            committed,
            aborted,
            acknowledged,
            receipts,
            clients,
            broken,
        } = self;
        write!(
            f,
            "{committed} rounds came about, {aborted} tries were given up; {acknowledged} contributions acknowledged, {receipts} receipts in the journals of {clients} clients; {}",
            match broken.len() {
                0 => "nothing lost, nothing counted twice".to_owned(),
                count => format!("{count} promises broken"),
            }
        )
    }
}

/// Holds records against each other.
pub fn verify(records: &Records, liveness: Option<Liveness>) -> Report {
    let mut report = Report::default();
    if let Some(coordinator) = &records.coordinator {
        rounds(coordinator, &mut report);
        if let Some(liveness) = liveness {
            alive(coordinator, liveness, &mut report);
        }
    }
    for client in &records.clients {
        report.clients += 1;
        journal(client, records.coordinator.as_ref(), &mut report);
        if let Some(coordinator) = &records.coordinator {
            receipts(client, coordinator, &mut report);
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
    let name = &client.name;
    let mut epoch = 0;
    let mut latest = (0, 0, 0);
    let mut answers: BTreeMap<(u32, u32, &str), &str> = BTreeMap::new();
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
            .filter(|(then, _)| match rolled_back {
                Some(rolled_back) => *then >= rolled_back,
                None => *then > 0 && *then == line.epoch,
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
                let own = answers
                    .iter()
                    .any(|((r, a, _), given)| (*r, *a) == (round, attempt) && *given == blob);
                if !own {
                    let how = format!("{name} has a receipt of round {id} for what it never gave");
                    report.wrong(Invariant::OneAnswer, how);
                }
            }
        }
    }
}

/// What a client was promised, the coordinator must know of.
fn receipts(client: &ClientRecord, coordinator: &CoordinatorRecord, report: &mut Report) {
    let closed: BTreeMap<(u32, u32), &Closed> = coordinator
        .history
        .iter()
        .map(|closed| ((closed.id.round, closed.id.attempt), closed))
        .collect();
    let counted = client.lines.iter().filter(|l| l.what == What::Counted);
    for line in counted {
        let id = RoundId {
            round: line.round,
            attempt: line.attempt,
        };
        let open = coordinator.open.as_ref();
        let open = open.filter(|(open, _)| *open == id).map(|(_, taken)| taken);
        let closed = closed.get(&(line.round, line.attempt));
        let known = closed
            .map(|closed| &closed.acknowledged)
            .or(open)
            .and_then(|taken| {
                let own = taken.iter().find(|(name, _)| name.as_str() == client.name);
                own.map(|(_, blob)| blob.to_string())
            });
        let history = coordinator.history.iter().map(|closed| &closed.late);
        let late = history.chain([&coordinator.late]).find_map(|late| {
            let own = late.iter().find(|(name, late)| {
                (name.as_str(), late.of) == (client.name.as_str(), id)
                    && line.blob == Some(late.blob.to_string())
            });
            own.map(|(_, late)| late.blob.to_string())
        });
        let known = late.or(known);
        if known.as_deref() != line.blob.as_deref() {
            let how = format!(
                "{} has a receipt of round {id}, of which the coordinator {}",
                client.name,
                match known {
                    None => "knows nothing",
                    Some(_) => "has another contribution",
                }
            );
            report.wrong(Invariant::Acknowledged, how);
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
