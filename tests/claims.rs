//! What the README claims of the default method, on the fixture. The first test is the default run
//! itself, the second the hardest skew; the others take minutes and print the figures:
//! `cargo test -p fedistill-tests --test claims -- --ignored --nocapture`
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fedistill_simulator::config::Config;
use fedistill_simulator::{
    Accuracy, Partition, Progress, Summary, TeacherSource, Transport, experiment,
};
use fedistill_tests::fixture;

async fn run(config: Config) -> Accuracy {
    let config = Config {
        data: fixture().to_string_lossy().into_owned(),
        transport: Transport::Memory,
        ..config
    };
    let done = experiment::run(&config, None, |_, _| Progress::silent())
        .await
        .unwrap();
    Summary::from(&done).accuracy
}

/// Points by which students are above those that learn alone, and above those that only the teacher
/// teaches.
fn gains(accuracy: &Accuracy) -> (f64, f64) {
    let above = |other: Option<f64>| 100.0 * (accuracy.students_mean - other.unwrap());
    (
        above(accuracy.local_mean),
        above(accuracy.teacher_only_mean),
    )
}

async fn holds(partition: Partition, seed: u64, above_local: f64, above_teacher_only: f64) {
    let accuracy = run(Config {
        partition,
        seed,
        ..Config::default()
    })
    .await;
    let (local, taught) = gains(&accuracy);
    let (before, after) = (
        accuracy.teacher_before.unwrap(),
        accuracy.teacher_after.unwrap(),
    );
    println!(
        "{partition} seed {seed}: local {:.3}, teacher-only {:.3}, students {:.3} (worst {:.3}), teacher {before:.3} -> {after:.3}, pooled {:.3}",
        accuracy.local_mean.unwrap(),
        accuracy.teacher_only_mean.unwrap(),
        accuracy.students_mean,
        accuracy.students_min,
        accuracy.pooled.unwrap()
    );
    assert!(local >= above_local, "{local:.1} points above local");
    assert!(
        taught >= above_teacher_only,
        "{taught:.1} points above teacher-only"
    );
    let ahead = 100.0 * (accuracy.students_mean - before);
    assert!(
        ahead >= above_teacher_only,
        "{ahead:.1} points above the teacher as it began"
    );
    assert!(after > before, "teacher {before} -> {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_know_counts() {
    holds(Partition::Dirichlet(0.3), 1, 15.0, 3.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_learns_classes_that_it_has_no_samples_of() {
    holds(Partition::Shards(2), 1, 35.0, 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn students_beat_their_baselines_under_any_skew() {
    for seed in 1..=3 {
        holds(Partition::Dirichlet(0.3), seed, 15.0, 3.0).await;
        holds(Partition::Dirichlet(1.0), seed, f64::NEG_INFINITY, 6.0).await;
        holds(Partition::Shards(2), seed, 35.0, 2.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn without_a_teacher_logits_beat_probabilities() {
    for seed in 1..=3 {
        let students = async |method: &str| {
            let config = Config {
                partition: Partition::Shards(2),
                teacher: TeacherSource::None,
                method: method.to_owned(),
                baselines: false,
                seed,
                ..Config::default()
            };
            run(config).await.students_mean
        };
        let (logits, probabilities) = (students("logit-mean").await, students("ds-fl:sa").await);
        println!(
            "no teacher, shards:2 seed {seed}: logit-mean {logits:.3}, ds-fl:sa {probabilities:.3}"
        );
        assert!(logits >= probabilities + 0.08);
    }
}
