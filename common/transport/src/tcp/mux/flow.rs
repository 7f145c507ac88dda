//! One stream, as one side has it.

use std::collections::VecDeque;
use std::task::Waker;

use crate::limits::STREAM_WINDOW;

/// Bytes of a stream that wait for being sent before its writer has to wait.
pub(super) const UNSENT: usize = 64 * 1024;

/// What this side still has to say on a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Saying {
    /// More may come.
    More,
    /// What is unsent, and then that this was all.
    TheRest,
    /// That it has given up: the peer reads no more.
    GaveUp,
    /// Nothing: the peer has been told.
    Nothing,
}

/// What may still be heard on a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hearing {
    /// More may come.
    More,
    /// The peer has said all.
    Ended,
    /// The peer has given up before its end.
    Broken,
}

#[derive(Debug)]
pub(super) struct Flow {
    /// The peer knows that it is open.
    pub(super) announced: bool,
    /// A task of this side has it.
    pub(super) taken: bool,
    pub(super) saying: Saying,
    pub(super) unsent: VecDeque<u8>,
    /// So many bytes more the peer takes.
    pub(super) room: u32,
    pub(super) hearing: Hearing,
    pub(super) unread: VecDeque<u8>,
    /// So many bytes more the peer may send.
    pub(super) window: u32,
    /// Bytes that were read, and that the peer may send again once it is told.
    pub(super) credit: u32,
    /// The peer is to be told that nobody reads any more.
    pub(super) stop_due: bool,
    /// Who waits for room, and for bytes.
    pub(super) writer: Option<Waker>,
    pub(super) reader: Option<Waker>,
    pub(super) writer_gone: bool,
    pub(super) reader_gone: bool,
    /// It counts no longer among the open ones.
    pub(super) released: bool,
}

impl Flow {
    /// One that this side opens.
    pub(super) fn own() -> Self {
        Self::new(true)
    }

    /// One that the peer has opened.
    pub(super) fn peers() -> Self {
        Self::new(false)
    }

    fn new(own: bool) -> Self {
        Self {
            announced: !own,
            taken: own,
            saying: Saying::More,
            unsent: VecDeque::new(),
            room: STREAM_WINDOW,
            hearing: Hearing::More,
            unread: VecDeque::new(),
            window: STREAM_WINDOW,
            credit: 0,
            stop_due: false,
            writer: None,
            reader: None,
            writer_gone: false,
            reader_gone: false,
            released: false,
        }
    }

    /// Both sides have said all, and know it.
    pub(super) fn is_over(&self) -> bool {
        self.saying == Saying::Nothing && self.hearing != Hearing::More
    }

    /// The peer has to hear that it may send more: half of the window has been read.
    pub(super) fn window_due(&self) -> bool {
        self.credit >= STREAM_WINDOW / 2 && self.hearing == Hearing::More && !self.reader_gone
    }

    pub(super) fn wake_reader(&mut self) {
        wake(&mut self.reader);
    }

    pub(super) fn wake_writer(&mut self) {
        wake(&mut self.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Takes as many bytes as there are and fit from the front. What is empty holds no memory: ten thousand
/// quiet streams take nothing.
pub(super) fn take(queue: &mut VecDeque<u8>, most: usize, mut put: impl FnMut(&[u8])) -> usize {
    let count = queue.len().min(most);
    let (front, back) = queue.as_slices();
    let first = front.len().min(count);
    put(&front[..first]);
    put(&back[..count - first]);
    queue.drain(..count);
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
    count
}
