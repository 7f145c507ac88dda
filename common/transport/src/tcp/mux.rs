//! Many streams on one connection, as one side has them: no IO, no clock. Whatever a peer sends, what is
//! held of it is bounded before it is held, and what is to be said in answer is a flag, never a queue.

mod flow;
mod incoming;
mod outgoing;

use std::collections::{BTreeMap, VecDeque};
use std::io::{Error, ErrorKind, Result as IoResult};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::sync::Notify;

use self::flow::{Flow, Hearing, Saying, UNSENT, take};
use super::rehearsal::Held;
use crate::limits::{CLIENT_STREAMS, CONNECTION_WINDOW, COORDINATOR_STREAMS};
use crate::{CloseCode, TransportError};

/// A rule that the peer has broken; nothing it sends after that means anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Broken(pub(super) &'static str);

/// Which side this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    /// Its streams have odd numbers.
    Client,
    /// Its streams have even numbers.
    Coordinator,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Coordinator,
            Self::Coordinator => Self::Client,
        }
    }

    /// The number of its first stream.
    fn first(self) -> u32 {
        match self {
            Self::Client => 1,
            Self::Coordinator => 2,
        }
    }

    /// How many streams it may have open at a time.
    fn most(self) -> u32 {
        match self {
            Self::Client => CLIENT_STREAMS,
            Self::Coordinator => COORDINATOR_STREAMS,
        }
    }
}

/// Tells tasks that something has changed.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// There is something to send.
    pub(super) due: Notify,
    /// The peer has opened a stream.
    pub(super) arrived: Notify,
    /// This side may open one more stream.
    pub(super) freed: Notify,
    /// The conversation is over.
    pub(super) over: Notify,
}

/// The streams that one side has opened.
#[derive(Debug)]
struct Opened {
    /// The number of the next one; none once there are no more numbers.
    next: Option<u32>,
    /// How many are open.
    open: u32,
    most: u32,
}

impl Opened {
    fn of(side: Side) -> Self {
        Self {
            next: Some(side.first()),
            open: 0,
            most: side.most(),
        }
    }

    /// One more, if there is room for it.
    fn one(&mut self) -> Option<u32> {
        let number = self.next.filter(|_| self.open < self.most)?;
        self.next = number.checked_add(2);
        self.open += 1;
        Some(number)
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Mux {
    side: Side,
    streams: BTreeMap<u32, Flow>,
    own: Opened,
    peers: Opened,
    /// Streams of the peer that nobody has taken yet.
    waiting: VecDeque<u32>,
    /// So many bytes more the peer takes, on all streams together.
    room: u32,
    /// So many bytes more the peer may send.
    window: u32,
    /// Bytes that were read, and that the peer may send again once it is told.
    credit: u32,
    /// The stream that has sent last.
    turn: u32,
    /// What this side closes with.
    closing: Option<(CloseCode, String)>,
    over: Option<TransportError>,
    signals: Arc<Signals>,
}

impl Mux {
    pub(super) fn new(side: Side, signals: Arc<Signals>) -> Self {
        Self {
            side,
            streams: BTreeMap::new(),
            own: Opened::of(side),
            peers: Opened::of(side.other()),
            waiting: VecDeque::new(),
            room: CONNECTION_WINDOW,
            window: CONNECTION_WINDOW,
            credit: 0,
            turn: 0,
            closing: None,
            over: None,
            signals,
        }
    }
}

/// What this side's tasks do.
impl Mux {
    /// Opens a stream; none while as many are open as may be.
    pub(super) fn open(&mut self) -> Option<u32> {
        let number = self.own.one()?;
        self.streams.insert(number, Flow::own());
        self.signals.due.notify_one();
        Some(number)
    }

    /// A stream that the peer has opened.
    pub(super) fn accept(&mut self) -> Option<u32> {
        let stream = self.waiting.pop_front()?;
        if let Some(flow) = self.streams.get_mut(&stream) {
            flow.taken = true;
            self.signals.due.notify_one();
        }
        Some(stream)
    }

    /// Takes what there is room for, or has the writer wait.
    pub(super) fn write(
        &mut self,
        stream: u32,
        bytes: &[u8],
        context: &Context<'_>,
    ) -> Poll<IoResult<usize>> {
        if let Some(over) = &self.over {
            return Poll::Ready(Err(aborted(over)));
        }
        let Some(flow) = self.streams.get_mut(&stream) else {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        };
        if flow.saying != Saying::More {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(UNSENT.saturating_sub(flow.unsent.len()));
        if count == 0 && !bytes.is_empty() {
            flow.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        flow.unsent.extend(&bytes[..count]);
        self.signals.due.notify_one();
        Poll::Ready(Ok(count))
    }

    /// This side has written all.
    pub(super) fn finish(&mut self, stream: u32) {
        if let Some(flow) = self.streams.get_mut(&stream)
            && flow.saying == Saying::More
        {
            flow.saying = Saying::TheRest;
            self.signals.due.notify_one();
        }
    }

    /// Gives what there is, or has the reader wait. Nothing is the end.
    pub(super) fn read(
        &mut self,
        stream: u32,
        buffer: &mut ReadBuf<'_>,
        context: &Context<'_>,
    ) -> Poll<IoResult<()>> {
        let Some(flow) = self.streams.get_mut(&stream) else {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        };
        let count = take(&mut flow.unread, buffer.remaining(), |bytes| {
            buffer.put_slice(bytes);
        });
        if count > 0 || buffer.remaining() == 0 {
            flow.credit += count as u32;
            let due = flow.window_due();
            self.give_back(count as u32);
            if due {
                self.signals.due.notify_one();
            }
            return Poll::Ready(Ok(()));
        }
        match (flow.hearing, &self.over) {
            (Hearing::Ended, _) => Poll::Ready(Ok(())),
            (Hearing::Broken, _) => {
                let why = "the other side has given the stream up";
                Poll::Ready(Err(Error::new(ErrorKind::ConnectionReset, why)))
            }
            (Hearing::More, Some(over)) => Poll::Ready(Err(aborted(over))),
            (Hearing::More, None) => {
                flow.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Nobody writes any more: what was written is still sent.
    pub(super) fn drop_writer(&mut self, stream: u32) {
        self.finish(stream);
        if let Some(flow) = self.streams.get_mut(&stream) {
            flow.writer_gone = true;
        }
        self.settle(stream);
    }

    /// Nobody reads any more.
    pub(super) fn drop_reader(&mut self, stream: u32) {
        let Some(flow) = self.streams.get_mut(&stream) else {
            return;
        };
        flow.reader_gone = true;
        let unread = std::mem::take(&mut flow.unread).len() as u32;
        flow.stop_due = flow.hearing == Hearing::More;
        self.signals.due.notify_one();
        self.give_back(unread);
        self.settle(stream);
    }

    /// Ends the conversation from this side.
    pub(super) fn close(&mut self, code: CloseCode, why: &str) {
        if self.over.is_none() {
            self.closing = Some((code, why.to_owned()));
            self.end(TransportError::Closed {
                code: CloseCode::Done,
                why: "closed by this side".to_owned(),
            });
        }
    }

    /// What is held of the connection.
    pub(super) fn held(&self) -> Held {
        let flows = || self.streams.values();
        let memory = |flow: &Flow| flow.unread.capacity() + flow.unsent.capacity();
        Held {
            streams: self.streams.len(),
            waiting: self.waiting.len(),
            unread: flows().map(|flow| flow.unread.len()).sum(),
            longest: flows().map(|flow| flow.unread.len()).max().unwrap_or(0),
            memory: flows().map(memory).sum(),
        }
    }

    /// Why the conversation is over, if it is.
    pub(super) fn over(&self) -> Option<&TransportError> {
        self.over.as_ref()
    }
}

/// What both directions come to.
impl Mux {
    /// The conversation is over, if it was not before: all who wait hear of it.
    pub(super) fn end(&mut self, why: TransportError) {
        if self.over.is_some() {
            return;
        }
        self.over = Some(why);
        for flow in self.streams.values_mut() {
            flow.unsent = VecDeque::new();
            flow.wake_reader();
            flow.wake_writer();
        }
        let Signals {
            due,
            arrived,
            freed,
            over,
        } = &*self.signals;
        due.notify_one();
        for signal in [arrived, freed, over] {
            signal.notify_waiters();
        }
    }

    /// Bytes were read, or thrown away: the peer may send as many more.
    fn give_back(&mut self, bytes: u32) {
        self.credit += bytes;
        if self.window_due() {
            self.signals.due.notify_one();
        }
    }

    /// The peer has to hear that it may send more, on all streams together: half of the window has been read,
    /// or as much as is left of it. For where nobody reads some streams yet, half may never come.
    fn window_due(&self) -> bool {
        self.credit > 0 && self.credit >= self.window.min(CONNECTION_WINDOW / 2)
    }

    /// Counts a stream off that is over, and forgets it once nobody holds it.
    fn settle(&mut self, stream: u32) {
        let Some(flow) = self.streams.get_mut(&stream) else {
            return;
        };
        if flow.is_over() && !std::mem::replace(&mut flow.released, true) {
            match stream % 2 == self.side.first() % 2 {
                true => {
                    self.own.open -= 1;
                    self.signals.freed.notify_waiters();
                }
                false => self.peers.open -= 1,
            }
        }
        if flow.released && flow.writer_gone && flow.reader_gone {
            self.streams.remove(&stream);
        }
    }
}

fn aborted(over: &TransportError) -> Error {
    Error::new(ErrorKind::ConnectionAborted, over.to_string())
}

#[cfg(test)]
mod tests;
