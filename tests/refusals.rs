//! What our programs refuse: one line that says what, where and what to do, and a documented exit
//! code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use fedistill_tests::{Deployment, Ended, Faults, Running, program, run, small_data, write_labels};
use fedistill_transport::identity::{Authority, Validity, write_new};

/// One deployment for all tests here; none of them changes it.
fn deployment() -> &'static Deployment {
    static ONE: OnceLock<Deployment> = OnceLock::new();
    ONE.get_or_init(|| Deployment::new(1, 1, "[round]\nleast = 1\npatience-seconds = 0.1\n"))
}

#[track_caller]
fn refused(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.told);
    let last = ended.told.lines().last().unwrap_or_default();
    assert!(last.starts_with("fedistill-"), "{}", ended.told);
    for part in parts {
        assert!(last.contains(part), "no {part:?} in: {last}");
    }
    assert!(!ended.told.contains("panicked"), "{}", ended.told);
}

/// Runs a client with this configuration, written in the deployment's folder.
fn client(name: &str, edit: impl Fn(String) -> String) -> Ended {
    let deployment = deployment();
    let text = fs::read_to_string(deployment.client_config(0)).unwrap();
    let text = text.replace("\"state-0\"", &format!("\"state-{name}\""));
    let path = deployment.path(&format!("{name}.toml"));
    fs::write(&path, edit(text)).unwrap();
    run(&mut deployment.client("run", &path))
}

/// Runs a coordinator with this configuration.
fn coordinator(name: &str, edit: impl Fn(String) -> String) -> Ended {
    let deployment = deployment();
    let text = fs::read_to_string(deployment.coordinator_config()).unwrap();
    let path = deployment.path(&format!("federation/{name}.toml"));
    let text = format!("state = \"state-{name}\"\n{text}");
    fs::write(&path, edit(text)).unwrap();
    run(deployment.coordinator("run").arg("--config").arg(path))
}

#[test]
fn configurations() {
    let ended = client("unknown-key", |text| format!("rounds = 3\n{text}"));
    refused(
        &ended,
        2,
        &[
            "unknown-key.toml, line 1 (rounds = 3)",
            "unknown field `rounds`",
        ],
    );
    let ended = coordinator("unknown-key", |text| text.replace("least = 1", "leest = 1"));
    refused(
        &ended,
        2,
        &["unknown-key.toml, line", "unknown field `leest`", "`least`"],
    );
    let ended = client("wrong-type", |text| {
        text.replace("\"state-wrong-type\"", "7")
    });
    refused(&ended, 2, &["wrong-type.toml, line", "(state = 7)"]);
    let ended = coordinator("contradiction", |text| {
        text.replace("least = 1", "least = 3\ncohort = 2")
    });
    refused(
        &ended,
        2,
        &[
            "round.least",
            "round.cohort aims for only 2",
            "lower the one or raise the other",
        ],
    );
    // What is written wrong comes before what is missing.
    let ended = coordinator("method", |text| {
        let text = text.replace("data/transfer/images.gz", "data/nowhere.gz");
        format!("method = \"fedprox\"\n{text}")
    });
    refused(&ended, 2, &["fedprox", "choose adaptive"]);
    let ended = coordinator("weights", |text| {
        format!("{text}\n[weights]\na = 4294967295\nb = 4294967295\n")
    });
    refused(&ended, 2, &["weights", "make them smaller"]);
    let ended = run(deployment()
        .client("run", Path::new("/no/such/file.toml"))
        .env_clear());
    refused(&ended, 2, &["/no/such/file.toml", "cannot read it"]);
    let ended = run(Command::new(program("fedistill-simulate")).args(["--method", "fedprox"]));
    refused(&ended, 2, &["fedprox", "choose adaptive"]);
    let mut taught = Command::new(program("fedistill-simulate"));
    taught.current_dir(fedistill_tests::root());
    taught.args(["--method", "teacher-only", "--teacher", "none", "--out"]);
    let ended = run(taught.arg(deployment().path("out")));
    refused(&ended, 2, &["teacher-only needs a teacher"]);
    let ended = coordinator("untrained", |text| {
        let text = text.replace("file = \"teacher.safetensors\"", "untrained = true");
        format!("method = \"teacher-only\"\n{text}")
    });
    refused(
        &ended,
        2,
        &["teacher-only needs a teacher that knows something"],
    );
    let mut taught = Command::new(program("fedistill-simulate"));
    taught.current_dir(fedistill_tests::root());
    taught.args([
        "--method",
        "teacher-only",
        "--teacher",
        "untrained",
        "--out",
    ]);
    let ended = run(taught.arg(deployment().path("out")));
    refused(
        &ended,
        2,
        &["teacher-only needs a teacher that knows something"],
    );
    let ended = run(Command::new(program("fedistill-simulate")).args(["--data", "nowhere"]));
    refused(
        &ended,
        2,
        &["nowhere", "fashion-mnist-mini", "folder of IDX files"],
    );
}

/// Nobody has trained by then: a run and a comparison say it before anything else.
#[test]
fn features_of_another_width() {
    let folder = tempfile::tempdir().unwrap();
    small_data(&folder.path().join("data"), 300, 50);
    let out = folder.path().join("out");
    let simulate = |args: &[&str]| {
        let mut simulate = Command::new(program("fedistill-simulate"));
        simulate
            .args(args)
            .args(["--clients", "2", "--models", "mlp-m"]);
        simulate.args(["--teacher", "none", "--transport", "memory", "--data"]);
        simulate
            .arg(folder.path().join("data"))
            .arg("--out")
            .arg(&out);
        run(&mut simulate)
    };
    for args in [
        &["--method", "fedproto"][..],
        &["compare", "--methods", "local,fedproto", "--seeds", "1"],
    ] {
        let ended = simulate(args);
        let parts = [
            "fedproto asks all students for features of width 64, theirs are 256 of mlp-m wide",
            "width=256",
        ];
        refused(&ended, 2, &parts);
        assert_eq!(ended.told.lines().count(), 1, "{}", ended.told);
    }
}

/// What serves other methods in one file is not refused with this one.
#[test]
fn settings_without_effect_are_told() {
    let folder = tempfile::tempdir().unwrap();
    small_data(&folder.path().join("data"), 300, 50);
    let config = folder.path().join("run.toml");
    let text = "data = \"data\"\nclients = 2\nrounds = 1\nteacher = \"none\"\nsamples = 50\nbaselines = false\npacking = \"u4\"";
    fs::write(&config, text).unwrap();
    let told = |method: &str| {
        let mut simulate = Command::new(program("fedistill-simulate"));
        simulate.args(["--transport", "memory", "--method", method]);
        simulate.arg("--config").arg(&config);
        let ended = run(simulate.arg("--out").arg(folder.path().join(method)));
        assert_eq!(ended.code, Some(0), "{}", ended.told);
        let lines = ended.told.lines();
        lines
            .filter(|line| line.contains("changes nothing"))
            .count()
    };
    assert_eq!(told("vote"), 1);
    assert_eq!(told("adaptive"), 0);
    assert_eq!(told("adaptive,caution=2"), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_results() {
    let mut simulate = Command::new(program("fedistill-simulate"));
    simulate.current_dir(fedistill_tests::root());
    let ended = run(simulate.args(["--out", "/proc"]));
    refused(&ended, 1, &["cannot write results to /proc"]);
    assert_eq!(ended.told.lines().count(), 1, "{}", ended.told);
}

/// Nothing would keep two coordinators apart there, nor two clients.
#[cfg(target_os = "linux")]
#[test]
fn a_state_folder_on_a_file_system_without_locks() {
    let (faults, deployment) = (Faults::build(), deployment());
    let mut coordinate = deployment.coordinator("run");
    coordinate
        .arg("--config")
        .arg(deployment.coordinator_config());
    let mut join = deployment.client("run", &deployment.client_config(0));
    for command in [&mut coordinate, &mut join] {
        faults.unlock(command);
        let ended = run(command);
        refused(
            &ended,
            3,
            &["state", "knows no locks", "name a state folder"],
        );
    }
}

#[test]
fn data() {
    let folder = deployment().path("data/client-0");
    let ended = client("missing", |text| {
        text.replace("client-0/images.gz", "client-0/none.gz")
    });
    refused(&ended, 3, &["client-0/none.gz", "No such file"]);

    let whole = fs::read(folder.join("images.gz")).unwrap();
    fs::write(folder.join("cut.gz"), &whole[..whole.len() / 2]).unwrap();
    let ended = client("truncated", |text| {
        text.replace("client-0/images.gz", "client-0/cut.gz")
    });
    refused(&ended, 3, &["client-0/cut.gz", "end early"]);
    fs::write(folder.join("text"), "no images").unwrap();
    let ended = client("no-idx", |text| {
        text.replace("client-0/images.gz", "client-0/text")
    });
    refused(&ended, 3, &["client-0/text", "no whole IDX file"]);

    let count = fedistill_learning::idx::read(&folder.join("labels.gz"), 1)
        .unwrap()
        .values
        .len();
    write_labels(&folder.join("beyond.gz"), vec![10; count]);
    let ended = client("beyond", |text| {
        text.replace("client-0/labels.gz", "client-0/beyond.gz")
    });
    refused(
        &ended,
        3,
        &[
            "beyond.gz",
            "label 10 of sample 0",
            "10, the number of classes",
        ],
    );
    write_labels(&folder.join("few.gz"), vec![1; count - 1]);
    let ended = client("few", |text| {
        text.replace("client-0/labels.gz", "client-0/few.gz")
    });
    refused(&ended, 3, &["few.gz", "labels for", "samples"]);

    // Photos of a side that no memory holds, and files of nothing at all.
    let photos = deployment().path("photos/0");
    fs::create_dir_all(&photos).unwrap();
    fs::write(photos.join("a.png"), "not even looked at").unwrap();
    let own = r#"idx = { images = "data/client-0/images.gz", labels = "data/client-0/labels.gz" }"#;
    let ended = client("huge", |text| {
        let folder = "folder = { path = \"photos\", shape = [1, 100000, 100000] }";
        text.replace(own, folder)
    });
    refused(&ended, 3, &["photos", "[1, 100000, 100000]", "at most"]);
    fs::write(deployment().path("empty.csv"), "a,b,label\n").unwrap();
    let ended = client("empty", |text| {
        text.replace(own, "csv = { file = \"empty.csv\", label = \"label\" }")
    });
    refused(&ended, 3, &["empty.csv", "no samples"]);
    small_data(&deployment().path("untested"), 100, 0);
    let mut simulate = Command::new(program("fedistill-simulate"));
    simulate.arg("--data").arg(deployment().path("untested"));
    let ended = run(simulate.arg("--out").arg(deployment().path("out")));
    refused(&ended, 3, &["t10k-labels", "no samples"]);

    let ended = coordinator("no-teacher", |text| {
        text.replace("teacher.safetensors", "none.safetensors")
    });
    refused(&ended, 3, &["none.safetensors", "teacher train"]);
    fs::write(deployment().path("federation/text.safetensors"), "no model").unwrap();
    let ended = coordinator("bad-teacher", |text| {
        text.replace("teacher.safetensors", "text.safetensors")
    });
    refused(&ended, 3, &["text.safetensors", "no safetensors file"]);
    let ended = coordinator("classes", |text| text.replace("\"9\"", "\"nine\""));
    refused(&ended, 3, &["teacher", "nine"]);
}

#[test]
fn models_of_other_classes() {
    let deployment = deployment();
    let evaluate = |name: &str| {
        let text = fs::read_to_string(deployment.coordinator_config()).unwrap();
        let path = deployment.path(&format!("federation/{name}.toml"));
        fs::write(&path, text.replace("\"9\"", "\"nine\"")).unwrap();
        let mut teacher = deployment.coordinator("teacher");
        run(teacher.args(["evaluate", "--config"]).arg(path))
    };
    let parts = ["teacher.safetensors", "8, nine", "same order"];
    refused(&evaluate("other-classes"), 3, &parts);
    // A student is a model as a teacher is one.
    let state = deployment.path("state-evaluated");
    fs::create_dir_all(&state).unwrap();
    let teacher = deployment.path("federation/teacher.safetensors");
    fs::copy(teacher, state.join("student.safetensors")).unwrap();
    let text = fs::read_to_string(deployment.client_config(0)).unwrap();
    let text = text.replace("state-0", "state-evaluated");
    let path = deployment.path("evaluated.toml");
    let evaluate = |text: String| {
        fs::write(&path, text).unwrap();
        run(deployment.client("evaluate", &path).arg("--private"))
    };
    refused(
        &evaluate(text.replace("\"9\"", "\"nine\"")),
        3,
        &["state-evaluated", "8, nine"],
    );
    let ended = evaluate(text);
    assert_eq!(ended.code, Some(0), "{}", ended.told);
}

#[test]
fn addresses() {
    for address in ["127.0.0.1", "127.0.0.1:99999", ""] {
        let config = deployment().client_config(0);
        let mut client = deployment().client("run", &config);
        let ended = run(client.args(["--coordinator", address]));
        refused(&ended, 2, &[&format!("{address:?}"), "HOST:PORT"]);
    }
}

#[test]
fn certificates() {
    let deployment = deployment();
    let ended = client("no-bundle", |text| text.replace("client-0.pem", "none.pem"));
    refused(&ended, 4, &["none.pem", "cannot read it"]);
    let ended = client("wrong-side", |text| {
        text.replace("client-0.pem", "federation/coordinator.pem")
    });
    refused(&ended, 4, &["coordinator.pem", "client-cert"]);
    let authority = Authority::load(&deployment.path("federation")).unwrap();
    let expired = authority
        .client(&"client-0".parse().unwrap(), Validity::over())
        .unwrap();
    write_new(&deployment.path("expired.pem"), &expired, true).unwrap();
    let ended = client("expired", |text| {
        text.replace("client-0.pem", "expired.pem")
    });
    refused(&ended, 4, &["expired.pem", "expired on", "new bundle"]);
    let ended = coordinator("client-bundle", |text| {
        format!("bundle = \"../client-0.pem\"\n{text}")
    });
    refused(&ended, 4, &["client-0.pem", "client client-0", "init"]);
    let bank = Authority::create("bank".parse().unwrap()).unwrap();
    let bank = bank
        .coordinator(&["localhost".to_owned()], Validity::days(1))
        .unwrap();
    write_new(&deployment.path("federation/bank.pem"), &bank, true).unwrap();
    let ended = coordinator("bank", |text| format!("bundle = \"bank.pem\"\n{text}"));
    refused(&ended, 4, &["bank.pem", "federation bank", "clinic"]);
    // Nothing is overwritten.
    let init = run(deployment
        .coordinator("init")
        .arg(deployment.path("federation")));
    refused(&init, 2, &["is there already"]);
    let again = run(deployment
        .coordinator("client-cert")
        .args(["client-0", "--out"])
        .arg(deployment.path("client-0.pem"))
        .arg("--folder")
        .arg(deployment.path("federation")));
    refused(&again, 4, &["client-0.pem", "exists"]);
}

#[test]
fn arguments() {
    let folder = deployment().path("never");
    for (flag, value) in [
        ("--host", "bad host \u{fc}"),
        ("--host", ""),
        ("--days", "0"),
        ("--days", "3000000"),
        ("--days", "4294967295"),
    ] {
        let mut init = deployment().coordinator("init");
        misused(&run(init.arg(&folder).args([flag, value])), flag);
    }
    for (flag, value) in [
        ("--batch", "0"),
        ("--epochs", "0"),
        ("--learning-rate", "-1"),
        ("--learning-rate", "nan"),
    ] {
        let mut teacher = deployment().coordinator("teacher");
        misused(&run(teacher.args(["train", flag, value])), flag);
    }
    for (classes, part) in [
        ("a,a", "\"a\" stands twice"),
        ("a,,b", "no name"),
        ("a", "two"),
    ] {
        let mut init = deployment().coordinator("init");
        let ended = run(init.arg(&folder).args(["--classes", classes]));
        refused(&ended, 2, &["classes", part]);
    }
    let mut cert = deployment().coordinator("client-cert");
    misused(&run(cert.args(["ward-7", "--days", "3000000"])), "--days");
    assert!(!folder.exists());
}

#[test]
fn a_reader_that_has_seen_enough() {
    let folder = deployment().path("piped");
    let mut init = deployment().coordinator("init");
    let mut child = init
        .arg(&folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && told.is_empty(), "{told}");
}

/// What the argument parser says takes more than a line.
#[track_caller]
fn misused(ended: &Ended, flag: &str) {
    assert_eq!(ended.code, Some(2), "{}", ended.told);
    assert!(ended.told.contains(flag), "{}", ended.told);
}

#[test]
fn a_client_of_another_root_is_told_so_and_so_is_its_user() {
    let own = Deployment::new(1, 1, "[round]\nleast = 1\n");
    let (_coordinator, address) = own.start("127.0.0.1:0");
    let other = Authority::create("clinic".parse().unwrap()).unwrap();
    let bundle = other
        .client(&"client-0".parse().unwrap(), Validity::days(1))
        .unwrap();
    fs::remove_file(own.path("client-0.pem")).unwrap();
    write_new(&own.path("client-0.pem"), &bundle, true).unwrap();
    let mut client: Running = own.join(0, &address);
    let line = client.wait_for("next try in");
    assert!(line.contains("certificate"), "{line}");
}

#[test]
fn a_state_folder_in_use() {
    let own = Deployment::new(1, 1, "[round]\nleast = 1\nopen-with = 2\n");
    let (_coordinator, address) = own.start("127.0.0.1:0");
    let mut client = own.join(0, &address);
    client.wait_for("in federation clinic");
    let parts = ["state-0", "in use by another process"];
    refused(&own.join(0, &address).end(), 3, &parts);
    let mut second = own.coordinator("run");
    let ended = run(second.arg("--config").arg(own.coordinator_config()));
    refused(&ended, 3, &["state", "in use by another process"]);
}

#[test]
fn classes_that_differ() {
    let own = Deployment::new(1, 1, "[round]\nleast = 1\n");
    let (_coordinator, address) = own.start("127.0.0.1:0");
    let config = own.client_config(0);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"9\"", "\"boot\"")).unwrap();
    let ended = own.join(0, &address).end();
    refused(&ended, 6, &["classes", "boot", "same order"]);
}

#[test]
fn an_occupied_port() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = coordinator("port", |text| text.replace("127.0.0.1:0", &address));
    refused(&ended, 5, &["cannot listen on", &address, "choose another"]);
}

#[test]
fn fewer_clients_than_the_quorum() {
    let ended = coordinator("lonely", |text| text);
    refused(&ended, 7, &["0 of the 1 clients", "round.least"]);
}
