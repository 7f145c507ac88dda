//! Processes that are killed, at random instants and right after each write, and disks that are full: nothing
//! that was acknowledged is lost or counts twice. `fedistill-soak` does the same for longer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fedistill_check::{Records, verify};
use fedistill_client::journal::{Journal, What};
use fedistill_coordinator::FileStore;
use fedistill_tests::{Deployment, Ended, Faults, Quiet, Running, Storm, run};
use redb::{Database, TableDefinition};

/// Rounds of two clients that wait for nobody who is gone.
const SHORT: &str = "[round]\nleast = 1\nopen-with = 1\nleast-seconds = 0.5\nmost-seconds = 20\nsilence-seconds = 0.6\nsamples = 40\n";

/// Twice a round's deadline.
#[cfg(target_os = "linux")]
const TWICE: Duration = Duration::from_secs(40);

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
    let resumed = aftermath.resumptions.len();
    assert!((1..=6).contains(&resumed), "{resumed}");
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

/// Waits for a round that began after now: the line of one that was closed before may come only now.
#[cfg(target_os = "linux")]
fn next_round(coordinator: &mut Running) {
    coordinator.skip();
    for _ in 0..2 {
        coordinator.wait_for(" is over, with");
    }
}

/// The numbers of instants that are tried, one life each, until a life has lived through a whole round, from before its
/// opening until after its end: all of them at first, where files are made and opened, then each `step`-th.
#[cfg(target_os = "linux")]
fn walk(step: u32, round: &str, mut live: impl FnMut(u32) -> Ended) {
    const FIRST: u32 = 24;
    let numbers = (1..=FIRST).chain((FIRST + 1..).step_by(step as usize));
    for number in numbers {
        let ended = live(number);
        assert_eq!(ended.code, None, "instant {number}: {}", ended.told);
        assert!(number < 200, "it comes to no round: {}", ended.told);
        // The first is one that the life before had opened.
        if number > FIRST && ended.told.matches(round).count() > 2 {
            println!("came to: instants 1 to {FIRST}, then in steps of {step} up to {number}");
            return;
        }
    }
}

/// Each life of the coordinator ends a little later than the one before.
#[cfg(target_os = "linux")]
fn kill_the_coordinator(step: u32) {
    let faults = Faults::build();
    let (deployment, running, address) = pair();
    let mut all: Vec<Running> = (0..2)
        .map(|index| deployment.join(index, &address))
        .collect();
    running.kill();
    walk(step, " is over, with", |number| {
        let mut command = deployment.running(&address);
        faults.kill_at(&mut command, number);
        Running::start("coordinator", &mut command).end()
    });
    let quiet = Quiet::begins(TWICE);
    let (mut coordinator, _) = deployment.start(&address);
    coordinator.wait_for(" is over, with");
    all.push(coordinator);
    stop(all);
    deployment.sound(2, Some(quiet));
}

/// The same of a client.
#[cfg(target_os = "linux")]
fn kill_a_client(step: u32) {
    let faults = Faults::build();
    let (deployment, mut coordinator, address) = pair();
    let other = deployment.join(0, &address);
    walk(step, " counts", |number| {
        let mut command = deployment.joining(1, &address);
        faults.kill_at(&mut command, number);
        Running::start("client-1", &mut command).end()
    });
    let quiet = Quiet::begins(TWICE);
    let mut last = deployment.join(1, &address);
    last.wait_for(" counts");
    next_round(&mut coordinator);
    stop(vec![last, other, coordinator]);
    deployment.sound(2, Some(quiet));
}

#[cfg(target_os = "linux")]
#[test]
fn a_coordinator_killed_after_its_writes_goes_on() {
    kill_the_coordinator(7);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "takes minutes"]
fn a_coordinator_killed_after_each_of_its_writes_goes_on() {
    kill_the_coordinator(1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_killed_after_its_writes_goes_on() {
    kill_a_client(7);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "takes minutes"]
fn a_client_killed_after_each_of_its_writes_goes_on() {
    kill_a_client(1);
}

/// A database is made beside its name. Killed at each instant until it has that name and a while longer, there is one
/// or none, never a part of one, and what was left is cleared away.
#[cfg(target_os = "linux")]
#[test]
fn a_state_file_is_there_whole_or_not_at_all() {
    let faults = Faults::build();
    let deployment = Deployment::new(1, 1, SHORT);
    let open_store: fn(&Path) = |path| drop(FileStore::open_at(path).unwrap());
    let open_journal: fn(&Path) = |path| {
        let (federation, name) = ("clinic".parse().unwrap(), "client-0".parse().unwrap());
        drop(Journal::open(path, &federation, &name).unwrap());
    };
    let coordinator = deployment.running("127.0.0.1:0");
    let client = deployment.joining(0, "127.0.0.1:1");
    for (folder, name, mut command, open) in [
        ("federation/state", "rounds.redb", coordinator, open_store),
        ("state-0", "journal.redb", client, open_journal),
    ] {
        let folder = deployment.path(folder);
        let files = || {
            let found = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
            let names = found.map(|entry| entry.file_name().into_string().unwrap());
            let (mut named, mut unfinished, mut bytes) = (false, false, Vec::new());
            for found in names.filter(|found| found.starts_with(name)) {
                named |= found == name;
                unfinished |= found.ends_with(".new");
                bytes = fs::read(folder.join(found)).unwrap();
            }
            ((named, unfinished), bytes)
        };
        let (mut seen, mut held) = (Vec::new(), Vec::new());
        for number in 1.. {
            // None is there before the first.
            let _ = fs::remove_dir_all(&folder);
            faults.kill_at(&mut command, number);
            let ended = run(&mut command);
            assert_eq!(ended.code, None, "instant {number}: {}", ended.told);
            let (found, bytes) = files();
            seen.push(found);
            held.push((bytes, ended.told));
            open(&folder.join(name));
            assert_eq!(files().0, (true, false), "instant {number}");
            // Once it has its name, then its folder is durable, then more is written.
            if seen.ends_with(&[(true, false); 3]) {
                break;
            }
        }
        // It is whole and has no name, and in the next instant it has one.
        let named = seen.iter().position(|found| *found == (true, false));
        let named = named.unwrap();
        assert!(
            named > 0 && seen[..named].iter().all(|found| *found == (false, true)),
            "{seen:?}"
        );
        // The first is right after the name: nothing more is written before its folder is durable.
        assert!(
            held[named].1.contains("killed before fsync of a folder"),
            "{}",
            held[named].1
        );
        let whole = &held[named].0;
        let same = |(bytes, _): &(Vec<u8>, String)| bytes == whole;
        assert!(held[named - 1..named + 2].iter().all(same));
    }
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
    fs::remove_file(&full).unwrap();
    let quiet = Quiet::begins(TWICE);
    let (mut coordinator, _) = deployment.start(&address);
    coordinator.wait_for(" is over, with");
    clients.push(coordinator);
    stop(clients);
    deployment.sound(2, Some(quiet));
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
    let quiet = Quiet::begins(TWICE);
    client.wait_for(" counts");
    next_round(&mut coordinator);
    stop(vec![client, other, coordinator]);
    deployment.sound(2, Some(quiet));
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
    let told = client.wait_for("its state is an old copy, or was begun anew");
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

/// It has no checkpoint to leave its training at, and says why.
#[cfg(target_os = "linux")]
#[test]
fn a_client_that_is_told_to_stop_while_its_disk_is_full_says_so() {
    let faults = Faults::build();
    let long = format!("{SHORT}[training]\nprivate-epochs = 40\n");
    let long = long.replace("most-seconds = 20", "most-seconds = 600");
    let deployment = Deployment::new(1, 1, &long);
    deployment.configure(0, "model = \"conv-l\"\ncheckpoint-seconds = 1000.0\n");
    let (coordinator, address) = deployment.start("127.0.0.1:0");
    let full = deployment.path("full");
    let mut command = deployment.joining(0, &address);
    faults.fill(&mut command, &full);
    let mut client = Running::start("client", &mut command);
    client.wait_for("trains for round 0.0");
    fs::write(&full, "").unwrap();
    client.terminate();
    let ended = client.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);
    let said = "no room left on its disk: training goes on from the checkpoint before";
    assert!(ended.told.contains(said), "{}", ended.told);
    assert!(
        !ended.told.contains("a pass takes longer"),
        "{}",
        ended.told
    );
    stop(vec![coordinator]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_coordinator_that_is_told_to_stop_does_not_wait_for_its_teacher() {
    let long = format!("{SHORT}[training]\ndistillation-epochs = 600\n");
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
        for part in [file.rsplit('/').next().unwrap(), "put back a copy"] {
            assert!(why.contains(part), "{why}");
        }
        assert!(!ended.told.contains("panicked"), "{}", ended.told);
    }
}
