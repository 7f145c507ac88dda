//! Drives an [`Agent`] over connections: all the IO of a client.

mod begin;
mod conversation;
mod ended;
mod event;
mod fetching;
mod session;
mod streams;
mod work;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fedistill_learning::seed;
use fedistill_protocol::{Name, ProtocolError};
use fedistill_transport::{CloseCode, Dial, Meter, NetworkBytes, TransportError};
use rand::Rng;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub use self::ended::{ClientError, Ended};
pub use self::event::Event;
use self::streams::Parking;
use self::work::Trained;
use crate::agent::{Agent, Input};
use crate::journal::Journal;
use crate::train::{Bench, Leaving};
use crate::{Backoff, BlobFolder, Blobs};

/// A device of a federation: a student, its private data, and how to reach the coordinator.
pub struct Client {
    name: Name,
    agent: Agent,
    bench: Arc<Mutex<Bench>>,
    dial: Box<dyn Dial>,
    meter: Arc<Meter>,
    /// What connections that are over have cost on the network.
    before: NetworkBytes,
    backoff: Backoff,
    permits: Option<Arc<Semaphore>>,
    blobs: Option<Arc<Blobs>>,
    folder: Option<Arc<BlobFolder>>,
    parking: Parking,
    journal: Option<Arc<Journal>>,
    /// How long the coordinator has asked to stay away.
    away: Duration,
    events: Option<Box<dyn Fn(Event) + Send + Sync>>,
    results: (
        mpsc::UnboundedSender<Box<Trained>>,
        mpsc::UnboundedReceiver<Box<Trained>>,
    ),
    cancel: Arc<AtomicBool>,
    /// Whether this side was told to stop: training that is under way ends at its next checkpoint.
    leaving: Arc<Leaving>,
}

impl Client {
    /// Takes part until the federation is over: connects again for ever, whatever breaks. Dropping
    /// the future ends it at once.
    ///
    /// # Errors
    /// A coordinator that will not have this client, or a federation that it does not fit.
    pub async fn run(self) -> Result<Ended, ClientError> {
        self.run_until(CancellationToken::new()).await
    }

    /// As [`Self::run`], until `stop`: then the coordinator is told, and training that is under way is left
    /// at a checkpoint after its present pass, or at the last one before if that pass takes longer than 5 s.
    ///
    /// # Errors
    /// A coordinator that will not have this client, or a federation that it does not fit.
    pub async fn run_until(mut self, stop: CancellationToken) -> Result<Ended, ClientError> {
        // Jitter has to differ between runs and devices, and nothing has to repeat it.
        let entropy = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let mut jitter = seed::stream(entropy, self.name.as_str());
        loop {
            let error = match self.session(&stop).await {
                Ok(None) => {
                    self.drain().await;
                    self.dial.told().await;
                    return Ok(Ended::Stopped);
                }
                Ok(Some(stop)) => {
                    self.dial.told().await;
                    return stop.try_into();
                }
                // Whoever comes back is asked the same again.
                Err(TransportError::Protocol(error @ ProtocolError::UnknownNumber { .. })) => {
                    self.dial.told().await;
                    return Err(ClientError::Unfit(format!(
                        "the coordinator's {error} to its version"
                    )));
                }
                Err(error) => error,
            };
            self.agent.handle(Input::Lost);
            while self.agent.poll_output().is_some() {}
            let (why, again) = self.lost(&error, &mut jitter);
            tracing::warn!(client = %self.name, "{why}; next try in {} ms", again.as_millis());
            self.tell(Event::Lost { why, again });
            tokio::select! {
                () = tokio::time::sleep(again) => {}
                () = stop.cancelled() => {
                    self.drain().await;
                    return Ok(Ended::Stopped);
                }
            }
        }
    }

    /// Why a connection was lost, and how long to wait before the next one.
    fn lost(&mut self, error: &TransportError, jitter: &mut impl Rng) -> (String, Duration) {
        let (why, wait) = match error {
            // Coming back pushes the other one out, which then comes back.
            TransportError::Closed {
                code: CloseCode::Superseded,
                ..
            } => {
                let why = format!(
                    "another process has connected as {}: give each device a bundle of its own, or stop one of them",
                    self.name
                );
                (why, self.backoff.long(jitter))
            }
            TransportError::Closed {
                code: CloseCode::Outdated,
                why,
            } => (why.clone(), self.backoff.long(jitter)),
            error => (error.to_string(), self.backoff.next(jitter)),
        };
        let away = std::mem::take(&mut self.away);
        (why, wait + self.backoff.after(away, jitter))
    }
}
