use clap::Parser;
use fedistill_protocol::Precision;

use super::*;

#[test]
fn flags_come_before_the_file_and_the_file_before_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    std::fs::write(folder.path().join("t.safetensors"), "").unwrap();
    let text = "clients = 4\nrounds = 7\npartition = \"shards:2\"\nteacher = \"t.safetensors\"";
    std::fs::write(&path, text).unwrap();
    let args = ["x", "--config", path.to_str().unwrap(), "--rounds", "9"];
    let config = Config::from_args(Args::parse_from(args)).unwrap();
    assert_eq!((config.clients, config.rounds), (4, 9));
    assert_eq!(config.partition, Partition::Shards(2));
    let teacher = TeacherSource::File(folder.path().join("t.safetensors"));
    assert_eq!(config.teacher, teacher);
    assert_eq!(config.data, Config::default().data);
}

#[test]
fn a_teacher_that_is_not_there_is_told_with_what_to_write_instead() {
    let args = Args::parse_from(["x", "--teacher", "train=100"]);
    let error = Config::from_args(args).unwrap_err().to_string();
    assert!(
        error.ends_with("train=100\": write none, untrained, train:N or the path of a file"),
        "{error}"
    );
}

#[test]
fn without_a_word_the_method_says_how_answers_are_packed() {
    let precision = |config: &Config, method| config.plan(method).unwrap().precision;
    let silent = Config::default();
    assert_eq!(precision(&silent, "adaptive"), Precision::U8);
    assert_eq!(precision(&silent, "ds-fl"), Precision::F16);
    // As a run's results, or its journal, tell of it.
    let told = serde_json::to_string(&silent).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&told).unwrap(), silent);
    let said = Config {
        packing: Some(Packing::F16),
        ..silent.clone()
    };
    assert_eq!(precision(&said, "adaptive"), Precision::F16);
    let told = serde_json::to_string(&said).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&told).unwrap(), said);
    assert_eq!(said.differs_from(&silent).as_deref(), Some("packing"));
}

#[test]
fn what_the_program_says_tells_a_run_from_others() {
    let world = Digest::of(b"world");
    let begins = |method: &str, packing| {
        let config = Config {
            method: method.to_owned(),
            packing,
            ..Config::default()
        };
        config.beginning(world).unwrap()
    };
    let [ours, theirs] = ["adaptive", "ds-fl"].map(|method| begins(method, None));
    assert!(ours != theirs && ours != world && theirs != world);
    assert_eq!(begins("logit-mean", None), theirs);
    // What the user says is in the settings themselves; parameters cross as they are.
    assert_eq!(begins("adaptive", Some(Packing::F16)), world);
    assert_eq!(begins("fedavg", None), world);
}

#[test]
fn only_fused_models_set_labelled_samples_apart() {
    let labelled = |method: &str, teacher| {
        let config = Config {
            method: method.to_owned(),
            teacher,
            ..Config::default()
        };
        config.sizes().labelled
    };
    let nobody = || TeacherSource::None;
    assert_eq!(labelled("feddf", nobody()), 200);
    assert_eq!(labelled("feddf,validation=50", nobody()), 50);
    assert_eq!(
        labelled("feddf,validation=50", TeacherSource::Train(30)),
        30
    );
    assert_eq!(labelled("fedavg", nobody()), 0);
    assert_eq!(labelled("adaptive", nobody()), 0);
}

#[test]
fn the_help_names_every_net() {
    use clap::CommandFactory;
    let help = Args::command().render_long_help().to_string();
    for (name, _) in Architecture::ALL {
        assert!(help.contains(name), "{name}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (args, part) in [
        (["x", "--clients", "0"], "clients must be"),
        (["x", "--rounds", "0"], "rounds must be"),
        (["x", "--method", "fedprox"], "choose adaptive"),
        (["x", "--threads", "0"], "threads"),
        (["x", "--byzantine", "11:lma"], "no more liars than"),
        (
            ["x", "--byzantine=4:lma:knowing", "--per-round=5"],
            "wait for all others",
        ),
        (["x", "--threads", "1025"], "threads must be 1 to 1024"),
        (["x", "--threads", "18446744073709551615"], "threads"),
    ] {
        let error = Config::from_args(Args::parse_from(args)).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    for (text, part) in [
        ("threads = 100000", "threads must be"),
        ("personal-held-out = 1.0", "personal-held-out must be 0"),
        ("personal-held-out = nan", "personal-held-out must be 0"),
        ("batch = 0", "batch is 0: write"),
        (
            "distillation-temperature = 0",
            "distillation-temperature is 0:",
        ),
        ("label-smoothing = 1.5", "label-smoothing is 1.5:"),
        (
            "distillation-temperature = 2\nmethod = \"fedmd\"",
            "distillation-temperature changes nothing with fedmd",
        ),
        (
            "distillation-temperature = 2\nmethod = \"fedavg\"",
            "distillation-temperature changes nothing with fedavg",
        ),
        (
            "steps = { sgd = { learning-rate = -1 } }",
            "learning-rate is -1",
        ),
        (
            "steps = { adamw = { learning-rate = nan } }",
            "learning-rate is NaN",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        let args = Args::parse_from(["x", "--config", path.to_str().unwrap()]);
        let error = Config::from_args(args).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    for (method, part) in [
        (
            "feddf,stps=5",
            "no parameter \"stps\": there are rate, batch",
        ),
        ("feddf,steps=0", "method feddf: steps is \"0\""),
        ("fedavg,rate=1", "method fedavg: it has no parameters"),
        (
            "adaptive,votes=0.5,tolerance=1",
            "tolerance changes nothing",
        ),
    ] {
        let error = Config::from_args(Args::parse_from(["x", "--method", method])).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let mixed = ["x", "--method", "feddf,steps=5", "--models", "mlp-s,conv-s"];
    let error = Config::from_args(Args::parse_from(mixed)).unwrap_err();
    assert!(error.to_string().contains("one model"), "{error}");
    for args in [
        ["x", "--partition", "even"],
        ["x", "--models", "gpt"],
        ["x", "--teacher", "train:0"],
        ["x", "--byzantine", "4:nice"],
    ] {
        assert!(Args::try_parse_from(args).is_err(), "{args:?}");
    }
    let error = locate("nowhere").unwrap_err().to_string();
    assert!(
        error.contains("nowhere") && error.contains("fashion-mnist"),
        "{error}"
    );
}
