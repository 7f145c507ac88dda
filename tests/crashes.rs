//! Processes that are killed, at random instants and right after each write, and disks that are full: nothing
//! that was acknowledged is lost or counts twice. `fedistill-soak` does the same for longer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fedistill_check::{Records, verify};
use fedistill_client::journal::{Journal, What};
use fedistill_tests::{Deployment, Faults, Running, Storm, run};
use redb::{Database, TableDefinition};

/// Rounds of two clients that wait for nobody who is gone.
const SHORT: &str = "[round]\nleast = 1\nopen-with = 1\nleast-seconds = 0.5\nmost-seconds = 20\nsilence-seconds = 0.6\nsamples = 40\n";

fn sound(deployment: &Deployment, clients: usize) {
    let clients = (0..clients).map(|index| deployment.path(&format!("state-{index}")));
    let coordinator = deployment.path("federation/state");
    let folders: Vec<PathBuf> = std::iter::once(coordinator).chain(clients).collect();
    let records = Records::read(folders.iter().map(PathBuf::as_path)).unwrap();
    let report = verify(&records, None);
    assert_eq!(report.broken, [], "{report}");
    assert!(
        report.committed > 0 && report.receipts > 0,
        "nothing was looked at: {report}"
    );
}

#[test]
fn a_storm_of_kills_loses_nothing() {
    let storm = Storm {
        clients: 3,
        coordinator_kills: 6,
        client_kills: 24,
        pace: Duration::from_secs(2),
        seed: 1,
    };
    let deployment = storm.deployment();
    let aftermath = storm.rage(&deployment);
    let report = &aftermath.report;
    assert_eq!(report.broken, [], "{report}");
    assert!(
        report.committed > 0 && report.receipts > 0,
        "nothing was looked at: {report}"
    );
    assert_eq!(aftermath.recoveries.len(), 6);
}

/// A federation of two clients without end, its coordinator, and where that listens.
#[cfg(target_os = "linux")]
fn pair() -> (Deployment, Running, String) {
    let deployment = Deployment::new(2, 1_000_000, SHORT);
    for index in 0..2 {
        let brisk = "checkpoint-seconds = 0.0\nkeep-alive-seconds = 0.2\n";
        deployment.configure(index, brisk);
    }
    let (coordinator, address) = deployment.start("127.0.0.1:0");
    (deployment, coordinator, address)
}

#[cfg(target_os = "linux")]
fn stop(processes: Vec<Running>) {
    processes.iter().for_each(Running::terminate);
    for process in processes {
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
}

/// Each life of the coordinator ends right after one more write than the one before.
#[cfg(target_os = "linux")]
#[test]
fn a_coordinator_killed_after_each_of_its_writes_goes_on() {
    let faults = Faults::build();
    let (deployment, running, address) = pair();
    let mut all: Vec<Running> = (0..2)
        .map(|index| deployment.join(index, &address))
        .collect();
    running.kill();
    for number in 1..=24 {
        let mut command = deployment.running(&address);
        faults.kill_at(&mut command, number);
        let ended = Running::start("coordinator", &mut command).end();
        assert_eq!(ended.code, None, "write {number}: {}", ended.told);
    }
    let (mut coordinator, _) = deployment.start(&address);
    coordinator.wait_for(" is over, with");
    all.push(coordinator);
    stop(all);
    sound(&deployment, 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_killed_after_each_of_its_writes_goes_on() {
    let faults = Faults::build();
    let (deployment, coordinator, address) = pair();
    let other = deployment.join(0, &address);
    for number in 1..=24 {
        let mut command = deployment.joining(1, &address);
        faults.kill_at(&mut command, number);
        let ended = Running::start("client-1", &mut command).end();
        assert_eq!(ended.code, None, "write {number}: {}", ended.told);
    }
    let mut last = deployment.join(1, &address);
    last.wait_for(" counts");
    stop(vec![last, other, coordinator]);
    sound(&deployment, 2);
}

/// Longer than a line takes from one process through another.
#[cfg(target_os = "linux")]
const SOON: Duration = Duration::from_millis(500);

/// In the middle of rounds there is no room for a while; and none again when it is told to stop.
#[cfg(target_os = "linux")]
#[test]
fn a_coordinator_whose_disk_is_full_acknowledges_nothing_and_goes_on_when_there_is_room() {
    let faults = Faults::build();
    let (deployment, running, address) = pair();
    let mut clients: Vec<Running> = (0..2)
        .map(|index| deployment.join(index, &address))
        .collect();
    running.kill();
    let full = deployment.path("full");
    let mut command = deployment.running(&address);
    faults.fill(&mut command, &full);
    let mut coordinator = Running::start("coordinator", &mut command);
    for _ in 0..2 {
        coordinator.wait_for(" is over, with");
        fs::write(&full, "").unwrap();
        let told = coordinator.wait_for("no room left on its disk");
        assert!(told.contains("rounds.redb"), "{told}");
        sleep(SOON);
        clients.iter_mut().for_each(Running::skip);
        sleep(6 * SOON);
        for client in &mut clients {
            let said = client.said();
            assert!(!said.contains(" counts"), "{said}");
        }
        // Once is enough.
        let said = coordinator.said();
        assert!(
            !said.contains("no room left") && !said.contains(" is over, with"),
            "{said}"
        );
        fs::remove_file(&full).unwrap();
        coordinator.wait_for("there is room again");
        clients[0].wait_for(" counts");
    }
    coordinator.wait_for(" is over, with");
    fs::write(&full, "").unwrap();
    coordinator.wait_for("no room left on its disk");
    stop(vec![coordinator]);
    stop(clients);
    sound(&deployment, 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_whose_disk_is_full_says_nothing_and_goes_on_when_there_is_room() {
    let faults = Faults::build();
    let (deployment, mut coordinator, address) = pair();
    let other = deployment.join(0, &address);
    let full = deployment.path("full");
    let mut command = deployment.joining(1, &address);
    faults.fill(&mut command, &full);
    let mut client = Running::start("client-1", &mut command);
    client.wait_for(" counts");
    fs::write(&full, "").unwrap();
    let told = client.wait_for("nothing is ");
    assert!(
        told.contains("journal.redb") && told.contains("no room left on its disk"),
        "{told}"
    );
    sleep(SOON);
    client.skip();
    // Others do not wait for it.
    coordinator.skip();
    coordinator.wait_for(" is over, with 1 ");
    let said = client.said();
    assert!(!said.contains(" counts"), "{said}");
    fs::remove_file(&full).unwrap();
    client.wait_for(" counts");
    stop(vec![client, other, coordinator]);
    sound(&deployment, 2);
}

/// Its epoch is the clients' own, so rounds alone tell that it is old.
#[cfg(target_os = "linux")]
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
    let told = client.wait_for("its state is an old copy");
    assert!(told.contains(" is answered"), "{told}");
    let (_, meant) = told.split_once("--epoch ").unwrap();
    let meant: String = meant.chars().take_while(char::is_ascii_digit).collect();
    coordinator.wait_for("takes no part: the coordinator asks for round");
    stop(vec![client, coordinator]);
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
    stop(vec![client, coordinator]);
}

/// Checkpoints are far apart, so the one that is there was made because it was told to stop.
#[cfg(target_os = "linux")]
#[test]
fn a_client_that_is_told_to_stop_leaves_its_training_at_a_checkpoint() {
    let long = format!("{SHORT}[training]\nprivate-epochs = 40\n");
    let long = long.replace("most-seconds = 20", "most-seconds = 600");
    let deployment = Deployment::new(1, 1, &long);
    deployment.configure(0, "model = \"conv-l\"\ncheckpoint-seconds = 1000.0\n");
    let (coordinator, address) = deployment.start("127.0.0.1:0");
    let mut client = deployment.join(0, &address);
    client.wait_for("trains for round 0.0");
    let told = Instant::now();
    stop(vec![client]);
    assert!(
        told.elapsed() < Duration::from_secs(10),
        "{:?}",
        told.elapsed()
    );
    let happened = || -> Vec<What> {
        let journal = Journal::look_at(&deployment.path("state-0/journal.redb")).unwrap();
        let lines = journal.history().unwrap();
        lines.into_iter().map(|line| line.what).collect()
    };
    assert_eq!(happened(), [What::Begun]);
    let mut client = deployment.join(0, &address);
    client.wait_for(" counts");
    for process in [client, coordinator] {
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
    let first = [What::Begun, What::Resumed, What::Finished, What::Counted];
    assert_eq!(happened()[..4], first);
}

#[cfg(target_os = "linux")]
#[test]
fn a_coordinator_that_is_told_to_stop_does_not_wait_for_its_teacher() {
    let long = format!("{SHORT}[training]\ndistillation-epochs = 100\n");
    let deployment = Deployment::new(1, 2, &long.replace("samples = 40", "samples = 200"));
    // A teacher that learns for much longer than a student.
    let config = deployment.coordinator_config();
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("teacher.safetensors", "large.safetensors");
    let text = text.replace("model = \"mlp-s\"", "model = \"conv-l\"\nuntrained = true");
    fs::write(&config, text.replace("probes = true", "probes = false")).unwrap();
    deployment.configure(0, "model = \"mlp-s\"\n");
    let (mut coordinator, mut address) = deployment.start("127.0.0.1:0");
    let client = deployment.join(0, &address);
    // In its first life and where it goes on.
    for _ in 0..2 {
        coordinator.wait_for("the teacher learns from round 0.0");
        let told = Instant::now();
        stop(vec![coordinator]);
        let took = told.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        (coordinator, address) = deployment.start(&address);
    }
    stop(vec![client, coordinator]);
}

/// What a copy that broke off leaves.
#[cfg(target_os = "linux")]
#[test]
fn a_state_file_that_was_cut_off_is_refused_with_what_to_do() {
    let (deployment, coordinator, address) = pair();
    let mut client = deployment.join(0, &address);
    client.wait_for(" counts");
    stop(vec![client, coordinator]);
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
#[cfg(target_os = "linux")]
#[test]
fn a_state_that_makes_no_sense_is_refused_with_what_to_do() {
    let (deployment, coordinator, address) = pair();
    let mut client = deployment.join(0, &address);
    client.wait_for(" counts");
    stop(vec![client, coordinator]);
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
        assert!(why.contains(file.rsplit('/').next().unwrap()), "{why}");
        assert!(!ended.told.contains("panicked"), "{}", ended.told);
    }
}
