//! Time between two rounds in which nothing is asked.

use std::time::Duration;

use fedistill_protocol::Goodbye;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::Coordinator;
use crate::hub::{Arrival, Hub};
use crate::pace;

impl Coordinator {
    /// Lets the pause between two rounds pass. Who is connected, or comes, is sent away until shortly before
    /// its end.
    pub(super) async fn pause(&mut self, hub: &Hub, incoming: &mut mpsc::Receiver<Arrival>) {
        let pause = self.settings.pause;
        if pause.is_zero() {
            return;
        }
        tracing::info!("the next round opens in {} s", pause.as_secs_f64());
        let end = Instant::now() + pause;
        if let Some(goodbye) = until(pause) {
            for client in hub.connected() {
                hub.send_away(&client, &goodbye);
            }
        }
        while let Ok(Some(arrival)) = timeout_at(end, incoming.recv()).await {
            let left = end.saturating_duration_since(Instant::now());
            if let (Arrival::Joined(name), Some(goodbye)) = (&arrival, until(left)) {
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
