//! What clients and their coordinator say of each other.

use std::collections::{BTreeMap, BTreeSet};

use fedistill_client::journal::What;
use fedistill_protocol::{Digest, Name, RoundId};

use super::covered::Covered;
use super::states::Between;
use super::{Invariant, Report};
use crate::{ClientRecord, CoordinatorRecord, Records};

/// What a client was promised, the coordinator must know of.
pub(super) fn receipts(
    client: &ClientRecord,
    coordinator: &CoordinatorRecord,
    said: &Said<'_>,
    report: &mut Report,
) {
    let own = said.get(client.name.as_str()).into_iter().flatten();
    let known: BTreeSet<(RoundId, String)> =
        own.map(|(id, blob)| (*id, blob.to_string())).collect();
    let tries: BTreeSet<RoundId> = known.iter().map(|(id, _)| *id).collect();
    let counted = client.lines.iter().filter(|l| l.what == What::Counted);
    let mut forgotten = 0;
    for line in counted {
        let id = RoundId {
            round: line.round,
            attempt: line.attempt,
        };
        let blob = line.blob.clone().unwrap_or_default();
        if known.contains(&(id, blob)) {
            continue;
        }
        let has_another = tries.contains(&id);
        let may_be_forgotten = !has_another && id.round < coordinator.begins;
        let lost = match Between::of(Some(coordinator), line.epoch, coordinator.epoch) {
            Between::OneState | Between::Unknown if may_be_forgotten => {
                forgotten += 1;
                continue;
            }
            Between::OneState | Between::Unknown => String::new(),
            lost => format!(": it was counted in epoch {}, {lost}", line.epoch),
        };
        let how = format!(
            "{} has a receipt of round {id}, of which the coordinator {}{lost}",
            client.name,
            match has_another {
                false => "knows nothing",
                true => "has another contribution",
            }
        );
        report.wrong(Invariant::Acknowledged, how);
    }
    if forgotten > 0 {
        report.unverified.push(format!(
            "{forgotten} receipts of {} from before round {}, with which the coordinator's history begins",
            client.name, coordinator.begins
        ));
    }
}

/// What a coordinator has of clients: whose, to which try at a round, and the digest.
fn statements(coordinator: &CoordinatorRecord) -> impl Iterator<Item = (&Name, RoundId, Digest)> {
    let closed = coordinator
        .history
        .iter()
        .map(|closed| (closed.id, &closed.acknowledged));
    let open = coordinator.open.iter().map(|(id, taken)| (*id, taken));
    let own = closed
        .chain(open)
        .flat_map(|(id, taken)| taken.iter().map(move |(name, blob)| (name, id, *blob)));
    let late = coordinator.history.iter().map(|closed| &closed.late);
    let late = late
        .chain([&coordinator.late])
        .flat_map(|late| late.iter().map(|(name, late)| (name, late.of, late.blob)));
    own.chain(late)
}

/// What a coordinator has of each client: to which tries at rounds, and digests.
pub(super) type Said<'a> = BTreeMap<&'a str, Vec<(RoundId, Digest)>>;

pub(super) fn said(coordinator: &CoordinatorRecord) -> Said<'_> {
    let mut said = Said::new();
    for (name, id, blob) in statements(coordinator) {
        said.entry(name.as_str()).or_default().push((id, blob));
    }
    said
}

/// What the coordinator has of a client, that client must have given.
pub(super) fn given(client: &ClientRecord, said: &Said<'_>, report: &mut Report) {
    let (name, covered) = (&client.name, Covered::of(client));
    let finished = client.lines.iter().filter(|l| l.what == What::Finished);
    let finished: BTreeSet<(u32, u32, &str)> = finished
        .map(|line| {
            (
                line.round,
                line.attempt,
                line.blob.as_deref().unwrap_or_default(),
            )
        })
        .collect();
    let mut before = 0;
    for (id, blob) in said.get(name.as_str()).into_iter().flatten().copied() {
        if !covered.has(id) {
            before += 1;
        } else if !finished.contains(&(id.round, id.attempt, blob.to_string().as_str())) {
            let how = format!(
                "the coordinator has a contribution of {name} to round {id} that {name} never gave"
            );
            report.wrong(Invariant::Given, how);
        }
    }
    if before > 0 {
        report.unverified.push(match covered.first {
            Some(first) => format!(
                "{before} contributions of {name} from before its journal, which begins with round {first}"
            ),
            None => format!("{before} contributions of {name}, whose journal is empty"),
        });
    }
}

/// Names of clients that are told; there may be thousands.
const NAMES: usize = 5;

/// Clients of which the coordinator alone speaks.
pub(super) fn absent(records: &Records, mut said: Said<'_>, report: &mut Report) {
    for client in &records.clients {
        said.remove(client.name.as_str());
    }
    if said.is_empty() {
        return;
    }
    let named: Vec<&str> = said.keys().take(NAMES).copied().collect();
    report.unverified.push(format!(
        "{} contributions of {} clients whose folders are not here: {}{}",
        said.values().map(Vec::len).sum::<usize>(),
        said.len(),
        named.join(", "),
        if said.len() > NAMES { ", ..." } else { "" }
    ));
}
