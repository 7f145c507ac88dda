//! What the README claims of the default method, on the fixture. The first test is the default run
//! itself, the second the hardest skew; the others take minutes and print the figures:
//! `cargo test -p fedistill-tests --test claims -- --ignored --nocapture`
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harm;
mod mix;

use fedistill_simulator::config::Config;
use fedistill_simulator::{
    Accuracy, Partition, Progress, Summary, TeacherSource, Transport, experiment,
};
use fedistill_tests::fixture;

async fn run(config: Config) -> Accuracy {
    summary(config).await.accuracy
}

async fn summary(config: Config) -> Summary {
    let config = Config {
        data: fixture().to_string_lossy().into_owned(),
        transport: Transport::Memory,
        ..config
    };
    let done = experiment::run(&config, None, |_, _| Progress::silent())
        .await
        .unwrap();
    Summary::from(&done)
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
    let teacher = Config::default().teacher;
    holds_with(teacher, partition, seed, above_local, above_teacher_only).await;
}

async fn holds_with(
    teacher: TeacherSource,
    partition: Partition,
    seed: u64,
    above_local: f64,
    above_teacher_only: f64,
) {
    let accuracy = run(Config {
        teacher,
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
    holds(Partition::Dirichlet(0.3), 1, 25.0, 9.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_learns_classes_that_it_has_no_samples_of() {
    holds(Partition::Shards(2), 1, 45.0, 6.0).await;
}

/// Where naive averages end points below a good teacher and drag it down with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skewed_clients_do_a_good_teacher_no_harm() {
    holds_with(
        TeacherSource::Train(500),
        Partition::Shards(2),
        1,
        45.0,
        -0.5,
    )
    .await;
}

/// Of ten clients with two classes each, three a round: who is asked next may know nothing of what a teacher was measured by, so
/// it weighs more than what those who were asked say (1.4).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_rounds_ask_others_a_teacher_is_held_on_to() {
    let summary = summary(Config {
        teacher: TeacherSource::Train(500),
        partition: Partition::Shards(2),
        per_round: Some(3),
        rounds: 5,
        ..Config::default()
    })
    .await;
    let weight = summary.decided["teacher weight"];
    assert!(weight > 2.0, "teacher weight {weight}");
    let (_, taught) = gains(&summary.accuracy);
    assert!(taught >= -0.5, "{taught:.1} points above teacher-only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn students_beat_their_baselines_under_any_skew() {
    for seed in 1..=3 {
        holds(Partition::Dirichlet(0.3), seed, 25.0, 5.0).await;
        holds(Partition::Dirichlet(1.0), seed, f64::NEG_INFINITY, 7.0).await;
        holds(Partition::Shards(2), seed, 45.0, 3.5).await;
    }
}

/// A sample of *no waste* where bytes are fewest: of votes, at about the same bytes, the default makes
/// no less than `vote` does, but for a point.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_votes_ours_makes_as_much_as_vote() {
    let [ours, theirs] = ["adaptive,votes=0.75", "vote"].map(|method| {
        summary(Config {
            method: method.to_owned(),
            partition: Partition::Shards(2),
            rounds: 10,
            samples: 500,
            baselines: false,
            ..Config::default()
        })
    });
    let (ours, theirs) = (ours.await, theirs.await);
    let students = [&ours, &theirs].map(|one| 100.0 * one.accuracy.students_mean);
    let bytes = [&ours, &theirs].map(|one| one.bytes.up_per_client_round);
    println!("students {students:.1?}, bytes up a client and round {bytes:.0?}");
    assert!(students[0] >= students[1] - 1.0, "{students:.1?}");
    // Votes corrected for a client's own label frequencies differ more, and so take some more bytes.
    assert!(bytes[0] <= 1.2 * bytes[1], "{bytes:.0?}");
}

/// A sample of *no waste* where no teacher speaks and each client's net has seen one class alone: what it says of samples
/// of others is worth nothing, and `selective` leaves it out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_class_a_client_ours_makes_as_much_as_who_is_silent_about_the_rest() {
    let [ours, theirs] = ["adaptive", "selective"].map(|method| {
        run(Config {
            method: method.to_owned(),
            partition: Partition::Classes(1),
            teacher: TeacherSource::None,
            rounds: 10,
            samples: 500,
            baselines: false,
            ..Config::default()
        })
    });
    let students = [ours.await, theirs.await].map(|one| 100.0 * one.students_mean);
    println!("students {students:.1?}");
    assert!(students[0] >= students[1] - 1.0, "{students:.1?}");
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
