//! What to do where UDP is blocked: the same over TCP, once QUIC has got no answer.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::address::host;
use crate::{BoxFuture, Connection, Dial, Listen, TransportError};

/// For so long after QUIC has got no answer, TCP is tried before it: a client that comes back need not wait
/// for what is blocked, and one whose network has changed finds QUIC again.
pub const TCP_FIRST: Duration = Duration::from_secs(10 * 60);

/// Where a client finds its coordinator over TCP, if it is to look for it: `none`, `tcp` (the
/// coordinator's host, port 443), `tcp:PORT`, or `tcp:HOST:PORT`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fallback {
    /// QUIC alone.
    #[default]
    None,
    /// The coordinator's host, on this port.
    Port(u16),
    /// `host:port`. Who answers there must prove to be the coordinator all the same.
    Address(String),
}

impl Fallback {
    /// The port that is tried where none is named: what lets anything through lets this through.
    pub const PORT: u16 = 443;

    /// Where the coordinator at `coordinator` (`host:port`) is to be found over TCP.
    pub fn address(&self, coordinator: &str) -> Option<String> {
        match self {
            Self::None => None,
            Self::Port(port) => {
                let host = coordinator
                    .rsplit_once(':')
                    .map_or(coordinator, |(host, _)| host);
                Some(format!("{host}:{port}"))
            }
            Self::Address(address) => Some(address.clone()),
        }
    }
}

impl FromStr for Fallback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("{text:?} is no fallback{why}: write none, tcp, tcp:PORT or tcp:HOST:PORT")
        };
        let at = match text {
            "none" => return Ok(Self::None),
            "tcp" => return Ok(Self::Port(Self::PORT)),
            _ => text.strip_prefix("tcp:").ok_or_else(|| wrong(""))?,
        };
        match at.parse() {
            Ok(port) if port > 0 => Ok(Self::Port(port)),
            _ if at.contains(':') => match host(at) {
                Ok(_) => Ok(Self::Address(at.to_owned())),
                Err(why) => Err(wrong(&format!(" ({why})"))),
            },
            _ => Err(wrong("")),
        }
    }
}

impl TryFrom<String> for Fallback {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Fallback> for String {
    fn from(fallback: Fallback) -> Self {
        fallback.to_string()
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Port(port) => write!(f, "tcp:{port}"),
            Self::Address(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// Dials over QUIC, and over TCP where that gets no answer.
///
/// What a coordinator that answers has to say (another root, a version that is not spoken) is the same over
/// TCP: no way is tried after it.
#[derive(Debug)]
pub struct FallbackDialer {
    quic: Box<dyn Dial>,
    tcp: Box<dyn Dial>,
    /// When QUIC got no answer, and TCP did.
    blocked: Mutex<Option<Instant>>,
}

impl FallbackDialer {
    /// Dials in this order, until it has learnt better.
    pub fn new(quic: impl Dial + 'static, tcp: impl Dial + 'static) -> Self {
        Self {
            quic: Box::new(quic),
            tcp: Box::new(tcp),
            blocked: Mutex::default(),
        }
    }

    fn tcp_is_first(&self) -> bool {
        let blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        blocked.is_some_and(|since| since.elapsed() < TCP_FIRST)
    }

    fn learn(&self, blocked: Option<Instant>) {
        *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = blocked;
    }

    async fn over_quic(&self) -> Result<Arc<dyn Connection>, TransportError> {
        let connection = self.quic.dial().await?;
        self.learn(None);
        tracing::info!("connected over QUIC");
        Ok(connection)
    }

    async fn over_tcp(&self) -> Result<Arc<dyn Connection>, TransportError> {
        let connection = self.tcp.dial().await?;
        tracing::info!("connected over TCP");
        Ok(connection)
    }

    async fn one_of_both(&self) -> Result<Arc<dyn Connection>, TransportError> {
        if self.tcp_is_first() {
            let tcp = match self.over_tcp().await {
                Err(error) if is_of_the_way(&error) => error,
                done => return done,
            };
            tracing::info!("{tcp}; trying QUIC again");
            return self.over_quic().await.map_err(|quic| both(quic, tcp));
        }
        let quic = match self.over_quic().await {
            Err(error) if is_blocked(&error) => error,
            done => return done,
        };
        let since = Instant::now();
        tracing::info!("{quic}; trying TCP");
        match self.over_tcp().await {
            Ok(connection) => {
                self.learn(Some(since));
                Ok(connection)
            }
            Err(tcp) => Err(both(quic, tcp)),
        }
    }
}

/// What a UDP that is blocked looks like: silence, or no socket at all.
fn is_blocked(error: &TransportError) -> bool {
    matches!(
        error,
        TransportError::NoAnswer { .. } | TransportError::Bind { .. }
    )
}

/// Nobody has answered who could have had something against this client.
fn is_of_the_way(error: &TransportError) -> bool {
    is_blocked(error) || matches!(error, TransportError::Lost(_))
}

/// What is told where neither way led anywhere: a refusal says more than silence.
fn both(quic: TransportError, tcp: TransportError) -> TransportError {
    match (is_of_the_way(&quic), is_of_the_way(&tcp)) {
        (false, _) => quic,
        (true, false) => tcp,
        (true, true) => TransportError::NoWay {
            quic: Box::new(quic),
            tcp: Box::new(tcp),
        },
    }
}

impl Dial for FallbackDialer {
    fn dial(&self) -> BoxFuture<'_, Result<Arc<dyn Connection>, TransportError>> {
        Box::pin(self.one_of_both())
    }

    fn told(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            tokio::join!(self.quic.told(), self.tcp.told());
        })
    }
}

/// Two doors of one coordinator.
#[derive(Debug)]
pub struct Doors {
    first: Box<dyn Listen>,
    second: Box<dyn Listen>,
}

impl Doors {
    /// Lets in who comes through either.
    pub fn new(first: impl Listen + 'static, second: impl Listen + 'static) -> Self {
        Self {
            first: Box::new(first),
            second: Box::new(second),
        }
    }
}

impl Listen for Doors {
    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        Box::pin(async {
            tokio::select! {
                Some(connection) = self.first.accept() => Some(connection),
                Some(connection) = self.second.accept() => Some(connection),
                else => None,
            }
        })
    }

    fn shut(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            tokio::join!(self.first.shut(), self.second.shut());
        })
    }
}

#[cfg(test)]
mod tests;
