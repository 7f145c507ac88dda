//! What a round is told, and what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fedistill_protocol::{Answers, Digest, Message, Name, RoundId};
use thiserror::Error;

use crate::{Before, Folded, Folding, Method, Partial, Quorum};

/// What a round needs to know before it opens.
#[derive(Clone, Debug)]
pub struct RoundConfig {
    /// Which round, and which try at it.
    pub id: RoundId,
    /// The clients that were selected, each with the weight of its contribution.
    pub cohort: BTreeMap<Name, u32>,
    /// When the round has enough.
    pub quorum: Quorum,
    /// What it does when it has not by then.
    pub missed: Missed,
    /// How it takes in late contributions to the round before; `None` where it refuses them.
    pub folding: Option<Folding>,
    /// Longest silence of a client at work before it no longer is waited for.
    pub silence: Duration,
    /// Rows and classes of each contribution; `None` where nothing goes up.
    pub answers: Option<(u32, u32)>,
    /// How contributions add up.
    pub method: Arc<dyn Method>,
}

/// What becomes of a round that has missed its quorum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Missed {
    /// It is given up: what has come counts nowhere, and the driver may open it again as its next
    /// attempt.
    #[default]
    Reopen,
    /// It keeps what it has and waits for the quorum's most time once more, so often; then it is
    /// given up.
    Extend {
        /// How often.
        most: u32,
    },
    /// It commits with what it has, and is given up only where that is nothing.
    Settle,
}

/// What happens to a round.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client has (again) a connection.
    Joined(Name),
    /// A client's contribution has come, whole and of this digest.
    Contributed {
        /// Who sends it.
        client: Name,
        /// The round it is meant for.
        id: RoundId,
        /// Digest of its packed bytes.
        blob: Digest,
        /// The unpacked answers; `None` where the plan asks for none.
        answers: Option<Answers>,
    },
    /// A client at work says that it still is.
    Heartbeat(Name),
    /// A client's connection is gone.
    Left(Name),
    /// A client's policy does not allow the plan.
    Refused(Name),
    /// An event is durable.
    Stored(Ticket),
}

/// What the driver is to do. Outputs come in the order in which they must be begun.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Make this event durable, then hand the ticket back with [`Input::Stored`].
    Persist(Ticket, Event),
    /// Send a message.
    Send {
        /// To whom.
        to: Name,
        /// What.
        message: Message,
    },
    /// The round has missed its quorum and goes on: for the how many-th time, from 1. That is
    /// durable.
    Extended(u32),
    /// The round is over and its outcome durable.
    Committed(Committed),
    /// The round is over without enough contributions, and that is durable.
    Aborted,
}

/// Ties a stored event to what waits for it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub(super) u64);

/// A line of a round's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The round has opened.
    Opened(RoundId),
    /// A contribution counts.
    Taken {
        /// Whose.
        client: Name,
        /// Digest of its packed bytes.
        blob: Digest,
        /// Its answers.
        answers: Option<Answers>,
    },
    /// Late contributions to this round may count here.
    Awaits(Box<Before>),
    /// A contribution to an earlier round counts.
    Folded {
        /// Whose.
        client: Name,
        /// Which.
        folded: Folded,
        /// Its weight, in parts of [`crate::Late::PARTS`].
        parts: u32,
        /// Its answers, as far as they are about what this round asks.
        answers: Answers,
    },
    /// The round has missed its quorum and goes on: for the how many-th time, from 1.
    Extended(u32),
    /// The round is over, with these contributors.
    Committed(Vec<Name>),
    /// The round is over without enough.
    Aborted,
}

/// The outcome of a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// Which round.
    pub id: RoundId,
    /// How many were asked.
    pub asked: usize,
    /// Whose contributions it has, in the order of names.
    pub contributors: Vec<Name>,
    /// Whose contributions to the round before it has too.
    pub late: BTreeMap<Name, Folded>,
    /// The sum of all of them.
    pub sum: Partial,
    /// Each of them, where the method needs that.
    pub each: BTreeMap<Name, Answers>,
}

/// The driver misused a machine; it answers with the same fault ever after.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Fault {
    /// A ticket was handed back that is not out.
    #[error("ticket {0:?} is not out")]
    UnknownTicket(Ticket),
}

/// A log that this machine cannot have written.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CorruptLog {
    /// The first event is not the opening of this round.
    #[error("log does not begin with the opening of round {0}")]
    NotOpened(RoundId),
    /// An event that cannot stand where it stands.
    #[error("event {index} of round {id}: {why}")]
    Event {
        /// Its place, from 0.
        index: usize,
        /// Which round.
        id: RoundId,
        /// What is wrong with it.
        why: String,
    },
}
