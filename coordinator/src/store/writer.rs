//! The one thread that writes: whoever hands it something goes on, and hears when that is durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fedistill_federation::{Event, Ticket};
use fedistill_protocol::{Name, RoundId, RoundPlan};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::{Closed, Epoch, Outcome, Saved, Store, StoreError};
use crate::trouble::Trouble;

/// Time after which a disk that was full is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Bytes of contributions that wait to be written, above which no more should be taken in.
const BACKLOG: usize = 64 << 20;

/// A store, and who may write to it. Events of a round are written in the order in which they are handed over,
/// all that have come in while others were written in one transaction. A full disk delays: nothing is stored
/// until there is room again.
pub(crate) struct Writer {
    epoch: Epoch,
    way: Way,
}

enum Way {
    /// A store that takes no time.
    Here(Box<dyn Store>),
    Thread(Thread),
}

/// This side of the thread.
struct Thread {
    /// `None` once the thread has been told to end.
    jobs: Option<Sender<Job>>,
    /// How many more of the events handed over are durable.
    stored: UnboundedReceiver<Result<usize, StoreError>>,
    /// What was handed over and is not durable yet, and how many bytes each is about.
    pending: VecDeque<(Ticket, usize)>,
    backlog: usize,
    /// `None` once it has ended.
    running: Option<JoinHandle<()>>,
}

enum Job {
    Append(RoundId, Event),
    Load(Reply<Saved>),
    Last(Reply<Option<Closed>>),
    Open(Box<RoundPlan>, BTreeMap<Name, u32>, Reply<()>),
    Close(Box<Saved>, Outcome, Reply<()>),
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

impl Writer {
    /// Takes a store into use.
    ///
    /// # Errors
    /// A system that has no thread left.
    pub(crate) fn start(store: Box<dyn Store>) -> Result<Self, StoreError> {
        let epoch = store.epoch();
        if store.is_immediate() {
            let way = Way::Here(store);
            return Ok(Self { epoch, way });
        }
        let (jobs, todo) = mpsc::channel();
        let (done, stored) = unbounded_channel();
        let desk = Desk {
            store,
            todo,
            waiting: VecDeque::new(),
            full: Trouble::default(),
        };
        let running = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || desk.work(&done))
            .map_err(|error| StoreError::Thread(format!("cannot be started: {error}")))?;
        let way = Way::Thread(Thread {
            jobs: Some(jobs),
            stored,
            pending: VecDeque::new(),
            backlog: 0,
            running: Some(running),
        });
        Ok(Self { epoch, way })
    }

    /// [`Store::epoch`].
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// [`Store::is_immediate`].
    pub(crate) fn is_immediate(&self) -> bool {
        matches!(self.way, Way::Here(_))
    }

    /// [`Store::load`].
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn load(&mut self) -> Result<Saved, StoreError> {
        match &mut self.way {
            Way::Here(store) => store.load(),
            Way::Thread(thread) => thread.ask(Job::Load).await,
        }
    }

    /// [`Store::last`].
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn last(&mut self) -> Result<Option<Closed>, StoreError> {
        match &mut self.way {
            Way::Here(store) => store.last(),
            Way::Thread(thread) => thread.ask(Job::Last).await,
        }
    }

    /// [`Store::open`], once there is room for it.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn open(
        &mut self,
        plan: &RoundPlan,
        cohort: &BTreeMap<Name, u32>,
    ) -> Result<(), StoreError> {
        match &mut self.way {
            Way::Here(store) => store.open(plan, cohort),
            Way::Thread(thread) => {
                let (plan, cohort) = (Box::new(plan.clone()), cohort.clone());
                thread.ask(|reply| Job::Open(plan, cohort, reply)).await
            }
        }
    }

    /// [`Store::close`], once there is room for it.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn close(&mut self, next: Saved, outcome: Outcome) -> Result<(), StoreError> {
        match &mut self.way {
            Way::Here(store) => store.close(&next, &outcome),
            Way::Thread(thread) => {
                let next = Box::new(next);
                thread.ask(|reply| Job::Close(next, outcome, reply)).await
            }
        }
    }

    /// Hands over what has happened in the open round. Returns its ticket if it is durable already; of
    /// others [`Self::stored`] tells.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub(crate) fn append(
        &mut self,
        id: RoundId,
        ticket: Ticket,
        event: Event,
    ) -> Result<Option<Ticket>, StoreError> {
        match &mut self.way {
            Way::Here(store) => {
                store.append(id, &[event])?;
                Ok(Some(ticket))
            }
            Way::Thread(thread) => {
                let bytes = size(&event);
                thread.pending.push_back((ticket, bytes));
                thread.backlog += bytes;
                // A thread that has ended has said why, which `stored` tells.
                thread.tell(Job::Append(id, event));
                Ok(None)
            }
        }
    }

    /// Waits until more of what was handed over is durable: its tickets, in the order of [`Self::append`].
    /// Nothing is lost where this is dropped before it is done.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub(crate) async fn stored(&mut self) -> Result<Vec<Ticket>, StoreError> {
        let Way::Thread(thread) = &mut self.way else {
            return std::future::pending().await;
        };
        let count = thread.stored.recv().await.ok_or_else(ended)??;
        let stored = thread.pending.drain(..count.min(thread.pending.len()));
        let (tickets, bytes): (Vec<Ticket>, Vec<usize>) = stored.unzip();
        thread.backlog -= bytes.iter().sum::<usize>();
        Ok(tickets)
    }

    /// Whether so much waits to be written that no more should be taken in.
    pub(crate) fn is_behind(&self) -> bool {
        match &self.way {
            Way::Here(_) => false,
            Way::Thread(thread) => thread.backlog >= BACKLOG,
        }
    }
}

impl Thread {
    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.tell(job(reply));
        answer.await.map_err(|_| ended())?
    }

    fn tell(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // Whoever waits for it sees that the thread has ended.
            let _ = jobs.send(job);
        }
    }
}

/// What was handed over is written before the store is let go, unless there is no room for it.
impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(running) = self.running.take() {
            // One that has panicked has said so.
            let _ = running.join();
        }
    }
}

fn ended() -> StoreError {
    StoreError::Thread("has ended before its time".to_owned())
}

/// About how many bytes an event is.
fn size(event: &Event) -> usize {
    match event {
        Event::Taken {
            answers: Some(answers),
            ..
        }
        | Event::Folded { answers, .. } => size_of_val(answers.values()),
        _ => 0,
    }
}

/// The thread's side.
struct Desk {
    store: Box<dyn Store>,
    todo: Receiver<Job>,
    /// What has come in and is not begun.
    waiting: VecDeque<Job>,
    /// A disk that is full.
    full: Trouble,
}

impl Desk {
    /// Does what comes in, until all of it is done and nobody is left to hand over more.
    fn work(mut self, done: &UnboundedSender<Result<usize, StoreError>>) {
        while let Some(job) = self.next() {
            let goes_on = match job {
                Job::Append(id, event) => {
                    let mut events = vec![event];
                    events.extend(self.more(id));
                    let written = self.persist(|store| store.append(id, &events));
                    written.is_some_and(|written| {
                        let goes_on = written.is_ok();
                        done.send(written.map(|()| events.len())).is_ok() && goes_on
                    })
                }
                Job::Load(reply) => {
                    let loaded = self.store.load();
                    answer(reply, Some(loaded))
                }
                Job::Last(reply) => {
                    let last = self.store.last();
                    answer(reply, Some(last))
                }
                Job::Open(plan, cohort, reply) => {
                    let opened = self.persist(|store| store.open(&plan, &cohort));
                    answer(reply, opened)
                }
                Job::Close(next, outcome, reply) => {
                    let closed = self.persist(|store| store.close(&next, &outcome));
                    answer(reply, closed)
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    fn next(&mut self) -> Option<Job> {
        self.waiting.pop_front().or_else(|| self.todo.recv().ok())
    }

    /// All events of this round that have come in and that nothing else comes before.
    fn more(&mut self, id: RoundId) -> Vec<Event> {
        self.waiting.extend(self.todo.try_iter());
        let mut events = Vec::new();
        while let Some(job) = self.waiting.pop_front() {
            match job {
                Job::Append(of, event) if of == id => events.push(event),
                other => {
                    self.waiting.push_front(other);
                    break;
                }
            }
        }
        events
    }

    /// Writes, as soon as there is room; `None` where nobody waits for that any more.
    fn persist(
        &mut self,
        mut write: impl FnMut(&mut dyn Store) -> Result<(), StoreError>,
    ) -> Option<Result<(), StoreError>> {
        loop {
            match write(self.store.as_mut()) {
                Err(error @ StoreError::NoRoom { .. }) => {
                    self.remind(&error);
                    if !self.pause() {
                        return None;
                    }
                }
                done => {
                    let full = self.full.passed(Instant::now());
                    if let Some(full) = full.filter(|_| done.is_ok()) {
                        let seconds = full.as_secs();
                        tracing::info!("there is room again after {seconds} s: rounds go on");
                    }
                    return Some(done);
                }
            }
        }
    }

    fn remind(&mut self, error: &StoreError) {
        if self.full.failed(Instant::now()) {
            tracing::error!(
                "{error}: no contribution is acknowledged and no round goes on until there is; tried again each second"
            );
        }
    }

    /// Lets a while pass and takes in what comes; whether somebody is there who may hand over more.
    fn pause(&mut self) -> bool {
        let end = Instant::now() + AGAIN;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.todo.recv_timeout(left) {
                Ok(job) => self.waiting.push_back(job),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

/// Tells what came of a job; whether there is a point in going on.
fn answer<T>(reply: Reply<T>, done: Option<Result<T, StoreError>>) -> bool {
    let Some(done) = done else {
        return false;
    };
    let goes_on = done.is_ok();
    // Who asked may have been told to stop.
    let _ = reply.send(done);
    goes_on
}

#[cfg(test)]
mod tests;
