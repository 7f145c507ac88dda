//! The store on disk: what a method has returned from is there after a crash.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fedistill_client::journal::{Entry, Finished, Journal, JournalError, Kept, Line, Progress};
use fedistill_coordinator::{
    Closed, Earlier, Exchange, FileStore, MemoryStore, OpenRound, Outcome, Saved, Sent, Store,
    StoreError, Subject,
};
use fedistill_federation::{Before, Event, Folded, Lesson, State};
use fedistill_program::database::Handle;
use fedistill_protocol::{
    About, AnswerKind, Answers, Digest, Knowledge, Name, Precision, Report, RoundId, RoundPlan,
    Rounding, Rows, Silence, Update,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

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
    let counts = history.iter().rev().find(|closed| closed.outcome.is_some());
    assert_eq!(store.last().unwrap().as_ref(), counts);
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
    // Opening it is the first of them.
    store.append(id, &events[1..3]).unwrap();
    store.append(id, &events[3..]).unwrap();
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
    assert_eq!(
        (open.plan.id, open.events),
        (again, vec![Event::Opened(again)])
    );
    let acknowledged = BTreeMap::from([
        (name("ward-1"), Digest::of(b"")),
        (name("ward-2"), Digest::of(b"contribution")),
    ]);
    let given_up = Closed {
        id,
        epoch: store.epoch().number,
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
    store.append(again, &[taken]).unwrap();

    let next = Saved {
        round: 1,
        over: false,
        subject: Some(Subject::new(
            Digest::of(b"set"),
            &["cat".to_owned(), "dog".to_owned()],
            "logit-mean",
        )),
        state: state(Rows::List(vec![1, 5, 9])),
        exchange: Exchange {
            sent: vec![Sent {
                blob: Digest::of(b"sent"),
                lesson: lesson(About::Classes),
            }],
            held_by: BTreeSet::from([name("ward-1")]),
            earlier: vec![Earlier {
                changed: vec![Sent {
                    blob: Digest::of(b"earlier"),
                    lesson: lesson(About::Rows(Rows::List(vec![1, 5, 9]))),
                }],
                held_by: BTreeSet::from([name("ward-2")]),
            }],
            given: BTreeMap::from([(name("ward-1"), (Digest::of(b"given"), b"given"[..].into()))]),
        },
        teacher: Some(vec![1.5, -2.5]),
        opens: Some(UNIX_EPOCH + Duration::from_millis(1_800_000_000_123)),
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
        epoch: store.epoch().number,
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
        opens: None,
        state: State::default(),
        exchange: Exchange::default(),
        ..next
    };
    store.close(&next, &outcome).unwrap();
    assert_eq!(store.load().unwrap(), next);
    // Nothing was open: nothing has become of it.
    assert_eq!(history(store), closed);

    // The end of a round may be the beginning of the next.
    let third = RoundId {
        round: 2,
        attempt: 0,
    };
    let open = OpenRound {
        plan: plan(third),
        cohort,
        events: vec![Event::Opened(third)],
    };
    let next = Saved {
        over: false,
        open: Some(open.clone()),
        ..next
    };
    store.close(&next, &outcome).unwrap();
    assert_eq!(store.load().unwrap(), next);
    assert_eq!(history(store), closed);
    // Of one that gives nothing back no answers are found, though tries before had some in its place.
    let empty = Event::Taken {
        client: name("ward-2"),
        blob: Digest::of(b""),
        answers: None,
    };
    store.append(third, std::slice::from_ref(&empty)).unwrap();
    let found = store.load().unwrap().open.unwrap();
    let events = vec![Event::Opened(third), empty];
    assert_eq!(found, OpenRound { events, ..open });
    store.close(&next, &outcome).unwrap();
    assert_eq!(history(store).last().unwrap().id, third);
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
fn a_store_that_a_newer_version_has_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal) = (
        folder.path().join("rounds.redb"),
        folder.path().join("journal.redb"),
    );
    let keep = || Journal::open(&journal, &name("clinic"), &name("ward-7"));
    drop((FileStore::open_at(&store).unwrap(), keep().unwrap()));
    for path in [&store, &journal] {
        let newer = Handle::open(path, 1 << 20, 7).unwrap();
        let transaction = newer.write().unwrap();
        newer.mark(&transaction).unwrap();
        transaction.commit().unwrap();
    }
    for error in [
        FileStore::open_at(&store).unwrap_err().to_string(),
        FileStore::look_at(&store).unwrap_err().to_string(),
        keep().unwrap_err().to_string(),
        Journal::look_at(&journal).unwrap_err().to_string(),
    ] {
        let parts = [".redb", "format 7", "update this program"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn one_store_has_one_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    // Each that ever has it is known from all others, also of copies: by when it began.
    let opened = || FileStore::open_at(&path).unwrap().epoch().number;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let epochs = [opened(), opened(), opened()];
    assert!(epochs.is_sorted_by(|one, next| one < next), "{epochs:?}");
    for epoch in epochs {
        let off = u128::from(epoch).abs_diff(since.as_millis());
        assert!(off < 60_000, "{epoch}");
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

/// Bytes of a file as a failing disk or a copy that broke off leaves them: cut off somewhere, or with a bit
/// that is another one. Every fourth place is among the first bytes, which say where all else is.
fn damage(bytes: &[u8], rng: &mut ChaCha20Rng) -> Vec<u8> {
    const BEGINNING: usize = 320;
    let mut bytes = bytes.to_vec();
    let end = match rng.random_range(0..4) {
        0 => BEGINNING,
        _ => bytes.len(),
    };
    match rng.random_range(0..3) {
        0 => bytes.truncate(rng.random_range(0..end)),
        _ => loop {
            // What is not in use is zero, for the most part.
            let at = rng.random_range(0..end);
            if bytes[at] != 0 || rng.random_range(0..20) == 0 {
                bytes[at] ^= 1 << rng.random_range(0..8);
                break;
            }
        },
    }
    bytes
}

/// Damages a file in many ways: what is then read has to be as it once was, or is refused with what to do.
fn torn<T: PartialEq + std::fmt::Debug>(
    name: &str,
    files: &[Vec<u8>],
    states: &[T],
    read: impl Fn(&Path) -> Result<T, String>,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (mut refused, mut last, mut older) = (0, 0, 0);
    for case in 0..200 {
        fs::write(&path, damage(&files[case % files.len()], &mut rng)).unwrap();
        match read(&path) {
            Err(why) => {
                let advised = why.contains("it is damaged") && why.contains("put back a copy");
                assert!(why.contains(name) && advised, "case {case}: {why}");
                refused += 1;
            }
            Ok(state) if states.last() == Some(&state) => last += 1,
            Ok(state) => {
                assert!(states.contains(&state), "case {case}: {state:?}");
                older += 1;
            }
        }
    }
    println!("{name}: {refused} refused, {last} as it was last, {older} as it was before");
    assert!(refused > 0 && last > 0, "{refused}, {last}, {older}");
}

#[test]
fn a_store_that_was_damaged_is_refused_or_as_it_once_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    let read = |path: &Path| {
        let mut store = FileStore::open_at(path)?;
        Ok((store.load()?, store.history()?))
    };
    let read = |path: &Path| read(path).map_err(|error: StoreError| error.to_string());
    let mut store = FileStore::open_at(&path).unwrap();
    let mut states = vec![(Saved::default(), Vec::new())];
    let cohort = BTreeMap::from([(name("ward-1"), 1), (name("ward-2"), 3)]);
    for round in 0..4 {
        let id = RoundId { round, attempt: 0 };
        store.open(&plan(id), &cohort).unwrap();
        states.push((store.load().unwrap(), store.history().unwrap()));
        let taken = |client: &str| Event::Taken {
            client: name(client),
            blob: Digest::of(client.as_bytes()),
            answers: Some(answers()),
        };
        store.append(id, &[taken("ward-1")]).unwrap();
        states.push((store.load().unwrap(), store.history().unwrap()));
        store.append(id, &[taken("ward-2")]).unwrap();
        states.push((store.load().unwrap(), store.history().unwrap()));
        if round == 3 {
            break;
        }
        let next = Saved {
            round: round + 1,
            state: state(Rows::List(vec![1, 5, 9])),
            teacher: Some(vec![0.5; 2000]),
            ..Saved::default()
        };
        let outcome = Outcome {
            contributors: vec![name("ward-1"), name("ward-2")],
            aggregate: Digest::of(b"sum"),
            teacher: Some(Digest::of(b"teacher")),
        };
        store.close(&next, &outcome).unwrap();
        states.push((store.load().unwrap(), store.history().unwrap()));
    }
    let crashed = fs::read(&path).unwrap();
    drop(store);
    let files = [crashed, fs::read(&path).unwrap()];
    torn("rounds.redb", &files, &states, read);
}

#[test]
fn a_journal_that_was_damaged_is_refused_or_as_it_once_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let (federation, own) = (name("clinic"), name("ward-7"));
    let read = |path: &Path| {
        let (journal, kept) = Journal::open(path, &federation, &own)?;
        Ok((kept, journal.history()?))
    };
    let read = |path: &Path| read(path).map_err(|error: JournalError| error.to_string());
    let mut states: Vec<(Kept, Vec<Line>)> = vec![read(&path).unwrap()];
    let mut files = Vec::new();
    let mut keep = |write: &dyn Fn(&Journal)| {
        let (journal, _) = Journal::open(&path, &federation, &own).unwrap();
        write(&journal);
        files = vec![fs::read(&path).unwrap()];
        drop(journal);
        files.push(fs::read(&path).unwrap());
        states.push(read(&path).unwrap());
    };
    keep(&|journal| journal.keep(&Entry::Epoch(3)).unwrap());
    for round in 0..3 {
        let asked = plan(RoundId { round, attempt: 0 });
        let begun = Entry::Begun(Arc::new(asked.clone()));
        keep(&|journal| journal.keep(&begun).unwrap());
        let progress = Progress {
            began: vec![1; 3000],
            now: vec![round as u8 + 1; 3000],
            ..Progress::default()
        };
        keep(&|journal| journal.checkpoint(&asked, &progress).unwrap());
        let finished = Entry::Finished(Finished {
            id: asked.id,
            epoch: 1,
            plan: asked.identity().unwrap(),
            blob: Digest::of(b"answer"),
            packed: b"answer"[..].into(),
            counted: false,
        });
        keep(&|journal| journal.keep(&finished).unwrap());
    }
    torn("journal.redb", &files, &states, read);
}
