use std::net::SocketAddr;
use std::path::PathBuf;

use fedistill_protocol::ProtocolError;
use thiserror::Error;

use crate::CloseCode;

/// What can go wrong between two ends.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {why}: stop what uses it or choose another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// The address cannot be resolved.
    #[error("cannot resolve {address}: {why}")]
    Resolve {
        /// The address as it was given.
        address: String,
        /// What the system said.
        why: String,
    },
    /// A certificate, key or bundle cannot be used.
    #[error("{path}: {why}")]
    Identity {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// One side does not accept the other's certificate or protocol.
    #[error("{0}")]
    Refused(String),
    /// The peer has closed the connection on purpose.
    #[error("the other side closed the connection: {why} ({code:?})")]
    Closed {
        /// Why, as a number.
        code: CloseCode,
        /// Why, as one line.
        why: String,
    },
    /// The connection is lost, or was never made.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The peer takes too long.
    #[error("the other side has not {0} in time")]
    Timeout(&'static str),
    /// What came is not what the protocol allows.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

impl From<std::io::Error> for TransportError {
    fn from(error: std::io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}
