//! Time between two rounds in which nothing is asked.

use std::time::{Duration, SystemTime};

use fedistill_protocol::Goodbye;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::Coordinator;
use crate::hub::{Arrival, Hub};
use crate::pace;

/// A pause between two rounds, under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    /// Its end, by the clock that nobody sets.
    end: Instant,
    /// The same by the wall clock, for a process that comes after this one.
    opens: SystemTime,
}

impl Pause {
    /// Begins one of this length, a month at most; `None` where rounds follow each other at once.
    pub(super) fn begin(length: Duration) -> Option<Self> {
        (!length.is_zero()).then(|| Self {
            end: Instant::now() + length,
            opens: SystemTime::now() + length,
        })
    }

    /// Goes on in one of this length that the process before this one has begun, whose end was to be at
    /// `opens`, and which may be over `now`. However the wall clock was set meanwhile, no more is left than a
    /// whole one.
    pub(super) fn goes_on(length: Duration, opens: SystemTime, now: SystemTime) -> Option<Self> {
        let left = opens.duration_since(now).unwrap_or_default();
        Self::begin(left.min(length))
    }

    /// When the next round may open, by the wall clock.
    pub(super) fn opens(&self) -> SystemTime {
        self.opens
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}

impl Coordinator {
    /// Lets the pause between two rounds pass. Who is connected, or comes, is sent away until shortly before
    /// its end.
    pub(super) async fn pause(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
        pause: &Pause,
    ) {
        let left = pause.left();
        if left.is_zero() {
            // Its round took as long to be written.
            return;
        }
        let tenths = (10.0 * left.as_secs_f64()).ceil();
        tracing::info!("the next round opens in {} s", tenths / 10.0);
        if let Some(goodbye) = until(left) {
            for client in hub.connected() {
                hub.send_away(&client, &goodbye);
            }
        }
        while let Ok(Some(arrival)) = timeout_at(pause.end, incoming.recv()).await {
            if let (Arrival::Joined(name), Some(goodbye)) = (&arrival, until(pause.left())) {
                hub.send_away(name, &goodbye);
            }
            self.wait_or_refuse(hub, arrival);
        }
    }
}

/// What sends a client away where the next round opens after `left`.
fn until(left: Duration) -> Option<Goodbye> {
    let away = pace::of_a_wait(left)?;
    Some(Goodbye {
        why: format!("the next round opens in {} s", left.as_secs()),
        back: true,
        after_ms: away.as_millis().try_into().unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
pub(super) mod tests;
