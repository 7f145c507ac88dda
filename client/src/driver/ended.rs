//! How a client's life ends, and why it may not begin.

use fedistill_protocol::Name;
use thiserror::Error;

use crate::Stop;

/// How a client's life ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The coordinator says that the federation is over.
    Finished(String),
    /// It was told to stop; what it keeps in a journal goes on when it is started again.
    Stopped,
}

/// Why a client cannot take part.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The coordinator will not have it.
    #[error("not welcome: {0}")]
    NotWelcome(String),
    /// It does not fit this federation.
    #[error("{0}")]
    Unfit(String),
    /// Data without a sample.
    #[error("client {0} has no private samples")]
    NoData(Name),
}

impl TryFrom<Stop> for Ended {
    type Error = ClientError;

    fn try_from(stop: Stop) -> Result<Self, ClientError> {
        match stop {
            Stop::Finished(why) => Ok(Self::Finished(why)),
            Stop::NotWelcome(why) => Err(ClientError::NotWelcome(why)),
            Stop::Unfit(why) => Err(ClientError::Unfit(why)),
        }
    }
}
