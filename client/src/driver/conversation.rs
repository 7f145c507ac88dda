//! What is said on one connection, and what is done about it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fedistill_protocol::{Digest, Heartbeat, Message};
use fedistill_transport::{CloseCode, Connection, Direction, FrameWriter, Frames, TransportError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, interval, interval_at, sleep_until, timeout};

use super::fetching::{Fetched, Fetching};
use super::streams::{Errand, Heard, Shelf, read_all, serve};
use super::work::Trained;
use super::{Client, Event};
use crate::Wanted;
use crate::agent::{Input, Output, Stop};
use crate::journal::Entry;

/// Longest wait for a coordinator's first word: keep-alives show that there is somebody, not that it serves.
const GREETING: Duration = Duration::from_secs(60);
/// Time between two heartbeats before a coordinator has said how often it wants them: nothing is at work then.
const SELDOM: Duration = Duration::from_secs(3600);

/// Talks with the coordinator until it says how this client's life ends, or the connection does.
pub(super) async fn converse(
    client: &mut Client,
    connection: &Arc<dyn Connection>,
) -> Result<Stop, TransportError> {
    let shelf = Shelf::default();
    // They end with the conversation.
    let mut tasks = JoinSet::new();
    let late = |_| TransportError::Timeout("made room for a stream");
    let stream = timeout(GREETING, connection.open()).await.map_err(late)??;
    let Frames { writer, reader } = Frames::new(stream, connection.version());
    let (frames, mut incoming) = mpsc::channel(16);
    tasks.spawn(read_all(reader, Arc::clone(&client.meter), frames));
    tasks.spawn(serve(
        Arc::clone(connection),
        Arc::clone(&shelf),
        Arc::clone(&client.meter),
    ));
    client.agent.speak(connection.version());
    client.agent.handle(Input::Connected);
    let mut conversation = Conversation {
        client,
        connection,
        writer,
        shelf,
        fetching: Fetching::default(),
        beat: interval(SELDOM),
        awaits: Some(Instant::now() + GREETING),
    };
    conversation.go_on(&mut incoming).await
}

/// A conversation with the coordinator.
struct Conversation<'a> {
    client: &'a mut Client,
    connection: &'a Arc<dyn Connection>,
    writer: FrameWriter,
    /// What the coordinator may fetch.
    shelf: Shelf,
    fetching: Fetching,
    /// When this client shows that it is at work.
    beat: Interval,
    /// Until when the coordinator's first word is waited for; `None` once it has come.
    awaits: Option<Instant>,
}

impl Conversation<'_> {
    async fn go_on(
        &mut self,
        incoming: &mut mpsc::Receiver<Heard>,
    ) -> Result<Stop, TransportError> {
        loop {
            while let Some(output) = self.client.agent.poll_output() {
                if let Some(stop) = self.put_out(output).await? {
                    return Ok(stop);
                }
            }
            let fetched = self.fetching.blob();
            if fetched.is_some_and(|blob| self.client.agent.wanted(blob).is_none()) {
                // The line is for what is wanted.
                self.fetching.stop();
            }
            let awaits = self.awaits;
            tokio::select! {
                frame = incoming.recv() => {
                    let Some((message, received)) = frame.map(|frame| *frame).transpose()? else {
                        return Err(TransportError::Lost("the coordinator ended the conversation".to_owned()));
                    };
                    self.hear(message, received);
                }
                Some(fetched) = self.fetching.ended() => self.got(fetched)?,
                Some(trained) = self.client.results.1.recv() => self.trained(*trained),
                _ = self.beat.tick() => {
                    // On a slow line what is fetched or given back takes long between two of its chunks, at the other
                    // end too; one that stands still ends the connection.
                    if let Some(id) = self.client.agent.at_work() {
                        self.writer.send(&Heartbeat { id }.into()).await?;
                    }
                }
                error = self.connection.closed() => return Err(error),
                () = sleep_until(awaits.unwrap_or_else(Instant::now)), if awaits.is_some() => {
                    return Err(TransportError::Timeout("answered to a greeting"));
                }
            }
        }
    }

    /// Does what the agent says; how this client's life ends, where that is what it says.
    async fn put_out(&mut self, output: Output) -> Result<Option<Stop>, TransportError> {
        match output {
            Output::Send(message) => self.writer.send(&message).await?,
            Output::Keep(entry) => self.client.keep(&entry).await,
            Output::Leave {
                why,
                after,
                outdated,
            } => {
                self.client.away = after;
                let code = match outdated {
                    true => CloseCode::Outdated,
                    false => CloseCode::Done,
                };
                self.connection.close(code, &why);
                return Err(TransportError::Closed { code, why });
            }
            Output::Fetch { blob, bytes } => self.fetch(blob, bytes),
            Output::Train(job) => self.client.train(*job),
            Output::Cancel(_) => self.client.cancel.store(true, Ordering::Relaxed),
            Output::Offer(blobs) => {
                *self.shelf.lock().unwrap_or_else(PoisonError::into_inner) = blobs;
            }
            Output::Retract => {
                let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
                shelf.clear();
            }
            Output::Counted(id) => {
                tracing::info!(client = %self.client.name, "round {id} counts");
            }
            Output::Note(note) => {
                tracing::warn!(client = %self.client.name, "{note}");
                self.client.tell(Event::Note(note));
            }
            Output::Stop(stop) => return Ok(Some(stop)),
        }
        Ok(None)
    }

    /// Takes in a message, once so many bytes have come on streams.
    fn hear(&mut self, message: Message, received: u64) {
        self.awaits = None;
        let client = &mut *self.client;
        if let Message::Welcome(welcome) = &message {
            client.backoff.reset();
            let third = u64::from(welcome.heartbeat_ms).max(3) / 3;
            let third = Duration::from_millis(third);
            // The first one is not due at once: joining says as much.
            self.beat = interval_at(Instant::now() + third, third);
            tracing::info!(client = %client.name, "in federation {}", welcome.federation);
            let traffic = client.traffic(self.connection.as_ref(), received);
            client.tell(Event::Connected { traffic });
        }
        if let Message::Receipt(receipt) = &message {
            let traffic = client.traffic(self.connection.as_ref(), received);
            let id = receipt.id;
            client.tell(Event::Counted { id, traffic });
        }
        client.agent.handle(Input::Message(message));
        self.shelve_again();
    }

    fn fetch(&mut self, blob: Digest, bytes: u64) {
        let client = &self.client;
        let errand = Errand {
            blob,
            bytes,
            wanted: client.agent.wanted(blob),
            shared: client.blobs.clone(),
            parking: Arc::clone(&client.parking),
            folder: client.folder.clone(),
            meter: Arc::clone(&client.meter),
        };
        self.fetching.begin(errand, self.connection);
    }

    /// Takes in what has come of a blob.
    fn got(&mut self, fetched: Fetched) -> Result<(), TransportError> {
        let Fetched {
            blob,
            bytes,
            again,
            got,
        } = fetched;
        let agent = &mut self.client.agent;
        match (got, agent.wanted(blob)) {
            (Ok(input), _) => agent.handle(input),
            (Err(error), None) => {
                tracing::debug!("a blob that is not wanted any more: {error}");
            }
            (Err(TransportError::NotOffered(_)), Some(_)) if again => self.fetch(blob, bytes),
            // Its round is over. The transfer set is offered in each: it may be there on another connection.
            (Err(error @ TransportError::NotOffered(_)), Some(wanted))
                if wanted != Wanted::Transfer =>
            {
                tracing::info!(client = %self.client.name, "waits for the next plan: {error}");
                agent.handle(Input::NotOffered(blob));
            }
            (Err(error), Some(_)) => return Err(error),
        }
        Ok(())
    }

    fn trained(&mut self, trained: Trained) {
        let Trained {
            id,
            cancelled,
            raw,
            result,
        } = trained;
        if cancelled.load(Ordering::Relaxed) {
            return;
        }
        let client = &mut *self.client;
        if result.is_ok() && client.agent.training() == Some(id) {
            client.meter.uncoded(Direction::Sent, raw);
        }
        client.agent.handle(Input::Trained(id, result));
    }

    /// A contribution from before the connection broke is offered on the new one too.
    fn shelve_again(&self) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.is_empty() {
            shelf.extend_from_slice(self.client.agent.offered());
        }
    }
}

impl Client {
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
}

#[cfg(test)]
mod tests;
