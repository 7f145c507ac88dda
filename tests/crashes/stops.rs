//! Processes that are told to stop.

use std::fs;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use fedistill_client::journal::{Journal, What};
use fedistill_tests::{Deployment, Faults, Running};

use crate::pair::SHORT;

/// Checkpoints are far apart, so the one that is there was made because it was told to stop.
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
    Running::stop(vec![client]);
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
    Running::stop(vec![coordinator]);
}

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
        Running::stop(vec![coordinator]);
        let took = told.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        (coordinator, address) = deployment.start(&address);
    }
    Running::stop(vec![client, coordinator]);
}

/// It reads its data from a pipe that nobody writes to.
#[test]
fn who_is_told_to_stop_while_it_loads_ends_as_told() {
    let deployment = Deployment::new(1, 1, SHORT);
    let (client, coordinator) = (
        deployment.joining(0, "127.0.0.1:1"),
        deployment.running("127.0.0.1:0"),
    );
    for (data, mut command) in [
        ("data/client-0/images.gz", client),
        ("data/transfer/images.gz", coordinator),
    ] {
        let pipe = deployment.path(data);
        fs::remove_file(&pipe).unwrap();
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let mut process = Running::start(data, &mut command);
        // This end can be had once the process reads at the other.
        let (sender, opened) = mpsc::channel();
        thread::spawn(move || sender.send(fs::File::options().write(true).open(pipe)));
        let Ok(silent) = opened.recv_timeout(Duration::from_secs(30)) else {
            panic!("{data} is not read: {}", process.said());
        };
        process.terminate();
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{data}: {}", ended.told);
        let said = "stopped before it had begun";
        assert!(ended.told.contains(said), "{}", ended.told);
        drop(silent);
    }
}
