use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use fedistill_protocol::{Name, Version};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{NetworkBytes, TransportError};

/// A future on the heap, so that transports are object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// The half of a stream that is written. Its shutdown ends the stream and may wait until the peer has all of it, or
/// wants no more; who drops it ends the stream too, and waits for nothing.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;
/// The half of a stream that is read.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// Both halves of a stream.
pub type Stream = (Writer, Reader);

/// Who is at the other end, as its certificate says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Peer {
    /// The federation's coordinator.
    Coordinator,
    /// A client.
    Client {
        /// The federation that its certificate is for.
        federation: Name,
        /// Its name in it.
        name: Name,
    },
}

/// Why a connection was closed on purpose. Numbers are part of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseCode {
    /// All is said.
    Done,
    /// The peer did something that the protocol does not allow.
    Violation,
    /// The peer may not take part: wrong federation or classes.
    NotWelcome,
    /// The same client has opened a newer connection.
    Superseded,
    /// This side stops, and will be back.
    Stopping,
    /// No room for more.
    Busy,
    /// The coordinator is of an epoch that is over: another one has run since.
    Outdated,
    /// A number of a later version.
    Other(u32),
}

impl CloseCode {
    /// Its number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Done => 0,
            Self::Violation => 1,
            Self::NotWelcome => 2,
            Self::Superseded => 3,
            Self::Stopping => 4,
            Self::Busy => 5,
            Self::Outdated => 6,
            Self::Other(number) => number,
        }
    }

    /// The code with this number.
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::Violation,
            2 => Self::NotWelcome,
            3 => Self::Superseded,
            4 => Self::Stopping,
            5 => Self::Busy,
            6 => Self::Outdated,
            other => Self::Other(other),
        }
    }
}

/// A conversation with an authenticated peer, of any number of streams.
pub trait Connection: fmt::Debug + Send + Sync {
    /// Who is at the other end.
    fn peer(&self) -> &Peer;

    /// The version of the protocol that both sides have agreed on.
    fn version(&self) -> Version;

    /// Opens a stream.
    fn open(&self) -> BoxFuture<'_, Result<Stream, TransportError>>;

    /// Waits for a stream that the peer opens.
    fn accept(&self) -> BoxFuture<'_, Result<Stream, TransportError>>;

    /// Ends the conversation; what is not yet delivered may be lost.
    fn close(&self, code: CloseCode, why: &str);

    /// Waits for the end, whoever brings it about.
    fn closed(&self) -> BoxFuture<'_, TransportError>;

    /// Why the conversation is over, if it is.
    fn close_reason(&self) -> Option<TransportError>;

    /// What this side has sent to and received from the network so far, with all overhead that it sees;
    /// `None` where there is no network.
    fn network_bytes(&self) -> Option<NetworkBytes>;
}

/// A client's way to its coordinator.
pub trait Dial: fmt::Debug + Send + Sync {
    /// Connects.
    fn dial(&self) -> BoxFuture<'_, Result<Arc<dyn Connection>, TransportError>>;

    /// Returns once the peers of closed connections have been told, or do not answer: a process
    /// that ends before leaves them to find out by themselves.
    fn told(&self) -> BoxFuture<'_, ()>;
}

impl Dial for Box<dyn Dial> {
    fn dial(&self) -> BoxFuture<'_, Result<Arc<dyn Connection>, TransportError>> {
        self.as_ref().dial()
    }

    fn told(&self) -> BoxFuture<'_, ()> {
        self.as_ref().told()
    }
}

/// A coordinator's door.
pub trait Listen: fmt::Debug + Send + Sync {
    /// The next client that has proved who it is; `None` once the door is shut.
    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>>;

    /// Shuts the door and ends all conversations; returns once the peers have been told.
    fn shut(&self) -> BoxFuture<'_, ()>;
}
