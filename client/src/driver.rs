//! Drives an [`Agent`] over connections: all the IO of a client.

mod streams;
mod work;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fedistill_learning::{Samples, seed};
use fedistill_protocol::{Answers, Digest, Heartbeat, Message, Name, ProtocolError, RoundId};
use fedistill_transport::{
    CloseCode, Connection, Dial, Direction, Frames, Meter, Metered, NetworkBytes, Traffic,
    TransportError,
};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::streams::{Errand, Parking, read_all, serve};
use self::work::{Trained, lock};
use crate::agent::{Agent, AgentConfig, Blob, Input, Output, Stop};
use crate::journal::{Entry, Journal, Kept};
use crate::train::{Bench, Journaled, Leaving, Likeness, Watcher};
use crate::{Backoff, BlobFolder, Blobs, Policy, PrivateData, Student, StudentError};

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

/// How a client's life ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The coordinator says that the federation is over.
    Finished(String),
    /// It was told to stop; what it keeps in a journal goes on when it is started again.
    Stopped,
}

/// Why a client cannot take part.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The coordinator will not have it.
    #[error("not welcome: {0}")]
    NotWelcome(String),
    /// It does not fit this federation.
    #[error("{0}")]
    Unfit(String),
    /// Data without a sample.
    #[error("client {0} has no private samples")]
    NoData(Name),
}

/// Longest wait for a coordinator's first word: keep-alives show that there is somebody, not that it serves.
const GREETING: Duration = Duration::from_secs(60);

/// The blobs that a client lets its coordinator fetch.
pub type Shelf = Arc<Mutex<Vec<Blob>>>;

impl Client {
    /// A client called `name` in `federation`, with a student and the private data it learns from.
    ///
    /// # Errors
    /// Data without a sample.
    pub fn new(
        federation: Name,
        name: Name,
        student: impl Student + 'static,
        private: impl PrivateData + 'static,
        policy: Policy,
        dial: impl Dial + 'static,
    ) -> Result<Self, ClientError> {
        if private.is_empty() {
            return Err(ClientError::NoData(name));
        }
        let mut agent = Agent::new(AgentConfig {
            federation,
            classes: private.classes().to_vec(),
            shape: private.shape().to_vec(),
            policy,
        });
        agent.of_size(student.parameters().len() as u64);
        let bench = Bench {
            name: name.clone(),
            student: Box::new(student),
            private: Box::new(private),
            watcher: Box::new(()),
            checkpoints: Box::new(()),
            likeness: Likeness::default(),
        };
        Ok(Self {
            name,
            agent,
            bench: Arc::new(Mutex::new(bench)),
            dial: Box::new(dial),
            meter: Arc::default(),
            before: NetworkBytes::default(),
            backoff: Backoff::default(),
            permits: None,
            blobs: None,
            folder: None,
            parking: Parking::default(),
            journal: None,
            away: Duration::ZERO,
            events: None,
            results: mpsc::unbounded_channel(),
            cancel: Arc::default(),
            leaving: Arc::default(),
        })
    }

    /// Lets `watcher` see the student after each phase of a plan.
    #[must_use]
    pub fn watched_by(self, watcher: impl Watcher + 'static) -> Self {
        lock(&self.bench).watcher = Box::new(watcher);
        self
    }

    /// Counts what crosses on `meter`.
    #[must_use]
    pub fn metered(mut self, meter: Arc<Meter>) -> Self {
        self.meter = meter;
        self
    }

    /// Trains only with a permit, so that many clients of one process share its cores.
    #[must_use]
    pub fn with_permits(mut self, permits: Arc<Semaphore>) -> Self {
        self.permits = Some(permits);
        self
    }

    /// Waits between connections as `backoff` says.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Holds blobs together with the other clients of this process.
    #[must_use]
    pub fn sharing(mut self, blobs: Arc<Blobs>) -> Self {
        self.blobs = Some(blobs);
        self
    }

    /// Keeps the transfer set in `folder`, so that it is fetched once and not at each start.
    #[must_use]
    pub fn caching(mut self, folder: BlobFolder) -> Self {
        self.folder = Some(Arc::new(folder));
        self
    }

    /// Keeps in a journal what has to outlive the process, and goes on from what is in it. A training
    /// that is under way is kept after a pass over its samples, at most once in `every`.
    ///
    /// # Errors
    /// A student that cannot go on from what was kept of it.
    pub fn journaled(
        mut self,
        journal: Journal,
        kept: Kept,
        every: Duration,
    ) -> Result<Self, StudentError> {
        let journal = Arc::new(journal);
        {
            let mut bench = lock(&self.bench);
            if let Some(student) = &kept.student {
                bench.student.restore(student)?;
            }
            bench.checkpoints = Box::new(Journaled::new(
                Arc::clone(&journal),
                every,
                Arc::clone(&self.leaving),
            ));
        }
        self.agent.restore(kept.epoch, kept.finished);
        if let Some(begun) = kept.begun {
            self.agent.go_on(begun);
        }
        self.journal = Some(journal);
        Ok(self)
    }

    /// Begins with the transfer set of this digest in hand, as one who was here before.
    #[must_use]
    pub fn holding(mut self, blob: Digest, transfer: Arc<Samples>) -> Self {
        self.agent.hold(blob, transfer);
        self
    }

    /// Begins with this in hand of what came down last, as one who was here before.
    #[must_use]
    pub fn knowing(mut self, blob: Digest, answers: Arc<Answers>) -> Self {
        self.agent.know(blob, answers);
        self
    }

    /// Begins with this as what it gave back last, as one who was here before.
    #[must_use]
    pub fn having_given(mut self, blob: Digest, answers: Arc<Answers>) -> Self {
        self.agent.gave(blob, answers);
        self
    }

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
                    return match stop {
                        Stop::Finished(why) => Ok(Ended::Finished(why)),
                        Stop::NotWelcome(why) => Err(ClientError::NotWelcome(why)),
                        Stop::Unfit(why) => Err(ClientError::Unfit(why)),
                    };
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
            let (why, again) = match &error {
                // Coming back pushes the other one out, which then comes back.
                TransportError::Closed {
                    code: CloseCode::Superseded,
                    ..
                } => {
                    let why = format!(
                        "another process has connected as {}: give each device a bundle of its own, or stop one of them",
                        self.name
                    );
                    (why, self.backoff.long(&mut jitter))
                }
                TransportError::Closed {
                    code: CloseCode::Outdated,
                    why,
                } => (why.clone(), self.backoff.long(&mut jitter)),
                error => (error.to_string(), self.backoff.next(&mut jitter)),
            };
            let again = again
                + self
                    .backoff
                    .after(std::mem::take(&mut self.away), &mut jitter);
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

    /// One connection, from dialling to its end; `None` where this side was told to stop.
    async fn session(&mut self, stop: &CancellationToken) -> Result<Option<Stop>, TransportError> {
        let inner = tokio::select! {
            dialled = self.dial.dial() => dialled?,
            () = stop.cancelled() => return Ok(None),
        };
        let connection: Arc<dyn Connection> =
            Arc::new(Metered::new(inner, Arc::clone(&self.meter)));
        let result = tokio::select! {
            result = self.converse(&connection) => result.map(Some),
            () = stop.cancelled() => Ok(None),
        };
        match &result {
            Ok(None) => connection.close(CloseCode::Stopping, "the client stops"),
            Ok(_) => connection.close(CloseCode::Done, "done"),
            Err(TransportError::Protocol(error)) => {
                connection.close(CloseCode::Violation, &error.to_string());
            }
            Err(_) => connection.close(CloseCode::Done, "lost"),
        }
        let network = connection.network_bytes();
        self.before += network.unwrap_or_default();
        self.tell(Event::Closed { network });
        // A stream that broke off says less than the connection's own reason.
        result.map_err(|error| match (&error, connection.close_reason()) {
            (
                TransportError::Lost(_),
                Some(reason @ (TransportError::Closed { .. } | TransportError::Refused(_))),
            ) => match reason {
                TransportError::Closed {
                    code: CloseCode::Done,
                    ..
                } => error,
                reason => reason,
            },
            _ => error,
        })
    }

    async fn converse(&mut self, connection: &Arc<dyn Connection>) -> Result<Stop, TransportError> {
        let shelf: Shelf = Arc::default();
        // They end with the session.
        let mut tasks = JoinSet::new();
        let Frames { mut writer, reader } =
            Frames::new(connection.open().await?, connection.version());
        let (frames, mut incoming) = mpsc::channel(16);
        tasks.spawn(read_all(reader, Arc::clone(&self.meter), frames));
        tasks.spawn(serve(
            Arc::clone(connection),
            Arc::clone(&shelf),
            Arc::clone(&self.meter),
        ));
        // An agent needs one blob at a time: what it asks for next replaces what it asked for before.
        let mut fetching = JoinSet::new();
        let mut beat = tokio::time::interval(Duration::from_secs(3600));
        self.agent.speak(connection.version());
        self.agent.handle(Input::Connected);
        let greeting = tokio::time::sleep(GREETING);
        tokio::pin!(greeting);
        let mut is_greeted = false;
        loop {
            while let Some(output) = self.agent.poll_output() {
                match output {
                    Output::Send(message) => writer.send(&message).await?,
                    Output::Keep(entry) => self.keep(&entry).await,
                    Output::Leave {
                        why,
                        after,
                        outdated,
                    } => {
                        self.away = after;
                        let code = match outdated {
                            true => CloseCode::Outdated,
                            false => CloseCode::Done,
                        };
                        connection.close(code, &why);
                        return Err(TransportError::Closed { code, why });
                    }
                    Output::Fetch { blob, bytes } => {
                        let connection = Arc::clone(connection);
                        let errand = Errand {
                            blob,
                            bytes,
                            wanted: self.agent.wanted(blob),
                            shared: self.blobs.clone(),
                            parking: Arc::clone(&self.parking),
                            folder: self.folder.clone(),
                            meter: Arc::clone(&self.meter),
                        };
                        fetching = JoinSet::new();
                        fetching.spawn(async move {
                            (blob, Box::new(errand.run(connection.as_ref()).await))
                        });
                    }
                    Output::Train(job) => self.train(*job),
                    Output::Cancel(_) => self.cancel.store(true, Ordering::Relaxed),
                    Output::Offer(blobs) => {
                        *shelf.lock().unwrap_or_else(PoisonError::into_inner) = blobs;
                    }
                    Output::Retract => {
                        shelf.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    }
                    Output::Counted(id) => tracing::info!(client = %self.name, "round {id} counts"),
                    Output::Note(note) => {
                        tracing::warn!(client = %self.name, "{note}");
                        self.tell(Event::Note(note));
                    }
                    Output::Stop(stop) => return Ok(stop),
                }
            }
            tokio::select! {
                frame = incoming.recv() => {
                    let Some((message, received)) = frame.map(|frame| *frame).transpose()? else {
                        return Err(TransportError::Lost("the coordinator ended the conversation".to_owned()));
                    };
                    is_greeted = true;
                    if let Message::Welcome(welcome) = &message {
                        self.backoff.reset();
                        let third = u64::from(welcome.heartbeat_ms).max(3) / 3;
                        let third = Duration::from_millis(third);
                        // The first one is not due at once: joining says as much.
                        beat = tokio::time::interval_at(tokio::time::Instant::now() + third, third);
                        tracing::info!(client = %self.name, "in federation {}", welcome.federation);
                        let traffic = self.traffic(connection.as_ref(), received);
                        self.tell(Event::Connected { traffic });
                    }
                    if let Message::Receipt(receipt) = &message {
                        let traffic = self.traffic(connection.as_ref(), received);
                        let id = receipt.id;
                        self.tell(Event::Counted { id, traffic });
                    }
                    self.agent.handle(Input::Message(message));
                    self.shelve_again(&shelf);
                }
                Some(done) = fetching.join_next() => {
                    let (blob, got) = done.map_err(|error| TransportError::Lost(error.to_string()))?;
                    match *got {
                        Ok(input) => self.agent.handle(input),
                        // What nobody wants any more may have been withdrawn.
                        Err(error) if self.agent.wanted(blob).is_none() => {
                            tracing::debug!("a blob that is not wanted any more: {error}");
                        }
                        Err(error) => return Err(error),
                    }
                }
                Some(trained) = self.results.1.recv() => {
                    let Trained { id, cancelled, raw, result } = *trained;
                    if cancelled.load(Ordering::Relaxed) {
                        continue;
                    }
                    if result.is_ok() && self.agent.training() == Some(id) {
                        self.meter.uncoded(Direction::Sent, raw);
                    }
                    self.agent.handle(Input::Trained(id, result));
                }
                _ = beat.tick() => {
                    if let Some(id) = self.agent.training() {
                        writer.send(&Heartbeat { id }.into()).await?;
                    }
                }
                error = connection.closed() => return Err(error),
                () = &mut greeting, if !is_greeted => {
                    return Err(TransportError::Timeout("answered to a greeting"));
                }
            }
        }
    }

    /// What has crossed on all connections, once so many bytes have come on streams.
    fn traffic(&self, connection: &dyn Connection, received: u64) -> Traffic {
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

    /// Makes an entry durable. Nothing goes on before it is: what cannot be written is tried again.
    async fn keep(&self, entry: &Entry) {
        const AGAIN: Duration = Duration::from_secs(5);
        let Some(journal) = &self.journal else {
            return;
        };
        while let Err(error) = journal.keep(entry) {
            let seconds = AGAIN.as_secs();
            tracing::error!(client = %self.name, "{error}: nothing is said before it is written; tried again in {seconds} s");
            self.tell(Event::Note(error.to_string()));
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// A contribution from before the connection broke is offered on the new one too.
    fn shelve_again(&self, shelf: &Shelf) {
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.is_empty() {
            shelf.extend_from_slice(self.agent.offered());
        }
    }

    fn tell(&self, event: Event) {
        if let Some(hear) = &self.events {
            hear(event);
        }
    }
}

#[cfg(test)]
mod tests;
