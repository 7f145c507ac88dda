//! What tasks hold of a connection: its streams' halves, and the connection itself.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use fedistill_protocol::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::counted::Counters;
use super::mux::{Mux, Side, Signals};
use crate::{BoxFuture, CloseCode, Connection, NetworkBytes, Peer, Stream, TransportError};

/// A connection's streams, and how tasks hear of them.
#[derive(Debug)]
pub(super) struct Shared {
    mux: Mutex<Mux>,
    pub(super) signals: Arc<Signals>,
}

impl Shared {
    pub(super) fn new(side: Side) -> Arc<Self> {
        let signals = Arc::new(Signals::default());
        Arc::new(Self {
            mux: Mutex::new(Mux::new(side, Arc::clone(&signals))),
            signals,
        })
    }

    /// Every change is whole when the lock is given back.
    pub(super) fn mux(&self) -> MutexGuard<'_, Mux> {
        self.mux.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn halves(shared: &Arc<Shared>, stream: u32) -> Stream {
    let writer = Writing(Arc::clone(shared), stream);
    let reader = Reading(Arc::clone(shared), stream);
    (Box::new(writer), Box::new(reader))
}

struct Writing(Arc<Shared>, u32);

struct Reading(Arc<Shared>, u32);

impl AsyncWrite for Writing {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.mux().write(self.1, bytes, context)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.mux().finish(self.1);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Reading {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.0.mux().read(self.1, buffer, context)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.mux().drop_writer(self.1);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.mux().drop_reader(self.1);
    }
}

/// A conversation over TCP; its driver runs elsewhere.
#[derive(Debug)]
pub(super) struct TcpConnection {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Peer,
    pub(super) version: Version,
    pub(super) crossed: Arc<Counters>,
}

impl Connection for TcpConnection {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn version(&self) -> Version {
        self.version
    }

    fn open(&self) -> BoxFuture<'_, Result<Stream, TransportError>> {
        Box::pin(async {
            loop {
                let freed = self.shared.signals.freed.notified();
                {
                    let mut mux = self.shared.mux();
                    if let Some(over) = mux.over() {
                        return Err(over.clone());
                    }
                    if let Some(stream) = mux.open() {
                        return Ok(halves(&self.shared, stream));
                    }
                }
                freed.await;
            }
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<Stream, TransportError>> {
        Box::pin(async {
            loop {
                let arrived = self.shared.signals.arrived.notified();
                {
                    let mut mux = self.shared.mux();
                    if let Some(over) = mux.over() {
                        return Err(over.clone());
                    }
                    if let Some(stream) = mux.accept() {
                        return Ok(halves(&self.shared, stream));
                    }
                }
                arrived.await;
            }
        })
    }

    fn close(&self, code: CloseCode, why: &str) {
        self.shared.mux().close(code, why);
    }

    fn closed(&self) -> BoxFuture<'_, TransportError> {
        Box::pin(async {
            loop {
                let over = self.shared.signals.over.notified();
                if let Some(reason) = self.close_reason() {
                    return reason;
                }
                over.await;
            }
        })
    }

    fn close_reason(&self) -> Option<TransportError> {
        self.shared.mux().over().cloned()
    }

    fn network_bytes(&self) -> Option<NetworkBytes> {
        Some(self.crossed.bytes())
    }
}

impl Drop for TcpConnection {
    /// As over QUIC: the last handle gone ends the conversation.
    fn drop(&mut self) {
        self.close(CloseCode::Done, "the other end is gone");
    }
}
