//! *No harm*: whatever the teacher and the skew, students are not below those that learn alone or from the teacher alone, and
//! well above them wherever those of another method are.

use fedistill_federation::method;
use fedistill_simulator::config::Config;
use fedistill_simulator::{Accuracy, Partition, TeacherSource};

use crate::run;

/// A teacher and a partition, over seeds.
struct Cell {
    config: Config,
    seeds: std::ops::RangeInclusive<u64>,
}

/// Forms of fixed methods that come further in docs/comparison.md than what their papers have.
const FURTHER: [&str; 2] = ["cfd,start=0", "fedmd,digest-batch=50,digest-epochs=10"];

/// All fixed methods: all of the catalogue in all variants, but for ours and the baselines.
fn fixed() -> impl Iterator<Item = String> {
    let ours = [method::DEFAULT, "teacher-only", "local"];
    let others = method::entries()
        .iter()
        .filter(move |entry| !ours.contains(&entry.name));
    let further = FURTHER.into_iter().map(str::to_owned);
    further.chain(others.flat_map(|entry| entry.names()))
}

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
        for method in fixed() {
            let theirs = self.students(&method).await;
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
