//! `fedistill-check` as a program: what it says, and with which exit code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use fedistill_client::journal::{Entry, Finished, Journal};
use fedistill_coordinator::{FileStore, Store};
use fedistill_protocol::{Digest, RoundId};

fn check(arguments: &[&str], folders: &[&Path]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fedistill-check"));
    let Output {
        status,
        stdout,
        stderr,
    } = command.args(arguments).args(folders).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A client's state with one receipt, and a coordinator's that knows of no round.
fn folders(of: &Path) -> [std::path::PathBuf; 2] {
    let [coordinator, client] = ["coordinator", "client"].map(|name| of.join(name));
    for folder in [&coordinator, &client] {
        std::fs::create_dir(folder).unwrap();
    }
    FileStore::open_at(&coordinator.join("rounds.redb")).unwrap();
    let (federation, name) = ("clinic".parse().unwrap(), "ward-1".parse().unwrap());
    let (journal, _) = Journal::open(&client.join("journal.redb"), &federation, &name).unwrap();
    let (id, blob) = (
        RoundId {
            round: 0,
            attempt: 0,
        },
        Digest::of(b"answer"),
    );
    let finished = Finished {
        id,
        epoch: 1,
        plan: Digest::of(b"plan"),
        blob,
        packed: b"answer"[..].into(),
        counted: false,
    };
    journal.keep(&Entry::Finished(finished)).unwrap();
    journal.keep(&Entry::Counted { id, blob }).unwrap();
    [coordinator, client]
}

#[test]
fn it_ends_well_only_where_it_has_looked_at_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let [coordinator, client] = folders(folder.path());
    let (code, output, _) = check(&[], &[&coordinator]);
    assert_eq!(code, Some(0), "{output}");
    let (code, output, told) = check(&[], &[&coordinator, &client]);
    assert_eq!(code, Some(1), "{output}");
    assert!(told.contains("the coordinator knows nothing"), "{told}");

    let (code, output, told) = check(&[], &[&client]);
    assert_eq!(code, Some(2), "{output}");
    assert!(
        output.contains("not verified: 1 receipts: the coordinator's folder is not here")
            && !output.contains("nothing lost"),
        "{output}"
    );
    assert!(told.contains("name the coordinator's folder too"), "{told}");

    let quiet = ["--quiet-since", "1", "--within", "1"];
    let (code, output, told) = check(&quiet, &[&client]);
    assert_eq!((code, output.as_str()), (Some(2), ""));
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("name its folder too"), "{told}");
}

#[test]
fn a_client_is_looked_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let [_, client] = folders(folder.path());
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(client.join("journal.redb"), copy.join("journal.redb")).unwrap();
    for again in [&client, &copy] {
        let (code, output, told) = check(&[], &[&client, again]);
        assert_eq!((code, output.as_str()), (Some(2), ""), "{told}");
        assert!(told.contains("a second state of client ward-1"), "{told}");
    }
}

/// What a client answers to one coordinator after the other, as it keeps it.
fn answer(journal: &Journal, plan: &[u8], asked_in: u64, blob: &[u8]) {
    let finished = Finished {
        id: RoundId {
            round: 0,
            attempt: 0,
        },
        epoch: asked_in,
        plan: Digest::of(plan),
        blob: Digest::of(blob),
        packed: blob.into(),
        counted: false,
    };
    journal.keep(&Entry::Finished(finished)).unwrap();
}

/// The rounds of a coordinator are lost and begun anew; its client answers to both, to the first one perhaps only when the second
/// is there.
#[test]
fn two_plans_of_one_number_are_told_from_two_answers() {
    let epoch_of = |path: &Path| FileStore::open_at(path).unwrap().epoch().number;
    for late in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let [coordinator, client] = ["coordinator", "client"].map(|name| folder.path().join(name));
        std::fs::create_dir(&coordinator).unwrap();
        std::fs::create_dir(&client).unwrap();
        let state = coordinator.join("rounds.redb");
        let first = epoch_of(&state);
        // As long as it takes to see that it is gone.
        std::thread::sleep(std::time::Duration::from_millis(5));
        std::fs::remove_file(&state).unwrap();
        let second = epoch_of(&state);
        assert!(second > first);

        let (federation, name) = ("clinic".parse().unwrap(), "ward-1".parse().unwrap());
        let path = client.join("journal.redb");
        let (journal, _) = Journal::open(&path, &federation, &name).unwrap();
        journal.keep(&Entry::Epoch(first)).unwrap();
        if late {
            journal.keep(&Entry::Epoch(second)).unwrap();
        }
        answer(&journal, b"plan", first, b"answer");
        journal.keep(&Entry::Epoch(second)).unwrap();
        answer(&journal, b"another plan", second, b"another answer");
        drop(journal);
        let (code, output, told) = check(&[], &[&coordinator, &client]);
        assert_eq!(code, Some(0), "{output}{told}");
        let noted = format!(
            "noted: ward-1 was asked two plans of round 0.0, in epochs {first} and {second}, and answered each: the coordinator's state was lost and begun anew in epoch {second}"
        );
        assert_eq!(output.lines().next(), Some(noted.as_str()), "{output}");

        // Started again, the second one has its state: whoever gives yet another answer has given two.
        let third = epoch_of(&state);
        assert!(third > second);
        let (journal, _) = Journal::open(&path, &federation, &name).unwrap();
        journal.keep(&Entry::Epoch(third)).unwrap();
        answer(&journal, b"another plan", third, b"a third answer");
        drop(journal);
        let (code, output, told) = check(&[], &[&coordinator, &client]);
        assert_eq!(code, Some(1), "{output}{told}");
        assert!(
            told.contains("ward-1 gave two answers to round 0.0"),
            "{told}"
        );
    }
}
