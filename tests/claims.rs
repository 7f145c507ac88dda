//! What the README claims of the default method, on the fixture. The first test is the default run
//! itself, the second the hardest skew; the others take minutes and print the figures:
//! `cargo test -p fedistill-tests --test claims -- --ignored --nocapture`
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fedistill_learning::Architecture;
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

/// A teacher and a partition, over seeds.
struct Cell {
    config: Config,
    seeds: std::ops::RangeInclusive<u64>,
}

/// All fixed methods that speak about samples and hear of a teacher, each in the form that came furthest in docs/comparison.md.
const FIXED: [&str; 11] = [
    "logit-mean",
    "fedntd",
    "ds-fl:era",
    "ds-fl:sa",
    "vote",
    "selective",
    "scarlet",
    "cfd,start=0",
    "comet",
    "kt-pfl",
    "fedmd,digest-batch=50,digest-epochs=10",
];

/// Half a point is left to chance.
const CHANCE: f64 = 0.5;
/// What listening is worth wherever a fixed method shows that it can be.
const GAIN: f64 = 2.0;

impl Cell {
    fn of(labels: Option<usize>, partition: Partition, rounds: u32, seeds: u64) -> Self {
        let teacher = labels.map_or(TeacherSource::None, TeacherSource::Train);
        let config = Config {
            teacher,
            partition,
            rounds,
            ..Config::default()
        };
        Self {
            config,
            seeds: 1..=seeds,
        }
    }

    /// Students of a method, in percent, over seeds.
    async fn students(&self, method: &str) -> f64 {
        let fixed = Config {
            method: method.to_owned(),
            baselines: false,
            ..self.config.clone()
        };
        self.mean(&fixed, |accuracy| accuracy.students_mean).await
    }

    /// The default's students, and the better of those that learn alone and those that hear the teacher alone.
    async fn ours(&self) -> [f64; 2] {
        let mut each = Vec::new();
        for seed in self.seeds.clone() {
            let accuracy = run(Config {
                seed,
                ..self.config.clone()
            })
            .await;
            let taught = accuracy.teacher_only_mean.unwrap_or(0.0);
            each.push([accuracy.students_mean, accuracy.local_mean.unwrap(), taught]);
        }
        let mean =
            |of: usize| 100.0 * each.iter().map(|all| all[of]).sum::<f64>() / each.len() as f64;
        let Config {
            teacher, partition, ..
        } = &self.config;
        println!(
            "{teacher}, {partition}: local {:.1}, teacher-only {:.1}, students {:.1}",
            mean(1),
            mean(2),
            mean(0)
        );
        [mean(0), mean(1).max(mean(2))]
    }

    async fn mean(&self, config: &Config, of: impl Fn(&Accuracy) -> f64) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for seed in self.seeds.clone() {
            let one = run(Config {
                seed,
                ..config.clone()
            });
            sum += 100.0 * of(&one.await);
            count += 1.0;
        }
        sum / count
    }

    /// Students are not below the better baseline, and well above it wherever those of a fixed method are.
    async fn holds(&self) {
        let [ours, baseline] = self.ours().await;
        assert!(ours >= baseline - CHANCE, "{ours:.1} beside {baseline:.1}");
        if ours >= baseline + GAIN {
            return;
        }
        for method in FIXED {
            let theirs = self.students(method).await;
            println!("    {method} {theirs:.1}");
            assert!(
                theirs < baseline + GAIN,
                "{method} {theirs:.1}, ours {ours:.1}, without either {baseline:.1}"
            );
        }
    }
}

/// A sample of the law below, in a cell where a fixed method is well above both baselines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_listening_helps_others_it_helps_ours() {
    let cell = Cell::of(None, Partition::Iid, 15, 1);
    let [ours, baseline] = cell.ours().await;
    let theirs = cell.students("logit-mean").await;
    assert!(
        theirs >= baseline + GAIN,
        "{theirs:.1} beside {baseline:.1}"
    );
    assert!(ours >= baseline + GAIN, "{ours:.1} beside {baseline:.1}");
}

/// A sample of the law where rounds speak about few samples, of which students bring back less than private training takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_samples_a_round_do_a_good_teacher_no_harm() {
    let mut cell = Cell::of(Some(500), Partition::Shards(2), Config::default().rounds, 1);
    cell.config.samples = 100;
    let [ours, baseline] = cell.ours().await;
    assert!(ours >= baseline - CHANCE, "{ours:.1} beside {baseline:.1}");
}

/// A sample of the law where the federation ends before the teacher is measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_rounds_do_a_good_teacher_no_harm() {
    let cell = Cell::of(Some(500), Partition::Dirichlet(0.1), 3, 1);
    let [ours, baseline] = cell.ours().await;
    assert!(ours >= baseline - CHANCE, "{ours:.1} beside {baseline:.1}");
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

/// Nets that differ in size and in kind, dealt out in turn.
const MIX: [Architecture; 3] = [Architecture::MlpS, Architecture::MlpM, Architecture::ConvS];

/// Points that a mix of nets may lose.
const MIXED: f64 = 2.0;

/// By how many points students of a mix of nets are below what they would come to among equals, weighed by how many
/// clients have which net: the mean over seeds.
async fn a_mix_loses(rounds: u32, seeds: u64) -> f64 {
    let config = Config {
        rounds,
        baselines: false,
        ..Config::default()
    };
    let students = async |models: &[Architecture], seed: u64| {
        let done = run(Config {
            models: models.to_vec(),
            seed,
            ..config.clone()
        });
        100.0 * done.await.students_mean
    };
    let mut lost = 0.0;
    for seed in 1..=seeds {
        let mixed = students(&MIX, seed).await;
        let mut equals = 0.0;
        for (place, net) in MIX.iter().enumerate() {
            let theirs = students(&[*net], seed).await;
            let clients = (place..config.clients).step_by(MIX.len()).count();
            println!(
                "seed {seed}: {clients} clients, of {net} alone {theirs:.1}, of the mix {mixed:.1}"
            );
            equals += theirs * clients as f64 / config.clients as f64;
        }
        lost += (equals - mixed) / seeds as f64;
    }
    println!("{rounds} rounds: {lost:.2} points are lost");
    lost
}

/// A sample of the law below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn students_of_different_nets_lose_little_soon() {
    let lost = a_mix_loses(4, 1).await;
    assert!(lost <= MIXED, "{lost:.2} points");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn students_of_different_nets_lose_little() {
    let lost = a_mix_loses(Config::default().rounds, 3).await;
    assert!(lost <= MIXED, "{lost:.2} points");
}

/// The table of docs/comparison.md, as a law.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes an hour"]
async fn whatever_the_teacher_and_the_skew_listening_does_no_harm() {
    use Partition::{Dirichlet, Iid, Shards};
    let partitions = [
        Iid,
        Dirichlet(1.0),
        Dirichlet(0.3),
        Dirichlet(0.1),
        Shards(2),
    ];
    for labels in [None, Some(100), Some(500), Some(2000)] {
        for partition in partitions {
            Cell::of(labels, partition, Config::default().rounds, 3)
                .holds()
                .await;
        }
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
