//! A coordinator, its clients and what lies between them, on a virtual clock.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fedistill_coordinator::{FileStore, MemoryStore, Store};
use fedistill_protocol::Message;

use crate::book::{Book, Tally};
use crate::centre::{Around, Centre};
use crate::device::Device;
use crate::op::{Op, Setup};
use crate::plan::{MOST_TIME, SILENCE, Terms};

/// Where a coordinator's process leaves what outlives it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Disk {
    /// In memory, which outlives it in a test.
    Memory,
    /// In this file.
    File(PathBuf),
}

/// Lives through `ops`, then lets faults stop, and holds all of it against the invariants.
///
/// # Errors
/// The first invariant that does not hold, as one line.
pub(crate) fn live(setup: Setup, ops: &[Op], disk: Disk) -> Result<Tally, String> {
    let mut world = World::new(setup, disk)?;
    for op in ops {
        world.step(*op)?;
    }
    world.calm()?;
    world.judge()?;
    Ok(world.book.tally)
}

/// A bidirectional stream. Nothing on it is lost but with all of it.
#[derive(Default)]
struct Link {
    connected: bool,
    /// Nothing goes through.
    cut: bool,
    up: VecDeque<Message>,
    down: VecDeque<Message>,
}

struct World {
    terms: Arc<Terms>,
    now: Instant,
    disk: Disk,
    /// There is none between two processes that have it in a file.
    store: Option<Box<dyn Store>>,
    epoch: u64,
    centre: Option<Centre>,
    devices: Vec<Device>,
    links: Vec<Link>,
    book: Book,
}

/// After so many messages to and fro at one instant there will be no end to it.
const CHATTER: usize = 1000;

impl World {
    #[allow(
        clippy::disallowed_methods,
        reason = "a test needs some instant to begin with"
    )]
    fn new(setup: Setup, disk: Disk) -> Result<Self, String> {
        let terms = Arc::new(Terms::new(setup));
        let devices =
            (0..setup.clients.into()).map(|number| Device::new(number, Arc::clone(&terms)));
        let mut world = Self {
            now: Instant::now(),
            store: (disk == Disk::Memory).then(|| Box::<MemoryStore>::default() as Box<dyn Store>),
            disk,
            epoch: 0,
            centre: None,
            devices: devices.collect(),
            links: (0..setup.clients).map(|_| Link::default()).collect(),
            book: Book::new(terms.classes(), setup.folds),
            terms,
        };
        world.start()?;
        world.settle()?;
        Ok(world)
    }

    fn step(&mut self, op: Op) -> Result<(), String> {
        let clients = self.devices.len();
        let client = |number: u8| usize::from(number) % clients;
        match op {
            Op::AdvanceTime(seconds) => self.advance(Duration::from_secs(seconds.into())),
            Op::Deliver(number) => self.deliver(client(number)).map(drop),
            Op::Persist => self.with(|centre, around| centre.persist(around)),
            Op::Contribute(number) => {
                let sent = self.devices[client(number)].finish()?;
                self.send(client(number), sent);
                Ok(())
            }
            Op::Replay(number) => {
                let again = self.devices[client(number)].replay();
                self.send(client(number), again);
                Ok(())
            }
            Op::Conflict(number) => {
                let other = self.devices[client(number)].conflict();
                self.send(client(number), other);
                Ok(())
            }
            Op::DropRequest(number) => {
                self.hand_over(client(number))?;
                self.hang_up(client(number))
            }
            Op::DropResponse(number) => {
                self.take_in(client(number))?;
                self.hang_up(client(number))
            }
            Op::CrashBeforePersist => {
                self.centre = None;
                self.die()
            }
            Op::CrashAfterPersist => {
                if let (Some(centre), Some(store)) = (self.centre.take(), &mut self.store) {
                    let mut around = Around {
                        store: store.as_mut(),
                        book: &mut self.book,
                        now: self.now,
                    };
                    centre.die_after_writing(&mut around)?;
                }
                self.die()
            }
            Op::RestartCoordinator => {
                self.with(|centre, around| centre.persist(around))?;
                self.centre = None;
                self.die()?;
                self.start()
            }
            Op::RestartClient(number) => {
                self.hang_up(client(number))?;
                self.devices[client(number)].restart();
                Ok(())
            }
            Op::Leave(number) => {
                self.devices[client(number)].online = false;
                self.hang_up(client(number))
            }
            Op::Join(number) => {
                self.devices[client(number)].online = true;
                Ok(())
            }
            Op::Partition(number) => {
                self.links[client(number)].cut = true;
                Ok(())
            }
            Op::Heal(number) => {
                self.links[client(number)].cut = false;
                Ok(())
            }
        }
    }

    /// Faults stop: within two deadlines, a round is over (I9).
    fn calm(&mut self) -> Result<(), String> {
        if self.centre.is_none() {
            self.start()?;
        }
        self.links.iter_mut().for_each(|link| link.cut = false);
        self.devices
            .iter_mut()
            .for_each(|device| device.online = true);
        let (rounds, end) = (self.book.rounds(), self.now + 2 * MOST_TIME);
        while self.book.rounds() == rounds {
            if self.now >= end {
                return Err("I9: no round is over within two deadlines".to_owned());
            }
            self.advance(Duration::from_secs(1))?;
            for client in 0..self.devices.len() {
                let sent = self.devices[client].finish()?;
                self.send(client, sent);
            }
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<(), String> {
        let store = self.store.as_mut().ok_or("there is no store")?;
        let history = store.history().map_err(|error| error.to_string())?;
        let saved = store.load().map_err(|error| error.to_string())?;
        self.book.judge(&history, &saved)
    }

    /// Lets time pass; a coordinator that has died is started at its end.
    fn advance(&mut self, by: Duration) -> Result<(), String> {
        let end = self.now + by;
        let mut beat = self.now + SILENCE / 3;
        self.settle()?;
        while self.now < end {
            let due = self.centre.as_ref().and_then(Centre::due);
            let next = due.into_iter().chain([beat, end]).min().unwrap_or(end);
            // What is due is due now at the earliest.
            self.now = self.now.max(next);
            if self.now >= beat {
                beat = self.now + SILENCE / 3;
                for client in 0..self.devices.len() {
                    let beat = self.devices[client].beat();
                    self.send(client, beat);
                }
            }
            self.wake()?;
            self.settle()?;
            if self.centre.as_ref().is_some_and(Centre::is_stuck) {
                return Err("I9: a round is open and waits for nothing".to_owned());
            }
        }
        if self.centre.is_none() {
            self.start()?;
        }
        Ok(())
    }

    /// The coordinator does what is due, when it has said that it would be, and not before.
    fn wake(&mut self) -> Result<(), String> {
        let now = self.now;
        let due = |centre: &Centre| centre.due().is_some_and(|due| due <= now);
        for _ in 0..CHATTER {
            if !self.centre.as_ref().is_some_and(due) {
                return Ok(());
            }
            self.with(|centre, around| centre.wake(around))?;
        }
        Err("I9: the coordinator has something to do, and does not do it".to_owned())
    }

    /// All that is under way arrives, and what is to be durable becomes so.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..CHATTER {
            self.with(|centre, around| centre.persist(around))?;
            let mut any = false;
            for client in 0..self.devices.len() {
                any |= self.deliver(client)?;
            }
            if !any {
                return Ok(());
            }
        }
        Err("I9: messages go to and fro without an end".to_owned())
    }

    /// What is under way to and from this client arrives; whether anything was.
    fn deliver(&mut self, client: usize) -> Result<bool, String> {
        let link = &mut self.links[client];
        if self.centre.is_none() || link.cut {
            return Ok(false);
        }
        if !link.connected {
            if !self.devices[client].online {
                return Ok(false);
            }
            link.connected = true;
            let hello = self.devices[client].connected()?;
            self.links[client].up.extend(hello);
            return Ok(true);
        }
        let up = self.take_in(client)?;
        let down = self.hand_over(client)?;
        Ok(up || down)
    }

    /// What is under way to the coordinator arrives.
    fn take_in(&mut self, client: usize) -> Result<bool, String> {
        if self.centre.is_none() || self.links[client].cut {
            return Ok(false);
        }
        let mut any = false;
        while let Some(message) = self.links[client].up.pop_front() {
            any = true;
            let (Some(centre), Some(store)) = (&mut self.centre, &mut self.store) else {
                break;
            };
            let mut around = Around {
                store: store.as_mut(),
                book: &mut self.book,
                now: self.now,
            };
            match message {
                Message::Hello(_) => centre.joined(client, &mut around)?,
                Message::Heartbeat(_) => centre.beat(client, &mut around)?,
                Message::Contribution(contribution) => {
                    let device = &self.devices[client];
                    let fetched = |blob| device.fetched(blob);
                    centre.announced(client, &contribution, fetched, &mut around)?;
                }
                other => return Err(format!("client {client} sends {other:?}")),
            }
            self.carry();
        }
        Ok(any)
    }

    /// What is under way to a client arrives.
    fn hand_over(&mut self, client: usize) -> Result<bool, String> {
        if self.links[client].cut {
            return Ok(false);
        }
        let mut any = false;
        while let Some(message) = self.links[client].down.pop_front() {
            any = true;
            let sent = self.devices[client].hear(message)?;
            self.links[client].up.extend(sent);
        }
        Ok(any)
    }

    fn send(&mut self, client: usize, messages: impl IntoIterator<Item = Message>) {
        let link = &mut self.links[client];
        if link.connected {
            link.up.extend(messages);
        }
    }

    /// What the coordinator says is under way.
    fn carry(&mut self) {
        let Some(centre) = &mut self.centre else {
            return;
        };
        for (client, message) in centre.outbox.drain(..) {
            let link = &mut self.links[client];
            if link.connected {
                link.down.push_back(message);
            }
        }
    }

    /// A connection breaks; a coordinator behind a partition does not see that.
    fn hang_up(&mut self, client: usize) -> Result<(), String> {
        let link = &mut self.links[client];
        let (was, cut) = (std::mem::take(&mut link.connected), link.cut);
        link.up.clear();
        link.down.clear();
        if was {
            self.devices[client].lost()?;
        }
        match was && !cut {
            true => self.with(|centre, around| centre.left(client, around)),
            false => Ok(()),
        }
    }

    /// A coordinator's process is gone, and all its connections with it.
    fn die(&mut self) -> Result<(), String> {
        for client in 0..self.links.len() {
            self.hang_up(client)?;
        }
        if let Disk::File(_) = self.disk {
            self.store = None;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), String> {
        if let Disk::File(path) = &self.disk {
            let store = FileStore::open_at(path).map_err(|error| error.to_string())?;
            self.store = Some(Box::new(store));
        }
        let store = self.store.as_mut().ok_or("there is no store")?;
        self.epoch += 1;
        let mut around = Around {
            store: store.as_mut(),
            book: &mut self.book,
            now: self.now,
        };
        self.centre = Some(Centre::start(
            Arc::clone(&self.terms),
            self.epoch,
            &mut around,
        )?);
        self.carry();
        Ok(())
    }

    fn with(
        &mut self,
        act: impl FnOnce(&mut Centre, &mut Around<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        if let (Some(centre), Some(store)) = (&mut self.centre, &mut self.store) {
            let mut around = Around {
                store: store.as_mut(),
                book: &mut self.book,
                now: self.now,
            };
            act(centre, &mut around)?;
        }
        self.carry();
        Ok(())
    }
}
