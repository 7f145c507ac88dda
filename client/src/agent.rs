//! The machine of a client, without IO.

mod again;
mod answer;
mod answered;
mod done;
mod gather;
mod said;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fedistill_learning::Samples;
use fedistill_protocol::{
    Answers, Digest, Hello, Message, Refusal, RoundId, RoundPlan, TransferManifest, TransferSet,
    Version, Welcome,
};

use self::answered::Answered;
use self::done::Done;
pub use self::said::{AgentConfig, Blob, Input, Job, Output, Stop};
use self::waiting::Waiting;
use crate::journal::{Begun, Entry, Finished};

/// Follows the protocol on behalf of a student: sans-IO, and without ever seeing a sample of its own.
///
/// After each [`Self::handle`], pull [`Self::poll_output`] until it is empty.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    /// What the connection speaks, or the last one did.
    version: Version,
    welcome: Option<Welcome>,
    transfer: Option<(Digest, Arc<Samples>)>,
    work: Work,
    /// What came down last.
    known: Vec<(Digest, Arc<Answers>)>,
    /// What this side gave back last, as it is on the other side.
    given: Option<(Digest, Arc<Answers>)>,
    answered: Option<Answered>,
    /// The plan that a process before was at work on.
    begun: Option<Begun>,
    /// The epoch of the coordinator that has asked for what is at work or answered: only such a one is given the
    /// answer unasked, since another one may have begun anew and mean something else by the same number.
    asked_in: u64,
    /// The latest epoch of the federation that it has seen.
    epoch: u64,
    /// Of its student.
    parameters: u64,
    /// Whether what it keeps outlives it: what counts is then held on to, in case it is asked for again.
    durable: bool,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum Work {
    Idle,
    /// A plan waits for what it needs of the transfer set and of its knowledge.
    Waiting(Waiting),
    Training(Arc<RoundPlan>),
    Done(Box<Done>),
}

impl Agent {
    /// An agent that is not yet connected.
    pub fn new(config: AgentConfig) -> Self {
        Self {
            config,
            version: Version::LATEST,
            welcome: None,
            transfer: None,
            work: Work::Idle,
            known: Vec::new(),
            given: None,
            answered: None,
            begun: None,
            asked_in: 0,
            epoch: 0,
            parameters: 0,
            durable: false,
            outputs: VecDeque::new(),
        }
    }

    /// Begins with this in hand of what came down last.
    pub fn know(&mut self, blob: Digest, answers: Arc<Answers>) {
        self.known.push((blob, answers));
    }

    /// Begins with this as what it gave back last.
    pub fn gave(&mut self, blob: Digest, answers: Arc<Answers>) {
        self.given = Some((blob, answers));
    }

    /// Begins with the transfer set of this digest in hand.
    pub fn hold(&mut self, blob: Digest, transfer: Arc<Samples>) {
        self.transfer = Some((blob, transfer));
    }

    /// Says which version the coming connection speaks: the latest, where nothing is said.
    pub fn speak(&mut self, version: Version) {
        self.version = version;
    }

    /// Says of how many parameters its student is made.
    pub fn of_size(&mut self, parameters: u64) {
        self.parameters = parameters;
    }

    /// Begins where another one left off, which had kept this: what it says in [`Output::Keep`] outlives it.
    pub fn restore(&mut self, epoch: u64, finished: Option<Finished>) {
        self.durable = true;
        self.epoch = epoch;
        if let Some(finished) = finished {
            self.answered = Some(Answered::from(&finished));
            self.asked_in = finished.epoch;
            self.work = Work::Done(Box::new(Done::restored(finished)));
        }
    }

    /// Goes on with what another one was at work on: that plan keeps its identity, however it is packed when it is heard again.
    pub fn go_on(&mut self, begun: Begun) {
        self.begun = Some(begun);
    }

    /// The next thing to do; call until `None` after each input.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The round that is being trained for.
    pub fn training(&self) -> Option<RoundId> {
        match &self.work {
            Work::Training(plan) => Some(plan.id),
            _ => None,
        }
    }

    /// The round that the coordinator waits for it in: what its plan needs is on its way, it is being trained for, or its
    /// answer is given and has no receipt yet.
    pub fn at_work(&self) -> Option<RoundId> {
        match &self.work {
            Work::Idle => None,
            Work::Waiting(waiting) => Some(waiting.plan.id),
            Work::Training(plan) => Some(plan.id),
            Work::Done(done) => done.awaits_receipt(),
        }
    }

    /// The blobs of the contribution that waits for its receipt.
    pub fn offered(&self) -> &[Blob] {
        match &self.work {
            Work::Done(done) => done.blobs(),
            _ => &[],
        }
    }

    /// What the coordinator said on this connection.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input) {
        match input {
            Input::Connected => {
                self.welcome = None;
                self.put(Output::Send(Message::Hello(Hello {
                    federation: self.config.federation.clone(),
                    software: concat!("fedistill ", env!("CARGO_PKG_VERSION")).to_owned(),
                    classes: self.config.classes.clone(),
                    transfer: self.transfer.as_ref().map(|(digest, _)| *digest),
                    epoch: self.epoch,
                    parameters: self.parameters,
                })));
            }
            Input::Lost => {
                self.welcome = None;
                // What it waited for will not come; the coordinator sends the plan again.
                self.work.take_waiting();
            }
            Input::Message(message) => self.hear(message),
            Input::Fetched(blob, bytes) => {
                let unpacked = self.wanted(blob).map(|wanted| wanted.unpack(&bytes));
                match unpacked {
                    None => {}
                    Some(Ok(held)) => self.held(blob, held),
                    Some(Err(error)) => self.unusable(blob, &error.to_string()),
                }
            }
            Input::Held(blob, held) => self.held(blob, held),
            Input::NotOffered(blob) => self.not_offered(blob),
            Input::Trained(id, result) => self.trained(id, result),
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Welcome(welcome) => self.greet(welcome),
            Message::Plan(plan) => self.plan(plan),
            Message::Receipt(receipt) => self.counted(receipt),
            Message::Rejected(rejected) => self.rejected(rejected),
            Message::Goodbye(goodbye) if goodbye.back => self.put(Output::Leave {
                why: format!("the coordinator is away: {}", goodbye.why),
                after: Duration::from_millis(goodbye.after_ms.into()),
                outdated: false,
            }),
            Message::Goodbye(goodbye) => self.put(Output::Stop(Stop::Finished(goodbye.why))),
            other => {
                let kind = other.kind().name();
                self.put(Output::Note(format!(
                    "ignored a {kind}: a coordinator sends none"
                )));
            }
        }
    }

    fn greet(&mut self, welcome: Welcome) {
        // A coordinator of an older version says none.
        if (1..self.epoch).contains(&welcome.epoch) {
            let (seen, epoch) = (self.epoch, welcome.epoch);
            return self.put(Output::Leave {
                why: format!(
                    "the coordinator is of epoch {epoch}, one of epoch {seen} was here before: its state is an old copy, or another one runs"
                ),
                after: Duration::ZERO,
                outdated: true,
            });
        }
        if welcome.epoch > self.epoch {
            self.epoch = welcome.epoch;
            if self.durable {
                self.put(Output::Keep(Entry::Epoch(self.epoch)));
            }
        }
        let TransferManifest {
            blob,
            bytes,
            shape,
            classes,
            ..
        } = &welcome.transfer;
        if *classes != self.config.classes {
            return self.put(Output::Stop(Stop::Unfit(format!(
                "the federation has the classes {classes:?}, this client {:?}: they must be the same, in the same order",
                self.config.classes
            ))));
        }
        if *shape != self.config.shape {
            return self.put(Output::Stop(Stop::Unfit(format!(
                "samples of the transfer set have shape {shape:?}, private ones {:?}: they must be the same",
                self.config.shape
            ))));
        }
        if *bytes > TransferSet::MAX_BYTES {
            return self.put(Output::Stop(Stop::Unfit(format!(
                "a transfer set of {bytes} bytes is announced, at most {} can be held",
                TransferSet::MAX_BYTES
            ))));
        }
        self.transfer.take_if(|(held, _)| held != blob);
        self.welcome = Some(welcome);
        // It may count still, even where the coordinator has gone on to another round.
        if let Work::Done(done) = &self.work
            && done.is_open()
            && self.is_asked()
        {
            self.answer_again();
        }
    }

    fn plan(&mut self, plan: RoundPlan) {
        let Some(welcome) = &self.welcome else {
            return self.put(Output::Note("ignored a plan before the welcome".to_owned()));
        };
        let manifest = welcome.transfer.clone();
        match &self.work {
            // One that only looks the same, as of a coordinator that began anew, takes its place.
            Work::Training(current) | Work::Waiting(Waiting { plan: current, .. })
                if current.asks_the_same(&plan) =>
            {
                self.asked_in = welcome.epoch;
                return;
            }
            Work::Done(done) if done.answers(&plan) => {
                self.asked_in = welcome.epoch;
                // The connection broke before the receipt came, or this side did, or the other.
                return self.answer_again();
            }
            Work::Done(done) if done.asked_again().is_some_and(|again| *again.plan == plan) => {
                return;
            }
            _ => {}
        }
        let classes = manifest.classes.len() as u32;
        let fault = match plan.federation == self.config.federation {
            true => plan
                .check(manifest.blob, manifest.samples, classes)
                .map_err(|error| error.to_string()),
            false => Err(format!("the plan is for federation {}", plan.federation)),
        };
        let fault = fault.and_then(|()| self.config.policy.check(&plan));
        let may_be_answered = matches!(&self.work, Work::Done(done) if done.may_answer(&plan));
        if !may_be_answered || fault.is_err() {
            if self.has_gone_back(plan.id) {
                return;
            }
            self.drop_work();
        }
        if let Err(why) = fault {
            self.put(Output::Note(format!(
                "refused the plan of round {}: {why}",
                plan.id
            )));
            let why = cut(why);
            return self.put(Output::Send(Refusal { id: plan.id, why }.into()));
        }
        self.work.wait(Waiting {
            plan: Arc::new(plan),
            got: Vec::new(),
            whole: false,
        });
        self.prepare();
    }

    fn drop_work(&mut self) {
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Training(plan) => self.put(Output::Cancel(plan.id)),
            Work::Done(_) => self.put(Output::Retract),
            Work::Idle | Work::Waiting(_) => {}
        }
    }

    fn put(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}

/// A reason that fits its frame.
fn cut(why: String) -> String {
    why.chars().take(200).collect()
}

#[cfg(test)]
pub(crate) mod tests;
