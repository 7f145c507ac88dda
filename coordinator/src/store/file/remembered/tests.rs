use std::collections::BTreeMap;
use std::ops::Range;

use fedistill_federation::Event;
use fedistill_protocol::{Digest, Name, RoundPlan};

use super::*;
use crate::store::file::FileStore;
use crate::store::{Closed, Outcome, Saved, Store};

fn ward() -> Name {
    "ward-7".parse().unwrap()
}

fn asking(id: RoundId) -> RoundPlan {
    RoundPlan {
        federation: "clinic".parse().unwrap(),
        id,
        transfer: Digest::of(b"set"),
        seed: 7,
        knowledge: Vec::new(),
        phases: Vec::new(),
        report: None,
        cohort: 1,
        deadline_ms: 1000,
    }
}

fn outcome() -> Outcome {
    Outcome {
        contributors: vec![ward()],
        aggregate: Digest::of(b"sum"),
        teacher: None,
    }
}

/// A store of which each of these rounds was tried twice, and had one contribution the second time.
fn lived(store: &mut FileStore, rounds: Range<u32>) {
    let cohort = BTreeMap::from([(ward(), 1)]);
    for round in rounds {
        for attempt in 0..2 {
            let id = RoundId { round, attempt };
            store.open(&asking(id), &cohort).unwrap();
        }
        let id = RoundId { round, attempt: 1 };
        let taken = Event::Taken {
            client: ward(),
            blob: Digest::of(b"answer"),
            answers: None,
        };
        store.append(id, &[taken]).unwrap();
        let next = Saved {
            round: round + 1,
            ..Saved::default()
        };
        store.close(&next, &outcome()).unwrap();
    }
}

#[test]
fn a_store_forgets_its_oldest_tries_and_says_from_where_on_it_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    // A round weighs 3: two tries, and one contribution.
    let mut store = FileStore::open_at(&path).unwrap().remembering(10);
    lived(&mut store, 0..3);
    assert_eq!(
        (store.begins().unwrap(), store.history().unwrap().len()),
        (0, 6)
    );
    lived(&mut store, 3..20);
    let ids = |store: &mut FileStore| -> Vec<(u32, u32)> {
        let history = store.history().unwrap().into_iter();
        history
            .map(|closed| (closed.id.round, closed.id.attempt))
            .collect()
    };
    assert_eq!(
        ids(&mut store),
        [(17, 0), (17, 1), (18, 0), (18, 1), (19, 0), (19, 1)]
    );
    assert_eq!(store.begins().unwrap(), 17);
    drop(store);
    // Over a restart too; and what the last round that came about had is there, however little is to be remembered.
    let mut store = FileStore::open_at(&path).unwrap().remembering(0);
    lived(&mut store, 20..22);
    assert_eq!(ids(&mut store), [(20, 0), (20, 1), (21, 0), (21, 1)]);
    let last = store.last().unwrap().unwrap();
    assert_eq!((last.id.round, last.acknowledged.len()), (21, 1));
    drop(store);
    assert_eq!(FileStore::look_at(&path).unwrap().begins().unwrap(), 20);
}

/// One that an older version has left counts none; and where the limit is lowered a round does not forget all at once.
#[test]
fn a_store_of_before_is_counted_once_and_shrinks_in_steps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    let mut store = FileStore::open_at(&path).unwrap();
    lived(&mut store, 0..100);
    let uncount = |_: &FileStore, transaction: &WriteTransaction| -> Result<(), Fail> {
        transaction.open_table(NUMBERS)?.remove("remembered")?;
        Ok(())
    };
    store.transact(uncount).unwrap();
    drop(store);
    let mut store = FileStore::open_at(&path).unwrap().remembering(30);
    let mut sizes = Vec::new();
    for round in 100..104 {
        lived(&mut store, round..round + 1);
        sizes.push(store.history().unwrap().len());
    }
    // 64 tries go at each of a round's two ends; ten rounds of three are left.
    assert_eq!(sizes, [202 - 128, 20, 20, 20]);
}

/// What a start takes after a crash, where the history is as long as it may be without a word. `cargo test --release -p
/// fedistill-coordinator a_full_history -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn a_full_history_is_opened_after_a_crash() {
    const CLIENTS: u64 = 100;
    let folder = tempfile::tempdir().unwrap();
    let (path, crashed) = (
        folder.path().join("rounds.redb"),
        folder.path().join("crashed"),
    );
    let mut store = FileStore::open_at(&path).unwrap();
    let name = |client: u64| -> Name { format!("ward-{client}").parse().unwrap() };
    let outcome = Outcome {
        contributors: (0..CLIENTS).map(name).collect(),
        ..outcome()
    };
    let closed = Closed {
        id: RoundId {
            round: 0,
            attempt: 0,
        },
        epoch: 1_800_000_000_000,
        at: 1_800_000_000_000,
        acknowledged: (0..CLIENTS)
            .map(|client| (name(client), Digest::of(b"answer")))
            .collect(),
        late: BTreeMap::new(),
        outcome: Some(outcome),
    };
    let record = ClosedRecord::from(&closed);
    let rounds = u32::try_from(FileStore::REMEMBERED / (1 + CLIENTS)).unwrap() + 1;
    for of in 0..rounds.div_ceil(100) {
        let write = |_: &FileStore, transaction: &WriteTransaction| {
            (of * 100..of * 100 + 100).try_for_each(|round| {
                remember(
                    transaction,
                    RoundId { round, attempt: 0 },
                    &record,
                    FileStore::REMEMBERED,
                )
            })
        };
        store.transact(write).unwrap();
    }
    std::fs::copy(&path, &crashed).unwrap();
    drop(store);
    let megabytes = std::fs::metadata(&crashed).unwrap().len() as f64 / 1e6;
    let began = std::time::Instant::now();
    let mut store = FileStore::open_at(&crashed).unwrap();
    store.load().unwrap();
    assert!(store.last().unwrap().is_some());
    let opened = began.elapsed().as_millis();
    let rounds = store.history().unwrap().len();
    println!(
        "{rounds} rounds of {CLIENTS} contributions, {megabytes:.0} MB: open after {opened} ms"
    );
}
