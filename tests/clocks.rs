//! Processes for which no time passes for a while, and clocks that somebody sets: rounds go on, and nothing is
//! lost.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use fedistill_tests::{Deployment, Faults, Quiet, Running};

/// Rounds of two clients that wait for nobody who is silent for long.
const SHORT: &str = "[round]\nleast = 1\nopen-with = 1\nleast-seconds = 0.5\nmost-seconds = 60\nsilence-seconds = 0.6\nsamples = 40\n";

/// Twice a round's deadline.
const SOON: Duration = Duration::from_secs(120);

/// Longer than `silence-seconds`.
const LONG: Duration = Duration::from_secs(2);

/// Ends it once a round of both has come about since `quiet`.
fn end(deployment: &Deployment, processes: Vec<Running>, quiet: Quiet) {
    let clients = processes.len() - 1;
    Running::stop(processes);
    deployment.sound(clients, Some(quiet));
}

#[test]
fn a_client_that_is_frozen_holds_up_nobody_and_takes_part_when_it_wakes() {
    let deployment = Deployment::new(2, 1_000_000, SHORT);
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    let mut clients = [0, 1].map(|index| deployment.join(index, &address));
    coordinator.wait_for("with 2 contributions");
    clients[1].freeze();
    coordinator.skip();
    coordinator.wait_for("with 1 contributions");
    coordinator.wait_for("with 1 contributions");
    sleep(LONG);
    clients[1].skip();
    clients[1].thaw();
    let quiet = Quiet::begins(SOON);
    clients[1].wait_for(" counts");
    coordinator.skip();
    coordinator.wait_for("with 2 contributions");
    let [first, second] = clients;
    end(&deployment, vec![coordinator, first, second], quiet);
}

#[test]
fn a_coordinator_that_is_frozen_goes_on_in_its_round() {
    // All are needed, and silent ones are given up; time in which it slept does not count against them.
    let round = SHORT.replace("least = 1", "least = 2");
    let round = format!("{round}attempts = 1\n[training]\nprivate-epochs = 40\n");
    let deployment = Deployment::new(2, 1_000_000, &round);
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    let mut clients = [0, 1].map(|index| deployment.join(index, &address));
    for _ in 0..2 {
        coordinator.wait_for(" is over, with 2 contributions");
        clients[0].wait_for("trains for round");
        coordinator.freeze();
        sleep(LONG);
        coordinator.thaw();
    }
    let quiet = Quiet::begins(SOON);
    coordinator.skip();
    coordinator.wait_for(" is over, with 2 contributions");
    coordinator.wait_for(" is over, with 2 contributions");
    let [first, second] = clients;
    end(&deployment, vec![coordinator, first, second], quiet);
}

/// All are needed, within less time than the coordinator is frozen, and there is no second try.
#[test]
fn a_deadline_that_passes_while_the_coordinator_is_frozen_waits_for_what_clients_have_said() {
    let round = "[round]\nleast = 2\nopen-with = 2\nmost-seconds = 3\nleast-seconds = 3\nattempts = 1\nsamples = 40\n[training]\nprivate-epochs = 40\n";
    let deployment = Deployment::new(2, 1_000_000, round);
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    let mut clients = [0, 1].map(|index| deployment.join(index, &address));
    for client in &mut clients {
        client.wait_for("trains for round 2.0");
    }
    coordinator.freeze();
    sleep(Duration::from_millis(3500));
    coordinator.thaw();
    let quiet = Quiet::begins(SOON);
    coordinator.wait_for("this process stood still for");
    coordinator.wait_for("round 2.0 is over, with 2 contributions");
    for client in &mut clients {
        client.wait_for("round 2.0 counts");
    }
    coordinator.wait_for(" is over, with 2 contributions");
    let [first, second] = clients;
    end(&deployment, vec![coordinator, first, second], quiet);
}

#[test]
fn clocks_that_jump_by_an_hour_change_nothing() {
    let faults = Faults::build();
    let deployment = Deployment::new(2, 1_000_000, SHORT);
    let (coordinator, address) = deployment.start("127.0.0.1:0");
    coordinator.kill();
    let settings = ["coordinator", "client-0", "client-1"].map(|name| deployment.path(name));
    let mut commands = [
        deployment.running(&address),
        deployment.joining(0, &address),
        deployment.joining(1, &address),
    ];
    let mut processes = Vec::new();
    for ((command, setting), name) in commands.iter_mut().zip(&settings).zip(["c", "0", "1"]) {
        faults.misread(command, setting);
        processes.push(Running::start(name, command));
    }
    for seconds in [3600, -3600, 0] {
        for setting in &settings {
            processes[0].skip();
            processes[0].wait_for(" is over, with 2 contributions");
            fs::write(setting, seconds.to_string()).unwrap();
            processes[0].skip();
            processes[0].wait_for(" is over, with 2 contributions");
        }
    }
    // A connection that is made anew looks at certificates by the clock that is wrong.
    fs::write(&settings[1], "3600").unwrap();
    processes.swap_remove(1).kill();
    let mut command = deployment.joining(0, &address);
    faults.misread(&mut command, &settings[1]);
    let mut back = Running::start("0", &mut command);
    let quiet = Quiet::begins(SOON);
    back.wait_for(" counts");
    processes.push(back);
    processes[0].skip();
    processes[0].wait_for(" is over, with 2 contributions");
    end(&deployment, processes, quiet);
}
