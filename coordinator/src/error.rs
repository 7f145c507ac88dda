use fedistill_federation::{CorruptLog, Fault, MethodError, QuorumError};
use fedistill_protocol::{ProtocolError, RoundId};
use thiserror::Error;

use crate::{StoreError, TeacherError};

/// Why a coordinator cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// Not enough clients to open a round with.
    #[error(
        "{connected} of the {needed} clients that a round needs connected within {seconds} s: start more, or lower round.least"
    )]
    TooFewClients {
        /// How many are connected.
        connected: usize,
        /// How many a round needs.
        needed: usize,
        /// How long was waited.
        seconds: u64,
    },
    /// A round that has failed too often.
    #[error("round {id} has missed its quorum, after {tries} tries: {why}")]
    NoQuorum {
        /// The last try at it.
        id: RoundId,
        /// How many there were.
        tries: u32,
        /// Why a client refused, if one did.
        why: String,
    },
    /// A quorum that contradicts itself.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// Settings that contradict each other or the data.
    #[error("{0}")]
    Settings(String),
    /// A method that cannot use what there is.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds of earlier runs cannot be read.
    #[error(
        "{0}: put back a copy of the state folder, or move it away and begin without what it holds"
    )]
    State(StoreError),
    /// The log of an interrupted round makes no sense.
    #[error("the store is damaged: {0}")]
    Log(#[from] CorruptLog),
    /// A bug: the driver misused its machine.
    #[error("internal: {0}")]
    Fault(#[from] Fault),
    /// The teacher's.
    #[error("the teacher failed: {0}")]
    Teacher(TeacherError),
    /// Something that does not fit the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}
