//! The machine of a client, without IO.

mod said;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;

use fedistill_learning::Samples;
use fedistill_protocol::{
    Answers, Contribution, Digest, Hello, Message, Receipt, Refusal, RejectReason, Rejected,
    RoundId, RoundPlan, TransferManifest, TransferSet, Update, Welcome,
};

pub use self::said::{AgentConfig, Blob, Input, Job, Output, Stop};
use self::waiting::Waiting;
use crate::{Held, Wanted};

/// Follows the protocol on behalf of a student: sans-IO, and without ever seeing a sample of its own.
///
/// After each [`Self::handle`], pull [`Self::poll_output`] until it is empty.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    welcome: Option<Welcome>,
    transfer: Option<(Digest, Arc<Samples>)>,
    work: Work,
    /// What came down last.
    known: Vec<(Digest, Arc<Answers>)>,
    /// What this side gave back last, as it is on the other side.
    given: Option<(Digest, Arc<Answers>)>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum Work {
    Idle,
    /// A plan waits for the transfer set or its knowledge.
    Waiting(Waiting),
    Training(Arc<RoundPlan>),
    Done {
        contribution: Contribution,
        blobs: Vec<Blob>,
        /// The answers as they are on the other side, where the next ones may be an update of them.
        answers: Option<Arc<Answers>>,
    },
}

impl Agent {
    /// An agent that is not yet connected.
    pub fn new(config: AgentConfig) -> Self {
        Self {
            config,
            welcome: None,
            transfer: None,
            work: Work::Idle,
            known: Vec::new(),
            given: None,
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

    /// The blobs of the contribution that waits for its receipt.
    pub fn offered(&self) -> &[Blob] {
        match &self.work {
            Work::Done { blobs, .. } => blobs,
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
                })));
            }
            Input::Lost => {
                self.welcome = None;
                if let Work::Waiting(_) = self.work {
                    // What it waited for will not come; the coordinator sends the plan again.
                    self.work = Work::Idle;
                }
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
            Input::Trained(id, result) => self.trained(id, result),
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Welcome(welcome) => self.greet(welcome),
            Message::Plan(plan) => self.plan(plan),
            Message::Receipt(receipt) => self.counted(receipt),
            Message::Rejected(rejected) => self.rejected(rejected),
            Message::Goodbye(goodbye) if goodbye.back => {
                self.put(Output::Note(format!(
                    "the coordinator is away: {}",
                    goodbye.why
                )));
            }
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
        if self.transfer.as_ref().is_none_or(|(held, _)| held != blob) {
            self.transfer = None;
            let (blob, bytes) = (*blob, *bytes);
            self.put(Output::Fetch { blob, bytes });
        }
        self.welcome = Some(welcome);
    }

    fn plan(&mut self, plan: RoundPlan) {
        let Some(manifest) = self.welcome.as_ref().map(|w| w.transfer.clone()) else {
            return self.put(Output::Note("ignored a plan before the welcome".to_owned()));
        };
        match &self.work {
            Work::Training(current) | Work::Waiting(Waiting { plan: current, .. })
                if current.id == plan.id =>
            {
                return;
            }
            Work::Done { contribution, .. } if contribution.id == plan.id => {
                // The connection broke before the receipt came.
                let again = *contribution;
                return self.put(Output::Send(again.into()));
            }
            _ => self.drop_work(),
        }
        let classes = manifest.classes.len() as u32;
        let fault = match plan.federation == self.config.federation {
            true => plan
                .check(manifest.blob, manifest.samples, classes)
                .map_err(|error| error.to_string()),
            false => Err(format!("the plan is for federation {}", plan.federation)),
        };
        let fault = fault.and_then(|()| self.config.policy.check(&plan));
        if let Err(why) = fault {
            self.put(Output::Note(format!(
                "refused the plan of round {}: {why}",
                plan.id
            )));
            let why = cut(why);
            return self.put(Output::Send(Refusal { id: plan.id, why }.into()));
        }
        self.work = Work::Waiting(Waiting {
            plan: Arc::new(plan),
            got: Vec::new(),
            whole: false,
        });
        if self.transfer.is_some() {
            self.prepare();
        }
    }

    /// The transfer set is here, a plan waits: get what is missing of its knowledge, or begin.
    fn prepare(&mut self) {
        let classes = self.classes();
        let Work::Waiting(waiting) = &mut self.work else {
            return;
        };
        // What is here need not come again.
        while let Some(knowledge) = waiting.plan.knowledge.get(waiting.got.len())
            && let Some((_, answers)) = self.known.iter().find(|(blob, _)| *blob == knowledge.blob)
        {
            waiting.got.push(Arc::clone(answers));
        }
        match waiting.next(&self.known, classes) {
            Some((blob, bytes, _)) => self.put(Output::Fetch { blob, bytes }),
            None => self.train(),
        }
    }

    fn classes(&self) -> u32 {
        self.config.classes.len() as u32
    }

    /// What a blob that is to be fetched has to be; `None` for one that nothing waits for.
    pub fn wanted(&self, blob: Digest) -> Option<Wanted> {
        let manifest = &self.welcome.as_ref()?.transfer;
        if manifest.blob == blob && self.transfer.is_none() {
            return Some(Wanted::Transfer);
        }
        let Work::Waiting(waiting) = &self.work else {
            return None;
        };
        let (next, _, wanted) = waiting.next(&self.known, self.classes())?;
        (next == blob).then_some(wanted)
    }

    fn held(&mut self, blob: Digest, held: Held) {
        let (Some(wanted), Some(welcome)) = (self.wanted(blob), &self.welcome) else {
            return;
        };
        match (wanted, held) {
            (Wanted::Transfer, Held::Transfer(set)) => {
                let TransferManifest { shape, samples, .. } = &welcome.transfer;
                if set.shape() == shape && set.len() == *samples as usize {
                    self.transfer = Some((blob, set));
                    return self.prepare();
                }
                let why = format!(
                    "it has {} samples of shape {:?}, announced were {samples} of {shape:?}",
                    set.len(),
                    set.shape()
                );
                self.unusable(blob, &why);
            }
            (wanted, Held::Knowledge(answers)) if wanted.fits(&answers) => {
                if let Work::Waiting(waiting) = &mut self.work {
                    waiting.got.push(answers);
                }
                self.prepare();
            }
            _ => self.unusable(blob, "it is held as something else"),
        }
    }

    /// A blob is here and cannot be used.
    fn unusable(&mut self, blob: Digest, why: &str) {
        match self.wanted(blob) {
            None => {}
            Some(Wanted::Transfer) => {
                let why = format!("the transfer set cannot be used: {why}");
                self.put(Output::Stop(Stop::Unfit(why)));
            }
            Some(Wanted::Update { .. }) => {
                if let Work::Waiting(waiting) = &mut self.work {
                    waiting.whole = true;
                }
                self.prepare();
            }
            Some(Wanted::Knowledge { .. }) => {
                if let Work::Waiting(waiting) = std::mem::replace(&mut self.work, Work::Idle) {
                    let id = waiting.plan.id;
                    let why = cut(format!("the knowledge cannot be used: {why}"));
                    self.put(Output::Send(Refusal { id, why }.into()));
                }
            }
        }
    }

    fn train(&mut self) {
        let Work::Waiting(Waiting { plan, got, .. }) =
            std::mem::replace(&mut self.work, Work::Idle)
        else {
            return;
        };
        let Some((_, transfer)) = &self.transfer else {
            return;
        };
        let blobs = plan.knowledge.iter().map(|knowledge| knowledge.blob);
        self.known = blobs.zip(got.iter().cloned()).collect();
        let job = Job {
            plan: Arc::clone(&plan),
            knowledge: got,
            transfer: Arc::clone(transfer),
        };
        self.work = Work::Training(plan);
        self.put(Output::Train(Box::new(job)));
    }

    fn trained(&mut self, id: RoundId, result: Result<Option<Answers>, String>) {
        let Work::Training(plan) = &self.work else {
            return;
        };
        if plan.id != id {
            return;
        }
        let answers = match result {
            Ok(answers) => answers,
            Err(why) => {
                self.work = Work::Idle;
                self.put(Output::Note(format!(
                    "training for round {id} failed: {why}"
                )));
                let why = cut(why);
                return self.put(Output::Send(Refusal { id, why }.into()));
            }
        };
        let bytes: Arc<[u8]> = match (&plan.report, &answers) {
            (Some(report), Some(answers)) => answers.pack(report.precision).into(),
            _ => Arc::new([]),
        };
        let mut contribution = Contribution {
            id,
            blob: Digest::of(&bytes),
            bytes: bytes.len() as u64,
            update: None,
        };
        let mut blobs = vec![(contribution.blob, Arc::clone(&bytes))];
        let mut rounded = None;
        if let (Some(report), Some(answers)) = (&plan.report, answers)
            && report.update
        {
            let (kind, rows) = (answers.kind(), answers.rows());
            rounded = Answers::unpack(&bytes, kind, rows, answers.classes()).ok();
            if let Some((base, given)) = &self.given
                && let Some(update) = answers.update(given, report.precision)
                && update.len() < bytes.len()
            {
                let blob = Digest::of(&update);
                contribution.update = Some(Update {
                    base: *base,
                    blob,
                    bytes: update.len() as u64,
                });
                blobs.push((blob, update.into()));
            }
        }
        self.put(Output::Offer(blobs.clone()));
        self.work = Work::Done {
            contribution,
            blobs,
            answers: rounded.map(Arc::new),
        };
        if self.welcome.is_some() {
            self.put(Output::Send(contribution.into()));
        }
    }

    fn counted(&mut self, receipt: Receipt) {
        if let Work::Done {
            contribution,
            answers,
            ..
        } = &self.work
            && (contribution.id, contribution.blob) == (receipt.id, receipt.blob)
        {
            if let Some(answers) = answers {
                self.given = Some((contribution.blob, Arc::clone(answers)));
            }
            self.work = Work::Idle;
            self.put(Output::Retract);
            self.put(Output::Counted(receipt.id));
        }
    }

    fn rejected(&mut self, rejected: Rejected) {
        let Rejected { reason, detail } = rejected;
        match reason {
            RejectReason::WrongFederation | RejectReason::WrongClasses => {
                self.put(Output::Stop(Stop::NotWelcome(detail)));
            }
            _ => {
                self.put(Output::Note(format!(
                    "the coordinator rejects ({reason:?}): {detail}"
                )));
                self.drop_work();
            }
        }
    }

    fn drop_work(&mut self) {
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Training(plan) => self.put(Output::Cancel(plan.id)),
            Work::Done { .. } => self.put(Output::Retract),
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
