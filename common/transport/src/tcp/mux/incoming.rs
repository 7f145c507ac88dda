//! What comes from the peer: each frame is held against the rules before anything of it is kept.

use std::collections::VecDeque;

use super::flow::{Flow, Hearing, Saying};
use super::{Broken, Mux};
use crate::limits::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::{CloseCode, TransportError};

impl Mux {
    /// A stream is opened: the next of the peer's.
    pub(in crate::tcp) fn opened(&mut self, stream: u32) -> Result<(), Broken> {
        if self.peers.next != Some(stream) {
            return Err(Broken("a stream out of turn"));
        }
        self.peers
            .one()
            .ok_or(Broken("more open streams than it may have"))?;
        self.streams.insert(stream, Flow::peers());
        self.waiting.push_back(stream);
        self.signals.arrived.notify_waiters();
        Ok(())
    }

    /// Data is coming, so much of it: there has to be room.
    pub(in crate::tcp) fn expect(&mut self, stream: u32, length: usize) -> Result<(), Broken> {
        let flow = self.heard(stream)?;
        let Some(flow) = flow.filter(|flow| flow.hearing == Hearing::More) else {
            return Err(Broken("data after a stream's end"));
        };
        let length = length as u32;
        let within = "more data than there is room for";
        flow.window = flow.window.checked_sub(length).ok_or(Broken(within))?;
        self.window = self.window.checked_sub(length).ok_or(Broken(within))?;
        Ok(())
    }

    /// Some of the data that was expected.
    pub(in crate::tcp) fn receive(&mut self, stream: u32, bytes: &[u8]) {
        match self.streams.get_mut(&stream) {
            Some(flow) if !flow.reader_gone => {
                flow.unread.extend(bytes);
                flow.wake_reader();
            }
            // Who does not read it leaves room for other streams.
            _ => self.give_back(bytes.len() as u32),
        }
    }

    /// The peer says no more on a stream: all is said, or it has given up.
    pub(in crate::tcp) fn ended(&mut self, stream: u32, broken: bool) -> Result<(), Broken> {
        let flow = self.heard(stream)?;
        let Some(flow) = flow.filter(|flow| flow.hearing == Hearing::More) else {
            return Err(Broken("two ends of a stream"));
        };
        flow.hearing = match broken {
            true => Hearing::Broken,
            false => Hearing::Ended,
        };
        flow.stop_due = false;
        flow.wake_reader();
        self.settle(stream);
        Ok(())
    }

    /// The peer reads no more of a stream.
    pub(in crate::tcp) fn stopped(&mut self, stream: u32) -> Result<(), Broken> {
        if let Some(flow) = self.heard(stream)?
            && flow.saying != Saying::Nothing
        {
            flow.saying = Saying::GaveUp;
            flow.unsent = VecDeque::new();
            flow.wake_writer();
            self.signals.due.notify_one();
        }
        Ok(())
    }

    /// The peer has read so much, of a stream or (0) of all together.
    pub(in crate::tcp) fn widen(&mut self, stream: u32, bytes: u32) -> Result<(), Broken> {
        let (room, most) = match stream {
            0 => (&mut self.room, CONNECTION_WINDOW),
            stream => match self.heard(stream)? {
                Some(flow) => (&mut flow.room, STREAM_WINDOW),
                // It has ended meanwhile.
                None => return Ok(()),
            },
        };
        let wider = room.checked_add(bytes).filter(|wider| *wider <= most);
        *room = wider.ok_or(Broken("a window that is wider than was agreed on"))?;
        self.signals.due.notify_one();
        Ok(())
    }

    /// The peer ends the conversation.
    pub(in crate::tcp) fn closed(&mut self, code: CloseCode, why: String) {
        self.end(TransportError::Closed { code, why });
    }

    /// The peer has broken a rule: it is told, and the conversation is over.
    pub(in crate::tcp) fn violated(&mut self, Broken(what): Broken) {
        if self.over.is_none() {
            let why = format!("the other side has broken the rules of streams: {what}");
            self.closing = Some((CloseCode::Violation, format!("rules of streams: {what}")));
            self.end(TransportError::Lost(why));
        }
    }

    /// The stream that a frame is about; none where both sides are done with it.
    fn heard(&mut self, stream: u32) -> Result<Option<&mut Flow>, Broken> {
        let opened = match stream % 2 == self.side.first() % 2 {
            true => &self.own,
            false => &self.peers,
        };
        if opened.next.is_some_and(|next| stream >= next) {
            return Err(Broken("a stream that is not open"));
        }
        Ok(self.streams.get_mut(&stream))
    }
}
