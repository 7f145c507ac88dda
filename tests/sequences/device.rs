//! A client: the real [`Agent`], and beside it what its driver would do, without a student.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fedistill_client::journal::{Entry, Kept};
use fedistill_client::{Agent, AgentConfig, Input, Output, Policy};
use fedistill_learning::Samples;
use fedistill_protocol::{
    AnswerKind, Answers, Contribution, Digest, Heartbeat, Message, Name, Precision, RoundId,
};

use crate::plan::{ROWS, Terms};

/// A device with a student that learns nothing: what it says is who it is.
pub(crate) struct Device {
    pub(crate) name: Name,
    number: usize,
    terms: Arc<Terms>,
    /// Dies with the process.
    agent: Agent,
    /// What it trains for; dies with the process.
    training: Option<RoundId>,
    /// What its agent has kept, on the device's disk.
    kept: Kept,
    /// Each round that it has answered: it is never trained for again.
    answered: BTreeSet<RoundId>,
    /// The latest plan that it was given.
    latest: Option<RoundId>,
    /// What it last announced.
    announced: Option<Contribution>,
    /// Blobs that its agent does not know of.
    forged: BTreeMap<Digest, Answers>,
    /// Whether it wants a connection.
    pub(crate) online: bool,
}

/// What a device wants sent.
pub(crate) type Sent = Vec<Message>;

impl Device {
    pub(crate) fn new(number: usize, terms: Arc<Terms>) -> Self {
        Self {
            name: name(number),
            number,
            agent: agent(&terms, &Kept::default()),
            terms,
            training: None,
            kept: Kept::default(),
            answered: BTreeSet::new(),
            latest: None,
            announced: None,
            forged: BTreeMap::new(),
            online: true,
        }
    }

    /// What it says in this round: nothing but a one, in a row of the round's and a column of its own.
    pub(crate) fn one_hot(&self, id: RoundId) -> Answers {
        let classes = self.terms.classes();
        let mut values = vec![0.0; ROWS * classes];
        values[row_of(id) * classes + self.number] = 1.0;
        answers(classes, values)
    }

    pub(crate) fn connected(&mut self) -> Result<Sent, String> {
        self.step(Input::Connected)
    }

    pub(crate) fn lost(&mut self) -> Result<(), String> {
        self.step(Input::Lost).map(drop)
    }

    pub(crate) fn hear(&mut self, message: Message) -> Result<Sent, String> {
        if let Message::Plan(plan) = &message {
            if self.latest.is_some_and(|latest| latest > plan.id) {
                return Err(format!(
                    "I5: {} is asked for round {} after round {:?}",
                    self.name, plan.id, self.latest
                ));
            }
            self.latest = Some(plan.id);
        }
        self.step(Input::Message(message))
    }

    /// Ends the training that is under way.
    pub(crate) fn finish(&mut self) -> Result<Sent, String> {
        let Some(id) = self.training.take() else {
            return Ok(Vec::new());
        };
        let answers = self.one_hot(id);
        self.step(Input::Trained(id, Ok(Some(answers))))
    }

    /// A heartbeat, where one is due.
    pub(crate) fn beat(&self) -> Option<Message> {
        let id = self.agent.training()?;
        Some(Heartbeat { id }.into())
    }

    pub(crate) fn replay(&self) -> Option<Message> {
        self.announced.map(Into::into)
    }

    /// Other answers for the round that it last announced some for.
    pub(crate) fn conflict(&mut self) -> Option<Message> {
        let id = self.announced?.id;
        let classes = self.terms.classes();
        let mut values = self.one_hot(id).values().to_vec();
        values[(row_of(id) + 1) % ROWS * classes + self.number] = 0.5;
        let answers = answers(classes, values);
        let bytes = answers.pack(Precision::F32);
        let blob = Digest::of(&bytes);
        self.forged.insert(blob, answers);
        let bytes = bytes.len() as u64;
        let update = None;
        let contribution = Contribution {
            id,
            blob,
            bytes,
            update,
        };
        Some(contribution.into())
    }

    /// The process is killed and started again: the journal is what is left.
    pub(crate) fn restart(&mut self) {
        self.agent = agent(&self.terms, &self.kept);
        self.training = None;
        self.forged.clear();
    }

    /// What the coordinator fetches under this name, if it is there.
    pub(crate) fn fetched(&self, blob: Digest) -> Option<Answers> {
        if let Some(answers) = self.forged.get(&blob) {
            return Some(answers.clone());
        }
        let mut offered = self.agent.offered().iter();
        let (_, bytes) = offered.find(|(digest, _)| *digest == blob)?;
        let classes = self.terms.classes() as u32;
        Answers::unpack(bytes, AnswerKind::Logits, ROWS as u32, classes).ok()
    }

    /// Writes to the disk, as the agent's driver does before it goes on.
    fn keep(&mut self, entry: Entry) -> Result<(), String> {
        match entry {
            Entry::Epoch(epoch) => self.kept.epoch = epoch,
            Entry::Begun(_) => {}
            Entry::Finished(finished) => {
                if !self.answered.insert(finished.id) {
                    return Err(format!("{} answers {} twice", self.name, finished.id));
                }
                self.kept.finished = Some(finished);
            }
            Entry::Counted { id, blob } => {
                let finished = self.kept.finished.as_mut();
                match finished.filter(|finished| (finished.id, finished.blob) == (id, blob)) {
                    Some(finished) => finished.counted = true,
                    None => return Err(format!("{} counts what it never gave", self.name)),
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, input: Input) -> Result<Sent, String> {
        let mut sent = Vec::new();
        self.agent.handle(input);
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Send(message) => {
                    if let Message::Contribution(contribution) = &message {
                        self.announced = Some(*contribution);
                    }
                    sent.push(message);
                }
                Output::Train(job) => {
                    let id = job.plan.id;
                    if self.answered.contains(&id) {
                        return Err(format!("{} trains twice for round {id}", self.name));
                    }
                    self.training = Some(id);
                }
                Output::Keep(entry) => self.keep(entry)?,
                Output::Cancel(_) => self.training = None,
                Output::Offer(_) | Output::Retract | Output::Counted(_) | Output::Note(_) => {}
                output @ (Output::Fetch { .. } | Output::Leave { .. } | Output::Stop(_)) => {
                    return Err(format!("{} wants {output:?}", self.name));
                }
            }
        }
        Ok(sent)
    }
}

fn agent(terms: &Terms, kept: &Kept) -> Agent {
    let mut agent = Agent::new(AgentConfig {
        federation: terms.manifest.federation.clone(),
        classes: terms.manifest.transfer.classes.clone(),
        shape: terms.manifest.transfer.shape.clone(),
        policy: Policy::default(),
    });
    let set: Arc<Samples> = Arc::clone(&terms.set);
    agent.restore(kept.epoch, kept.finished.clone());
    agent.hold(terms.manifest.transfer.blob, set);
    agent
}

pub(crate) fn name(number: usize) -> Name {
    format!("client-{number}").parse().unwrap()
}

/// Which row a client speaks in, so that what belongs to another round shows.
pub(crate) fn row_of(id: RoundId) -> usize {
    (3 * id.round + id.attempt) as usize % ROWS
}

fn answers(classes: usize, values: Vec<f32>) -> Answers {
    Answers::new(AnswerKind::Logits, classes as u32, values).unwrap()
}
