use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use fedistill_learning::{Architecture, Dataset};
use fedistill_program::config::Packing;
use fedistill_simulator::config::Config;
use fedistill_simulator::{
    Experiment, Measure, OverClients, Partition, Progress, RoundRow, TeacherSource, Transport,
    experiment,
};
use tokio::runtime::Runtime;

use super::Figures;
use crate::{cut_data, fixture};

/// Data, seeds and a size; each federation is run once, however many relations ask for it.
pub struct Lab {
    /// The whole data set.
    source: PathBuf,
    /// The part of it that federations have.
    data: tempfile::TempDir,
    seeds: Vec<u64>,
    threads: usize,
    quick: bool,
    runtime: Runtime,
    known: Mutex<BTreeMap<String, Arc<OnceLock<Runs>>>>,
}

/// One federation for each seed.
#[derive(Clone, Debug)]
pub struct Runs(Arc<Vec<Experiment>>);

impl Lab {
    /// The fixture, cut small: seconds a federation. One for all tests of a process.
    pub fn quick() -> &'static Self {
        static ONE: OnceLock<Lab> = OnceLock::new();
        ONE.get_or_init(|| Self::new(fixture(), true, 3, 2))
    }

    /// A whole data set at the size of the calibration: 5,000 private samples of 10 clients, 4,000
    /// public ones, 5,000 to test on.
    pub fn full(source: PathBuf, seeds: u64, threads: usize) -> Self {
        Self::new(source, false, seeds, threads)
    }

    fn new(source: PathBuf, quick: bool, seeds: u64, threads: usize) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (train, test) = if quick { (4500, 1000) } else { (9000, 5000) };
        cut_data(&source, data.path(), train, test);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build();
        Self {
            source,
            data,
            seeds: (1..=seeds).collect(),
            threads,
            quick,
            runtime: runtime.unwrap(),
            known: Mutex::default(),
        }
    }

    /// Whether it is of handwritten digits, of which papers tell figures.
    pub fn is_digits(&self) -> bool {
        self.source.file_name().is_some_and(|name| name == "mnist")
    }

    /// Whether all is small.
    pub fn is_quick(&self) -> bool {
        self.quick
    }

    /// Whether it is a whole data set of other things than digits: rules were measured on those.
    pub fn is_beyond_digits(&self) -> bool {
        !self.quick && !self.is_digits()
    }

    /// The one at the small size, the other at the full one.
    pub fn sized<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The seeds.
    pub fn seeds(&self) -> &[u64] {
        &self.seeds
    }

    /// Another lab on the same data, of which federations have so many training samples.
    pub fn with_samples(&self, train: usize) -> Self {
        let seeds = self.seeds.len() as u64;
        let other = Self::new(self.source.clone(), self.quick, seeds, self.threads);
        let test = self.sized(1000, 5000);
        cut_data(&self.source, other.data.path(), train, test);
        other
    }

    /// All training and test samples of the source.
    pub fn whole(&self) -> (Dataset, Dataset) {
        Dataset::mnist(&self.source).unwrap()
    }

    /// What all federations have in common, where a relation does not say otherwise: ten clients with
    /// small nets of their own, a server's model of the same kind that begins untrained, f32 on the wire.
    pub fn base(&self) -> Config {
        Config {
            data: self.data.path().to_string_lossy().into_owned(),
            clients: 10,
            rounds: self.sized(12, 15),
            partition: Partition::Iid,
            teacher: TeacherSource::Untrained,
            transport: Transport::Memory,
            threads: self.threads,
            models: vec![Architecture::MlpS],
            teacher_model: Architecture::MlpS,
            public: 4.0 / 9.0,
            samples: 1000,
            packing: Some(Packing::F32),
            private_epochs: 3,
            distillation_epochs: 3,
            batch: 50,
            baselines: false,
            ..Config::default()
        }
    }

    /// The base with this method on this partition.
    pub fn federation(&self, method: &str, partition: Partition) -> Runs {
        self.run(&Config {
            method: method.to_owned(),
            partition,
            ..self.base()
        })
    }

    /// Runs such a federation for each seed, or recalls what it came to.
    pub fn run(&self, config: &Config) -> Runs {
        let key = serde_json::to_string(config).unwrap();
        let place = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(key).or_default())
        };
        place.get_or_init(|| self.run_anew(config)).clone()
    }

    fn run_anew(&self, config: &Config) -> Runs {
        let all = self.seeds.iter().map(|&seed| {
            let config = Config {
                seed,
                ..config.clone()
            };
            let run = experiment::run(&config, None, |_, _| Progress::silent());
            let done = self.runtime.block_on(run);
            done.unwrap_or_else(|error| panic!("{}: {error}", config.method))
        });
        let runs = Runs(Arc::new(all.collect()));
        if !self.quick {
            let Config {
                method, partition, ..
            } = config;
            let seconds: f64 = runs.0.iter().map(|run| run.seconds).sum();
            eprintln!("{method} {partition}: {seconds:.0} s");
        }
        runs
    }
}

impl Runs {
    /// A figure of each seed's federation.
    pub fn each(&self, figure: impl Fn(&Experiment) -> f64) -> Figures {
        self.0.iter().map(figure).collect()
    }

    /// Accuracy of the server's model at the end, in percent of the test samples.
    pub fn server(&self) -> Figures {
        self.each(|run| {
            100.0
                * run
                    .federated
                    .server_after
                    .map_or(f64::NAN, |server| server.on_test.share())
        })
    }

    /// Mean accuracy of the clients' models at the end, in percent; of averaged parameters, that of the
    /// model that all have.
    pub fn students(&self) -> Figures {
        self.each(|run| {
            let clients = &run.federated.clients;
            let all = OverClients::of(clients.iter().map(|client| client.on_test));
            all.map_or(f64::NAN, |all| 100.0 * all.mean.share())
        })
    }

    /// Mean personal accuracy of the clients' models at the end, in percent.
    pub fn personal(&self) -> Figures {
        self.each(|run| {
            let clients = &run.federated.clients;
            let all = OverClients::of(clients.iter().filter_map(|client| client.on_own));
            all.map_or(f64::NAN, |all| 100.0 * all.mean.share())
        })
    }

    /// Bytes up of a client in a round, with all frames and headers: the mean over clients.
    pub fn up(&self, round: usize) -> Figures {
        self.each(|run| mean(&row(run, round).up))
    }

    /// Bytes down to a client in a round.
    pub fn down(&self, round: usize) -> Figures {
        self.each(|run| mean(&row(run, round).down))
    }

    /// Values of answers up of a client in a round, 4 bytes each: what papers count.
    pub fn raw_up(&self, round: usize) -> Figures {
        self.each(|run| mean(&row(run, round).ledger.up.raw))
    }

    /// Values of answers that come down to a client in a round, 4 bytes each.
    pub fn raw_down(&self, round: usize) -> Figures {
        self.each(|run| mean(&row(run, round).ledger.down.raw))
    }

    /// Of bytes up, what answers take, packed.
    pub fn packed_up(&self, round: usize) -> Figures {
        self.each(|run| mean(&row(run, round).ledger.up.packed))
    }

    /// What answers take that come down to a client in a round, packed.
    pub fn packed_down(&self, round: usize) -> Figures {
        self.each(|run| mean(&row(run, round).ledger.down.packed))
    }

    /// Bytes up of a client in all rounds.
    pub fn up_in_all(&self) -> Figures {
        self.each(|run| {
            let rounds = run.federated.rounds.iter();
            rounds.map(|row| mean(&row.up)).sum()
        })
    }

    /// What tells each seed's final students from others.
    pub fn digests(&self) -> Vec<&str> {
        let all = self.0.iter().map(|run| run.federated.digest.as_str());
        all.collect()
    }

    /// Parameters of a client's model.
    pub fn parameters(&self) -> f64 {
        self.0[0].federated.parameters[0] as f64
    }
}

fn row(run: &Experiment, round: usize) -> &RoundRow {
    &run.federated.rounds[round]
}

fn mean(bytes: &[u64]) -> f64 {
    bytes.iter().sum::<u64>() as f64 / bytes.len().max(1) as f64
}

/// The folder of a data set, from what a user calls it.
pub fn find(name: &str) -> Result<PathBuf, String> {
    let known = fedistill_simulator::config::locate(name);
    known.map_err(|error| error.to_string()).and_then(|path| {
        std::path::absolute(&path).map_err(|error| format!("{}: {error}", Path::display(&path)))
    })
}
