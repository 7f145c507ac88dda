//! Federations of real processes over loopback: to the end, with crashes, and with restarts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use fedistill_tests::{Deployment, Quiet, Running, run, write_labels};
use serde_json::Value;

/// Rounds in which nobody is waited for that is silent for a second and a half.
const BRISK: &str = r#"
[round]
least = 2
cohort = 3
open-with = 3
least-seconds = 30
most-seconds = 60
silence-seconds = 1.5
patience-seconds = 60
samples = 100
"#;

fn status(deployment: &Deployment) -> Value {
    let told = run(deployment
        .coordinator("status")
        .arg("--json")
        .arg("--config")
        .arg(deployment.coordinator_config()));
    assert_eq!(told.code, Some(0), "{}", told.told);
    serde_json::from_str(&told.output).unwrap()
}

#[test]
fn a_federation_runs_to_its_end_and_leaves_students_that_can_be_used() {
    let deployment = Deployment::new(2, 2, "[round]\nleast = 2\nsamples = 100\n");
    let test =
        "[held-out]\nidx = { images = \"data/test/images.gz\", labels = \"data/test/labels.gz\" }";
    deployment.configure(0, &format!("model = \"conv-s\"\n{test}"));
    let (coordinator, address) = deployment.start("127.0.0.1:0");
    let clients = [0, 1].map(|index| deployment.join(index, &address));
    let ended = coordinator.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);
    for client in clients {
        let ended = client.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
        assert!(
            ended.told.contains("done: the federation is over"),
            "{}",
            ended.told
        );
    }
    let status = status(&deployment);
    assert_eq!(status["stage"], "finished");
    assert_eq!(
        status["contributors"],
        serde_json::json!(["client-0", "client-1"])
    );
    assert!(
        status["teacher"]["accuracy"].as_f64().unwrap() > 0.2,
        "{status}"
    );

    let entry = &status["ledger"]["client-1"];
    let bytes = |way: &str, what: &str| {
        let of = |when: &str| entry[when][way][what].as_u64().unwrap();
        (of("last_round"), of("total"))
    };
    // Two rounds of 100 x 10 logits up; they come down in each but the first, and in the closing one, where the fifth of the
    // second round that measured the teacher is missing.
    assert_eq!(
        (bytes("up", "raw"), bytes("down", "raw").0),
        ((0, 8000), 3200)
    );
    for way in ["up", "down"] {
        let sum = ["packed", "transfer_set", "framing"].map(|what| bytes(way, what).1);
        let quic = bytes(way, "quic").1;
        assert!(quic > sum.iter().sum(), "{entry}");
    }
    // 200 images of 28 x 28 bytes, the teacher's 100, by which it is measured, and their header.
    assert_eq!(bytes("down", "transfer_set"), (0, 300 * 784 + 20));
    let told = run(deployment
        .coordinator("status")
        .arg("--config")
        .arg(deployment.coordinator_config()));
    assert!(
        told.output.contains("bytes of each: up ")
            && told
                .output
                .contains("federated averaging of their models would take "),
        "{}",
        told.output
    );

    let card = std::fs::read(deployment.path("state-0/student.json")).unwrap();
    let card: Value = serde_json::from_slice(&card).unwrap();
    assert_eq!(card["architecture"], "conv-s");
    assert_eq!(card["rounds"], 3, "two rounds and the closing one");
    let config = deployment.client_config(0);
    let told = run(&mut deployment.client("evaluate", &config));
    let right = card["evaluation"]["accuracy"].as_f64().unwrap();
    let line = format!("student: {:.1} % of 200 samples", 100.0 * right);
    assert!(told.output.contains(&line), "{} {line}", told.output);
    let images = deployment.path("data/test/images.gz");
    let told = run(deployment.client("predict", &config).arg(images));
    assert_eq!(told.output.lines().count(), 201, "{}", told.told);
    assert!(told.output.starts_with("sample,class,probability\n0,"));
}

#[test]
fn a_killed_client_holds_up_nobody_and_takes_part_when_it_is_back() {
    let deployment = Deployment::new(3, 3, BRISK);
    // Slow enough to be killed in the middle of its training.
    deployment.configure(2, "model = \"conv-l\"");
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    let quick = [0, 1].map(|index| deployment.join(index, &address));
    let mut victim = deployment.join(2, &address);
    victim.wait_for("trains for round 0.0");
    victim.kill();
    let quiet = Quiet::begins(Duration::from_secs(120));
    coordinator.wait_for("round 0.0 is over, with 2 contributions");
    let mut back = deployment.join(2, &address);
    back.wait_for("counts");
    let ended = back.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);
    for client in quick {
        let ended = client.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
    let ended = coordinator.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);
    assert!(
        ended.told.contains("with 3 contributions"),
        "{}",
        ended.told
    );
    deployment.sound(3, Some(quiet));
}

#[test]
fn a_coordinator_that_was_stopped_goes_on_with_clients_that_come_by_themselves() {
    let deployment = Deployment::new(2, 40, "[round]\nleast = 2\nsamples = 100\n");
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    let mut clients = [0, 1].map(|index| deployment.join(index, &address));
    coordinator.wait_for("round 1.0 is over");
    coordinator.terminate();
    let ended = coordinator.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);
    assert!(ended.told.contains("goes on from here"), "{}", ended.told);
    let stopped = status(&deployment);
    assert_eq!(stopped["stage"], "stopped");
    let done = stopped["done"].as_u64().unwrap();
    assert!((2..40).contains(&done), "{stopped}");
    for client in &mut clients {
        client.wait_for("next try in");
    }
    let (mut coordinator, _) = deployment.start(&address);
    coordinator.wait_for(&format!("round {done}.0 is over, with 2 contributions"));
    assert_eq!(status(&deployment)["stage"], "running");
    coordinator.kill();
    // A crash this time: no word to anyone, and the store as it happens to be.
    assert_eq!(status(&deployment)["stage"], "died");
    let quiet = Quiet::begins(Duration::from_secs(1200));
    let (coordinator, _) = deployment.start(&address);
    for client in clients {
        let ended = client.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
    let ended = coordinator.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);
    let finished = status(&deployment);
    assert_eq!(finished["stage"], "finished");
    deployment.sound(2, Some(quiet));
}

#[test]
fn between_rounds_clients_are_away_and_come_back_in_time() {
    let round = "[round]\nleast = 1\nopen-with = 1\nleast-seconds = 0.1\nmost-seconds = 60\nsamples = 100\npause-seconds = 12\n";
    let deployment = Deployment::new(2, 2, round);
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    let mut first = deployment.join(0, &address);
    coordinator.wait_for("the next round opens in 12 s");
    // One that is connected, and one that comes while nothing is asked.
    let mut second = deployment.join(1, &address);
    for client in [&mut first, &mut second] {
        let told = client.wait_for("the coordinator is away: the next round opens in ");
        let (_, wait) = told.split_once("next try in ").unwrap();
        let (wait, _) = wait.split_once(" ms").unwrap();
        let wait: u64 = wait.parse().unwrap();
        assert!((3000..=12_500).contains(&wait), "{told}");
    }
    coordinator.wait_for("round 1.0 is over");
    for process in [first, second, coordinator] {
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
}

/// Whoever sleeps on its word is waited for as if it had not died: it neither loses its patience nor opens a round
/// with those alone who come first, though one client is enough.
#[test]
fn a_coordinator_that_dies_between_rounds_goes_on_in_the_pause() {
    let round = "[round]\nleast = 1\nopen-with = 1\nmost-seconds = 60\nsamples = 100\npause-seconds = 12\npatience-seconds = 2\n";
    let deployment = Deployment::new(2, 20, round);
    let config = deployment.coordinator_config();
    let patient = std::fs::read_to_string(&config).unwrap();
    // The first round waits for its client.
    let endless = patient.replace("patience-seconds = 2\n", "");
    std::fs::write(&config, endless).unwrap();
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    let mut clients = vec![deployment.join(0, &address)];
    coordinator.wait_for("the next round opens in 12 s");
    let begun = Instant::now();
    clients.push(deployment.join(1, &address));
    for client in &mut clients {
        client.wait_for("the coordinator is away: the next round opens in ");
    }
    coordinator.kill();
    std::fs::write(&config, patient).unwrap();
    let quiet = Quiet::begins(Duration::from_secs(120));
    let (mut coordinator, _) = deployment.start(&address);
    let told = coordinator.wait_for("the next round opens in ");
    let (_, left) = told.rsplit_once("opens in ").unwrap();
    let left: f64 = left.strip_suffix(" s").unwrap().parse().unwrap();
    assert!(left <= 12.0 - begun.elapsed().as_secs_f64() + 1.0, "{told}");
    coordinator.wait_for("round 1.0 is over, with 2 contributions");
    clients.push(coordinator);
    Running::stop(clients);
    deployment.sound(2, Some(quiet));
}

/// They would find nobody, and try for ever.
#[test]
fn clients_that_come_after_the_end_are_told_of_it() {
    let round = "[round]\nleast = 1\nopen-with = 1\nsamples = 40\nfarewell-seconds = 3600\n";
    let deployment = Deployment::new(2, 1, round);
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    let late = |index: usize| {
        let ended = deployment.join(index, &address).end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
        let done = "done: the federation is over";
        assert!(ended.told.contains(done), "{}", ended.told);
    };
    late(0);
    coordinator.wait_for("all rounds are done: for 3600 s whoever comes is told so");
    assert_eq!(status(&deployment)["stage"], "finished");
    late(1);
    Running::stop(vec![coordinator]);
    assert_eq!(status(&deployment)["stage"], "finished");
    // Also one that has nothing else to do.
    let (coordinator, _) = deployment.start(&address);
    late(1);
    coordinator.terminate();
    let ended = coordinator.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);
    assert!(!ended.told.contains(" is over, with"), "{}", ended.told);
    // What one method has handed on says nothing to another.
    let config = deployment.coordinator_config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("method = \"fd\"\n{text}")).unwrap();
    let refused = run(&mut deployment.running(&address));
    assert_eq!(refused.code, Some(2), "{}", refused.told);
    let why = "the rounds in the state folder are of method adaptive, not of fd: put back";
    assert!(refused.told.contains(why), "{}", refused.told);
}

/// Labelled samples of the coordinator's own travel with the transfer set; what it makes of them is in
/// its log, and their shape is held against the set's before anybody is let in.
#[test]
fn a_coordinator_measures_by_its_labelled_samples_how_much_its_teacher_weighs() {
    let probes = r#"
[probes]
idx = { images = "../data/test/images.gz", labels = "../data/test/labels.gz" }
[round]
least = 2
samples = 100
[training]
distillation-epochs = 1
"#;
    let deployment = Deployment::new(2, 5, probes);
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    let clients = [0, 1].map(|index| deployment.join(index, &address));
    coordinator.wait_for("adaptive decides: teacher weight 1.000");
    coordinator.wait_for("round 0.0 is over");
    coordinator.wait_for("adaptive decides: teacher weight");
    coordinator.wait_for("round 2.0 is over");
    coordinator.wait_for("adaptive decides: teacher weight");
    coordinator.wait_for("round 3.0 is over");
    for client in clients {
        let ended = client.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
    let ended = coordinator.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);

    let config = deployment.coordinator_config();
    let text = std::fs::read_to_string(&config).unwrap();
    let (head, tail) = text.split_once("[probes]\n").unwrap();
    let (_, tail) = tail.split_once('\n').unwrap();
    let table = deployment.path("federation/probes.csv");
    std::fs::write(&table, "label,a,b\n0,1,2\n1,2,3\n").unwrap();
    let other = "[probes]\ncsv = { file = \"probes.csv\", label = \"label\" }\n";
    std::fs::write(&config, format!("{head}{other}{tail}")).unwrap();
    let ended = run(deployment.coordinator("run").arg("--config").arg(&config));
    assert_eq!(ended.code, Some(3), "{}", ended.told);
    assert!(
        ended.told.contains("prepare both in the same way"),
        "{}",
        ended.told
    );
}

/// A teacher that `teacher train` made is measured by its own labelled samples, where the configuration lets
/// them travel; what is about other samples than those is refused before anybody is let in.
#[test]
fn a_teacher_that_was_trained_here_is_measured_by_the_samples_that_it_has_learnt() {
    let round = "[round]\nleast = 2\nsamples = 100\n[training]\ndistillation-epochs = 1\n";
    let deployment = Deployment::new(2, 5, round);
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    let clients = [0, 1].map(|index| deployment.join(index, &address));
    coordinator.wait_for("adaptive decides: teacher weight 1.000");
    coordinator.wait_for("round 3.0 is over");
    for client in clients {
        let ended = client.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
    let ended = coordinator.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);
    let travel = "100 of the teacher's labelled samples travel unmarked";
    assert!(ended.told.contains(travel), "{}", ended.told);
    let weight = |status: &Value| status["decided"]["teacher weight"].as_f64();
    let measured = weight(&status(&deployment)).unwrap();
    assert!((0.01..=0.5).contains(&measured), "{measured}");
    let config = deployment.coordinator_config();
    let told = run(deployment
        .coordinator("status")
        .arg("--config")
        .arg(&config));
    let mut lines = told.output.lines();
    let decided = lines.find(|line| line.starts_with("the method has decided: "));
    let weight = format!("teacher weight {measured:.3}");
    assert!(
        decided.is_some_and(|line| line.contains(&weight)),
        "{} {weight}",
        told.output
    );

    let labels = deployment.path("data/labelled/labels.gz");
    std::fs::copy(&labels, deployment.path("kept.gz")).unwrap();
    write_labels(&labels, vec![3; 100]);
    let ended = run(deployment.coordinator("run").arg("--config").arg(&config));
    assert_eq!(ended.code, Some(3), "{}", ended.told);
    let why = "teacher.probes: it is about other labelled samples than the configuration names: train the teacher again, or remove this file";
    assert!(ended.told.contains(why), "{}", ended.told);

    // Of another teacher, nothing was said.
    std::fs::copy(deployment.path("kept.gz"), &labels).unwrap();
    let (teacher, other) = (
        "federation/teacher.safetensors",
        "state/teacher.safetensors",
    );
    std::fs::copy(
        deployment.path(&format!("federation/{other}")),
        deployment.path(teacher),
    )
    .unwrap();
    let ended = run(deployment.coordinator("run").arg("--config").arg(&config));
    assert_eq!(ended.code, Some(3), "{}", ended.told);
    assert!(
        ended.told.contains("about another teacher"),
        "{}",
        ended.told
    );
    let import = ["import", "--force", "--config"];
    let imported = run(deployment
        .coordinator("teacher")
        .args(import)
        .arg(&config)
        .arg(deployment.path(teacher)));
    assert_eq!(imported.code, Some(0), "{}", imported.told);
    assert!(!deployment.path("federation/teacher.probes").exists());
    let text = std::fs::read_to_string(&config).unwrap();
    let alone = text.replace("[round]\n", "[round]\npatience-seconds = 0.1\n");
    std::fs::write(&config, alone).unwrap();
    std::fs::remove_dir_all(deployment.path("federation/state")).unwrap();
    let ended = run(deployment.coordinator("run").arg("--config").arg(&config));
    assert_eq!(ended.code, Some(7), "{}", ended.told);
    let why = "no labelled samples to measure the teacher by, so its weight stays at the default";
    assert!(ended.told.contains(why), "{}", ended.told);

    // What was said is no leave to let samples travel.
    let mut train = deployment.coordinator("teacher");
    let trained = run(train
        .args(["train", "--force", "--epochs", "2", "--config"])
        .arg(&config));
    assert_eq!(trained.code, Some(0), "{}", trained.told);
    assert!(deployment.path("federation/teacher.probes").exists());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("probes = true\n", "")).unwrap();
    let ended = run(deployment.coordinator("run").arg("--config").arg(&config));
    assert_eq!(ended.code, Some(7), "{}", ended.told);
    assert!(ended.told.contains(why), "{}", ended.told);
}
