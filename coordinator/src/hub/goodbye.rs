//! How clients are sent away, for a while or for good.

use std::sync::Arc;
use std::time::Duration;

use fedistill_protocol::{Goodbye, Name};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{Arrival, Hub, encode};

/// A client whose connection broke off longer ago than a client waits between two tries is gone for good.
const LATELY: Duration = Duration::from_secs(60);

impl Hub {
    /// Sends a client away for a while.
    pub(crate) fn send_away(&self, client: &Name, goodbye: &Goodbye) {
        self.state().away.insert(client.clone());
        self.send(client, &goodbye.clone().into());
    }

    /// Sends everyone away.
    pub(crate) fn goodbye(&self, goodbye: &Goodbye) {
        let Some(frame) = encode(&goodbye.clone().into()) else {
            return;
        };
        for name in self.connected() {
            self.send_frame(&name, Arc::clone(&frame));
        }
    }

    /// Says `goodbye` to everyone who is there, and for so long to everyone who comes.
    pub(crate) async fn farewell(
        &self,
        incoming: &mut mpsc::Receiver<Arrival>,
        goodbye: &Goodbye,
        length: Duration,
    ) {
        self.goodbye(goodbye);
        let end = Instant::now() + length;
        while let Ok(Some(arrival)) = timeout_at(end, incoming.recv()).await {
            if let Arrival::Joined(name) = arrival {
                self.send(&name, &goodbye.clone().into());
            }
        }
    }

    /// Says `goodbye` to everyone, and waits until all clients have hung up, as they do once they have read
    /// it: as long as one more does within `quiet`, but no longer than `ending`, whatever the others say.
    /// Where nobody is to come `back`, it takes until `ending`, if need be: nobody would tell later who has yet to hear of
    /// it ([`Self::is_awaited`]).
    pub(crate) async fn empty(
        &self,
        incoming: &mut mpsc::Receiver<Arrival>,
        goodbye: Goodbye,
        quiet: Duration,
        ending: Duration,
    ) {
        self.goodbye(&goodbye);
        let end = Instant::now() + ending;
        let mut until = Instant::now() + quiet;
        loop {
            let (goes_on, until_now) = match goodbye.back {
                true => (self.count() > 0, until.min(end)),
                false => (self.is_awaited(), end),
            };
            if !goes_on {
                return;
            }
            match timeout_at(until_now, incoming.recv()).await {
                Ok(Some(Arrival::Left(_))) => until = Instant::now() + quiet,
                Ok(Some(Arrival::Joined(name))) => self.send(&name, &goodbye.clone().into()),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Whether someone has yet to hear of the federation's end: who is connected, which may be one that was killed and
    /// comes again; who was sent away earlier, and is not back; and whose connection broke off lately.
    fn is_awaited(&self) -> bool {
        let state = self.state();
        let lately = |at: &Instant| at.elapsed() < LATELY;
        !state.members.is_empty() || !state.away.is_empty() || state.lost.values().any(lately)
    }
}

#[cfg(test)]
mod tests;
