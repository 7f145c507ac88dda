//! Federations of real processes that crash in the middle of rounds come to the same as ones that do not, to the bit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use fedistill_client::journal::{Journal, What};
use fedistill_coordinator::Outcome;
use fedistill_protocol::RoundId;
use fedistill_tests::{Deployment, Quiet, Running, sound};

const CLIENTS: usize = 2;

/// Rounds of all clients, which wait for who is away. They train for long enough that one that is killed in the middle has
/// not answered: a coordinator that has all answers of its last round ends.
const ROUND: &str = r#"
[round]
least = 2
cohort = 2
open-with = 2
least-seconds = 100
most-seconds = 100
silence-seconds = 100
samples = 100
[training]
private-epochs = 20
"#;

/// What a federation has come to.
#[derive(Debug, PartialEq)]
struct Came {
    /// Contributors, and digests of aggregate and teacher, of each round.
    outcomes: Vec<(RoundId, Option<Outcome>)>,
    teacher: Vec<u8>,
    students: Vec<Vec<u8>>,
}

/// Runs a federation to its end, and leaves nothing of it; `crash` has its processes die on the way, and returns those
/// that are there then.
fn federate(
    deployment: &Deployment,
    crash: impl FnOnce(&str, Running, [Running; CLIENTS]) -> (Vec<Running>, Option<Quiet>),
) -> Came {
    let (coordinator, address) = deployment.start("127.0.0.1:0");
    let clients = [0, 1].map(|index| deployment.join(index, &address));
    let (all, quiet) = crash(&address, coordinator, clients);
    for process in all {
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
    let folders = deployment.folders(CLIENTS);
    let (records, _) = sound(&folders, quiet);
    let history = records.coordinator.unwrap().history.into_iter();
    let came = Came {
        outcomes: history.map(|closed| (closed.id, closed.outcome)).collect(),
        teacher: fs::read(folders[0].join("teacher.safetensors")).unwrap(),
        students: folders[1..]
            .iter()
            .map(|folder| fs::read(folder.join("student.safetensors")).unwrap())
            .collect(),
    };
    for folder in folders {
        fs::remove_dir_all(folder).unwrap();
    }
    came
}

#[test]
fn what_a_federation_comes_to_is_the_same_to_the_bit_with_crashes_and_without() {
    let deployment = Deployment::new(CLIENTS, 3, ROUND);
    let brisk = "checkpoint-seconds = 0.0\nkeep-alive-seconds = 0.2\n";
    deployment.configure(0, brisk);
    // It is at work while the other has answered.
    deployment.configure(1, &format!("model = \"conv-s\"\n{brisk}"));
    let whole = federate(&deployment, |_, coordinator, clients| {
        (clients.into_iter().chain([coordinator]).collect(), None)
    });
    let broken = federate(&deployment, |address, mut coordinator, clients| {
        let [mut quick, mut slow] = clients;
        // One contribution of two is acknowledged.
        for round in [0, 1] {
            quick.wait_for(&format!("round {round}.0 counts"));
            coordinator.kill();
            (coordinator, _) = deployment.start(address);
            let told = coordinator.wait_for(&format!("round {round}.0 goes on from its log of "));
            let events = told.split(" log of ").nth(1).unwrap().split(' ').next();
            let events: usize = events.unwrap().parse().unwrap();
            assert!(events > 1, "nothing had come: {told}");
        }
        // In the middle of its training, until it has gone on from a checkpoint.
        let resumed = |happened: &[What]| happened.contains(&What::Resumed);
        let mut happened = Vec::new();
        for _ in 0..20 {
            slow.wait_for("trains for round 2.0");
            sleep(Duration::from_millis(100));
            slow.kill();
            happened = history(&deployment);
            slow = deployment.join(1, address);
            if resumed(&happened) {
                break;
            }
        }
        assert!(resumed(&happened), "{happened:?}");
        let quiet = Quiet::begins(Duration::from_secs(200));
        (vec![quick, slow, coordinator], Some(quiet))
    });
    assert!(whole.outcomes.len() > 3 && whole.outcomes.iter().all(|(_, came)| came.is_some()));
    assert_eq!(broken.outcomes, whole.outcomes);
    // Not what they are: they are long.
    assert!(broken == whole, "a teacher or a student differs");
}

fn history(deployment: &Deployment) -> Vec<What> {
    let journal = Journal::look_at(&deployment.path("state-1/journal.redb")).unwrap();
    let lines = journal.history().unwrap();
    lines.into_iter().map(|line| line.what).collect()
}
