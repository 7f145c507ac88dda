use super::*;

/// As [`Handle::mark`] writes it.
const FORMATS: TableDefinition<'_, &str, u64> = TableDefinition::new("format");

fn config(out: &Path) -> Config {
    Config {
        out: out.to_owned(),
        ..Config::default()
    }
}

#[test]
fn a_run_says_of_which_format_its_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(&config(folder.path())).unwrap();
    let transaction = journal.database.read().unwrap();
    let formats = transaction.open_table(FORMATS).unwrap();
    let format = formats.get("format").unwrap().map(|format| format.value());
    assert_eq!(format, Some(FORMAT));
}

#[test]
fn what_a_newer_version_has_written_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let newer = Handle::open(&path, CACHE, FORMAT + 1).unwrap();
    let transaction = newer.write().unwrap();
    newer.mark(&transaction).unwrap();
    transaction.commit().unwrap();
    drop(newer);
    let config = config(folder.path());
    let errors = [
        Journal::begin(&config).map(drop),
        Journal::unfinished(folder.path()).map(drop),
        Journal::resume(&config).map(drop),
    ];
    for error in errors {
        let error = error.unwrap_err().to_string();
        let parts = [
            "run.redb",
            "a newer version has written it (format 2",
            "remove it",
        ];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let newer = Handle::open(&path, CACHE, FORMAT + 1).unwrap();
    let formats = newer.read().unwrap().open_table(FORMATS).unwrap();
    let format = formats.get("format").unwrap().map(|format| format.value());
    assert_eq!(format, Some(FORMAT + 1));
}
