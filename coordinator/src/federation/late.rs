//! Late contributions: what is remembered of the round before, and for whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use fedistill_federation::{Before, Committed, Event, Folding, Late, Round};
use fedistill_protocol::{Message, Name, RejectReason, Rejected, RoundId, RoundPlan, Version};
use tokio::sync::mpsc;

use super::Coordinator;
use crate::hub::{Arrival, Hub, encode};

/// What is left to do of the round before.
#[derive(Default)]
pub(super) struct Behind {
    /// Who may still contribute to it.
    before: Option<Before>,
    /// What has come while no round was open.
    early: BTreeMap<Name, Arrival>,
}

impl Coordinator {
    /// How a round that asks `plan` takes in late contributions to the round before.
    pub(super) fn folding(&self, plan: &RoundPlan) -> Option<Folding> {
        match self.settings.late {
            Late::Refuse => None,
            Late::Fold { exponent } => Some(Folding {
                exponent,
                report: plan.report.clone(),
                before: self.behind.before.clone(),
            }),
        }
    }

    /// A round goes on from its log, which says what it awaits of the round before.
    pub(super) fn recall(&mut self, hub: &Hub, events: &[Event]) {
        let before = events.iter().find_map(|event| match event {
            Event::Awaits(before) => Some(before.as_ref().clone()),
            _ => None,
        });
        self.await_of(hub, before);
    }

    /// A round is over: whom it asked and has not may still contribute to it while the next one is
    /// open.
    pub(super) fn leave_behind(
        &mut self,
        hub: &Hub,
        plan: &RoundPlan,
        cohort: &BTreeMap<Name, u32>,
        machine: &Round,
    ) {
        let awaited = machine.awaited().into_iter();
        let missing: BTreeMap<Name, u32> = awaited
            .filter_map(|name| Some((name.clone(), *cohort.get(&name)?)))
            .collect();
        let folds = matches!(self.settings.late, Late::Fold { .. });
        let before = (folds && plan.report.is_some() && !missing.is_empty()).then(|| Before {
            plan: plan.clone(),
            missing,
        });
        self.await_of(hub, before);
    }

    /// A try is given up, and with it all that it has: who was late for the round before has had its
    /// receipt, and must not give anything else now; whom it asked has left the round before for it.
    pub(super) fn give_up_on(&mut self, machine: &Round, cohort: &BTreeMap<Name, u32>) {
        if let Some(before) = &mut self.behind.before {
            let late = machine.late();
            before
                .missing
                .retain(|client, _| !late.contains_key(client) && !cohort.contains_key(client));
        }
    }

    fn await_of(&mut self, hub: &Hub, before: Option<Before>) {
        // Of no use any more: it was for the round before that one.
        self.behind.early.clear();
        let folds = matches!(self.settings.late, Late::Fold { .. });
        let before = before.filter(|_| folds);
        hub.leave_behind(before.as_ref().map(|before| Arc::new(before.plan.clone())));
        self.behind.before = before;
    }

    /// Whom the next round may choose among: those connected, but not who is still at work for the
    /// round before, as it would give that up; unless too few are left for a quorum.
    pub(super) fn candidates(&self, hub: &Hub) -> Vec<Name> {
        let connected = hub.connected();
        let Some(before) = &self.behind.before else {
            return connected;
        };
        let free = connected.iter();
        let free: Vec<Name> = free
            .filter(|name| {
                !before.missing.contains_key(*name) || self.behind.early.contains_key(*name)
            })
            .cloned()
            .collect();
        match free.len() >= self.settings.quorum.least() {
            true => free,
            false => connected,
        }
    }

    /// Takes in what has come since the last round was over, so that who is late and done by now may
    /// be asked again.
    pub(super) fn catch_up(&mut self, hub: &Hub, incoming: &mut mpsc::Receiver<Arrival>) {
        while self.behind.before.is_some()
            && let Ok(arrival) = incoming.try_recv()
        {
            self.wait_or_refuse(hub, arrival);
        }
    }

    /// A contribution comes while no round is open: it waits for the next one where that may fold it
    /// in, and is refused otherwise, unless it counts already.
    pub(super) fn wait_or_refuse(&mut self, hub: &Hub, arrival: Arrival) {
        let Arrival::Contributed { client, id, .. } = &arrival else {
            return;
        };
        if self.acknowledges_again(hub, &arrival) {
            return;
        }
        let (client, id) = (client.clone(), *id);
        match self.awaits(&client, id) {
            true => {
                self.behind.early.insert(client, arrival);
            }
            // Too late, and no machine is there to say so.
            false => {
                let detail = format!("round {id} is over: await the next one");
                let rejected = Rejected::new(RejectReason::TooLate, detail);
                hub.send(&client, &rejected.about(id).into());
            }
        }
    }

    /// Asks a client once more, once on each connection, what it was asked in the round before, where its answer to that
    /// may still count and the open round does not ask it. A client of a coordinator that was started again gives its answer
    /// again only where it hears the plan again: by the same number, another state could ask something else.
    pub(super) fn ask_again(
        &self,
        hub: &Hub,
        client: &Name,
        cohort: &BTreeMap<Name, u32>,
        machine: &Round,
    ) {
        let Some(before) = &self.behind.before else {
            return;
        };
        let is_awaited = before.missing.contains_key(client)
            && !cohort.contains_key(client)
            && !machine.late().contains_key(client);
        // One of an older version was sent its lessons packed otherwise, and those are gone.
        if is_awaited
            && hub.speaks(client) == Some(Version::LATEST)
            && let Some(frame) = encode(&Message::Plan(before.plan.clone()))
        {
            hub.greet(client, before.plan.id, |_| frame);
        }
    }

    fn awaits(&self, client: &Name, id: RoundId) -> bool {
        let before = self.behind.before.as_ref();
        before.is_some_and(|before| before.plan.id == id && before.missing.contains_key(client))
    }

    /// What has come while no round was open, for the one that is.
    pub(super) fn early(&mut self) -> Vec<Arrival> {
        std::mem::take(&mut self.behind.early)
            .into_values()
            .collect()
    }

    /// Tells whose late contributions a round has.
    pub(super) fn folded(&mut self, committed: &Committed) {
        if committed.late.is_empty() {
            return;
        }
        let late = committed.late.iter();
        let late: Vec<String> = late
            .map(|(client, folded)| format!("{client} to {}", folded.of))
            .collect();
        let id = committed.id;
        tracing::info!("round {id} has late contributions: of {}", late.join(", "));
        self.observer.late_folded(id, late.len());
    }
}

#[cfg(test)]
mod tests;
