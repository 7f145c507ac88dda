//! Drives an [`Agent`] over connections: all the IO of a client.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fedistill_learning::{Samples, seed};
use fedistill_protocol::blob::Assembler;
use fedistill_protocol::{Answers, Digest, Heartbeat, Message, Name, ProtocolError, RoundId};
use fedistill_transport::{
    CloseCode, Connection, Dial, Direction, FrameReader, Frames, Meter, Metered, NetworkBytes,
    Payload, Traffic, TransportError, blobs,
};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::agent::{Agent, AgentConfig, Blob, Input, Job, Output, Stop};
use crate::held::Unshared;
use crate::train::{Bench, Carried, Hands, Likeness, Watcher};
use crate::{Backoff, Blobs, Policy, PrivateData, Student, Wanted};

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
    events: Option<Box<dyn Fn(Event) + Send + Sync>>,
    results: (
        mpsc::UnboundedSender<Box<Trained>>,
        mpsc::UnboundedReceiver<Box<Trained>>,
    ),
    cancel: Arc<AtomicBool>,
}

/// What came of a round's training.
struct Trained {
    id: RoundId,
    /// Bytes that its answers take whole and uncoded.
    raw: u64,
    result: Result<Option<Answers>, String>,
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
        let agent = Agent::new(AgentConfig {
            federation,
            classes: private.classes().to_vec(),
            shape: private.shape().to_vec(),
            policy,
        });
        let bench = Bench {
            name: name.clone(),
            student: Box::new(student),
            private: Box::new(private),
            watcher: Box::new(()),
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
            events: None,
            results: mpsc::unbounded_channel(),
            cancel: Arc::default(),
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
    pub async fn run(mut self) -> Result<Ended, ClientError> {
        // Jitter has to differ between runs and devices, and nothing has to repeat it.
        let entropy = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let mut jitter = seed::stream(entropy, self.name.as_str());
        loop {
            let error = match self.session().await {
                Ok(stop) => {
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
                error => (error.to_string(), self.backoff.next(&mut jitter)),
            };
            tracing::warn!(client = %self.name, "{why}; next try in {} ms", again.as_millis());
            self.tell(Event::Lost { why, again });
            tokio::time::sleep(again).await;
        }
    }

    /// One connection, from dialling to its end.
    async fn session(&mut self) -> Result<Stop, TransportError> {
        let inner = self.dial.dial().await?;
        let connection: Arc<dyn Connection> =
            Arc::new(Metered::new(inner, Arc::clone(&self.meter)));
        let result = self.converse(&connection).await;
        match &result {
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
        let Frames { mut writer, reader } = Frames::new(connection.open().await?);
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
        self.agent.handle(Input::Connected);
        loop {
            while let Some(output) = self.agent.poll_output() {
                match output {
                    Output::Send(message) => writer.send(&message).await?,
                    Output::Fetch { blob, bytes } => {
                        let connection = Arc::clone(connection);
                        let wanted = self.agent.wanted(blob);
                        let payload = match wanted {
                            Some(Wanted::Transfer) => Payload::TransferSet,
                            _ => Payload::Answers,
                        };
                        let shared = self.blobs.clone().zip(wanted);
                        let meter = Arc::clone(&self.meter);
                        fetching = JoinSet::new();
                        fetching.spawn(async move {
                            let booked = (payload, meter.as_ref());
                            let got = fetch(connection.as_ref(), blob, bytes, shared, booked);
                            (blob, Box::new(got.await))
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
                    let Trained { id, raw, result } = *trained;
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

    /// A contribution from before the connection broke is offered on the new one too.
    fn shelve_again(&self, shelf: &Shelf) {
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.is_empty() {
            shelf.extend_from_slice(self.agent.offered());
        }
    }

    fn train(&mut self, job: Job) {
        let classes = self
            .agent
            .welcome()
            .map_or(0, |welcome| welcome.transfer.classes.len() as u32);
        let lessons = job.plan.knowledge.iter();
        let lessons = lessons.map(|knowledge| knowledge.raw_bytes(classes)).sum();
        self.meter.uncoded(Direction::Received, lessons);
        let report = job.plan.report.as_ref();
        let raw = report.map_or(0, |report| report.raw_bytes(classes));
        self.cancel = Arc::default();
        let (bench, cancel) = (Arc::clone(&self.bench), Arc::clone(&self.cancel));
        let (results, permits) = (self.results.0.clone(), self.permits.clone());
        tracing::info!(client = %self.name, "trains for round {}", job.plan.id);
        self.tell(Event::Training(job.plan.id));
        tokio::spawn(async move {
            let permit = match permits {
                Some(permits) => permits.acquire_owned().await.ok(),
                None => None,
            };
            let id = job.plan.id;
            let work = move || {
                let _permit = permit;
                train(&mut lock(&bench), &job, &cancel)
            };
            let result = tokio::task::spawn_blocking(work).await;
            let result = match result {
                Ok(Ok(Carried::Cancelled)) => return,
                Ok(Ok(Carried::Out(answers))) => Ok(answers),
                Ok(Err(why)) => Err(why),
                Err(error) => Err(format!("the student failed: {error}")),
            };
            // Nobody listens once the client has ended.
            let _ = results.send(Box::new(Trained { id, raw, result }));
        });
    }

    fn tell(&self, event: Event) {
        if let Some(hear) = &self.events {
            hear(event);
        }
    }
}

fn train(bench: &mut Bench, job: &Job, cancel: &AtomicBool) -> Result<Carried, String> {
    let Bench {
        name,
        student,
        private,
        watcher,
        likeness,
    } = bench;
    let carried = student.wake().and_then(|()| {
        let hands = Hands {
            name,
            student: student.as_mut(),
            private: private.as_ref(),
            watcher: watcher.as_mut(),
            likeness,
        };
        hands.carry_out(&job.plan, &job.knowledge, &job.transfer, cancel)
    });
    let rested = student.rest();
    carried
        .and_then(|carried| rested.map(|()| carried))
        .map_err(|error| error.to_string())
}

/// A student that panicked in one round may still learn in the next.
fn lock(bench: &Mutex<Bench>) -> std::sync::MutexGuard<'_, Bench> {
    bench.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands on each message with the bytes that had come until its end.
async fn read_all(
    mut reader: FrameReader,
    meter: Arc<Meter>,
    frames: mpsc::Sender<Box<Result<(Message, u64), TransportError>>>,
) {
    while let Some(next) = reader.next().await.transpose() {
        let failed = next.is_err();
        let next = next.map(|message| (message, meter.received()));
        if frames.send(Box::new(next)).await.is_err() || failed {
            return;
        }
    }
}

/// Lets the coordinator fetch what is offered, and nothing else.
async fn serve(connection: Arc<dyn Connection>, shelf: Shelf, meter: Arc<Meter>) {
    while let Ok(mut stream) = connection.accept().await {
        let give = async {
            let request = blobs::requested(&mut stream).await?;
            let offered = shelf.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let found = offered.iter().find(|(blob, _)| *blob == request.blob);
            let bytes: &[u8] = found.map_or(&[], |(_, bytes)| bytes);
            let crossed = |bytes| meter.carried(Direction::Sent, Payload::Answers, bytes);
            blobs::send(&mut stream, bytes, request.offset, crossed).await
        };
        // On the heap, so that a client that gives nothing takes no room for it.
        if let Err(error) = Box::pin(give).await {
            tracing::warn!("a contribution was not taken: {error}");
        }
    }
}

/// What the agent is to hear of a blob, which other clients of this process may hold already.
async fn fetch(
    connection: &dyn Connection,
    blob: Digest,
    bytes: u64,
    shared: Option<(Arc<Blobs>, Wanted)>,
    (payload, meter): (Payload, &Meter),
) -> Result<Input, TransportError> {
    let crossed = |bytes| meter.carried(Direction::Received, payload, bytes);
    let fetch = async {
        let mut assembler = Assembler::new(blob, bytes, bytes)?;
        blobs::fetch(connection, blob, &mut assembler, crossed).await?;
        Ok::<_, TransportError>(assembler.finish()?)
    };
    let Some((others, wanted)) = shared else {
        return Ok(Input::Fetched(blob, fetch.await?));
    };
    if let Some(turns) = &others.turns {
        // Nobody closes it; without a turn a client would but fetch with one more beside it.
        let _turn = turns.acquire().await;
        let bytes = fetch.await?;
        return match others.get(blob, wanted, async { Ok(bytes) }).await {
            Ok((held, _)) => Ok(Input::Held(blob, held)),
            Err(Unshared::Bytes(bytes)) => Ok(Input::Fetched(blob, bytes)),
            Err(Unshared::Transport(error)) => Err(error),
        };
    }
    match others.get(blob, wanted, fetch).await {
        Ok((held, true)) => Ok(Input::Held(blob, held)),
        Ok((held, false)) => {
            let (up, down) = blobs::crossing(bytes);
            meter.spared(Direction::Sent, up);
            meter.spared(Direction::Received, down);
            crossed(bytes);
            Ok(Input::Held(blob, held))
        }
        Err(Unshared::Bytes(bytes)) => Ok(Input::Fetched(blob, bytes)),
        Err(Unshared::Transport(error)) => Err(error),
    }
}
