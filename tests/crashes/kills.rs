//! Kills right after each write.

use std::fs;
use std::path::Path;

use fedistill_client::journal::Journal;
use fedistill_coordinator::FileStore;
use fedistill_tests::{Deployment, Ended, Faults, Quiet, Running, run};

use crate::pair::{SHORT, TWICE, next_round, pair};

/// The numbers of instants that are tried, one life each, until a life has lived through a whole round, from before its
/// opening until after its end: all of them at first, where files are made and opened, then each `step`-th.
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
fn kill_the_coordinator(step: u32) {
    let faults = Faults::build();
    let (deployment, running, address) = pair();
    let mut all = deployment.join_all(2, &address);
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
    Running::stop(all);
    deployment.sound(2, Some(quiet));
}

/// The same of a client.
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
    Running::stop(vec![last, other, coordinator]);
    deployment.sound(2, Some(quiet));
}

#[test]
fn a_coordinator_killed_after_its_writes_goes_on() {
    kill_the_coordinator(7);
}

#[test]
#[ignore = "takes minutes"]
fn a_coordinator_killed_after_each_of_its_writes_goes_on() {
    kill_the_coordinator(1);
}

#[test]
fn a_client_killed_after_its_writes_goes_on() {
    kill_a_client(7);
}

#[test]
#[ignore = "takes minutes"]
fn a_client_killed_after_each_of_its_writes_goes_on() {
    kill_a_client(1);
}

/// A database is made beside its name. Killed at each instant until it has that name and a while longer, there is one
/// or none, never a part of one, and what was left is cleared away.
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
