use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use fedistill_protocol::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{BoxFuture, CloseCode, Connection, Flow, NetworkBytes, Peer, Stream, TransportError};

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

/// What the bytes of a blob are for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Payload {
    /// Packed answers, or an update of some.
    Answers,
    /// The transfer set.
    TransferSet,
}

/// Counts the bytes of streams: frames, blobs and their headers, without what the transport adds.
///
/// Streams do not know what they carry: who fetches or gives a blob says how much of what was counted
/// is that, with [`Self::carried`].
#[derive(Default)]
pub struct Meter {
    sent: Counters,
    received: Counters,
    tap: Option<Arc<dyn Tap>>,
}

/// Of one direction.
#[derive(Debug, Default)]
struct Counters {
    all: AtomicU64,
    raw: AtomicU64,
    answers: AtomicU64,
    transfer_set: AtomicU64,
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
        self.sent.all.load(Ordering::Relaxed)
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.all.load(Ordering::Relaxed)
    }

    /// Counts bytes that did not have to cross because this process already holds them.
    pub fn spared(&self, direction: Direction, bytes: u64) {
        let counters = self.counters(direction);
        counters.all.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many of the bytes that were counted are of a blob, and this is what it is for.
    pub fn carried(&self, direction: Direction, payload: Payload, bytes: u64) {
        let counters = self.counters(direction);
        let counter = match payload {
            Payload::Answers => &counters.answers,
            Payload::TransferSet => &counters.transfer_set,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Answers are to cross, or have, that take so many bytes whole and uncoded.
    pub fn uncoded(&self, direction: Direction, bytes: u64) {
        let counters = self.counters(direction);
        counters.raw.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What has crossed in this direction, where streams have carried `all` bytes: [`Self::sent`] or
    /// [`Self::received`], now or at the moment that counts.
    pub fn flow(&self, direction: Direction, all: u64, quic: Option<u64>) -> Flow {
        let counters = self.counters(direction);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (packed, transfer_set) = (read(&counters.answers), read(&counters.transfer_set));
        Flow {
            raw: read(&counters.raw),
            packed,
            transfer_set,
            framing: all.saturating_sub(packed + transfer_set),
            quic,
        }
    }

    fn counters(&self, direction: Direction) -> &Counters {
        match direction {
            Direction::Sent => &self.sent,
            Direction::Received => &self.received,
        }
    }

    fn count(&self, direction: Direction, bytes: &[u8]) {
        let counters = self.counters(direction);
        let length = bytes.len() as u64;
        counters.all.fetch_add(length, Ordering::Relaxed);
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

    /// What counts.
    pub fn meter(&self) -> &Meter {
        &self.meter
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

    fn version(&self) -> Version {
        self.inner.version()
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

    fn network_bytes(&self) -> Option<NetworkBytes> {
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
