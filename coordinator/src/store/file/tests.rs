use super::*;

const ID: RoundId = RoundId {
    round: 0,
    attempt: 0,
};

/// A store is closed where a write has failed, and opened again by the next one.
#[test]
fn a_process_writes_no_more_once_another_one_has_had_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    let mut first = FileStore::open_at(&path).unwrap();
    first.append(ID, &[Event::Opened(ID)]).unwrap();
    first.database.failed();
    // Nobody came meanwhile.
    first.append(ID, &[Event::Opened(ID)]).unwrap();
    first.database.failed();
    let second = FileStore::open_at(&path).unwrap();
    let (own, later) = (first.epoch().number, second.epoch().number);
    drop(second);
    let outcome = Outcome {
        contributors: Vec::new(),
        aggregate: fedistill_protocol::Digest::of(b"sum"),
        teacher: None,
    };
    for error in [
        first.append(ID, &[Event::Opened(ID)]),
        first.close(&Saved::default(), &outcome),
        first.append(ID, &[Event::Opened(ID)]),
    ] {
        let error = error.unwrap_err();
        assert!(
            matches!(&error, StoreError::Overtaken { found, own: this, .. } if (*found, *this) == (later, own)),
            "{error}"
        );
    }
    drop(first);
    let mut kept = FileStore::look_at(&path).unwrap();
    assert_eq!(kept.epoch().number, later);
    assert_eq!(kept.load().unwrap(), Saved::default());
}

#[test]
fn a_store_says_who_made_it_and_for_whom_it_was_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    let first = FileStore::open_at(&path).unwrap();
    let made = first.epoch();
    assert_eq!((made.first, made.rolled_back), (made.number, 0));
    drop(first);
    let mut second = FileStore::open_at(&path).unwrap();
    let own = second.epoch();
    assert!(own.number > made.number, "{own:?}");
    // One that has been before is no news: its process may have promised things since.
    assert!(!second.roll_back(made.number).unwrap());
    assert_eq!(second.epoch(), own);
    // Its own may be the one that is meant, or be past it: clients are told of it as of any other.
    for named in [made.number + 1, own.number] {
        assert!(second.roll_back(named).unwrap());
        let rolled_back = Epoch {
            rolled_back: named,
            ..own
        };
        assert_eq!(second.epoch(), rolled_back);
        second.append(ID, &[Event::Opened(ID)]).unwrap();
    }
    // Longer than this test takes.
    let later = own.number + 3_600_000;
    assert!(second.roll_back(later).unwrap());
    let put_back = Epoch {
        number: later,
        rolled_back: later,
        ..own
    };
    assert_eq!(second.epoch(), put_back);
    second.append(ID, &[Event::Opened(ID)]).unwrap();
    drop(second);
    // Both outlive it, and are done once.
    assert_eq!(FileStore::look_at(&path).unwrap().epoch(), put_back);
    let mut third = FileStore::open_at(&path).unwrap();
    let next = Epoch {
        number: later + 1,
        ..put_back
    };
    assert!(!third.roll_back(later).unwrap());
    assert_eq!(third.epoch(), next);
}

/// Neither knows of the other; whoever has seen one of them knows the other from it.
#[test]
fn a_copy_that_was_put_back_is_no_second_process_of_one_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let [path, copy] = ["rounds.redb", "copy"].map(|name| folder.path().join(name));
    drop(FileStore::open_at(&path).unwrap());
    std::fs::copy(&path, &copy).unwrap();
    let replaced = FileStore::open_at(&path).unwrap().epoch();
    std::thread::sleep(Duration::from_millis(3));
    let mut put_back = FileStore::open_at(&copy).unwrap();
    assert!(put_back.epoch().number > replaced.number);
    // What clients name that have met it, or only the one before it, is meant.
    for seen in [replaced.number, put_back.epoch().number] {
        assert!(put_back.roll_back(seen + 1).unwrap());
        assert!(put_back.epoch().rolled_back > seen);
    }
}

#[test]
fn a_store_says_of_which_format_it_is() {
    const FORMATS: TableDefinition<'_, &str, u64> = TableDefinition::new("format");
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open_at(&folder.path().join("rounds.redb")).unwrap();
    let transaction = store.database.read().unwrap();
    let formats = transaction.open_table(FORMATS).unwrap();
    let format = formats.get("format").unwrap().map(|format| format.value());
    assert_eq!(format, Some(FORMAT));
}

/// It opens its round at once, and one of this version is no riddle to it where there is no pause.
#[test]
fn a_state_that_an_older_version_has_written_says_nothing_of_a_pause() {
    let older = serde_json::json!({ "round": 3, "over": false });
    let head: Head = serde_json::from_value(older).unwrap();
    assert_eq!((head.round, head.opens), (3, None));
    assert!(serde_json::to_value(&head).unwrap().get("opens").is_none());
    // Not even a time that no system has makes a state that cannot be opened.
    for opens in [0, 1_800_000_000_123, u64::MAX] {
        let at = Head::time(opens);
        assert!(
            at.is_none_or(|at| Head::millis(at) == Some(opens)),
            "{at:?}"
        );
    }
    assert_eq!(Head::millis(UNIX_EPOCH - Duration::from_secs(1)), None);
}

fn events(store: &FileStore) -> u64 {
    use redb::ReadableTableMetadata;

    let transaction = store.database.read().unwrap();
    transaction.open_table(EVENTS).unwrap().len().unwrap()
}

/// A system may say that it had no room, and have written all.
#[test]
fn what_was_said_to_have_failed_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::open_at(&folder.path().join("rounds.redb")).unwrap();
    let append = |store: &mut FileStore| store.append(ID, &[Event::Opened(ID)]);
    append(&mut store).unwrap();
    append(&mut store).unwrap();
    assert_eq!(events(&store), 2);
    // As after a commit that reported a failure and had come about.
    (store.writes, store.unsure) = (store.writes - 1, true);
    append(&mut store).unwrap();
    assert_eq!(events(&store), 2);
    // And as after one that had not.
    store.unsure = true;
    append(&mut store).unwrap();
    assert_eq!(events(&store), 3);
    append(&mut store).unwrap();
    assert_eq!(events(&store), 4);
}

/// Where a copy is put back and the clock is behind, two processes come to the same epoch: the transactions tell them apart.
#[test]
fn a_process_writes_no_more_to_a_copy_that_another_one_has_had_under_its_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    let copy = folder.path().join("copy");
    let append = |store: &mut FileStore| store.append(ID, &[Event::Opened(ID)]);
    // The other one has written as often as the first may have without knowing, or more often.
    for (unsure, theirs) in [(false, 1), (true, 2)] {
        let mut ahead = FileStore::open_at(&path).unwrap();
        assert!(ahead.roll_back(1 << 47).unwrap());
        drop(ahead);
        std::fs::copy(&path, &copy).unwrap();
        let mut first = FileStore::open_at(&path).unwrap();
        append(&mut first).unwrap();
        first.database.failed();
        first.unsure |= unsure;
        std::fs::copy(&copy, &path).unwrap();
        let mut second = FileStore::open_at(&path).unwrap();
        assert_eq!(second.epoch(), first.epoch());
        for _ in 0..1 + theirs {
            append(&mut second).unwrap();
        }
        let had = events(&second);
        drop(second);
        let error = append(&mut first).unwrap_err().to_string();
        assert!(
            error.contains("another process has written to it"),
            "{error}"
        );
        assert_eq!(events(&first), had);
        drop(first);
        std::fs::remove_file(&path).unwrap();
    }
}
