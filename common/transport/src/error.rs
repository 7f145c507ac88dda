use std::net::SocketAddr;
use std::path::PathBuf;

use fedistill_protocol::{Digest, ProtocolError};
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
    /// An address that no name service can make one of.
    #[error("{address:?} is no address of a coordinator: {why}")]
    Address {
        /// The address as it was given.
        address: String,
        /// What is wrong with it and what to do.
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
    /// Nobody answers at an address.
    #[error(
        "no answer from {address} ({resolved}) within {seconds} s: check that the coordinator runs there, and that {over} gets through"
    )]
    NoAnswer {
        /// The address as it was given.
        address: String,
        /// What it was resolved to.
        resolved: SocketAddr,
        /// What carries it there: `UDP` or `TCP`.
        over: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// Neither of two ways led to the coordinator.
    #[error("{quic}; and over TCP: {tcp}")]
    NoWay {
        /// Over QUIC.
        quic: Box<Self>,
        /// Over TCP.
        tcp: Box<Self>,
    },
    /// The peer does not have a blob, or not any more: what a round needs may be withdrawn while it is asked for.
    #[error("the other side does not offer blob {0}")]
    NotOffered(Digest),
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
