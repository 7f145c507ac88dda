//! What a client lives through, and who hears of it.

use std::time::Duration;

use fedistill_protocol::RoundId;
use fedistill_transport::{Connection, Direction, NetworkBytes, Traffic};
use tokio::sync::mpsc;

use super::Client;

/// What a client lives through; see [`Client::events`].
#[derive(Clone, Debug)]
pub enum Event {
    /// The coordinator has let it in. With what had crossed on all connections until then.
    Connected {
        /// Bytes.
        traffic: Traffic,
    },
    /// The connection is gone; another try follows after this time.
    Lost {
        /// Why, as one line.
        why: String,
        /// The wait before the next try.
        again: Duration,
    },
    /// A round's training has begun.
    Training(RoundId),
    /// A contribution counts. With what had crossed on all connections until then.
    Counted {
        /// To which round.
        id: RoundId,
        /// Bytes.
        traffic: Traffic,
    },
    /// Something did not come about; one line for a person.
    Note(String),
    /// A connection is over; what it cost on the network, both ways, with all overhead.
    Closed {
        /// Bytes; `None` where there is no network.
        network: Option<NetworkBytes>,
    },
}

impl Client {
    /// Tells what happens.
    #[must_use]
    pub fn events(self, events: mpsc::UnboundedSender<Event>) -> Self {
        self.telling(move |event| {
            // Nobody has to listen.
            let _ = events.send(event);
        })
    }

    /// Tells `hear` what happens, on the thread on which it does.
    #[must_use]
    pub fn telling(mut self, hear: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.events = Some(Box::new(hear));
        self
    }

    pub(super) fn tell(&self, event: Event) {
        if let Some(hear) = &self.events {
            hear(event);
        }
    }

    /// What has crossed on all connections, once so many bytes have come on streams.
    pub(super) fn traffic(&self, connection: &dyn Connection, received: u64) -> Traffic {
        let network = connection.network_bytes().map(|now| self.before + now);
        let (up, down) = (
            network.map(|network| network.sent),
            network.map(|network| network.received),
        );
        Traffic {
            up: self.meter.flow(Direction::Sent, self.meter.sent(), up),
            down: self.meter.flow(Direction::Received, received, down),
        }
    }
}
