//! What bounds a connection, whatever carries it: how many, how long, how much.

use std::time::Duration;

use fedistill_protocol::Version;

/// Longest handshake.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// The time it takes to tell everyone that a conversation is over; who does not answer finds out
/// by itself.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);
/// A peer that has been silent for so long is lost.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);
/// By default, a sign of life is sent after so long a silence.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Streams that a client may have open at a time.
pub(crate) const CLIENT_STREAMS: u32 = 8;
/// Streams that a coordinator may have open at a time.
pub(crate) const COORDINATOR_STREAMS: u32 = 2;
/// Bytes of a stream that may be on their way, or wait for being read.
pub(crate) const STREAM_WINDOW: u32 = 512 * 1024;
/// The same of all streams of a connection together.
pub(crate) const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// Newcomers whose handshakes may be under way, or wait.
pub(crate) const NEWCOMERS: usize = 1024;

/// How many the coordinator lets in.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Whether every newcomer must first prove its address by a retry: a round trip more, and
    /// nothing is spent on forged addresses. Over TCP every newcomer has proved it.
    pub always_retry: bool,
    /// The latest version of the protocol that is spoken; older ones that this program knows are too.
    pub latest: Version,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            always_retry: false,
            latest: Version::LATEST,
        }
    }
}

/// How a client speaks with its coordinator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Manner {
    /// The latest version of the protocol that is spoken; older ones that this program knows are too.
    pub latest: Version,
    /// A sign of life is sent after so long a silence: it keeps the bindings of address translators, which
    /// last 30 to 60 s, and tells soon that a coordinator has crashed and is back.
    pub keep_alive: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            latest: Version::LATEST,
            keep_alive: KEEP_ALIVE,
        }
    }
}
