//! A coordinator's process: the real [`Round`] over a real [`Store`], and beside it what its driver
//! would do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use fedistill_coordinator::{OpenRound, Outcome, Saved, Store};
use fedistill_federation::{
    Before, Committed, Event, Input, Output, Round, RoundConfig, Ticket, select,
};
use fedistill_protocol::{
    Answers, Contribution, Digest, Message, Name, RejectReason, Rejected, RoundId, RoundPlan,
};

use crate::book::Book;
use crate::device::name;
use crate::plan::{MOST_TIME, Plain, SILENCE, Terms};

/// What outlives a process, and what time it is.
pub(crate) struct Around<'a> {
    pub(crate) store: &'a mut dyn Store,
    pub(crate) book: &'a mut Book,
    pub(crate) now: Instant,
}

/// All of it dies with the process.
pub(crate) struct Centre {
    terms: Arc<Terms>,
    epoch: u64,
    /// The next try.
    next: RoundId,
    running: Option<Running>,
    /// The round before, where contributions to it may still come.
    before: Option<Before>,
    /// Those that have, while no round was open.
    early: BTreeMap<usize, Input>,
    /// Who is connected, and which round each was last told of on this connection.
    members: BTreeMap<usize, Option<RoundId>>,
    /// What is to be durable, and is not yet.
    pending: VecDeque<(Ticket, Event)>,
    pub(crate) outbox: Vec<(usize, Message)>,
}

struct Running {
    plan: RoundPlan,
    cohort: BTreeMap<Name, u32>,
    machine: Round,
    /// When its time began to run.
    since: Instant,
}

impl Running {
    /// Whose contributions may still come once it is over.
    fn left_behind(&self) -> Option<Before> {
        let awaited = self.machine.awaited().into_iter();
        let missing: BTreeMap<Name, u32> = awaited.map(|name| (name, 1)).collect();
        (!missing.is_empty()).then(|| Before {
            plan: self.plan.clone(),
            missing,
        })
    }
}

impl Centre {
    /// Starts on what the process before it left.
    pub(crate) fn start(
        terms: Arc<Terms>,
        epoch: u64,
        around: &mut Around<'_>,
    ) -> Result<Self, String> {
        let Saved { round, open, .. } = around.store.load().map_err(told)?;
        let attempt = open.as_ref().map_or(0, |open| open.plan.id.attempt);
        let mut centre = Self {
            terms,
            epoch,
            next: RoundId { round, attempt },
            running: None,
            before: None,
            early: BTreeMap::new(),
            members: BTreeMap::new(),
            pending: VecDeque::new(),
            outbox: Vec::new(),
        };
        if let Some(OpenRound {
            plan,
            cohort,
            events,
        }) = open
        {
            centre.before = events.iter().find_map(|event| match event {
                Event::Awaits(before) => Some(before.as_ref().clone()),
                _ => None,
            });
            let config = centre.config(plan.id, cohort.clone());
            let machine = match events.is_empty() {
                true => {
                    around.store.open(&plan, &cohort).map_err(told)?;
                    Round::open(config, around.now)
                }
                false => {
                    around.book.tally.restored += 1;
                    Round::restore(config, around.now, events).map_err(told)?
                }
            };
            centre.running = Some(Running {
                plan,
                cohort,
                machine,
                since: around.now,
            });
            centre.go_on(around)?;
        }
        Ok(centre)
    }

    pub(crate) fn joined(&mut self, client: usize, around: &mut Around<'_>) -> Result<(), String> {
        self.members.insert(client, None);
        self.outbox
            .push((client, self.terms.manifest.clone().into()));
        self.tell(Input::Joined(name(client)), around)
    }

    pub(crate) fn left(&mut self, client: usize, around: &mut Around<'_>) -> Result<(), String> {
        match self.members.remove(&client) {
            Some(_) => self.tell(Input::Left(name(client)), around),
            None => Ok(()),
        }
    }

    pub(crate) fn beat(&mut self, client: usize, around: &mut Around<'_>) -> Result<(), String> {
        self.tell(Input::Heartbeat(name(client)), around)
    }

    /// A client announces a contribution; `fetched` is what it then gives.
    pub(crate) fn announced(
        &mut self,
        client: usize,
        contribution: &Contribution,
        fetched: impl FnOnce(Digest) -> Option<Answers>,
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        let Contribution { id, blob, .. } = *contribution;
        let awaited = self.before.as_ref();
        let awaited = awaited.filter(|before| before.plan.id == id);
        let open = self
            .running
            .as_ref()
            .is_some_and(|running| running.plan.id == id);
        let answers = match open || awaited.is_some() {
            true => match fetched(blob) {
                Some(answers) => Some(answers),
                // It broke off.
                None => return Ok(()),
            },
            false => None,
        };
        if let Some(answers) = &answers {
            around.book.said(blob, answers);
        }
        let input = Input::Contributed {
            client: name(client),
            id,
            blob,
            answers,
        };
        if self.running.is_none() {
            // Between two rounds: it waits for the next, or comes too late.
            match awaited.is_some_and(|before| before.missing.contains_key(&name(client))) {
                true => {
                    self.early.insert(client, input);
                }
                false => {
                    let detail = format!("round {id} is over");
                    let rejected = Rejected::new(RejectReason::TooLate, detail);
                    self.outbox.push((client, rejected.about(id).into()));
                }
            }
            return Ok(());
        }
        if !open {
            // What it is told of that round it may take for the open one: it is asked again.
            self.members.insert(client, None);
        }
        let before = self.outbox.len();
        self.tell(input, around)?;
        for (to, message) in self.outbox.iter().skip(before) {
            if *to == client && matches!(message, Message::Rejected(_)) {
                around.book.rejected(&name(client), id, blob, self.next)?;
            }
        }
        Ok(())
    }

    /// What is to be durable becomes so.
    pub(crate) fn persist(&mut self, around: &mut Around<'_>) -> Result<(), String> {
        while let Some((ticket, event)) = self.pending.pop_front() {
            self.write(&event, around)?;
            self.tell(Input::Stored(ticket), around)?;
        }
        Ok(())
    }

    /// The same, and then it dies.
    pub(crate) fn die_after_writing(mut self, around: &mut Around<'_>) -> Result<(), String> {
        while let Some((_, event)) = self.pending.pop_front() {
            self.write(&event, around)?;
        }
        Ok(())
    }

    /// When it has something to do by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.running.as_ref()?.machine.poll_timeout()
    }

    /// Whether a round is open that waits for nothing: no time, and no disk.
    pub(crate) fn is_stuck(&self) -> bool {
        self.running.is_some() && self.pending.is_empty() && self.due().is_none()
    }

    pub(crate) fn wake(&mut self, around: &mut Around<'_>) -> Result<(), String> {
        if let Some(running) = &mut self.running {
            running.machine.handle_timeout(around.now);
        }
        self.go_on(around)
    }

    fn write(&self, event: &Event, around: &mut Around<'_>) -> Result<(), String> {
        let Some(running) = &self.running else {
            return Err(format!("{event:?} belongs to no round"));
        };
        let id = running.plan.id;
        around
            .store
            .append(id, std::slice::from_ref(event))
            .map_err(told)?;
        around.book.stored(id, event)
    }

    fn tell(&mut self, input: Input, around: &mut Around<'_>) -> Result<(), String> {
        if let Some(running) = &mut self.running {
            running.machine.handle(around.now, input).map_err(told)?;
        }
        self.go_on(around)
    }

    /// Does all that the machine asks for, opens the next round where there is none, and tells
    /// clients.
    fn go_on(&mut self, around: &mut Around<'_>) -> Result<(), String> {
        loop {
            let Some(running) = &mut self.running else {
                if !self.open(around)? {
                    return Ok(());
                }
                continue;
            };
            match running.machine.poll_output() {
                None => break,
                // The log has begun with it when it was opened.
                Some(Output::Persist(ticket, Event::Opened(_))) => {
                    let stored = Input::Stored(ticket);
                    running.machine.handle(around.now, stored).map_err(told)?;
                }
                Some(Output::Persist(ticket, event)) => {
                    if let Event::Extended(number) = event {
                        let waited = around.now - std::mem::replace(&mut running.since, around.now);
                        if waited < MOST_TIME {
                            return Err(format!("I9: extension {number} comes after {waited:?}"));
                        }
                    }
                    self.pending.push_back((ticket, event));
                }
                Some(Output::Send { to, message }) => {
                    if let Message::Receipt(receipt) = &message {
                        around.book.receipt(&to, receipt)?;
                    }
                    let members = self.members.keys().copied();
                    if let Some(client) = members.into_iter().find(|client| name(*client) == to) {
                        self.outbox.push((client, message));
                    }
                }
                Some(Output::Extended(_)) => around.book.tally.extended += 1,
                Some(Output::Committed(committed)) => self.close(&committed, around)?,
                Some(Output::Aborted) => {
                    around.book.tally.aborted += 1;
                    let late = running.machine.late();
                    if let Some(before) = &mut self.before {
                        before
                            .missing
                            .retain(|client, _| !late.contains_key(client));
                    }
                    self.next.attempt += 1;
                    self.running = None;
                }
            }
        }
        self.greet(around)
    }

    fn close(&mut self, committed: &Committed, around: &mut Around<'_>) -> Result<(), String> {
        around.book.committed(committed)?;
        let contributors = committed.contributors.clone();
        if contributors.len() < self.terms.setup.least.into() {
            around.book.tally.settled += 1;
        }
        let round = self.next.round;
        let next = Saved {
            round: round + 1,
            ..Saved::default()
        };
        let outcome = Outcome {
            contributors,
            aggregate: committed.sum.digest(),
            teacher: None,
        };
        around.store.close(&next, &outcome).map_err(told)?;
        around.book.closed(round, self.epoch)?;
        self.early.clear();
        self.before = self.running.as_ref().and_then(Running::left_behind);
        self.before.take_if(|_| !self.terms.setup.folds);
        self.next = RoundId {
            round: round + 1,
            attempt: 0,
        };
        self.running = None;
        Ok(())
    }

    /// Opens the next try, once enough are connected.
    fn open(&mut self, around: &mut Around<'_>) -> Result<bool, String> {
        let setup = self.terms.setup;
        if self.members.len() < setup.least.into() {
            return Ok(false);
        }
        let id = self.next;
        let candidates = self.candidates();
        let chosen = select(1, id.round, &candidates, setup.asked.into());
        let cohort: BTreeMap<Name, u32> = chosen.into_iter().map(|name| (name, 1)).collect();
        let plan = self.terms.plan(id, cohort.len());
        around.store.open(&plan, &cohort).map_err(told)?;
        let mut machine = Round::open(self.config(id, cohort.clone()), around.now);
        for (client, input) in std::mem::take(&mut self.early) {
            self.members.insert(client, None);
            machine.handle(around.now, input).map_err(told)?;
        }
        self.running = Some(Running {
            plan,
            cohort,
            machine,
            since: around.now,
        });
        Ok(true)
    }

    /// Whom a round may ask: not who is still at work for the round before, if enough others are here.
    fn candidates(&self) -> Vec<Name> {
        let missing = self.before.as_ref().map(|before| &before.missing);
        let late = |client: &usize| {
            missing.is_some_and(|missing| missing.contains_key(&name(*client)))
                && !self.early.contains_key(client)
        };
        let all = self.members.keys();
        let free: Vec<Name> = all.filter(|c| !late(c)).map(|c| name(*c)).collect();
        match free.len() >= self.terms.setup.least.into() {
            true => free,
            false => self.members.keys().map(|client| name(*client)).collect(),
        }
    }

    /// Tells each client of the cohort once on each connection what is asked, or that it counts.
    fn greet(&mut self, around: &mut Around<'_>) -> Result<(), String> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        let id = running.plan.id;
        for (client, told) in &mut self.members {
            let name = name(*client);
            if *told == Some(id) || !running.cohort.contains_key(&name) {
                continue;
            }
            *told = Some(id);
            let message = match running.machine.receipt(&name) {
                Some(receipt) => {
                    around.book.receipt(&name, &receipt)?;
                    receipt.into()
                }
                None => Message::Plan(running.plan.clone()),
            };
            self.outbox.push((*client, message));
        }
        Ok(())
    }

    fn config(&self, id: RoundId, cohort: BTreeMap<Name, u32>) -> RoundConfig {
        let plan = self.terms.plan(id, cohort.len());
        RoundConfig {
            id,
            cohort,
            quorum: self.terms.quorum(),
            missed: self.terms.setup.missed,
            folding: self.terms.folding(&plan, self.before.as_ref()),
            silence: SILENCE,
            answers: plan.report.map(|report| {
                let classes = self.terms.classes() as u32;
                (report.about.count(classes), report.width)
            }),
            method: Arc::new(Plain),
        }
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
