use super::*;

#[test]
fn a_file_is_one_process_s_and_its_owner_s() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.redb");
    let first = open(&path, 1 << 20).unwrap();
    assert!(matches!(
        open(&path, 1 << 20),
        Err(DatabaseError::InUse { .. })
    ));
    drop(first);
    open(&path, 1 << 20).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    std::fs::write(&path, "nonsense that is no database").unwrap();
    assert!(matches!(
        open(&path, 1 << 20),
        Err(DatabaseError::Failed { .. })
    ));
}

#[test]
fn one_that_was_cut_off_while_it_was_made_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.redb");
    // What is written before the mark of a database.
    fs::write(folder.path().join("x.redb.a1b2.new"), vec![0; 4096]).unwrap();
    fs::write(folder.path().join("y.redb.a1b2.new"), "another's").unwrap();
    drop(open(&path, 1 << 20).unwrap());
    let mut left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["x.redb", "y.redb.a1b2.new"]);
}

#[test]
fn one_that_lost_its_beginning_or_all_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.redb");
    for damaged in [vec![], vec![0; 4096]] {
        fs::write(&path, &damaged).unwrap();
        assert!(matches!(
            open(&path, 1 << 20),
            Err(DatabaseError::Failed { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[test]
fn one_in_which_a_bit_has_changed_is_refused_with_what_to_do() {
    const TABLE: redb::TableDefinition<'_, u32, &[u8]> = redb::TableDefinition::new("x");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.redb");
    let database = open(&path, 1 << 20).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut table = transaction.open_table(TABLE).unwrap();
    table.insert(1, &b"acknowledged"[..]).unwrap();
    drop(table);
    transaction.commit().unwrap();
    drop(database);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(12).position(|part| part == b"acknowledged");
    bytes[at.unwrap()] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = open(&path, 1 << 20).unwrap_err().to_string();
    let parts = ["x.redb", "it is damaged", "put back a copy"];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn want_of_room_is_told_from_what_else_fails() {
    let full = || StorageError::Io(ErrorKind::StorageFull.into());
    let quota = StorageError::Io(ErrorKind::QuotaExceeded.into());
    let path = PathBuf::from("x.redb");
    let errors: [Box<dyn Error>; 9] = [
        DatabaseError::NoRoom { path }.into(),
        full().into(),
        quota.into(),
        StorageError::PreviousIo.into(),
        redb::TransactionError::Storage(full()).into(),
        redb::TableError::Storage(full()).into(),
        redb::CommitError::Storage(full()).into(),
        redb::DatabaseError::Storage(full()).into(),
        std::io::Error::from(ErrorKind::StorageFull).into(),
    ];
    for error in errors {
        assert!(lacks_room(error.as_ref()), "{error:?}");
    }
    let denied = || std::io::Error::from(ErrorKind::PermissionDenied);
    let others: [Box<dyn Error>; 4] = [
        denied().into(),
        redb::CommitError::Storage(StorageError::Io(denied())).into(),
        StorageError::Corrupted(String::new()).into(),
        "no room".into(),
    ];
    for error in others {
        assert!(!lacks_room(error.as_ref()), "{error:?}");
    }
}

#[test]
fn processes_that_make_it_at_a_time_come_to_one() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let path = folder.path().join(format!("{round}.redb"));
        let open = || match open(&path, 1 << 20) {
            Ok(database) => Some(database),
            Err(DatabaseError::InUse { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        let opened = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            // All are kept until the last has tried.
            let opened = threads.into_iter().map(|thread| thread.join().unwrap());
            opened.collect::<Vec<_>>()
        });
        assert_eq!(opened.iter().flatten().count(), 1);
    }
}

const WORDS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("words");

/// What it holds, once it is opened again, and where a bit of that has changed meanwhile.
fn read_again(handle: &Handle, changed: bool) -> Result<Vec<u8>, String> {
    handle.failed();
    let flip = || {
        let mut bytes = fs::read(handle.path()).unwrap();
        let at = bytes.windows(12).position(|part| part == b"acknowledged");
        bytes[at.unwrap() + 12] ^= 1;
        fs::write(handle.path(), bytes).unwrap();
    };
    if changed {
        flip();
    }
    let read = || -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        let words = handle.read()?.open_table(WORDS)?;
        Ok(words
            .get(1)?
            .map_or_else(Vec::new, |word| word.value().to_vec()))
    };
    let result = read().map_err(|error| error.to_string());
    handle.failed();
    if changed {
        flip();
    }
    result
}

#[test]
fn it_is_read_through_again_where_what_is_on_disk_may_differ_from_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let handle = Handle::open(&folder.path().join("x.redb"), 1 << 20, 1).unwrap();
    let transaction = handle.write().unwrap();
    let mut words = transaction.open_table(WORDS).unwrap();
    words.insert(1, &b"acknowledged!"[..]).unwrap();
    drop(words);
    transaction.commit().unwrap();
    // It was read through when it was opened first: that takes long where much is held, and a full disk is tried often.
    assert_eq!(read_again(&handle, true).unwrap(), b"acknowledged ");
    // After a sync that has failed, until it was read through once.
    handle.unsure.set();
    let error = read_again(&handle, true).unwrap_err();
    assert!(error.contains("it is damaged"), "{error}");
    assert_eq!(read_again(&handle, false).unwrap(), b"acknowledged!");
    assert_eq!(read_again(&handle, true).unwrap(), b"acknowledged ");
}
