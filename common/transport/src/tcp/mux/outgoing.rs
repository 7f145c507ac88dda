//! What goes to the peer: what is due follows from how things are, so nothing waits in a queue for it.

use super::Mux;
use super::flow::{Flow, Saying, take};
use crate::CloseCode;
use crate::tcp::frame::{Kind, MOST_DATA, put, put_header};

impl Mux {
    /// Appends what is due: of data, one frame.
    pub(in crate::tcp) fn fill(&mut self, out: &mut Vec<u8>) {
        if self.over.is_some() {
            return;
        }
        if self.window_due() {
            let credit = std::mem::take(&mut self.credit);
            self.window += credit;
            put(out, Kind::Window, 0, &credit.to_le_bytes());
        }
        for (number, flow) in &mut self.streams {
            if !std::mem::replace(&mut flow.announced, true) {
                put(out, Kind::Open, *number, &[]);
            }
            if std::mem::take(&mut flow.stop_due) {
                put(out, Kind::Stop, *number, &[]);
            }
            if flow.window_due() {
                let credit = std::mem::take(&mut flow.credit);
                flow.window += credit;
                put(out, Kind::Window, *number, &credit.to_le_bytes());
            }
        }
        self.fill_data(out);
        let mut done = Vec::new();
        for (number, flow) in &mut self.streams {
            let kind = match flow.saying {
                Saying::TheRest if flow.unsent.is_empty() => Kind::End,
                // Before somebody has taken it, it counts as open: else a peer that opens streams and
                // gives them up could have any number of them wait.
                Saying::GaveUp if flow.taken => Kind::Reset,
                _ => continue,
            };
            flow.saying = Saying::Nothing;
            put(out, kind, *number, &[]);
            done.push(*number);
        }
        for number in done {
            self.settle(number);
        }
    }

    /// Appends data of the next stream that has some, if the peer takes it.
    fn fill_data(&mut self, out: &mut Vec<u8>) {
        let ready = |(number, flow): (&u32, &Flow)| {
            let some = flow.room > 0 && !flow.unsent.is_empty();
            some.then_some(*number)
        };
        let mut after = self.streams.range(self.turn.saturating_add(1)..);
        let next = after.find_map(ready);
        let next = next.or_else(|| self.streams.iter().find_map(ready));
        let Some((number, flow)) = next
            .filter(|_| self.room > 0)
            .and_then(|number| Some((number, self.streams.get_mut(&number)?)))
        else {
            return;
        };
        let most = flow.room.min(self.room).min(MOST_DATA as u32) as usize;
        let length = most.min(flow.unsent.len());
        put_header(out, Kind::Data, number, length);
        take(&mut flow.unsent, length, |bytes| {
            out.extend_from_slice(bytes)
        });
        flow.wake_writer();
        flow.room -= length as u32;
        self.room -= length as u32;
        self.turn = number;
    }

    /// What this side closes with, once.
    pub(in crate::tcp) fn closing(&mut self) -> Option<(CloseCode, String)> {
        self.closing.take()
    }
}
