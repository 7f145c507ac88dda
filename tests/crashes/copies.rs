//! State that is not what was left: an old copy, one that was cut off, one that makes no sense.

use std::fs;
use std::path::PathBuf;

use fedistill_check::{Records, verify};
use fedistill_tests::{Running, run};
use redb::{Database, TableDefinition};

use crate::pair::pair;

/// Its epoch is later than any that clients have seen, so rounds alone tell that it is old.
#[test]
fn a_copy_of_the_state_is_left_by_clients_until_it_is_said_to_be_meant() {
    let (deployment, coordinator, address) = pair();
    let mut client = deployment.join(0, &address);
    client.wait_for(" counts");
    coordinator.kill();
    let state = deployment.path("federation/state/rounds.redb");
    let copy = deployment.path("copy");
    fs::copy(&state, &copy).unwrap();
    let (coordinator, _) = deployment.start(&address);
    for _ in 0..3 {
        client.wait_for(" counts");
    }
    coordinator.kill();
    fs::copy(&copy, &state).unwrap();
    let (mut coordinator, _) = deployment.start(&address);
    let told = client.wait_for("its state is an old copy, or was begun anew");
    assert!(told.contains(" is answered"), "{told}");
    let (_, meant) = told.split_once("--epoch ").unwrap();
    let meant: String = meant.chars().take_while(char::is_ascii_digit).collect();
    coordinator.wait_for("takes no part: the coordinator asks for round");
    Running::stop(vec![client, coordinator]);
    // It has given one answer to each plan, and none to a round that it had answered.
    let journals = [deployment.path("state-0")];
    let records = Records::read(journals.iter().map(PathBuf::as_path)).unwrap();
    let report = verify(&records, None);
    assert_eq!(report.broken, [], "{report}");
    let mut command = deployment.running(&address);
    let mut coordinator = Running::start("coordinator", command.args(["--epoch", &meant]));
    let mut client = deployment.join(0, &address);
    client.wait_for(" counts");
    coordinator.wait_for(" is over, with");
    Running::stop(vec![client, coordinator]);
}

/// What a copy that broke off leaves.
#[test]
fn a_state_file_that_was_cut_off_is_refused_with_what_to_do() {
    let (deployment, coordinator, address) = pair();
    let mut client = deployment.join(0, &address);
    client.wait_for(" counts");
    Running::stop(vec![client, coordinator]);
    for (file, mut command) in [
        ("federation/state/rounds.redb", deployment.running(&address)),
        ("state-0/journal.redb", deployment.joining(0, &address)),
    ] {
        let path = deployment.path(file);
        let length = fs::metadata(&path).unwrap().len();
        let opened = fs::OpenOptions::new().write(true).open(&path).unwrap();
        opened.set_len(length / 2).unwrap();
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(3), "{}", ended.told);
        let why = ended.told.lines().last().unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for part in [name, "it is damaged", "put back a copy"] {
            assert!(why.contains(part), "{}", ended.told);
        }
        assert!(!ended.told.contains("panicked"), "{}", ended.told);
    }
}

/// A file that is whole, and holds something else than what it should.
#[test]
fn a_state_that_makes_no_sense_is_refused_with_what_to_do() {
    let (deployment, coordinator, address) = pair();
    let mut client = deployment.join(0, &address);
    client.wait_for(" counts");
    Running::stop(vec![client, coordinator]);
    for (file, key, mut command) in [
        (
            "federation/state/rounds.redb",
            "state",
            deployment.running(&address),
        ),
        (
            "state-0/journal.redb",
            "finished",
            deployment.joining(0, &address),
        ),
    ] {
        let values: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
        let database = Database::open(deployment.path(file)).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(values).unwrap();
        assert!(table.insert(key, &b"{}"[..]).unwrap().is_some());
        drop(table);
        transaction.commit().unwrap();
        drop(database);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(3), "{}", ended.told);
        let why = ended.told.lines().last().unwrap();
        for part in [file.rsplit('/').next().unwrap(), "put back a copy"] {
            assert!(why.contains(part), "{why}");
        }
        assert!(!ended.told.contains("panicked"), "{}", ended.told);
    }
}
