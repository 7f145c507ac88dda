//! Simulated federations: the same to the bit whatever carries the bytes, and payloads that do not
//! know the model.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use fedistill_learning::Architecture;
use fedistill_program::config::{Packing, Steps};
use fedistill_protocol::{AnswerKind, Answers, Precision};
use fedistill_simulator::config::Config;
use fedistill_simulator::{
    Experiment, Measure, Partition, Progress, RoundRow, Summary, TeacherSource, Transport,
    experiment, output,
};
use fedistill_tests::small_data;

fn small(folder: &Path) -> Config {
    let data = folder.join("data");
    small_data(&data, 1000, 200);
    Config {
        data: data.to_string_lossy().into_owned(),
        clients: 4,
        rounds: 3,
        partition: Partition::Dirichlet(0.5),
        teacher: TeacherSource::Train(50),
        samples: 200,
        baselines: false,
        transport: Transport::Memory,
        ..Config::default()
    }
}

async fn run(config: &Config) -> Experiment {
    experiment::run(config, None, |_, _| Progress::silent())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_seed_gives_one_result_over_any_transport_and_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let config = small(folder.path());
    let mut digests = Vec::new();
    for transport in [Transport::Memory, Transport::Quic] {
        for threads in [1, 2] {
            let done = run(&Config {
                transport,
                threads,
                ..config.clone()
            })
            .await;
            assert_eq!(
                done.federated.network.is_some(),
                transport == Transport::Quic
            );
            digests.push(done.federated.digest);
        }
    }
    // Students in a file are what they are in memory.
    for threads in [1, 2] {
        let done = run(&Config {
            threads,
            memory_budget_mb: 0,
            out: folder.path().join("out"),
            ..config.clone()
        })
        .await;
        digests.push(done.federated.digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
    let other = run(&Config { seed: 2, ..config }).await;
    assert_ne!(other.federated.digest, digests[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temperature_and_smoothed_labels_change_what_is_learnt() {
    let folder = tempfile::tempdir().unwrap();
    for (method, distils) in [
        ("ds-fl", true),
        ("feddf,steps=100", true),
        ("fedavg", false),
    ] {
        let config = Config {
            method: method.to_owned(),
            rounds: 2,
            clients: 2,
            ..small(folder.path())
        };
        let digest = async |config| run(&config).await.federated.digest;
        let usual = digest(config.clone()).await;
        let warm = Config {
            distillation_temperature: 4.0,
            ..config.clone()
        };
        assert_eq!(digest(warm).await != usual, distils, "{method}");
        let smooth = Config {
            label_smoothing: 0.2,
            ..config
        };
        assert_ne!(digest(smooth).await, usual, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_teacher_that_knows_nothing_learns_what_the_federation_comes_to() {
    let folder = tempfile::tempdir().unwrap();
    let with = |method: &str, teacher| Config {
        method: method.to_owned(),
        rounds: 6,
        teacher,
        partition: Partition::Iid,
        ..small(folder.path())
    };
    let server = run(&with("ds-fl:sa", TeacherSource::Untrained)).await;
    let accuracy = Summary::from(&server).accuracy;
    assert_eq!(accuracy.teacher_before, None);
    assert!(accuracy.teacher_after.unwrap() > 0.4, "{accuracy:?}");
    // Nothing is there to agree with before it has learnt.
    let agreements = server.federated.rounds.iter().map(|row| row.agreement);
    let agreements: Vec<bool> = agreements.map(|agreement| agreement.is_some()).collect();
    assert_eq!(agreements, [false, true, true, true, true, true, false]);
    // It has no vote, so students are what they are without it.
    for method in ["ds-fl:sa", "logit-mean"] {
        let without = run(&with(method, TeacherSource::None)).await;
        let beside = run(&with(method, TeacherSource::Untrained)).await;
        assert_eq!(
            without.federated.digest, beside.federated.digest,
            "{method}"
        );
        assert_eq!(without.federated.server_after, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liars_spoil_a_mean_and_no_median() {
    let folder = tempfile::tempdir().unwrap();
    let come_to = async |method: &str, byzantine: Option<&str>| {
        let config = Config {
            method: method.to_owned(),
            clients: 5,
            rounds: 6,
            teacher: TeacherSource::Untrained,
            partition: Partition::Iid,
            byzantine: byzantine.map(|lies| lies.parse().unwrap()),
            ..small(folder.path())
        };
        let done = run(&config).await;
        (done.federated.server_after.unwrap().on_test.share(), done)
    };
    let (clean, _) = come_to("ds-fl:sa", None).await;
    let (spoilt, done) = come_to("ds-fl:sa", Some("2:lma")).await;
    let (saved, _) = come_to("ds-fl:sa,robust=median", Some("2:lma")).await;
    assert!(spoilt < clean - 0.05, "{clean} to {spoilt}");
    assert!(saved > clean - 0.05, "{clean} to {saved}");
    let told = fedistill_simulator::table(&done);
    assert!(told.contains("2 OF THEM LIE (lma)"), "{told}");
    // Who knows what the honest say spoils at least as much, whoever of them has spoken first.
    let (fooled, done) = come_to("ds-fl:sa", Some("2:lma:knowing")).await;
    assert!(fooled < clean - 0.05, "{clean} to {fooled}");
    let one = Config {
        threads: 1,
        ..done.config.clone()
    };
    let again = experiment::run(&one, None, |_, _| Progress::silent());
    assert_eq!(again.await.unwrap().federated.digest, done.federated.digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_do_not_know_the_model() {
    let folder = tempfile::tempdir().unwrap();
    // All speak of all, so that what is said has a bound that it comes near.
    let config = Config {
        method: "adaptive,near=1".to_owned(),
        clients: 2,
        rounds: 2,
        ..small(folder.path())
    };
    let most = |precision| Answers::most_bytes(AnswerKind::Logits, config.samples, 10, precision);
    for model in [Architecture::MlpS, Architecture::ConvL] {
        for (packing, bound) in [
            (config.packing, most(Precision::U8)),
            (Some(Packing::F16), most(Precision::F16)),
        ] {
            let config = Config {
                models: vec![model],
                packing,
                ..config.clone()
            };
            let done = run(&config).await;
            for row in &done.federated.rounds[..2] {
                let up = &row.ledger.up;
                assert_eq!(up.raw, [4 * 200 * 10; 2]);
                // What is said is coded, so it is near the bound of its shape and not at it.
                let near = |bytes: &u64| (bound / 2..=bound).contains(bytes);
                assert!(up.packed.iter().all(near), "{model}: {up:?}, {bound}");
                assert!(row.up.iter().all(|&bytes| bytes > 0));
            }
            let summary = Summary::from(&done);
            let parameters = done.federated.parameters[0];
            let fedavg = summary.bytes.fedavg_per_client_round;
            assert_eq!(fedavg as usize, 4 * parameters);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_asks_as_many_as_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        clients: 60,
        per_round: Some(5),
        models: vec![Architecture::MlpS, Architecture::ConvS],
        baselines: true,
        ..small(folder.path())
    };
    let done = run(&config).await;
    let mut digests = vec![done.federated.digest.clone()];
    let (closing, rounds) = done.federated.rounds.split_last().unwrap();
    for row in rounds {
        let clients = row.clients.as_ref().unwrap();
        assert_eq!(
            (clients.len(), row.clients_on_test.len(), row.up.len()),
            (5, 5, 5)
        );
        let shares = row.clients_on_test.iter().map(|client| client.share());
        assert!(shares.clone().all(|share| (0.0..=1.0).contains(&share)));
        assert_eq!(row.clients_on_own.len(), 5);
    }
    let first = |row: usize| done.federated.rounds[row].clients.clone();
    assert_ne!(first(0), first(1));
    // What the last round came to is for everyone, and so is what is said at the end.
    assert_eq!((&closing.clients, closing.up.len()), (&None, 60));
    assert_eq!(done.federated.parameters.len(), 60);
    assert_eq!(done.federated.clients.len(), 60);
    // Where none follows, each model is as its client has left it.
    let alone = done.local.as_ref().unwrap();
    let mut last = BTreeMap::new();
    for row in &alone.rounds {
        let clients = row.clients.as_ref().unwrap();
        last.extend(clients.iter().zip(&row.clients_on_test));
    }
    let at_the_end = alone.clients.iter().map(|client| client.on_test);
    assert!(at_the_end.eq(last.into_values().copied()));
    let out = folder.path().join("out");
    output::prepare(&out).unwrap();
    output::write(&done, &out).unwrap();
    for (threads, memory_budget_mb) in [(1, 512), (3, 0)] {
        let done = run(&Config {
            threads,
            memory_budget_mb,
            baselines: false,
            out: out.clone(),
            ..config.clone()
        })
        .await;
        digests.push(done.federated.digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn averaged_parameters_learn_the_same_with_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    for method in ["fedavg", "feddf,steps=100"] {
        let config = Config {
            method: method.to_owned(),
            per_round: Some(3),
            rounds: 8,
            ..small(folder.path())
        };
        let mut digests = Vec::new();
        let mut rounds = Vec::new();
        for threads in [1, 3] {
            let done = run(&Config {
                threads,
                ..config.clone()
            })
            .await;
            let parameters = done.federated.parameters[0] as u64;
            for row in &done.federated.rounds {
                assert_eq!((&row.up, &row.down), (&vec![4 * parameters; 3], &row.up));
                assert_eq!(
                    (&row.ledger.up.packed, &row.ledger.up.raw),
                    (&row.up, &row.up)
                );
                assert_eq!(row.ledger.fedavg, vec![8 * parameters; 3]);
            }
            let everyone = &done.federated.clients;
            assert_eq!(everyone.len(), config.clients);
            let accuracy = everyone[0].on_test.share();
            assert!(accuracy > 0.3, "{method} reaches {accuracy}");
            digests.push(done.federated.digest);
            rounds.push(done.federated.rounds);
        }
        assert_eq!(digests[0], digests[1]);
        assert_eq!(rounds[0], rounds[1]);
    }
}

/// Under skew the measures are far apart, and a student that learnt alone is worth most to its own
/// client; what is held out for that is never learnt from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_model_knows_and_what_it_is_worth_to_its_client_are_two_things() {
    let folder = tempfile::tempdir().unwrap();
    let mut digests = Vec::new();
    for personal_held_out in [0.0, 0.2] {
        for method in ["local", "fedavg"] {
            let config = Config {
                method: method.to_owned(),
                partition: Partition::Shards(2),
                clients: 5,
                rounds: 8,
                personal_held_out,
                ..small(folder.path())
            };
            let done = run(&config).await;
            let metrics = Summary::from(&done).metrics.federated;
            let (test, own) = (
                metrics.clients_on_test.unwrap(),
                metrics.clients_on_own.unwrap(),
            );
            let (mean, personal) = (test.mean.share(), own.mean.share());
            assert!(own.worst_decile <= own.mean && own.std > 0.0, "{own:?}");
            match method {
                // Each knows two of ten classes, and sees no other.
                "local" => assert!(personal > mean + 0.4, "{personal} and {mean}"),
                // One model for all: to some it is worth more than to others.
                _ => {
                    assert_eq!(test.std, 0.0);
                    let server = metrics.server_on_test.unwrap();
                    assert_eq!(server.share(), mean);
                }
            }
            for row in &done.federated.rounds {
                assert_eq!(
                    (row.clients_on_test.len(), row.clients_on_own.len()),
                    (5, 5)
                );
                assert!(row.clients_on_own.iter().all(Option::is_some));
            }
            digests.push(done.federated.digest);
        }
    }
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 4, "what is held out is learnt from");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        baselines: true,
        models: vec![Architecture::MlpS, Architecture::ConvS],
        ..small(folder.path())
    };
    let done = run(&config).await;
    let out = folder.path().join("out");
    output::prepare(&out).unwrap();
    output::write(&done, &out).unwrap();
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap();
    for key in [
        "/accuracy/teacher_before",
        "/accuracy/teacher_after",
        "/accuracy/local_mean",
        "/accuracy/teacher_only_mean",
        "/accuracy/students_mean",
        "/accuracy/students_min",
        "/accuracy/pooled",
        "/metrics/federated/server_on_test",
        "/metrics/federated/clients_on_test/mean",
        "/metrics/federated/clients_on_own/mean",
        "/metrics/federated/clients_on_own/std",
        "/metrics/federated/clients_on_own/worst_decile",
        "/metrics/local/clients_on_own/mean",
        "/metrics/teacher_only/clients_on_own/mean",
        "/bytes/up_per_client_round",
        "/bytes/down_per_client_round",
        "/bytes/fedavg_per_client_round",
        "/seconds/total",
        "/seed",
    ] {
        let value = summary.pointer(key).and_then(serde_json::Value::as_f64);
        assert!(value.is_some_and(f64::is_finite), "{key} in {summary}");
    }
    assert!(summary.pointer("/bytes/quic_total").unwrap().is_null());
    assert_eq!(
        summary.pointer("/digest").unwrap().as_str().unwrap().len(),
        64
    );
    let read: Summary = serde_json::from_value(summary).unwrap();
    assert_eq!(read.config, config);
    let rounds = std::fs::read_to_string(out.join("rounds.jsonl")).unwrap();
    let rounds: Vec<RoundRow> = rounds
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rounds.len(), 4, "three rounds and the closing one");
    assert_eq!(rounds, done.federated.rounds);
    assert!(rounds.iter().all(|row| row.seconds > 0.0));
    let seconds: f64 = rounds.iter().map(|row| row.seconds).sum();
    assert!(seconds <= done.federated.seconds);
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert_eq!(report.matches("<svg").count(), 3);
    for outside in ["<script", "<link", "src=", "href="] {
        assert!(!report.contains(outside), "the report needs {outside}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn students_that_diverge_end_the_run_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        steps: Steps::Sgd {
            learning_rate: 1e30,
            momentum: 0.0,
        },
        ..small(folder.path())
    };
    let error = experiment::run(&config, None, |_, _| Progress::silent()).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("client-") && error.contains("lower the learning rate"),
        "{error}"
    );
}
