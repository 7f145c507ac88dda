//! What is said of newcomers who are not let in: anybody can knock as often as they like, and no log is to grow with that.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// At most one line in so long.
const EACH: Duration = Duration::from_secs(60);

/// Counts those who are refused before they have proved who they are. The first is told of at once, and then at most each minute
/// how many there were.
#[derive(Clone, Debug)]
pub(crate) struct Strangers(Arc<Mutex<Tally>>);

#[derive(Debug)]
struct Tally {
    /// Over what they came.
    way: &'static str,
    /// When something was said last.
    said: Option<Instant>,
    /// How many came since.
    more: u64,
    /// Who was the last of these, and why.
    last: Option<(SocketAddr, String)>,
}

impl Strangers {
    pub(crate) fn over(way: &'static str) -> Self {
        Self(Arc::new(Mutex::new(Tally {
            way,
            said: None,
            more: 0,
            last: None,
        })))
    }

    /// One more was refused.
    pub(crate) fn refused(&self, address: SocketAddr, why: impl ToString) {
        let mut tally = self.tally();
        let due = tally.said.map(|said| said + EACH);
        let now = Instant::now();
        match due {
            Some(due) if now < due => {
                tracing::debug!(%address, "refused over {}: {}", tally.way, why.to_string());
                tally.more += 1;
                tally.last = Some((address, why.to_string()));
                if tally.more == 1 {
                    let this = self.clone();
                    tokio::spawn(async move {
                        sleep_until(due).await;
                        this.tally().sum_up();
                    });
                }
            }
            _ => {
                tally.said = Some(now);
                tracing::warn!(%address, "refused over {}: {}", tally.way, why.to_string());
            }
        }
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn sum_up(&mut self) {
        let more = std::mem::take(&mut self.more);
        let Some((address, why)) = self.last.take() else {
            return;
        };
        self.said = Some(Instant::now());
        let (way, seconds) = (self.way, EACH.as_secs());
        tracing::warn!(
            "{more} more refused over {way} within {seconds} s; the last one, {address}: {why}"
        );
    }
}

#[cfg(test)]
mod tests;
