//! Simulations that are killed and go on: what they come to is what they would have come to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fedistill_simulator::{RoundRow, Summary};
use fedistill_tests::{Running, program, run, small_data};

/// A run's configuration and data in a folder; every round is kept.
struct Run {
    folder: tempfile::TempDir,
}

impl Run {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        small_data(&folder.path().join("data"), 1000, 200);
        let config = format!(
            "data = \"data\"\nteacher = \"train:50\"\nsamples = 200\ncheckpoint-seconds = 0\n{config}"
        );
        fs::write(folder.path().join("run.toml"), config).unwrap();
        Self { folder }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(program("fedistill-simulate"));
        command.arg("--out").arg(self.out(out)).args(more);
        command
    }

    /// Begins in the folder `out`.
    fn begin(&self, out: &str) -> Command {
        let config = self.folder.path().join("run.toml");
        self.command(out, &["--config", config.to_str().unwrap()])
    }
}

fn until(line: &str, mut command: Command) {
    let mut running = Running::start("fedistill-simulate", &mut command);
    running.wait_for(line);
    running.kill();
}

/// What a run came to, without what a stop may change.
fn results(out: &Path) -> (Summary, Vec<RoundRow>) {
    assert!(!out.join("run.redb").exists(), "state of a finished run");
    let summary = fs::read(out.join("summary.json")).unwrap();
    let mut summary: Summary = serde_json::from_slice(&summary).unwrap();
    assert!(summary.seconds.total >= summary.seconds.federation);
    summary.seconds = Default::default();
    summary.bytes.quic_total = None;
    for flow in [&mut summary.ledger.up, &mut summary.ledger.down] {
        flow.quic = None;
    }
    summary.config.out = PathBuf::new();
    summary.config.threads = 0;
    let rows = fs::read_to_string(out.join("rounds.jsonl")).unwrap();
    let rows = rows.lines().map(|line| serde_json::from_str(line).unwrap());
    (summary, rows.collect())
}

#[test]
fn a_run_that_is_killed_again_and_again_comes_to_the_same() {
    let begun = Run::new(
        "clients = 6\nper-round = 3\nrounds = 5\nmodels = [\"mlp-s\", \"conv-s\"]\nthreads = 2\nmemory-budget-mb = 0",
    );
    let whole = run(&mut begun.begin("whole"));
    assert_eq!(whole.code, Some(0), "{}", whole.told);
    until("adaptive: round 2 of 5", begun.begin("out"));
    let again = |more: &[&str]| begun.command("out", &[&["--resume"], more].concat());
    until("adaptive: round 4 of 5", again(&["--threads", "1"]));
    until("teacher-only: round 2 of 5", again(&[]));
    // After the last round of all: nothing is left but to say so.
    until("local: round 5 of 5", again(&["--threads", "3"]));
    let end = run(&mut again(&[]));
    assert_eq!(end.code, Some(0), "{}", end.told);
    // A slow death may have seen it noted that this was all.
    let over =
        end.told.contains("local: goes on after round") || !end.told.contains("local: round");
    assert!(
        over && !end.told.contains("adaptive: round"),
        "{}",
        end.told
    );
    assert_eq!(results(&begun.out("out")), results(&begun.out("whole")));
}

/// It was stopped before a round of it was kept: it was begun all the same.
#[test]
fn a_run_of_which_no_round_was_kept_goes_on_from_its_beginning() {
    let begun = Run::new(
        "clients = 2\nrounds = 8\nmodels = [\"conv-s\"]\ntransport = \"memory\"\nbaselines = false",
    );
    let config = begun.folder.path().join("run.toml");
    let text = fs::read_to_string(&config).unwrap();
    let seldom = text.replace("checkpoint-seconds = 0", "checkpoint-seconds = 1000");
    fs::write(&config, seldom).unwrap();
    let whole = run(&mut begun.begin("whole"));
    assert_eq!(whole.code, Some(0), "{}", whole.told);
    until("round 1 of 8", begun.begin("out"));
    let end = run(&mut begun.command("out", &["--resume"]));
    assert_eq!(end.code, Some(0), "{}", end.told);
    assert_eq!(results(&begun.out("out")), results(&begun.out("whole")));
}

/// What both sides hold of each other decides how many bytes cross: that comes back too.
#[test]
fn methods_that_send_only_what_has_changed_go_on_with_the_same_bytes() {
    for method in ["cfd", "scarlet,duration=2", "fd"] {
        let begun = Run::new(&format!(
            "clients = 6\nper-round = 2\nrounds = 8\nmethod = \"{method}\"\nbaselines = false"
        ));
        let whole = run(&mut begun.begin("whole"));
        assert_eq!(whole.code, Some(0), "{}", whole.told);
        until(&format!("{method}: round 5 of 8"), begun.begin("out"));
        let end = run(&mut begun.command("out", &["--resume"]));
        assert_eq!(end.code, Some(0), "{}", end.told);
        assert!(!end.told.contains("round 1 of 8"), "{}", end.told);
        assert_eq!(results(&begun.out("out")), results(&begun.out("whole")));
    }
}

#[test]
fn averaged_parameters_go_on_too() {
    for method in ["fedavg", "feddf,steps=100"] {
        let begun = Run::new(&format!(
            "clients = 4\nper-round = 2\nrounds = 4\nmethod = \"{method}\"\nbaselines = false"
        ));
        let whole = run(&mut begun.begin("whole"));
        assert_eq!(whole.code, Some(0), "{}", whole.told);
        until(&format!("{method}: round 3 of 4"), begun.begin("out"));
        let end = run(&mut begun.command("out", &["--resume"]));
        assert_eq!(end.code, Some(0), "{}", end.told);
        assert!(!end.told.contains("round 1 of 4"), "{}", end.told);
        assert_eq!(results(&begun.out("out")), results(&begun.out("whole")));
    }
}

#[test]
fn what_cannot_go_on_says_why_and_loses_nothing() {
    let begun = Run::new("clients = 2\nrounds = 50\ntransport = \"memory\"\nbaselines = false");
    let refused = |mut command: Command, part: &str| {
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(2), "{}", ended.told);
        assert_eq!(ended.told.lines().count(), 1, "{}", ended.told);
        assert!(ended.told.contains(part), "{}", ended.told);
    };
    let again = |more: &[&str]| begun.command("out", &[&["--resume"], more].concat());
    refused(again(&[]), "leave --resume out");
    let mut running = Running::start("fedistill-simulate", &mut begun.begin("out"));
    running.wait_for("round 2 of 50");
    refused(begun.begin("out"), "in use by another process");
    refused(again(&[]), "in use by another process");
    running.kill();
    refused(begun.begin("out"), "go on with --resume");
    refused(again(&["--seed", "2"]), "another seed");
    // A set of the same name that holds other samples.
    let data = begun.folder.path().join("data");
    small_data(&data, 900, 200);
    refused(again(&[]), "the data, the teacher's file or");
    small_data(&data, 1000, 200);
    until("round 5 of 50", again(&[]));
    let state = begun.out("out").join("run.redb");
    let length = fs::metadata(&state).unwrap().len();
    let file = fs::File::options().write(true).open(&state).unwrap();
    file.set_len(length / 2).unwrap();
    let ended = run(&mut again(&[]));
    assert_eq!(ended.code, Some(3), "{}", ended.told);
    let said = "remove it to begin afresh";
    assert!(ended.told.contains(said), "{}", ended.told);
}
