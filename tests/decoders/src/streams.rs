//! What a client sends over TCP, and what the coordinator's tasks do meanwhile.

use fedistill_transport::tcp::{Held, Rehearsal};

/// What the protocol says ("Over TCP"): streams that are open at a time, and bytes that may be on their way.
const CLIENT_STREAMS: usize = 8;
const STREAMS: usize = CLIENT_STREAMS + 2;
const STREAM_WINDOW: usize = 512 * 1024;
const CONNECTION_WINDOW: usize = 2 * 1024 * 1024;
/// Bytes that wait for being sent before who writes has to wait, of a stream.
const UNSENT: usize = 64 * 1024;

/// A step, as a byte says it; its arguments are what follows.
fn step(side: &mut Side, what: u8, rest: &mut &[u8]) -> Option<()> {
    let mut number = || {
        let (&byte, left) = rest.split_first()?;
        *rest = left;
        Some(usize::from(byte))
    };
    match what % 8 {
        // Any bytes, so many.
        0 => {
            let count = number()?.min(rest.len());
            let (now, later) = rest.split_at(count);
            *rest = later;
            side.hear(now)
        }
        // Data, so many times 64 bytes.
        1 => {
            let (stream, length) = (number()? as u8, 64 * (number()? + 1).min(255));
            let [low, high] = (length as u16).to_le_bytes();
            let frame = [vec![2, 0, low, high, stream, 0, 0, 0], vec![7; length]];
            side.hear(&frame.concat())
        }
        2 => {
            let stream = side.whole.accept();
            assert_eq!(stream, side.cut.accept());
            side.halves += 2 * usize::from(stream.is_some());
            Some(())
        }
        3 => {
            let stream = side.whole.open();
            assert_eq!(stream, side.cut.open());
            side.halves += 2 * usize::from(stream.is_some());
            Some(())
        }
        4 => {
            let (stream, count) = (number()? as u32, 256 * number()?);
            let taken = side.whole.write(stream, &vec![9; count]);
            assert_eq!(taken, side.cut.write(stream, &vec![9; count]));
            Some(())
        }
        5 => {
            let (stream, most) = (number()? as u32, 1024 * number()?);
            let read = side.whole.read(stream, most);
            assert!(read.as_ref().is_none_or(|read| read.len() <= most));
            assert_eq!(read, side.cut.read(stream, most));
            Some(())
        }
        6 => {
            let stream = number()? as u32;
            side.whole.drop_writer(stream);
            side.cut.drop_writer(stream);
            Some(())
        }
        _ => {
            let stream = number()? as u32;
            side.whole.drop_reader(stream);
            side.cut.drop_reader(stream);
            Some(())
        }
    }
}

/// The same side twice: what it hears comes to one in pieces, to the other a byte at a time.
#[derive(Default)]
struct Side {
    whole: Rehearsal,
    cut: Rehearsal,
    /// Halves of streams that tasks may hold.
    halves: usize,
}

impl Side {
    fn hear(&mut self, bytes: &[u8]) -> Option<()> {
        let heard = self.whole.hear(bytes);
        let mut each = bytes.chunks(1);
        let cut = each.try_for_each(|byte| self.cut.hear(byte));
        assert_eq!(heard, cut, "how it is cut makes a difference");
        heard.ok()
    }

    fn hold(&mut self) {
        loop {
            let said = self.whole.say();
            assert_eq!(said, self.cut.say());
            frames(&said);
            if said.is_empty() {
                break;
            }
        }
        let held: Held = self.whole.held();
        assert!(held.streams <= STREAMS + self.halves, "{held:?}");
        assert!(held.waiting <= CLIENT_STREAMS, "{held:?}");
        assert!(held.longest <= STREAM_WINDOW, "{held:?}");
        assert!(held.unread <= CONNECTION_WINDOW, "{held:?}");
        let most = held.streams * 2 * (STREAM_WINDOW + UNSENT);
        assert!(held.memory <= most, "{held:?}");
        assert_eq!(self.whole.is_over(), self.cut.is_over());
    }
}

/// What a side says are whole frames.
fn frames(mut said: &[u8]) {
    while let Some((header, rest)) = said.split_first_chunk::<8>() {
        let [kind, zero, low, high, stream @ ..] = *header;
        let length = usize::from(u16::from_le_bytes([low, high]));
        let fits = match kind {
            1 | 3..=5 | 7 => length == 0,
            2 => (1..=16_376).contains(&length),
            6 => length == 4,
            _ => false,
        };
        assert!(fits && zero == 0, "a frame of kind {kind}, {length} bytes");
        assert!(stream != [0; 4] || matches!(kind, 6 | 7));
        said = rest.get(length..).expect("a frame is whole");
    }
    assert!(said.is_empty(), "half a header");
}

/// Steps of a client and of a coordinator's tasks, one after the other.
pub(crate) fn streams(mut bytes: &[u8]) -> bool {
    let mut side = Side::default();
    while let Some((&what, rest)) = bytes.split_first() {
        bytes = rest;
        if step(&mut side, what, &mut bytes).is_none() {
            // Even who has broken a rule leaves no more than was allowed.
            side.hold();
            return false;
        }
        side.hold();
    }
    true
}
