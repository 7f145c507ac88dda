//! What crosses between a client and its coordinator, by what it is for.

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// Bytes one way.
///
/// All that streams carry is `packed + transfer_set + framing`: see [`Self::application`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Flow {
    /// What the answers would be that a plan brings or asks for, whole and uncoded: 4 bytes a value.
    pub raw: u64,
    /// What crossed of answers, packed, and of updates to them.
    pub packed: u64,
    /// What crossed of the transfer set.
    pub transfer_set: u64,
    /// All else on streams: messages, requests for blobs, headers of chunks, and what was lost of a
    /// chunk with its connection.
    pub framing: u64,
    /// Over QUIC, UDP payload: streams, TLS, acknowledgements, what was sent again. Over TCP, what it was
    /// given to carry: streams and TLS; what it adds itself the system does not tell. `None` where there is
    /// no network.
    pub quic: Option<u64>,
}

impl Flow {
    /// All bytes of streams.
    pub fn application(&self) -> u64 {
        self.packed + self.transfer_set + self.framing
    }

    /// What has crossed since this was `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        // Counters only grow; nobody's result is worth a panic where one has begun again.
        let since = u64::saturating_sub;
        Self {
            raw: since(self.raw, before.raw),
            packed: since(self.packed, before.packed),
            transfer_set: since(self.transfer_set, before.transfer_set),
            framing: since(self.framing, before.framing),
            quic: self.quic.map(|quic| since(quic, before.quic.unwrap_or(0))),
        }
    }
}

impl Add for Flow {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let quic = match (self.quic, other.quic) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0) + other.unwrap_or(0)),
        };
        Self {
            raw: self.raw + other.raw,
            packed: self.packed + other.packed,
            transfer_set: self.transfer_set + other.transfer_set,
            framing: self.framing + other.framing,
            quic,
        }
    }
}

/// Bytes between a client and its coordinator.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Traffic {
    /// From the client.
    pub up: Flow,
    /// To the client.
    pub down: Flow,
}

impl Traffic {
    /// What has crossed since this was `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            up: self.up.since(&before.up),
            down: self.down.since(&before.down),
        }
    }
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            up: self.up + other.up,
            down: self.down + other.down,
        }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What this side of a connection has given to the network and taken from it: see [`Flow::quic`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NetworkBytes {
    /// From this side.
    pub sent: u64,
    /// To this side.
    pub received: u64,
}

impl Add for NetworkBytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            received: self.received + other.received,
        }
    }
}

impl AddAssign for NetworkBytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl NetworkBytes {
    /// Both ways.
    pub fn total(self) -> u64 {
        self.sent + self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(times: u64, quic: Option<u64>) -> Flow {
        Flow {
            raw: 1000 * times,
            packed: 100 * times,
            transfer_set: 10 * times,
            framing: times,
            quic,
        }
    }

    #[test]
    fn flows_add_up_and_what_came_since_is_the_rest() {
        for quic in [None, Some(200)] {
            let both = flow(2, quic) + flow(3, quic);
            assert_eq!(both, flow(5, quic.map(|quic| 2 * quic)));
            assert_eq!(both.application(), 555);
            assert_eq!(both.since(&flow(3, quic)), flow(2, quic));
        }
        // The network of the one, and nothing of a side that has none.
        assert_eq!((flow(1, None) + flow(1, Some(7))).quic, Some(7));
        assert_eq!(flow(1, Some(7)).since(&Flow::default()), flow(1, Some(7)));
    }

    #[test]
    fn a_flow_is_written_by_its_parts() {
        let text = serde_json::to_string(&flow(1, None)).unwrap();
        assert_eq!(
            text,
            r#"{"raw":1000,"packed":100,"transfer_set":10,"framing":1,"quic":null}"#
        );
    }
}
