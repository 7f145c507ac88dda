mod ending;
mod late;
mod members;
mod restored;
mod said;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use fedistill_protocol::{
    Answers, Digest, Message, Name, Receipt, RejectReason, Rejected, RoundId,
};

use self::late::{Fit, Latecomers};
use self::members::{Member, Members};
pub use self::said::{
    Committed, CorruptLog, Event, Fault, Input, Missed, Output, RoundConfig, Ticket,
};
use crate::quorum::Verdict;
use crate::{Folded, Late, Partial};

/// The machine of one round: who contributes, when it is enough, what it comes to.
///
/// * Nothing is acknowledged before it is durable.
/// * A contribution counts once by (round, attempt, client): the same digest again gets the same
///   receipt, another one is rejected.
/// * A late one to the round before counts once too, where [`RoundConfig::folding`] says how, and
///   never for the quorum.
/// * The sum does not depend on the order of arrival.
///
/// After each call, pull [`Self::poll_output`] until it is empty, then ask
/// [`Self::poll_timeout`] when to call [`Self::handle_timeout`].
#[derive(Debug)]
pub struct Round {
    config: RoundConfig,
    /// When it was opened, restored or last extended: the quorum's times run from then.
    began: Instant,
    extensions: u32,
    members: Members,
    late: Latecomers,
    sum: Partial,
    each: BTreeMap<Name, Answers>,
    stage: Stage,
    tickets: BTreeMap<Ticket, Waiting>,
    next_ticket: u64,
    outputs: VecDeque<Output>,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Open,
    Over,
}

#[derive(Debug)]
enum Waiting {
    Opening,
    Receipt(Name),
    LateReceipt(Name),
    Extension(u32),
    Outcome(Box<Output>),
}

impl Round {
    /// Opens a round.
    pub fn open(config: RoundConfig, now: Instant) -> Self {
        let event = Event::Opened(config.id);
        let folding = config.folding.as_ref();
        let before = folding.and_then(|folding| folding.before.clone());
        let parts = parts(folding.is_some());
        let mut round = Self::blank(config, now, parts);
        round.persist(event, Waiting::Opening);
        if let Some(before) = before {
            round.persist(Event::Awaits(Box::new(before)), Waiting::Opening);
        }
        round.judge(now);
        round
    }

    /// Takes in what happened.
    ///
    /// A client's mistakes are answered to that client; only the driver's are errors here.
    ///
    /// # Errors
    /// [`Fault`], now and for every later call.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match input {
            Input::Joined(client) | Input::Heartbeat(client) => self.hear(now, &client),
            Input::Contributed {
                client,
                id,
                blob,
                answers,
            } => match self.take(&client, id, blob, answers) {
                Ok(None) => {}
                Ok(Some(receipt)) => self.send(client, receipt),
                Err(rejected) => self.send(client, rejected.about(id)),
            },
            Input::Left(client) => self.lose(&client, Member::Gone),
            Input::Refused(client) => self.lose(&client, Member::Unwilling),
            Input::Stored(ticket) => self.stored(ticket)?,
        }
        self.judge(now);
        Ok(())
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((last, client)) = self.members.most_silent()
            && now.duration_since(last) >= self.config.silence
        {
            let client = client.clone();
            self.members.set(&client, Member::Gone);
        }
        self.judge(now);
    }

    /// When [`Self::handle_timeout`] is due; `None` once the round is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stage == Stage::Over {
            return None;
        }
        let silent = self.members.most_silent();
        let silent = silent.map(|(last, _)| last + self.config.silence);
        let quorum = match self.verdict(Duration::ZERO) {
            Verdict::WaitUntil(after) => Some(self.began + after),
            // Somebody who is gone may come back until then.
            Verdict::GiveUp => Some(self.began + self.config.quorum.most_time()),
            Verdict::Commit => None,
        };
        silent.into_iter().chain(quorum).min()
    }

    /// The receipt of a client whose contribution counts and is durable.
    #[must_use]
    pub fn receipt(&self, client: &Name) -> Option<Receipt> {
        match self.members.get(client)? {
            Member::Taken {
                blob,
                durable: true,
            } => Some(Receipt {
                id: self.config.id,
                blob: *blob,
            }),
            _ => None,
        }
    }

    /// Who may still contribute: at work, or gone and welcome back.
    #[must_use]
    pub fn awaited(&self) -> Vec<Name> {
        self.members.awaited()
    }

    /// Which try at which round this is.
    #[must_use]
    pub fn id(&self) -> RoundId {
        self.config.id
    }

    /// Whose contributions this round has, in the order of names, and the digest of each.
    pub fn contributions(&self) -> impl Iterator<Item = (&Name, Digest)> {
        self.members.contributions()
    }

    /// Whose late contributions to the round before this one has.
    #[must_use]
    pub fn late(&self) -> BTreeMap<Name, Folded> {
        self.late.folded()
    }

    /// The next thing to do; call until `None` after each input.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn blank(config: RoundConfig, now: Instant, parts: u32) -> Self {
        let (rows, classes) = config.answers.unwrap_or_default();
        Self {
            began: now,
            extensions: 0,
            members: Members::new(config.cohort.keys(), now),
            late: Latecomers::new(config.folding.clone()),
            sum: Partial::in_parts(rows as usize, classes as usize, parts),
            each: BTreeMap::new(),
            stage: Stage::Open,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            outputs: VecDeque::new(),
            fault: None,
            config,
        }
    }

    fn hear(&mut self, now: Instant, client: &Name) {
        match self.members.get(client) {
            None | Some(Member::Taken { .. }) => {}
            Some(_) => self.members.set(client, Member::Working(now)),
        }
    }

    fn lose(&mut self, client: &Name, to: Member) {
        match self.members.get(client) {
            // One that was not waited for any more can still say that it will not.
            Some(Member::Working(_) | Member::Gone) => self.members.set(client, to),
            None | Some(Member::Unwilling | Member::Taken { .. }) => {}
        }
    }

    fn take(
        &mut self,
        client: &Name,
        id: RoundId,
        blob: Digest,
        answers: Option<Answers>,
    ) -> Result<Option<Receipt>, Rejected> {
        let reject = |reason, detail: String| Err(Rejected::new(reason, detail));
        if id != self.config.id {
            return self.take_late(client, id, blob, answers);
        }
        match self.members.get(client) {
            None => {
                let detail = format!("client {client} was not selected for round {id}");
                reject(RejectReason::NotSelected, detail)
            }
            Some(Member::Taken {
                blob: taken,
                durable,
            }) if *taken == blob => Ok(durable.then_some(Receipt { id, blob })),
            Some(Member::Taken { blob: taken, .. }) => {
                let detail = format!("client {client} already contributed {taken:?} to round {id}");
                reject(RejectReason::Conflict, detail)
            }
            Some(_) if self.stage == Stage::Over => reject(
                RejectReason::TooLate,
                format!("round {id} is over: await the next one"),
            ),
            Some(_) => {
                self.add(client, answers.as_ref())?;
                let durable = false;
                self.members.set(client, Member::Taken { blob, durable });
                let event = Event::Taken {
                    client: client.clone(),
                    blob,
                    answers,
                };
                self.persist(event, Waiting::Receipt(client.clone()));
                Ok(None)
            }
        }
    }

    fn take_late(
        &mut self,
        client: &Name,
        id: RoundId,
        blob: Digest,
        answers: Option<Answers>,
    ) -> Result<Option<Receipt>, Rejected> {
        let open = self.config.id;
        match self.late.judge(client, id, blob, answers.as_ref(), open)? {
            late::Verdict::Again(receipt) => Ok(Some(receipt)),
            late::Verdict::Pending => Ok(None),
            late::Verdict::New(_) if self.stage == Stage::Over => {
                let reason = RejectReason::TooLate;
                let detail = format!("rounds {id} and {open} are over: await the next one");
                Err(Rejected::new(reason, detail))
            }
            late::Verdict::New(Fit { parts, answers }) => {
                self.fold(parts, &answers)?;
                let folded = Folded { of: id, blob };
                self.late.hold(client.clone(), folded, false);
                let event = Event::Folded {
                    client: client.clone(),
                    folded,
                    parts,
                    answers,
                };
                self.persist(event, Waiting::LateReceipt(client.clone()));
                Ok(None)
            }
        }
    }

    /// Adds a late contribution to the sum, or leaves the sum as it is.
    fn fold(&mut self, parts: u32, answers: &Answers) -> Result<(), Rejected> {
        let method = &self.config.method;
        let taken = self.sum.by_parts(|sum| method.take(sum, parts, answers));
        taken.map_err(|error| Rejected::new(RejectReason::Malformed, error.to_string()))
    }

    /// Adds a contribution to the sum, or leaves the sum as it is.
    fn add(&mut self, client: &Name, answers: Option<&Answers>) -> Result<(), Rejected> {
        let malformed = |detail| Rejected::new(RejectReason::Malformed, detail);
        let Some(&weight) = self.config.cohort.get(client) else {
            let detail = format!("client {client} was not selected");
            return Err(Rejected::new(RejectReason::NotSelected, detail));
        };
        let actual = answers.map(|answers| (answers.rows(), answers.classes()));
        if actual != self.config.answers {
            let expected = self.config.answers;
            let detail = format!("answers of shape {actual:?}, the plan asks for {expected:?}");
            return Err(malformed(detail));
        }
        let Some(answers) = answers else {
            return Ok(());
        };
        let taken = self.config.method.take(&mut self.sum, weight, answers);
        taken.map_err(|error| malformed(error.to_string()))?;
        // One of no weight has no part in what is made of each either.
        if weight > 0 && self.config.method.keeps_each() {
            self.each.insert(client.clone(), answers.clone());
        }
        Ok(())
    }

    fn stored(&mut self, ticket: Ticket) -> Result<(), Fault> {
        match self.tickets.remove(&ticket) {
            None => {
                let fault = Fault::UnknownTicket(ticket);
                self.fault = Some(fault);
                return Err(fault);
            }
            Some(Waiting::Opening) => {}
            Some(Waiting::Receipt(client)) => {
                if let Some(&Member::Taken { blob, .. }) = self.members.get(&client) {
                    let durable = true;
                    self.members.set(&client, Member::Taken { blob, durable });
                    let id = self.config.id;
                    self.send(client, Receipt { id, blob });
                }
            }
            Some(Waiting::LateReceipt(client)) => {
                if let Some(receipt) = self.late.stored(&client) {
                    self.send(client, receipt);
                }
            }
            Some(Waiting::Extension(number)) => {
                self.outputs.push_back(Output::Extended(number));
            }
            Some(Waiting::Outcome(output)) => self.outputs.push_back(*output),
        }
        Ok(())
    }

    fn persist(&mut self, event: Event, waiting: Waiting) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.tickets.insert(ticket, waiting);
        self.outputs.push_back(Output::Persist(ticket, event));
    }

    fn send(&mut self, to: Name, message: impl Into<Message>) {
        self.outputs.push_back(Output::Send {
            to,
            message: message.into(),
        });
    }
}

/// Parts of a weight in the sum of a round.
fn parts(folds: bool) -> u32 {
    if folds { Late::PARTS } else { 1 }
}

#[cfg(test)]
mod tests;
