use fedistill_client::ClientError;
use fedistill_coordinator::{CoordinatorError, StoreError};
use fedistill_federation::{MethodError, QuorumError};
use fedistill_learning::{ArchitectureError, CheckpointError, DataError, LearnError, ModelError};
use fedistill_program::ConfigError;
use fedistill_protocol::ProtocolError;
use fedistill_transport::TransportError;
use thiserror::Error;

use crate::PartitionError;

/// Why a simulation cannot be run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// The configuration's.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data's.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The partition's.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// A net that does not fit the data.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// A teacher's file.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Training.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// A model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The method's.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// The coordinator's.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// A client's.
    #[error("client {name}: {error}")]
    Client {
        /// Which client.
        name: String,
        /// Why.
        error: ClientError,
    },
    /// The transport's.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A name or transfer set.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// Students that cannot be kept.
    #[error("cannot keep students: {0}")]
    Keep(#[from] std::io::Error),
    /// Results that cannot be written.
    #[error("{0}")]
    Results(std::io::Error),
    /// A file in which a run is kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A quorum.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// A file of an earlier run that cannot be used.
    #[error("{0}; or remove it to begin afresh")]
    Damaged(fedistill_program::database::DatabaseError),
    /// What some client could not do, so that a round ended.
    #[error("round {round}: {why}")]
    Round {
        /// Its number, from 0.
        round: u32,
        /// Of which client, and why.
        why: String,
    },
    /// Settings that do not go together.
    #[error("{0}")]
    Settings(String),
    /// A bug: a task ended that should not have.
    #[error("internal: {0}")]
    Internal(String),
}
