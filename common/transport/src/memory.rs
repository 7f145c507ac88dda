//! A transport within one process: no network, no certificates, the same bytes.

mod pipe;

use std::fmt;
use std::sync::Arc;

use fedistill_protocol::Version;
use tokio::sync::{Mutex, mpsc, watch};

use self::pipe::pipe;
use crate::{
    BoxFuture, CloseCode, Connection, Dial, Listen, NetworkBytes, Peer, Stream, TransportError,
};

/// Bytes that a stream holds before its writer has to wait.
const STREAM_BYTES: usize = 256 * 1024;
/// Streams that may wait for being accepted.
const STREAMS: usize = 8;

/// A door, and the way to it.
pub fn listen() -> (MemoryListener, Door) {
    let (sender, receiver) = mpsc::channel(64);
    let (shut, _) = watch::channel(None);
    let listener = MemoryListener {
        incoming: Mutex::new(receiver),
        shut: shut.clone(),
    };
    (listener, Door { sender, shut })
}

/// Where clients of this process knock.
#[derive(Clone, Debug)]
pub struct Door {
    sender: mpsc::Sender<Arc<dyn Connection>>,
    shut: watch::Sender<Option<TransportError>>,
}

impl Door {
    /// The way in for `peer`.
    pub fn dialer(&self, peer: Peer) -> MemoryDialer {
        MemoryDialer {
            door: self.clone(),
            peer,
            version: Version::LATEST,
        }
    }
}

/// See [`listen`].
#[derive(Debug)]
pub struct MemoryListener {
    incoming: Mutex<mpsc::Receiver<Arc<dyn Connection>>>,
    shut: watch::Sender<Option<TransportError>>,
}

impl Listen for MemoryListener {
    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        Box::pin(async {
            let mut shut = self.shut.subscribe();
            let mut incoming = self.incoming.lock().await;
            tokio::select! {
                connection = incoming.recv() => connection,
                _ = shut.wait_for(Option::is_some) => None,
            }
        })
    }

    fn shut(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.shut.send_replace(Some(TransportError::Closed {
                code: CloseCode::Stopping,
                why: "the coordinator stops".to_owned(),
            }));
        })
    }
}

/// See [`Door::dialer`].
#[derive(Debug)]
pub struct MemoryDialer {
    door: Door,
    peer: Peer,
    version: Version,
}

impl MemoryDialer {
    /// Speaks no later version than this one.
    #[must_use]
    pub fn speaking(self, latest: Version) -> Self {
        Self {
            version: latest,
            ..self
        }
    }
}

impl Dial for MemoryDialer {
    fn dial(&self) -> BoxFuture<'_, Result<Arc<dyn Connection>, TransportError>> {
        Box::pin(async {
            let gone = || TransportError::Lost("nobody listens".to_owned());
            if self.door.shut.borrow().is_some() {
                return Err(gone());
            }
            let (near, far) = pair(self.peer.clone(), self.version, self.door.shut.clone());
            self.door.sender.send(far).await.map_err(|_| gone())?;
            Ok(near)
        })
    }

    fn told(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A client's and a coordinator's end of one conversation.
fn pair(
    client: Peer,
    version: Version,
    shut: watch::Sender<Option<TransportError>>,
) -> (Arc<dyn Connection>, Arc<dyn Connection>) {
    let (to_far, from_near) = mpsc::channel(STREAMS);
    let (to_near, from_far) = mpsc::channel(STREAMS);
    let (ended, _) = watch::channel(None);
    let end = |peer, opened, accepted| -> Arc<dyn Connection> {
        Arc::new(MemoryConnection {
            peer,
            version,
            opened,
            accepted: Mutex::new(accepted),
            ended: ended.clone(),
            shut: shut.clone(),
        })
    };
    (
        end(Peer::Coordinator, to_far, from_far),
        end(client, to_near, from_near),
    )
}

struct MemoryConnection {
    peer: Peer,
    version: Version,
    opened: mpsc::Sender<Stream>,
    accepted: Mutex<mpsc::Receiver<Stream>>,
    /// Ends this conversation.
    ended: watch::Sender<Option<TransportError>>,
    /// Ends all conversations through the same door.
    shut: watch::Sender<Option<TransportError>>,
}

impl fmt::Debug for MemoryConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryConnection({:?})", self.peer)
    }
}

impl MemoryConnection {
    async fn over(&self) -> TransportError {
        let (mut ended, mut shut) = (self.ended.subscribe(), self.shut.subscribe());
        tokio::select! {
            _ = ended.wait_for(Option::is_some) => {}
            _ = shut.wait_for(Option::is_some) => {}
        }
        self.reason()
            .unwrap_or_else(|| TransportError::Lost("the other end is gone".to_owned()))
    }

    fn reason(&self) -> Option<TransportError> {
        let ended = self.ended.borrow().clone();
        ended.or_else(|| self.shut.borrow().clone())
    }
}

impl Connection for MemoryConnection {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn version(&self) -> Version {
        self.version
    }

    fn open(&self) -> BoxFuture<'_, Result<Stream, TransportError>> {
        Box::pin(async {
            if let Some(reason) = self.reason() {
                return Err(reason);
            }
            let (writer, far_reader) = pipe(STREAM_BYTES);
            let (far_writer, reader) = pipe(STREAM_BYTES);
            let stream: Stream = (Box::new(far_writer), Box::new(far_reader));
            tokio::select! {
                sent = self.opened.send(stream) => {
                    sent.map_err(|_| TransportError::Lost("the other end is gone".to_owned()))?;
                }
                over = self.over() => return Err(over),
            }
            let stream: Stream = (Box::new(writer), Box::new(reader));
            Ok(stream)
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<Stream, TransportError>> {
        Box::pin(async {
            let mut accepted = self.accepted.lock().await;
            tokio::select! {
                stream = accepted.recv() => {
                    stream.ok_or_else(|| TransportError::Lost("the other end is gone".to_owned()))
                }
                over = self.over() => Err(over),
            }
        })
    }

    fn close(&self, code: CloseCode, why: &str) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(TransportError::Closed {
                    code,
                    why: why.to_owned(),
                });
            }
            first
        });
    }

    fn closed(&self) -> BoxFuture<'_, TransportError> {
        Box::pin(self.over())
    }

    fn close_reason(&self) -> Option<TransportError> {
        self.reason()
    }

    fn network_bytes(&self) -> Option<NetworkBytes> {
        None
    }
}

impl Drop for MemoryConnection {
    /// As QUIC does: the last handle gone ends the conversation.
    fn drop(&mut self) {
        self.close(CloseCode::Done, "the other end is gone");
    }
}
