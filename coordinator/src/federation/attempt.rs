//! One try at a round, until it has its quorum or misses it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fedistill_federation::{Ask, Committed, Event, Input, Output, Round, RoundConfig, State};
use fedistill_protocol::{Message, Name, RoundId, RoundPlan};
use tokio::sync::mpsc;

use super::Coordinator;
use crate::CoordinatorError;
use crate::asking::Asking;
use crate::hub::{Arrival, Hub, encode};
use crate::ledger::Lessons;
use crate::plan::{Planned, Sent};
use crate::store::OpenRound;

impl Coordinator {
    /// A try at a round has failed: ends the run if it was the last one, or lets a while pass, so
    /// that clients that refuse at once are not asked again at once.
    pub(super) async fn again(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
        id: RoundId,
        tries: u32,
    ) -> Result<(), CoordinatorError> {
        let why = self.refusal.take();
        let why = why.unwrap_or_else(|| "too few answered in time".to_owned());
        if self.settings.attempts.is_some_and(|most| tries >= most) {
            return Err(CoordinatorError::NoQuorum { id, tries, why });
        }
        let pause = Duration::from_secs(1 << tries.min(6));
        let seconds = pause.as_secs();
        tracing::warn!("round {id} has missed its quorum ({why}): it opens again in {seconds} s");
        let end = tokio::time::Instant::now() + pause;
        while let Ok(Some(arrival)) = tokio::time::timeout_at(end, incoming.recv()).await {
            self.wait_or_refuse(hub, arrival);
        }
        Ok(())
    }

    /// One try at a round; `None` where it misses its quorum.
    #[allow(
        clippy::too_many_arguments,
        reason = "all of it is what one try is about"
    )]
    pub(super) async fn attempt(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
        id: RoundId,
        ask: &Ask,
        state: &State,
        before: &[Sent],
        resumed: Option<OpenRound>,
    ) -> Result<(Planned, Option<Committed>), CoordinatorError> {
        let (cohort, events) = match resumed {
            Some(open) => {
                self.recall(hub, &open.events);
                (open.cohort, open.events)
            }
            None => {
                self.gather(hub, incoming).await?;
                self.catch_up(hub, incoming);
                let candidates = self.candidates(hub);
                let chosen = self
                    .planner
                    .cohort(id.round, &candidates, self.settings.asked);
                let weight = |name: Name| {
                    let weight = self.settings.weights.get(&name).copied().unwrap_or(1);
                    (name, weight)
                };
                (chosen.into_iter().map(weight).collect(), Vec::new())
            }
        };
        let planned = self.planner.plan(id, ask.clone(), state, &cohort, before);
        let plan = &planned.plan;
        let classes = self.settings.classes.len() as u32;
        let config = RoundConfig {
            id,
            cohort: cohort.clone(),
            quorum: self.settings.quorum,
            missed: self.settings.missed,
            folding: self.folding(plan),
            silence: self.settings.silence,
            answers: plan
                .report
                .as_ref()
                .map(|report| (report.about.count(classes), report.width)),
            method: Arc::clone(&self.settings.method),
        };
        let blobs = planned
            .blobs
            .iter()
            .map(|bytes| Arc::from(bytes.as_slice()));
        hub.offer(std::iter::once(Arc::clone(&self.set)).chain(blobs));
        let now = Instant::now();
        let mut machine = match events.is_empty() {
            true => {
                self.writer.open(plan, &cohort).await?;
                Round::open(config, now)
            }
            false => {
                tracing::info!("round {id} goes on from its log of {} events", events.len());
                Round::restore(config, now, events)?
            }
        };
        hub.teach(Lessons::of(&planned, classes));
        hub.open(Some(Arc::new(plan.clone())));
        let frame = |plan: RoundPlan| {
            let why = "a plan is longer than its frame may be: lower round.samples";
            let error = || CoordinatorError::Settings(why.to_owned());
            encode(&Message::Plan(plan)).ok_or_else(error)
        };
        let particular = planned.particular();
        let particular = particular.map(|name| Ok((name.clone(), frame(planned.of(name))?)));
        let particular: BTreeMap<_, _> = particular.collect::<Result<_, CoordinatorError>>()?;
        let common = frame(plan.clone())?;
        let mut asking = Asking::new(&cohort, common, particular, self.at_once);
        asking.go_on(hub, &machine, id);
        for arrival in self.early() {
            asking.heard(hub, &arrival, id);
            if let Some(input) = input(arrival, id) {
                machine.handle(Instant::now(), input)?;
            }
        }
        let outcome = loop {
            if let Some(outcome) = self.settle(hub, &mut machine, id)? {
                break outcome;
            }
            asking.go_on(hub, &machine, id);
            let timeout = machine.poll_timeout();
            let due = async {
                match timeout {
                    Some(timeout) => tokio::time::sleep_until(timeout.into()).await,
                    // Its end waits to be durable, and for nothing else.
                    None => std::future::pending().await,
                }
            };
            let has_room = !self.writer.is_behind();
            tokio::select! {
                stored = self.writer.stored() => {
                    for ticket in stored? {
                        machine.handle(Instant::now(), Input::Stored(ticket))?;
                    }
                }
                arrival = incoming.recv(), if has_room => {
                    let Some(arrival) = arrival else {
                        return Err(CoordinatorError::Settings("nobody listens".to_owned()));
                    };
                    asking.heard(hub, &arrival, id);
                    if let Arrival::Refused(name, _, why) = &arrival {
                        self.refusal = Some(format!("{name}: {why}"));
                    }
                    if let Some(input) = input(arrival, id) {
                        machine.handle(Instant::now(), input)?;
                    }
                }
                () = due => {
                    machine.handle_timeout(Instant::now());
                }
            }
        };
        hub.open(None);
        match &outcome {
            Some(_) => self.leave_behind(hub, &planned.plan, &cohort, &machine),
            None => self.give_up_on(&machine),
        }
        Ok((planned, outcome))
    }

    /// Does what the machine asks for; its outcome once there is one.
    fn settle(
        &mut self,
        hub: &Hub,
        machine: &mut Round,
        id: RoundId,
    ) -> Result<Option<Option<Committed>>, CoordinatorError> {
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Persist(ticket, event) => {
                    let durable = match event {
                        // The log has begun with it when it was opened.
                        Event::Opened(_) => Some(ticket),
                        event => self.writer.append(id, ticket, event)?,
                    };
                    if let Some(ticket) = durable {
                        machine.handle(Instant::now(), Input::Stored(ticket))?;
                    }
                }
                Output::Send { to, message } => {
                    if let Message::Rejected(rejected) = &message {
                        tracing::warn!(client = %to, "contribution rejected: {}", rejected.detail);
                    }
                    hub.send(&to, &message);
                }
                Output::Extended(number) => self.extended(id, number),
                Output::Committed(committed) => {
                    self.settled(&committed);
                    self.folded(&committed);
                    return Ok(Some(Some(committed)));
                }
                Output::Aborted => return Ok(Some(None)),
            }
        }
        Ok(None)
    }

    /// Waits until enough clients are connected.
    async fn gather(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
    ) -> Result<(), CoordinatorError> {
        let needed = self.settings.open_with.max(self.settings.quorum.least());
        let begun = Instant::now();
        loop {
            let connected = hub.count();
            if connected >= needed {
                return Ok(());
            }
            tracing::info!("{connected} of {needed} clients that a round needs are connected");
            let patience = self.settings.patience;
            let left = patience.map(|patience| patience.saturating_sub(begun.elapsed()));
            let wait = left
                .unwrap_or(Duration::from_secs(60))
                .min(Duration::from_secs(60));
            let arrival = tokio::time::timeout(wait, incoming.recv()).await;
            if let Ok(Some(arrival)) = arrival {
                self.wait_or_refuse(hub, arrival);
            }
            if patience.is_some_and(|patience| begun.elapsed() >= patience) {
                return Err(CoordinatorError::TooFewClients {
                    connected: hub.count(),
                    needed,
                    seconds: begun.elapsed().as_secs(),
                });
            }
        }
    }
}

fn input(arrival: Arrival, open: RoundId) -> Option<Input> {
    match arrival {
        Arrival::Joined(name) => Some(Input::Joined(name)),
        Arrival::Left(name) => Some(Input::Left(name)),
        Arrival::Heartbeat(name) => Some(Input::Heartbeat(name)),
        Arrival::Refused(name, id, why) => {
            tracing::warn!(client = %name, "refuses round {id}: {why}");
            (id == open).then_some(Input::Refused(name))
        }
        Arrival::Malformed(name, id) => (id == open).then_some(Input::Refused(name)),
        Arrival::Contributed {
            client,
            id,
            blob,
            answers,
        } => Some(Input::Contributed {
            client,
            id,
            blob,
            answers,
        }),
    }
}
