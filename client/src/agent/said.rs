//! What is said to an agent, and what it says.

use std::sync::Arc;
use std::time::Duration;

use fedistill_learning::Samples;
use fedistill_protocol::{Answers, Digest, Message, Name, RoundId, RoundPlan};

use crate::journal::Entry;
use crate::{Held, Policy};

/// Who the agent speaks for.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The federation it wants to take part in.
    pub federation: Name,
    /// Names of the classes, in the order of the student's outputs.
    pub classes: Vec<String>,
    /// Shape of a private sample.
    pub shape: Vec<u32>,
    /// What the device allows.
    pub policy: Policy,
}

/// What happens to an agent.
#[derive(Clone, Debug)]
pub enum Input {
    /// There is a connection.
    Connected,
    /// There is none any more.
    Lost,
    /// The coordinator says something.
    Message(Message),
    /// A blob that was to be fetched is here, whole and of this digest.
    Fetched(Digest, Vec<u8>),
    /// A blob that was to be fetched is here, verified and unpacked as [`super::Agent::wanted`] says.
    Held(Digest, Held),
    /// The coordinator does not have a blob that was to be fetched, or not any more.
    NotOffered(Digest),
    /// The training for a round is over: answers where the plan asked for some, or why it failed.
    Trained(RoundId, Result<Option<Answers>, String>),
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a message.
    Send(Message),
    /// Make this durable before anything that comes after it is done.
    Keep(Entry),
    /// Fetch a blob from the coordinator.
    Fetch {
        /// Its name.
        blob: Digest,
        /// Its length, already held against what may come.
        bytes: u64,
    },
    /// Train, then say [`Input::Trained`].
    Train(Box<Job>),
    /// Stop the training for this round; nothing more is heard of it.
    Cancel(RoundId),
    /// Let the coordinator fetch these blobs.
    Offer(Vec<Blob>),
    /// No longer let it.
    Retract,
    /// The contribution to this round counts.
    Counted(RoundId),
    /// Something did not come about; one line for a person, life goes on.
    Note(String),
    /// Close the connection and come back, at the earliest after this time.
    Leave {
        /// Why, as one line.
        why: String,
        /// How long to stay away; zero where nothing is said.
        after: Duration,
        /// Whether another coordinator has to come first: this one is of an epoch that is over.
        outdated: bool,
    },
    /// Close the connection and do not come back.
    Stop(Stop),
}

/// Bytes, and their name.
pub type Blob = (Digest, Arc<[u8]>);

/// A training that a plan asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What is asked, checked.
    pub plan: Arc<RoundPlan>,
    /// What comes with it, in the order of the plan.
    pub knowledge: Vec<Arc<Answers>>,
    /// The public samples: there where the plan needs them, `RoundPlan::needs_samples`.
    pub transfer: Option<Arc<Samples>>,
}

/// Why a client is at its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stop {
    /// The federation is over.
    Finished(String),
    /// The coordinator will never have this client as it is.
    NotWelcome(String),
    /// This client cannot take part as it is.
    Unfit(String),
}
