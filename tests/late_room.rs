//! Disks that say only when data leaves memory that there is no room for it: what was acknowledged is on disk, once.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::Duration;

use fedistill_tests::{Deployment, Faults, Quiet, Running};

/// Three clients, all of whom a round waits for; they train for long enough to be frozen before they answer.
fn three() -> (Deployment, Running, String) {
    let round =
        "[round]\nleast = 3\nopen-with = 3\nsamples = 40\n[training]\nprivate-epochs = 60\n";
    let deployment = Deployment::new(3, 1_000_000, round);
    for index in 0..3 {
        let brisk = "checkpoint-seconds = 0.0\nkeep-alive-seconds = 0.2\n";
        deployment.configure(index, brisk);
    }
    let (coordinator, address) = deployment.start("127.0.0.1:0");
    (deployment, coordinator, address)
}

/// Longer than a deadline that no round here comes to.
const LONG: Duration = Duration::from_secs(600);

/// A contribution is written, and the disk says that it is not: tried again, it is there once.
#[test]
fn a_contribution_of_which_it_is_said_that_it_had_no_room_is_there_once() {
    let faults = Faults::build();
    let (deployment, running, address) = three();
    let mut clients: Vec<Running> = (0..3)
        .map(|index| deployment.join(index, &address))
        .collect();
    running.kill();
    let late = deployment.path("late");
    let mut command = deployment.running(&address);
    faults.fill_late(&mut command, &late);
    let mut coordinator = Running::start("coordinator", &mut command);
    coordinator.wait_for(" is over, with");
    clients[1].freeze();
    clients[2].freeze();
    clients[0].skip();
    clients[0].wait_for(" counts");
    fs::write(&late, "").unwrap();
    clients[1].thaw();
    coordinator.wait_for("no room left on its disk");
    fs::remove_file(&late).unwrap();
    coordinator.wait_for("there is room again");
    coordinator.kill();
    let quiet = Quiet::begins(LONG);
    let (mut coordinator, _) = deployment.start(&address);
    clients[2].thaw();
    coordinator.wait_for(" is over, with 3 ");
    clients.push(coordinator);
    stop(clients);
    deployment.sound(3, Some(quiet));
}

fn stop(processes: Vec<Running>) {
    processes.iter().for_each(Running::terminate);
    for process in processes {
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
}
