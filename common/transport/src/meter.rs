use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{BoxFuture, CloseCode, Connection, Peer, Stream, TransportError};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    /// From this side.
    Sent,
    /// To this side.
    Received,
}

/// Listens in on the bytes of all streams of a connection, as they are before encryption.
pub trait Tap: Send + Sync {
    /// Bytes that went by.
    fn hear(&self, direction: Direction, bytes: &[u8]);
}

/// Counts the bytes of streams: frames, blobs and their headers, without what the transport adds.
#[derive(Default)]
pub struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
    tap: Option<Arc<dyn Tap>>,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Meter({} up, {} down)", self.sent(), self.received())
    }
}

impl Meter {
    /// A meter that also lets `tap` listen in.
    pub fn with_tap(tap: Arc<dyn Tap>) -> Self {
        Self {
            tap: Some(tap),
            ..Self::default()
        }
    }

    /// Bytes sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Counts bytes that did not have to cross because this process already holds them.
    pub fn spared(&self, direction: Direction, bytes: u64) {
        self.counter(direction).fetch_add(bytes, Ordering::Relaxed);
    }

    fn counter(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Sent => &self.sent,
            Direction::Received => &self.received,
        }
    }

    fn count(&self, direction: Direction, bytes: &[u8]) {
        let counter = self.counter(direction);
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(tap) = &self.tap {
            tap.hear(direction, bytes);
        }
    }
}

/// A connection with a meter on all its streams.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn Connection>,
    meter: Arc<Meter>,
}

impl Metered {
    /// Counts what crosses `inner` on `meter`.
    pub fn new(inner: Arc<dyn Connection>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }

    fn wrap(&self, (writer, reader): Stream) -> Stream {
        let half = |inner| Half {
            inner,
            meter: Arc::clone(&self.meter),
        };
        let reader = Half {
            inner: reader,
            meter: Arc::clone(&self.meter),
        };
        (Box::new(half(writer)), Box::new(reader))
    }
}

impl Connection for Metered {
    fn peer(&self) -> &Peer {
        self.inner.peer()
    }

    fn open(&self) -> BoxFuture<'_, Result<Stream, TransportError>> {
        Box::pin(async { Ok(self.wrap(self.inner.open().await?)) })
    }

    fn accept(&self) -> BoxFuture<'_, Result<Stream, TransportError>> {
        Box::pin(async { Ok(self.wrap(self.inner.accept().await?)) })
    }

    fn close(&self, code: CloseCode, why: &str) {
        self.inner.close(code, why);
    }

    fn closed(&self) -> BoxFuture<'_, TransportError> {
        self.inner.closed()
    }

    fn close_reason(&self) -> Option<TransportError> {
        self.inner.close_reason()
    }

    fn network_bytes(&self) -> Option<u64> {
        self.inner.network_bytes()
    }
}

struct Half<T> {
    inner: T,
    meter: Arc<Meter>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Half<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.meter
            .count(Direction::Received, &buffer.filled()[before..]);
        poll
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Half<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = poll {
            self.meter.count(Direction::Sent, &bytes[..count]);
        }
        poll
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
