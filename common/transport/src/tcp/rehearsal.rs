//! A side of a connection without a socket, for who wants to try the rules: fuzzers, and tests.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;

use super::frame::Decoder;
use super::mux::{Broken, Mux, Side};

/// The coordinator's side of a connection whose socket is whoever calls.
#[derive(Debug)]
pub struct Rehearsal {
    mux: Mux,
    decoder: Decoder,
}

/// What a side holds of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// Streams that are not forgotten.
    pub streams: usize,
    /// Streams of the peer that nobody has taken.
    pub waiting: usize,
    /// Bytes that have come and that nobody has read.
    pub unread: usize,
    /// The most of these that are of one stream.
    pub longest: usize,
    /// Bytes of memory for these, and for those that wait for being sent.
    pub memory: usize,
}

impl Default for Rehearsal {
    fn default() -> Self {
        Self {
            mux: Mux::new(Side::Coordinator, Arc::default()),
            decoder: Decoder::default(),
        }
    }
}

impl Rehearsal {
    /// Takes in what a client has sent.
    ///
    /// # Errors
    /// The rule that the client has broken; nothing after that means anything.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let heard = self.decoder.take(bytes, &mut self.mux);
        heard.map_err(|Broken(why)| why)
    }

    /// What is due to the client; nothing once all is said.
    pub fn say(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.mux.fill(&mut out);
        out
    }

    /// Opens a stream; none while as many are open as may be.
    pub fn open(&mut self) -> Option<u32> {
        self.mux.open()
    }

    /// A stream that the client has opened.
    pub fn accept(&mut self) -> Option<u32> {
        self.mux.accept()
    }

    /// Writes to a stream; how much of it was taken, none where nothing can be.
    pub fn write(&mut self, stream: u32, bytes: &[u8]) -> Option<usize> {
        let context = Context::from_waker(Waker::noop());
        match self.mux.write(stream, bytes, &context) {
            Poll::Ready(taken) => taken.ok(),
            Poll::Pending => None,
        }
    }

    /// Reads up to `most` bytes; nothing at the end, none where nothing is there.
    pub fn read(&mut self, stream: u32, most: usize) -> Option<Vec<u8>> {
        let context = Context::from_waker(Waker::noop());
        let mut bytes = vec![0; most];
        let mut buffer = ReadBuf::new(&mut bytes);
        match self.mux.read(stream, &mut buffer, &context) {
            Poll::Ready(Ok(())) => Some(buffer.filled().to_vec()),
            Poll::Ready(Err(_)) | Poll::Pending => None,
        }
    }

    /// Nobody writes to a stream any more; what was written is still sent.
    pub fn drop_writer(&mut self, stream: u32) {
        self.mux.drop_writer(stream);
    }

    /// Nobody reads a stream any more.
    pub fn drop_reader(&mut self, stream: u32) {
        self.mux.drop_reader(stream);
    }

    /// What is held.
    pub fn held(&self) -> Held {
        self.mux.held()
    }

    /// Whether the client has ended the conversation.
    pub fn is_over(&self) -> bool {
        self.mux.over().is_some()
    }
}
