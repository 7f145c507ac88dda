use fedistill_federation::Training;
use fedistill_protocol::Precision;

use super::*;

fn written(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.toml");
    std::fs::write(&path, text).unwrap();
    Config::from_file(&path)
}

fn example() -> String {
    let classes = ["cat".to_owned(), "dog".to_owned()];
    template(&"clinic".parse().unwrap(), &classes)
}

#[test]
fn the_template_is_a_configuration() {
    let config = written(&example()).unwrap();
    assert_eq!(config.classes, ["cat", "dog"]);
    assert!(config.bundle.is_absolute());
    let settings = config.settings(500).unwrap();
    assert_eq!((settings.rows, settings.rounds), (500, 30));
    assert_eq!(settings.quorum.least(), 2);
}

#[test]
fn the_second_door_is_shut_unless_it_is_named() {
    let text = example();
    assert_eq!(written(&text).unwrap().fallback.tcp, None);
    let lines = "# [fallback]\n# tcp = \"0.0.0.0:443\"";
    assert!(text.contains(lines));
    let open = text.replace(lines, "[fallback]\ntcp = \"[::]:8443\"");
    let at = written(&open).unwrap().fallback.tcp.unwrap();
    assert_eq!(at, "[::]:8443".parse().unwrap());
    for (wrong, part) in [
        ("tcp = \"443\"", "socket address"),
        ("udp = 1", "unknown field `udp`"),
    ] {
        let error = written(&text.replace(lines, &format!("[fallback]\n{wrong}")));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_million_contributions_are_remembered_unless_the_file_says_otherwise() {
    let text = example();
    assert_eq!(written(&text).unwrap().history, 1_000_000);
    let less = text.replace("# history = 1000000 ", "history = 0 ");
    assert_eq!(written(&less).unwrap().history, 0);
    let wrong = text.replace("# history = 1000000 ", "history = -1 ");
    let error = written(&wrong).unwrap_err().to_string();
    assert!(error.contains("history") && error.contains("-1"), "{error}");
}

#[test]
fn training_is_as_the_file_says() {
    let usual = written(&example()).unwrap().settings(500).unwrap().training;
    assert_eq!(
        (usual.distillation_temperature, usual.label_smoothing),
        (1.0, 0.0)
    );
    let text = example()
        .replace(
            "# distillation-temperature = 1 ",
            "distillation-temperature = 4 ",
        )
        .replace("# label-smoothing = 0.1 ", "label-smoothing = 0.1 ");
    let told = written(&text).unwrap().settings(500).unwrap().training;
    let expected = Training {
        distillation_temperature: 4.0,
        label_smoothing: 0.1,
        ..usual
    };
    assert_eq!(told, expected);
}

#[test]
fn without_a_word_the_method_says_how_answers_are_packed() {
    let precision = |method: &str, packing: &str| {
        let text = example()
            .replace("method = \"adaptive\"", &format!("method = \"{method}\""))
            .replace("# packing = \"f16\" ", packing);
        written(&text).unwrap().settings(500).unwrap().precision
    };
    for (method, usual) in [
        ("adaptive", Precision::U8),
        ("adaptive,clip=5,robust=median", Precision::U8),
        ("ds-fl", Precision::F16),
        ("ds-fl:sa,robust=median", Precision::F16),
    ] {
        assert_eq!(precision(method, "# "), usual, "{method}");
        // What is said holds.
        for (packing, said) in [("f16", Precision::F16), ("u4", Precision::U4)] {
            let packing = format!("packing = \"{packing}\" ");
            assert_eq!(precision(method, &packing), said, "{method}");
        }
    }
}

#[test]
fn what_is_without_effect_is_told() {
    let lines = |from: &str, to: &str, samples: u32| {
        let config = written(&example().replace(from, to)).unwrap();
        let settings = config.settings(samples).unwrap();
        without_effect(&config, &settings, samples)
    };
    assert!(lines("", "", 1000).is_empty());
    let [cut] = &lines("", "", 500)[..] else {
        panic!("it is told once")
    };
    assert!(
        cut.starts_with("round.samples is 1000, but the transfer set has only 500"),
        "{cut}"
    );
    let packed = "# packing = \"f16\" ";
    assert!(lines(packed, "packing = \"u8\" ", 1000).is_empty());
    let method = "method = \"adaptive\"";
    assert!(lines(method, "method = \"cfd\"", 1000).is_empty());
    // Of no transfer sample.
    assert!(lines(method, "method = \"fd\"", 500).is_empty());
    let config = written(
        &example()
            .replace(method, "method = \"cfd\"")
            .replace(packed, "packing = \"f16\" "),
    )
    .unwrap();
    let settings = config.settings(1000).unwrap();
    let [line] = &without_effect(&config, &settings, 1000)[..] else {
        panic!("it is told once")
    };
    let part = "round.packing changes nothing with cfd: leave it out";
    assert!(line.starts_with(part), "{line}");
}

#[test]
fn keys_that_wait_for_another_teacher_are_told() {
    let lines = |method: &str, changes: &[(&str, &str)]| {
        let mut text = example().replace("\"adaptive\"", &format!("{method:?}"));
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let config = written(&text).unwrap();
        let settings = config.settings(1000).unwrap();
        without_effect(&config, &settings, 1000)
    };
    let method = "adaptive,trust=1,caution=2";
    let lost = |key: &str, why: &str| {
        format!("method: {key} of {method} changes nothing {why}: leave it out")
    };
    assert!(lines(method, &[]).is_empty());
    let imported = [("probes = true", "probes = false")];
    let why = "without labelled samples to measure the teacher by";
    assert_eq!(lines(method, &imported), [lost("caution", why)]);
    let untrained = [("# untrained = true", "untrained = true")];
    let why = "where the teacher begins untrained";
    let both = [lost("trust", why), lost("caution", why)];
    assert_eq!(lines(method, &untrained), both);
    assert!(lines("cfd,dual=0", &untrained).is_empty());
    // What clients train is told of under its own section.
    let longer = [
        ("private-epochs = 1", "private-epochs = 2"),
        ("distillation-epochs = 3", "distillation-epochs = 4"),
    ];
    let [line] = &lines("fd", &longer)[..] else {
        panic!("it is told once")
    };
    let part = "training.distillation-epochs changes nothing with fd: leave it out";
    assert!(line.starts_with(part), "{line}");
    assert!(lines("adaptive", &longer).is_empty());
}

#[test]
fn weights_that_a_method_makes_nothing_of_are_told() {
    let lines = |method: &str, weight: u32| {
        let mut text = example().replace("\"adaptive\"", &format!("{method:?}"));
        text.push_str(&format!("\n[weights]\nward-7 = {weight}\n"));
        let config = written(&text).unwrap();
        without_effect(&config, &config.settings(1000).unwrap(), 1000)
    };
    for method in ["fd", "comet", "logit-mean,robust=median"] {
        let [line] = &lines(method, 2)[..] else {
            panic!("it is told once")
        };
        assert!(
            line.contains(method) && line.contains("all count alike"),
            "{line}"
        );
        assert!(lines(method, 0).is_empty());
    }
    assert!(lines("logit-mean", 2).is_empty());
}

#[test]
fn a_digest_of_few_steps_is_told() {
    let lines = |method: &str, samples: u32| {
        let text = example().replace("\"adaptive\"", &format!("{method:?}"));
        let config = written(&text).unwrap();
        without_effect(&config, &config.settings(samples).unwrap(), samples)
    };
    let [line] = &lines("fedmd", 1000)[..] else {
        panic!("it is told once")
    };
    let part = "method: the digest of fedmd is ";
    assert!(line.starts_with(part), "{line}");
    assert!(lines("fedmd,digest-batch=50,digest-epochs=10", 1000).is_empty());
}

#[test]
fn contradictions_are_refused() {
    for (from, to, part) in [
        ("least = 2 ", "least = 0 ", "at least one contribution"),
        ("least-seconds = 30", "least-seconds = 601", "at least 601s"),
        (
            "most-seconds = 600",
            "most-seconds = -1",
            "round.most-seconds is -1",
        ),
        ("batch = 50", "batch = 0", "training.batch"),
        (
            "# distillation-temperature = 1 ",
            "distillation-temperature = 0 ",
            "training.distillation-temperature is 0: write",
        ),
        (
            "# label-smoothing = 0.1 ",
            "label-smoothing = 1.0 ",
            "training.label-smoothing is 1: write",
        ),
        ("rounds = 30", "rounds = 0", "rounds must be at least 1"),
        (
            "learning-rate = 0.1,",
            "learning-rate = -0.1,",
            "training.steps: learning-rate is -0.1",
        ),
        ("\"adaptive\"", "\"fedavg\"", "choose adaptive"),
        (
            "federation = \"clinic\"",
            "federation = \"The Clinic\"",
            "The Clinic",
        ),
    ] {
        let text = example();
        assert!(text.contains(from), "{from}");
        let error = written(&text.replace(from, to))
            .unwrap()
            .settings(10)
            .unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let text = example()
        .replace(
            "# distillation-temperature = 1 ",
            "distillation-temperature = 2 ",
        )
        .replace("\"adaptive\"", "\"fedmd\"");
    let error = written(&text).unwrap().settings(10).unwrap_err();
    let part = "training.distillation-temperature changes nothing with fedmd";
    assert!(error.to_string().contains(part), "{error}");
    let error = written(
        &example()
            .replace("cohort", "kohort")
            .replace("# kohort", "kohort"),
    );
    assert!(error.unwrap_err().to_string().contains("kohort"));
}
