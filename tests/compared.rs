//! Comparisons of methods: the same to the bit whatever stops them, and honest of what fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fedistill_simulator::compare::Record;
use fedistill_simulator::config::Config;
use fedistill_simulator::{Outcome, Progress, TeacherSource, Transport, experiment};
use fedistill_tests::{Running, program, run, small_data};
use serde_json::Value;

/// A folder with a little data, and settings of a comparison of small federations.
struct Compared {
    folder: tempfile::TempDir,
}

impl Compared {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        small_data(&folder.path().join("data"), 1000, 200);
        let config = format!(
            "data = \"data\"\nclients = 3\nsamples = 200\ntransport = \"memory\"\ncheckpoint-seconds = 0\n{config}"
        );
        fs::write(folder.path().join("compare.toml"), config).unwrap();
        Self { folder }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, out: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program("fedistill-simulate"));
        command.arg("compare").arg("--out").arg(self.out(out));
        command.args(args);
        command
    }

    /// With the settings; in the folder `out`.
    fn begin(&self, out: &str, args: &[&str]) -> Command {
        let mut command = self.command(out, args);
        command.arg("--config").arg(self.out("compare.toml"));
        command
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// All that a comparison came to, but times.
fn results(out: &Path) -> Value {
    let mut results = read(&out.join("compare.json"));
    for cell in results["cells"].as_array_mut().unwrap() {
        if let Some(done) = cell.get_mut("done") {
            assert!(done["seconds"].as_f64().unwrap() > 0.0);
            done["seconds"] = Value::Null;
        }
    }
    results
}

fn cells(out: &Path) -> Vec<Record> {
    serde_json::from_value(read(&out.join("compare.json"))["cells"].clone()).unwrap()
}

/// Waits until a round of the cell that is under way has been kept.
fn until_kept(out: &Path) {
    let end = Instant::now() + Duration::from_secs(120);
    let kept = |path: PathBuf| {
        // Part of what the journal writes after a round.
        let mark = b"\"server_before\"";
        let bytes = fs::read(path.join("run.redb")).unwrap_or_default();
        !path.join("cell.json").exists() && bytes.windows(mark.len()).any(|part| part == mark)
    };
    let any = || {
        let cells = fs::read_dir(out.join("cells")).into_iter().flatten();
        cells.flatten().any(|cell| kept(cell.path()))
    };
    while !any() {
        assert!(
            Instant::now() < end,
            "no round was kept in {}",
            out.display()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

const GRID: [&str; 8] = [
    "--methods",
    "local,logit-mean,fedavg",
    "--partitions",
    "iid,classes:4",
    "--teachers",
    "none,train:50",
    "--seeds",
    "1",
];

#[test]
fn a_comparison_that_is_killed_and_goes_on_comes_to_the_same() {
    let compared = Compared::new("rounds = 20");
    let grid = [&GRID[..], &["--threads", "2"]].concat();
    let whole = run(&mut compared.begin("whole", &grid));
    assert_eq!(whole.code, Some(0), "{}", whole.told);
    // Local students and averaged models hear of no teacher: 2 x (1 + 2 + 1) federations, not 12.
    assert_eq!(whole.told.lines().count(), 8, "{}", whole.told);
    assert_eq!(
        whole.output.matches("logit-mean").count(),
        4,
        "{}",
        whole.output
    );

    let mut running = Running::start("compare", &mut compared.begin("out", &grid));
    running.wait_for("1 of 8: local");
    until_kept(&compared.out("out"));
    running.kill();
    let mut running = Running::start("compare", &mut compared.command("out", &["--resume"]));
    running.wait_for("of 8 federations are done");
    running.wait_for("goes on where it was stopped");
    running.wait_for("6 of 8");
    running.kill();
    // The same command does it too; nothing depends on threads.
    let end = run(&mut compared.begin("out", &[&GRID[..], &["--threads", "1"]].concat()));
    assert_eq!(end.code, Some(0), "{}", end.told);
    assert!(!end.told.contains("1 of 8: local"), "{}", end.told);
    assert_eq!(
        results(&compared.out("out")),
        results(&compared.out("whole"))
    );
    let table = |told: &str| told.replace(compared.out("whole").to_str().unwrap(), "");
    let ours = end
        .output
        .replace(compared.out("out").to_str().unwrap(), "");
    assert_eq!(ours, table(&whole.output));
    for file in ["compare.md", "compare.html"] {
        let [one, other] =
            ["out", "whole"].map(|out| fs::read(compared.out(out).join(file)).unwrap());
        assert!(one == other, "{file}");
    }
    for cell in fs::read_dir(compared.out("out").join("cells"))
        .unwrap()
        .flatten()
    {
        assert!(
            !cell.path().join("run.redb").exists(),
            "state of a cell that is over"
        );
    }
}

#[test]
fn a_comparison_grows_and_runs_only_what_is_new() {
    let compared = Compared::new("rounds = 2\npartition = \"iid\"\nteacher = \"train:50\"");
    let first = run(&mut compared.begin("out", &["--methods", "local", "--seeds", "2"]));
    assert_eq!(first.code, Some(0), "{}", first.told);
    let more = ["--methods", "local,teacher-only", "--seed-list", "1,2,5"];
    let grown = run(&mut compared.begin("out", &more));
    assert_eq!(grown.code, Some(0), "{}", grown.told);
    assert!(
        grown.told.contains("2 of 6 federations are done"),
        "{}",
        grown.told
    );
    assert_eq!(grown.told.lines().count(), 1 + 4, "{}", grown.told);
    // What is all there runs nothing.
    let again = run(&mut compared.command("out", &["--resume"]));
    assert_eq!(
        (again.code, again.told.lines().count()),
        (Some(0), 1),
        "{}",
        again.told
    );
    let fresh = run(&mut compared.begin("fresh", &more));
    assert_eq!(fresh.code, Some(0), "{}", fresh.told);
    assert_eq!(
        results(&compared.out("out")),
        results(&compared.out("fresh"))
    );

    let refused = |mut command: Command, code: i32, part: &str| {
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(code), "{}", ended.told);
        assert_eq!(ended.told.lines().count(), 1, "{}", ended.told);
        assert!(ended.told.contains(part), "{}", ended.told);
    };
    refused(
        compared.command("out", &["--resume", "--rounds", "3"]),
        2,
        "another rounds",
    );
    refused(
        compared.command("none", &["--resume"]),
        2,
        "leave --resume out",
    );
    refused(
        compared.begin("out", &["--methods", "local,fedprox"]),
        2,
        "choose adaptive",
    );
    // Also where nobody remembers what the cells there are of.
    std::fs::remove_file(compared.out("fresh").join("cells/comparison.json")).unwrap();
    let mut others = compared.begin("fresh", &more);
    others.args(["--rounds", "3"]);
    refused(others, 2, "made with other settings");
    // Nothing is lost by it: the right settings find all cells again.
    let again = run(&mut compared.begin("fresh", &more));
    assert_eq!(again.code, Some(0), "{}", again.told);
    assert!(
        again.told.contains("6 of 6 federations are done"),
        "{}",
        again.told
    );
    let few = ["--methods", "local", "--partitions", "iid,classes:3"];
    refused(compared.begin("few", &few), 2, "take more clients");
    assert!(
        !compared.out("few").join("cells").exists(),
        "something was begun"
    );
    small_data(&compared.out("data"), 900, 200);
    refused(compared.command("out", &["--resume"]), 2, "of other data");
}

#[test]
fn a_federation_that_fails_is_told_and_the_others_go_on() {
    let compared = Compared::new(
        "rounds = 2\npartition = \"iid\"\nteacher = \"train:50\"\nsteps = { sgd = { learning-rate = 1e30 } }",
    );
    // What only the teacher teaches takes those steps too; nothing can be learnt with them.
    let grid = ["--methods", "logit-mean,fedavg", "--seeds", "2"];
    let failed = run(&mut compared.begin("out", &grid));
    assert_eq!(failed.code, Some(1), "{}", failed.told);
    let last = failed.told.lines().last().unwrap();
    assert!(
        last.contains("4 of 4 federations failed") && last.contains("lower the learning rate"),
        "{last}"
    );
    assert_eq!(
        failed.output.matches("failed: ").count(),
        4,
        "{}",
        failed.output
    );
    assert_eq!(cells(&compared.out("out")).len(), 4);
    // It is known that they fail.
    let again = run(&mut compared.command("out", &["--resume"]));
    assert_eq!((again.code, again.output), (Some(1), failed.output));
    assert!(
        again.told.contains("4 of 4 federations are done"),
        "{}",
        again.told
    );
}

/// Why such a method has one federation for all teachers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hears_of_no_teacher_comes_to_the_same_with_any() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    small_data(&data, 1000, 200);
    for method in ["local", "fedavg"] {
        let mut came_to = Vec::new();
        for teacher in [TeacherSource::None, TeacherSource::Train(50)] {
            let config = Config {
                data: data.to_string_lossy().into_owned(),
                method: method.to_owned(),
                teacher,
                clients: 3,
                rounds: 2,
                samples: 200,
                transport: Transport::Memory,
                baselines: false,
                ..Config::default()
            };
            let done = experiment::run(&config, None, |_, _| Progress::silent()).await;
            let Outcome {
                clients, digest, ..
            } = done.unwrap().federated;
            came_to.push((clients, digest));
        }
        assert_eq!(came_to[0], came_to[1], "{method}");
    }
}
