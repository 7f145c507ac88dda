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
