use std::sync::{Arc, Mutex};

use fedistill_federation::{Input, Method, Missed, Output, Quorum, Round, RoundConfig, method};

use super::*;
use crate::{Closed, MemoryStore};

const ID: RoundId = RoundId {
    round: 0,
    attempt: 0,
};

/// A disk that fails as it is told, and what is done to it.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    fails: Option<fn() -> StoreError>,
    /// Each transaction's events.
    transactions: Vec<Vec<Event>>,
    tries: usize,
    /// A transaction waits until this is let go of.
    held: Option<Receiver<()>>,
}

impl Store for Disk {
    fn load(&mut self) -> Result<Saved, StoreError> {
        Ok(Saved::default())
    }

    fn epoch(&self) -> Epoch {
        Epoch {
            number: 7,
            first: 1,
            rolled_back: 3,
        }
    }

    fn history(&mut self) -> Result<Vec<Closed>, StoreError> {
        Ok(Vec::new())
    }

    fn open(&mut self, _: &RoundPlan, _: &BTreeMap<Name, u32>) -> Result<(), StoreError> {
        Ok(())
    }

    fn append(&mut self, _: RoundId, events: &[Event]) -> Result<(), StoreError> {
        let held = self.0.lock().unwrap().held.take();
        if let Some(held) = held {
            // The other end is dropped.
            held.recv().unwrap_err();
        }
        let mut state = self.0.lock().unwrap();
        state.tries += 1;
        if let Some(fails) = state.fails {
            return Err(fails());
        }
        state.transactions.push(events.to_vec());
        Ok(())
    }

    fn close(&mut self, _: &Saved, _: &Outcome) -> Result<(), StoreError> {
        Ok(())
    }
}

fn no_room() -> StoreError {
    let path = "rounds.redb".into();
    StoreError::NoRoom { path }
}

fn broken() -> StoreError {
    let (path, why) = ("rounds.redb".into(), "broken".to_owned());
    StoreError::Failed { path, why }
}

/// Events and tickets as a round's machine makes them: its opening, `count` contributions, and its end.
fn events(count: usize) -> Vec<(Ticket, Event)> {
    let names = (0..count).map(|at| format!("ward-{at}").parse::<Name>().unwrap());
    let names: Vec<Name> = names.collect();
    let method: Box<dyn Method> = method::by_name("logit-mean").unwrap();
    let config = RoundConfig {
        id: ID,
        cohort: names.iter().map(|name| (name.clone(), 1)).collect(),
        quorum: Quorum::new(count, count, Duration::ZERO, Duration::from_secs(60)).unwrap(),
        missed: Missed::Reopen,
        folding: None,
        silence: Duration::from_secs(60),
        answers: None,
        method: method.into(),
    };
    let now = Instant::now();
    let mut machine = Round::open(config, now);
    for client in names {
        let blob = fedistill_protocol::Digest::of(client.as_str().as_bytes());
        let (id, answers) = (ID, None);
        let input = Input::Contributed {
            client,
            id,
            blob,
            answers,
        };
        machine.handle(now, input).unwrap();
    }
    let mut events = Vec::new();
    while let Some(output) = machine.poll_output() {
        if let Output::Persist(ticket, event) = output {
            events.push((ticket, event));
        }
    }
    assert_eq!(events.len(), count + 2);
    events
}

#[tokio::test]
async fn what_comes_in_while_one_is_written_is_written_at_once() {
    let disk = Disk::default();
    let (release, held) = mpsc::channel();
    disk.0.lock().unwrap().held = Some(held);
    let mut writer = Writer::start(Box::new(disk.clone())).unwrap();
    assert_eq!((writer.epoch().number, writer.epoch().rolled_back), (7, 3));
    let events = events(20);
    let (first, others) = events.split_first().unwrap();
    assert_eq!(writer.append(ID, first.0, first.1.clone()).unwrap(), None);
    // It is being written.
    while disk.0.lock().unwrap().held.is_some() {
        std::thread::sleep(Duration::from_millis(1));
    }
    for (ticket, event) in others {
        assert_eq!(writer.append(ID, *ticket, event.clone()).unwrap(), None);
    }
    drop(release);
    assert_eq!(writer.stored().await.unwrap(), [first.0]);
    let mut tickets = Vec::new();
    while tickets.len() < others.len() {
        tickets.extend(writer.stored().await.unwrap());
    }
    assert!(tickets.iter().eq(others.iter().map(|(ticket, _)| ticket)));
    let state = disk.0.lock().unwrap();
    assert_eq!(state.transactions.len(), 2);
    let written = state.transactions.iter().flatten();
    assert!(written.eq(events.iter().map(|(_, event)| event)));
}

#[tokio::test]
async fn a_full_disk_delays_and_nothing_is_stored_meanwhile() {
    let disk = Disk::default();
    disk.0.lock().unwrap().fails = Some(no_room);
    let mut writer = Writer::start(Box::new(disk.clone())).unwrap();
    let events = events(3);
    for (ticket, event) in &events {
        writer.append(ID, *ticket, event.clone()).unwrap();
    }
    let early = tokio::time::timeout(AGAIN * 2, writer.stored()).await;
    assert!(early.is_err(), "{early:?}");
    {
        let mut state = disk.0.lock().unwrap();
        assert!((2..=4).contains(&state.tries), "{} tries", state.tries);
        assert!(state.transactions.is_empty());
        state.fails = None;
    }
    let mut tickets = Vec::new();
    while tickets.len() < events.len() {
        tickets.extend(writer.stored().await.unwrap());
    }
    let written = disk.0.lock().unwrap().transactions.concat();
    assert!(written.iter().eq(events.iter().map(|(_, event)| event)));
}

#[tokio::test]
async fn whoever_stops_does_not_wait_for_room() {
    let disk = Disk::default();
    disk.0.lock().unwrap().fails = Some(no_room);
    let mut writer = Writer::start(Box::new(disk.clone())).unwrap();
    let (ticket, event) = events(1).swap_remove(0);
    writer.append(ID, ticket, event).unwrap();
    let begun = Instant::now();
    drop(writer);
    assert!(begun.elapsed() < AGAIN, "{:?}", begun.elapsed());
    // The thread is gone, and the store with it.
    assert_eq!(Arc::strong_count(&disk.0), 1);
}

#[tokio::test]
async fn whoever_stops_leaves_what_was_handed_over_on_disk() {
    let disk = Disk::default();
    let mut writer = Writer::start(Box::new(disk.clone())).unwrap();
    let events = events(9);
    for (ticket, event) in &events {
        writer.append(ID, *ticket, event.clone()).unwrap();
    }
    drop(writer);
    let written = disk.0.lock().unwrap().transactions.concat();
    assert!(written.iter().eq(events.iter().map(|(_, event)| event)));
}

#[tokio::test]
async fn any_other_error_ends_it() {
    let disk = Disk::default();
    disk.0.lock().unwrap().fails = Some(broken);
    let mut writer = Writer::start(Box::new(disk)).unwrap();
    let (ticket, event) = events(1).swap_remove(0);
    writer.append(ID, ticket, event.clone()).unwrap();
    assert!(matches!(
        writer.stored().await,
        Err(StoreError::Failed { .. })
    ));
    // Nobody waits for ever for a thread that is not there.
    writer.append(ID, ticket, event).unwrap();
    assert!(matches!(writer.stored().await, Err(StoreError::Thread(_))));
    assert!(matches!(writer.load().await, Err(StoreError::Thread(_))));
}

#[tokio::test]
async fn memory_needs_no_thread() {
    let mut writer = Writer::start(Box::<MemoryStore>::default()).unwrap();
    let (ticket, event) = events(1).swap_remove(0);
    assert_eq!(writer.append(ID, ticket, event).unwrap(), Some(ticket));
    assert!(!writer.is_behind());
}
