//! One try at a round, until it has its quorum or misses it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fedistill_federation::{Ask, Committed, Event, Input, Output, Round, RoundConfig, State};
use fedistill_protocol::{Message, Name, RoundId, RoundPlan, Version};
use tokio::sync::mpsc;

use super::Coordinator;
use super::awake::{Awake, Patience};
use super::counted::Counted;
use crate::asking::{Asking, Words};
use crate::hub::{Arrival, Hub, encode};
use crate::ledger::Lessons;
use crate::plan::Planned;
use crate::store::OpenRound;
use crate::{CoordinatorError, Exchange};

/// What a try at a round is about.
#[derive(Clone, Copy)]
pub(super) struct Topic<'a> {
    pub(super) id: RoundId,
    pub(super) ask: &'a Ask,
    pub(super) state: &'a State,
    /// What clients hold of what they were sent before.
    pub(super) before: &'a Exchange,
}

/// A try at a round, as it is on disk.
pub(super) struct Opened {
    planned: Planned,
    cohort: BTreeMap<Name, u32>,
    /// What another process has written of it; nothing of one that has just been opened.
    events: Vec<Event>,
}

impl Opened {
    /// What is written of one that has just been opened.
    pub(super) fn record(&self) -> OpenRound {
        let plan = self.planned.plan.clone();
        OpenRound {
            events: vec![Event::Opened(plan.id)],
            cohort: self.cohort.clone(),
            plan,
        }
    }
}

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

    /// Opens a try at a round, once enough clients are connected.
    pub(super) async fn open(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
        topic: Topic<'_>,
    ) -> Result<Opened, CoordinatorError> {
        self.gather(hub, incoming).await?;
        let opened = self.choose(hub, incoming, topic);
        self.writer
            .open(&opened.planned.plan, &opened.cohort)
            .await?;
        Ok(opened)
    }

    /// A try at the next round that can be written together with the end of the one before, which saves a
    /// transaction; `None` where something has to be waited for first, or a transaction takes no time.
    pub(super) fn ahead(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
        topic: Topic<'_>,
    ) -> Option<Opened> {
        let can = !self.writer.is_immediate() && self.settings.pause.is_zero();
        let is_ready = can && hub.count() >= self.needed();
        is_ready.then(|| self.choose(hub, incoming, topic))
    }

    /// Goes on with a try that another process has opened, in the words of this version.
    pub(super) fn reopen(
        &mut self,
        hub: &Hub,
        saved: OpenRound,
        topic: Topic<'_>,
        words: Version,
    ) -> Opened {
        let OpenRound { cohort, events, .. } = saved;
        self.recall(hub, &events);
        Opened {
            planned: self.planned(topic, &cohort, words),
            cohort,
            events,
        }
    }

    /// Whom to ask, and what.
    fn choose(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
        topic: Topic<'_>,
    ) -> Opened {
        self.catch_up(hub, incoming);
        let round = topic.id.round;
        let chosen = match self.closes(round) {
            // The last aggregate is for everyone, and nobody's work is given up for a round after it.
            true => hub.connected(),
            false => {
                let candidates = self.candidates(hub);
                self.planner.cohort(round, &candidates, self.settings.asked)
            }
        };
        let weight = |name: Name| {
            let weight = self.settings.weights.get(&name).copied().unwrap_or(1);
            (name, weight)
        };
        let cohort = chosen.into_iter().map(weight).collect();
        Opened {
            planned: self.planned(topic, &cohort, Version::LATEST),
            cohort,
            events: Vec::new(),
        }
    }

    fn planned(&self, topic: Topic<'_>, cohort: &BTreeMap<Name, u32>, words: Version) -> Planned {
        let Topic {
            id,
            ask,
            state,
            before,
        } = topic;
        self.planner
            .plan(id, ask.clone(), state, cohort, before, words)
    }

    /// One try at a round; `None` where it misses its quorum.
    pub(super) async fn attempt(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
        opened: Opened,
    ) -> Result<(Planned, Option<Committed>), CoordinatorError> {
        let Opened {
            planned,
            cohort,
            events,
        } = opened;
        let plan = &planned.plan;
        let id = plan.id;
        let classes = self.settings.classes.len() as u32;
        let config = RoundConfig {
            id,
            cohort: cohort.clone(),
            quorum: self.quorum(id, cohort.len()),
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
        let mut clock = Awake::new(now, self.settings.silence);
        let goes_on = !events.is_empty();
        let is_resumed = goes_on || id.attempt > 0;
        let mut machine = match goes_on {
            false => Round::open(config, now),
            true => {
                tracing::info!("round {id} goes on from its log of {} events", events.len());
                Round::restore(config, now, events)?
            }
        };
        hub.teach(id, Lessons::of(&planned, classes), goes_on);
        let had = machine.contributions().map(|(name, _)| (name.clone(), id));
        let late = machine.late().into_iter();
        hub.recall(had.chain(late.map(|(name, folded)| (name, folded.of))));
        hub.open(Some(Arc::new(plan.clone())));
        let frame = |plan: RoundPlan| {
            let why = "a plan is longer than its frame may be: lower round.samples";
            let error = || CoordinatorError::Settings(why.to_owned());
            encode(&Message::Plan(plan)).ok_or_else(error)
        };
        let words = |version| {
            // Many clients may get the same.
            let others = planned.others.iter();
            let others = others.map(|instead| frame(planned.with(Some(instead), version)));
            let others = others.collect::<Result<Vec<_>, CoordinatorError>>()?;
            let particular = planned.personal.iter();
            let particular = particular
                .filter_map(|(name, which)| Some((name.clone(), Arc::clone(others.get(*which)?))));
            Ok::<_, CoordinatorError>(Words {
                particular: particular.collect(),
                common: frame(planned.with(None, version))?,
            })
        };
        let older = planned.differs_by_version();
        let older = older.then(|| words(Version::OLDEST)).transpose()?;
        let latest = words(Version::LATEST)?;
        let mut asking = Asking::new(&cohort, latest, older, self.at_once);
        asking.go_on(hub, &machine, id);
        for client in hub.connected().into_iter().filter(|_| is_resumed) {
            self.ask_again(hub, &client, &cohort, &machine);
        }
        for arrival in self.early() {
            asking.heard(hub, &arrival, id);
            if let Some(input) = input(arrival, id) {
                machine.handle(clock.at(Instant::now()), input)?;
            }
        }
        let outcome = loop {
            if let Some(outcome) = self.settle(hub, &mut machine, &mut clock, id)? {
                break outcome;
            }
            asking.go_on(hub, &machine, id);
            let timeout = machine.poll_timeout();
            let wake = clock.wake(timeout);
            let has_room = !self.writer.is_behind();
            tokio::select! {
                stored = self.writer.stored() => {
                    for ticket in stored? {
                        machine.handle(clock.at(Instant::now()), Input::Stored(ticket))?;
                    }
                }
                arrival = incoming.recv(), if has_room => {
                    let Some(arrival) = arrival else {
                        return Err(CoordinatorError::Settings("nobody listens".to_owned()));
                    };
                    asking.heard(hub, &arrival, id);
                    if let Arrival::Joined(client) = &arrival {
                        self.ask_again(hub, client, &cohort, &machine);
                    }
                    if let Arrival::Refused(name, _, why) = &arrival {
                        self.refusal = Some(format!("{name}: {why}"));
                    }
                    if !self.acknowledges_again(hub, &arrival)
                        && let Some(input) = input(arrival, id)
                    {
                        machine.handle(clock.at(Instant::now()), input)?;
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    let now = clock.at(Instant::now());
                    // Otherwise its end waits to be durable, and for nothing else.
                    if timeout.is_some() {
                        machine.handle_timeout(now);
                    }
                }
            }
        };
        // Who is late meets either the open round or what is left behind of it.
        match &outcome {
            Some(_) => {
                self.leave_behind(hub, &planned.plan, &cohort, &machine);
                self.counted = Counted::of(&machine);
            }
            None => self.give_up_on(&machine, &cohort),
        }
        hub.open(None);
        Ok((planned, outcome))
    }

    /// Does what the machine asks for; its outcome once there is one.
    fn settle(
        &mut self,
        hub: &Hub,
        machine: &mut Round,
        clock: &mut Awake,
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
                        machine.handle(clock.at(Instant::now()), Input::Stored(ticket))?;
                    }
                }
                Output::Send { to, message } => {
                    if let Message::Rejected(rejected) = &message {
                        tracing::warn!(client = %to, "contribution rejected: {}", rejected.detail);
                        self.observer.refused(&to, rejected.reason);
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

    /// How many clients a round opens with.
    fn needed(&self) -> usize {
        self.settings.open_with.max(self.settings.quorum.least())
    }

    /// Waits until enough clients are connected.
    async fn gather(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
    ) -> Result<(), CoordinatorError> {
        let needed = self.needed();
        let now = Instant::now();
        let mut patience = Patience::new(now, self.settings.patience, self.settings.silence);
        let mut tell = now;
        loop {
            let connected = hub.count();
            if connected >= needed {
                return Ok(());
            }
            let now = Instant::now();
            if now >= tell {
                tracing::info!("{connected} of {needed} clients that a round needs are connected");
                tell = now + STILL_TOO_FEW;
            }
            let wake = patience.wake().map_or(tell, |wake| wake.min(tell));
            let arrival = tokio::time::timeout_at(wake.into(), incoming.recv()).await;
            if let Ok(Some(arrival)) = arrival {
                self.wait_or_refuse(hub, arrival);
                tell = Instant::now();
            }
            if let Some(waited) = patience.is_over(Instant::now()) {
                return Err(CoordinatorError::TooFewClients {
                    connected: hub.count(),
                    needed,
                    seconds: waited.as_secs(),
                });
            }
        }
    }
}

/// Between two lines that say that too few clients are there, where none comes.
const STILL_TOO_FEW: Duration = Duration::from_secs(60);

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

#[cfg(test)]
mod tests;
