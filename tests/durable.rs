//! The store on disk: what a method has returned from is there after a crash.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use fedistill_coordinator::{
    Closed, Exchange, FileStore, MemoryStore, OpenRound, Outcome, Saved, Sent, Store,
};
use fedistill_federation::{Before, Event, Folded, Lesson, State};
use fedistill_protocol::{
    About, AnswerKind, Answers, Digest, Knowledge, Name, Precision, Report, RoundId, RoundPlan,
    Rounding, Rows, Silence, Update,
};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn answers() -> Answers {
    let values = vec![0.1, -3.0, 1e-20, 7.5, f32::MIN_POSITIVE, 2.0 / 3.0];
    Answers::new(AnswerKind::Logits, 2, values).unwrap()
}

fn lesson(about: About) -> Lesson {
    let answers = answers();
    Lesson { about, answers }
}

fn state(rows: Rows) -> State {
    State {
        common: vec![lesson(About::Rows(rows))],
        personal: BTreeMap::from([(name("ward-2"), vec![lesson(About::Classes)])]),
        memory: vec![1, 2, 3],
        decided: BTreeMap::from([("trust".to_owned(), 0.25)]),
    }
}

fn plan(id: RoundId) -> RoundPlan {
    RoundPlan {
        federation: name("clinic"),
        id,
        transfer: Digest::of(b"set"),
        seed: 7,
        knowledge: vec![Knowledge {
            blob: Digest::of(b"labels"),
            bytes: 24,
            kind: AnswerKind::Logits,
            width: 2,
            about: About::Rows(Rows::List(vec![1, 5, 9])),
            precision: Precision::F16,
            update: Some(Update {
                base: Digest::of(b"before"),
                blob: Digest::of(b"update"),
                bytes: 7,
            }),
        }],
        phases: Vec::new(),
        report: Some(Report {
            kind: AnswerKind::Logits,
            about: About::Rows(Rows::List(vec![0, 2, 4])),
            width: 2,
            precision: Precision::F16,
            rounding: Rounding::Nearest,
            adjust: 0.5,
            silence: Silence::Foreign,
            update: true,
        }),
        deadline_ms: 1000,
        cohort: 2,
    }
}

/// What a store has of tries that are over, which it closed within the last minute.
fn history(store: &mut dyn Store) -> Vec<Closed> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = since.as_millis() as u64;
    let mut history = store.history().unwrap();
    for closed in &mut history {
        assert!((now - 60_000..=now).contains(&closed.at), "{closed:?}");
        closed.at = 0;
    }
    history
}

/// What happens to any store, and what it must then hold.
fn live(store: &mut dyn Store, reopen: impl Fn(&mut dyn Store) -> Option<Box<dyn Store>>) {
    assert_eq!(store.load().unwrap(), Saved::default());
    let id = RoundId {
        round: 0,
        attempt: 0,
    };
    let cohort = BTreeMap::from([(name("ward-1"), 1), (name("ward-2"), 3)]);
    // It is of another federation's round, as there is none before the first.
    let late = Folded {
        of: RoundId {
            round: 7,
            attempt: 2,
        },
        blob: Digest::of(b"late"),
    };
    let events = vec![
        Event::Opened(id),
        Event::Awaits(Box::new(Before {
            plan: plan(late.of),
            missing: BTreeMap::from([(name("ward-3"), 7)]),
        })),
        Event::Taken {
            client: name("ward-2"),
            blob: Digest::of(b"contribution"),
            answers: Some(answers()),
        },
        Event::Taken {
            client: name("ward-1"),
            blob: Digest::of(b""),
            answers: None,
        },
        Event::Folded {
            client: name("ward-3"),
            folded: late,
            parts: 181,
            answers: answers(),
        },
        Event::Extended(1),
        Event::Committed(vec![name("ward-1"), name("ward-2")]),
    ];
    store.open(&plan(id), &cohort).unwrap();
    for event in &events {
        store.append(id, event).unwrap();
    }
    let mut other = reopen(store);
    let store: &mut dyn Store = match &mut other {
        Some(store) => store.as_mut(),
        None => store,
    };
    let open = OpenRound {
        plan: plan(id),
        cohort: cohort.clone(),
        events,
    };
    let saved = store.load().unwrap();
    assert_eq!(
        saved,
        Saved {
            open: Some(open),
            ..Saved::default()
        }
    );

    // Another try at the round forgets the first.
    let again = RoundId {
        round: 0,
        attempt: 1,
    };
    store.open(&plan(again), &cohort).unwrap();
    let open = store.load().unwrap().open.unwrap();
    assert_eq!((open.plan.id, open.events.len()), (again, 0));
    let acknowledged = BTreeMap::from([
        (name("ward-1"), Digest::of(b"")),
        (name("ward-2"), Digest::of(b"contribution")),
    ]);
    let given_up = Closed {
        id,
        epoch: store.epoch(),
        at: 0,
        acknowledged,
        late: BTreeMap::from([(name("ward-3"), late)]),
        outcome: None,
    };
    assert_eq!(history(store), std::slice::from_ref(&given_up));
    let taken = Event::Taken {
        client: name("ward-1"),
        blob: Digest::of(b"again"),
        answers: Some(answers()),
    };
    store.append(again, &taken).unwrap();

    let next = Saved {
        round: 1,
        over: false,
        state: state(Rows::List(vec![1, 5, 9])),
        exchange: Exchange {
            sent: vec![Sent {
                blob: Digest::of(b"sent"),
                lesson: lesson(About::Classes),
            }],
            given: BTreeMap::from([(name("ward-1"), (Digest::of(b"given"), b"given"[..].into()))]),
        },
        teacher: Some(vec![1.5, -2.5]),
        open: None,
    };
    let outcome = Outcome {
        contributors: vec![name("ward-1")],
        aggregate: Digest::of(b"sum"),
        teacher: Some(Digest::of(b"teacher")),
    };
    store.close(&next, &outcome).unwrap();
    assert_eq!(store.load().unwrap(), next);
    let committed = Closed {
        id: again,
        epoch: store.epoch(),
        at: 0,
        acknowledged: BTreeMap::from([(name("ward-1"), Digest::of(b"again"))]),
        late: BTreeMap::new(),
        outcome: Some(outcome.clone()),
    };
    let closed = [given_up, committed];
    assert_eq!(history(store), closed);
    // All samples are a range, and the same again after a crash.
    let next = Saved {
        state: state(Rows::Range { start: 0, count: 3 }),
        ..next
    };
    store.close(&next, &outcome).unwrap();
    assert_eq!(store.load().unwrap(), next);
    let next = Saved {
        round: 2,
        over: true,
        state: State::default(),
        exchange: Exchange::default(),
        ..next
    };
    store.close(&next, &outcome).unwrap();
    assert_eq!(store.load().unwrap(), next);
    // Nothing was open: nothing has become of it.
    assert_eq!(history(store), closed);
}

#[test]
fn memory_and_file_hold_the_same() {
    live(&mut MemoryStore::default(), |_| None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    live(&mut FileStore::open_at(&path).unwrap(), |_| None);
}

#[test]
fn a_file_is_read_as_it_was_when_its_process_died() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    // The lock is the process's, so a copy stands for the file after a crash.
    let copy = folder.path().join("copy.redb");
    live(&mut FileStore::open_at(&path).unwrap(), |_| {
        std::fs::copy(&path, &copy).unwrap();
        Some(Box::new(FileStore::open_at(&copy).unwrap()))
    });
}

#[test]
fn one_store_has_one_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    // Each that ever has it is known from all others.
    for epoch in 1..4 {
        assert_eq!(FileStore::open_at(&path).unwrap().epoch(), epoch);
    }
    let _first = FileStore::open_at(&path).unwrap();
    let error = FileStore::open_at(&path).unwrap_err().to_string();
    assert!(
        error.contains("rounds.redb") && error.contains("another coordinator"),
        "{error}"
    );
}

#[test]
fn what_is_no_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    std::fs::write(&path, b"this is no database, and never was one").unwrap();
    let error = FileStore::open_at(&path).unwrap_err().to_string();
    assert!(error.contains("rounds.redb"), "{error}");
    assert!(FileStore::open_at(Path::new("/no/such/folder/rounds.redb")).is_err());
}
