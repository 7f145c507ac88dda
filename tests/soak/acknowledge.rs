//! What it costs that nothing is acknowledged before it is on disk: clients that answer at once, over QUIC on
//! loopback, of a coordinator whose store is a file and of one whose store is memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fedistill_client::{Client, Event, Policy, Student, StudentError};
use fedistill_coordinator::{Coordinator, FileStore, MemoryStore, Settings, Store};
use fedistill_federation::{Late, Missed, Quorum, Training, method};
use fedistill_learning::{Dataset, Objective, Samples};
use fedistill_protocol::{Elements, Name, Optimiser, Precision, RoundId, Rounding, Start};
use fedistill_transport::identity::{Authority, Identity, Validity};
use fedistill_transport::quic::{Limits, QuicDialer, QuicListener};
use rand_chacha::ChaCha20Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const CLASSES: usize = 10;

/// How much is measured.
pub(crate) struct Load {
    /// Clients at a time: a measurement each.
    pub(crate) clients: Vec<usize>,
    /// Transfer samples that a contribution speaks about.
    pub(crate) rows: u32,
    /// How often each is measured.
    pub(crate) repeats: usize,
    /// Contributions of a measurement, at least.
    pub(crate) least: usize,
    /// Where the store is.
    pub(crate) folder: PathBuf,
}

impl Load {
    /// Measures, one after the other, and prints a table.
    pub(crate) fn measure(&self) {
        let fsync = 1000.0 * fsync(&self.folder);
        println!(
            "fsync of 4 KiB in {}: median {fsync:.2} ms",
            self.folder.display()
        );
        println!(
            "contributions of {} x {CLASSES} logits over QUIC on loopback, whole rounds",
            self.rows
        );
        println!("| clients | memory, a second | file, a second | share |");
        println!("|---|---|---|---|");
        for &clients in &self.clients {
            let rounds = self.least.div_ceil(clients).max(4) as u32;
            let (mut memory, mut file) = (Vec::new(), Vec::new());
            for _ in 0..self.repeats {
                memory.push(self.rate(clients, rounds, Box::<MemoryStore>::default()));
                let folder = tempfile::tempdir_in(&self.folder).unwrap();
                let store = FileStore::open_at(&folder.path().join("rounds.redb")).unwrap();
                file.push(self.rate(clients, rounds, Box::new(store)));
            }
            let (memory, file) = (median(memory), median(file));
            let share = file / memory;
            println!("| {clients} | {memory:.0} | {file:.0} | {share:.2} |");
        }
    }

    /// Contributions acknowledged a second, from the end of the first round, in which all connect, to the
    /// end of the last.
    fn rate(&self, clients: usize, rounds: u32, store: Box<dyn Store>) -> f64 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (sides, names) = Sides::of(clients);
            let address = "127.0.0.1:0".parse().unwrap();
            let listener =
                QuicListener::bind(address, &sides.coordinator, Limits::default()).unwrap();
            let address = listener.address().unwrap().to_string();
            let coordinator = self.coordinator(clients, rounds, store);
            let (told, mut counted) = mpsc::unbounded_channel();
            let mut all = JoinSet::new();
            for (name, identity) in names.into_iter().zip(&sides.clients) {
                let dialer = QuicDialer::new(address.clone(), None, identity).unwrap();
                let told = told.clone();
                let client = Client::new(
                    federation(),
                    name,
                    Ready,
                    private(),
                    Policy::default(),
                    dialer,
                );
                let client = client.unwrap().telling(move |event| {
                    if let Event::Counted { id, .. } = event {
                        // Nobody listens once the last round is over.
                        let _ = told.send((id, Instant::now()));
                    }
                });
                all.spawn(client.run());
            }
            let run = tokio::spawn(coordinator.run(Arc::new(listener), CancellationToken::new()));
            let mut ends = BTreeMap::new();
            for _ in 0..clients * rounds as usize {
                let (RoundId { round, .. }, at) = counted.recv().await.unwrap();
                ends.insert(round, at);
            }
            run.await.unwrap().unwrap();
            while let Some(ended) = all.join_next().await {
                ended.unwrap().unwrap();
            }
            let took = ends[&(rounds - 1)] - ends[&0];
            (clients * (rounds as usize - 1)) as f64 / took.as_secs_f64()
        })
    }

    fn coordinator(&self, clients: usize, rounds: u32, store: Box<dyn Store>) -> Coordinator {
        let settings = Settings {
            federation: federation(),
            classes: classes(),
            method: method::by_name("logit-mean").unwrap().into(),
            training: Training {
                private_epochs: 1,
                distillation_epochs: 1,
                batch: u16::MAX,
                optimiser: Optimiser::Sgd {
                    learning_rate: 0.1,
                    momentum: 0.0,
                },
                distillation_temperature: Training::TEMPERATURE,
                label_smoothing: Training::SMOOTHING,
            },
            rounds,
            asked: clients,
            open_with: clients,
            quorum: Quorum::new(clients, clients, Duration::ZERO, Duration::from_secs(600))
                .unwrap(),
            missed: Missed::Reopen,
            late: Late::Refuse,
            silence: Duration::from_secs(60),
            patience: Some(Duration::from_secs(600)),
            pause: Duration::ZERO,
            attempts: Some(1),
            rows: self.rows,
            precision: Precision::F16,
            rounding: Rounding::Nearest,
            seed: 1,
            weights: BTreeMap::new(),
        };
        let transfer = samples(self.rows as usize).publish().unwrap();
        Coordinator::new(settings, transfer, None, store).unwrap()
    }
}

/// Learns nothing and answers at once.
struct Ready;

impl Student for Ready {
    fn begin(&mut self, _: Start, _: Optimiser) -> Result<(), StudentError> {
        Ok(())
    }

    fn step(
        &mut self,
        _: &[f32],
        _: &Objective<'_>,
        _: &mut ChaCha20Rng,
    ) -> Result<f32, StudentError> {
        Ok(0.0)
    }

    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, StudentError> {
        self.logits_of(samples, &vec![0; samples.len()])
    }

    fn logits_of(&mut self, _: &Samples, rows: &[usize]) -> Result<Vec<f32>, StudentError> {
        let values = 0..rows.len() * CLASSES;
        Ok(values.map(|at| (at % 17) as f32 / 8.0).collect())
    }
}

/// Certificates for all.
struct Sides {
    coordinator: Identity,
    clients: Vec<Identity>,
}

impl Sides {
    fn of(clients: usize) -> (Self, Vec<Name>) {
        let authority = Authority::create(federation()).unwrap();
        let identity =
            |bundle: &str| Identity::parse(Path::new("bundle"), bundle.as_bytes()).unwrap();
        let hosts = ["127.0.0.1".to_owned()];
        let day = || Validity::days(1);
        let names = (0..clients).map(|at| format!("ward-{at}").parse().unwrap());
        let names: Vec<Name> = names.collect();
        let bundles = names.iter();
        let bundles = bundles.map(|name| identity(&authority.client(name, day()).unwrap()));
        let this = Self {
            clients: bundles.collect(),
            coordinator: identity(&authority.coordinator(&hosts, day()).unwrap()),
        };
        (this, names)
    }
}

fn federation() -> Name {
    "clinic".parse().unwrap()
}

fn classes() -> Vec<String> {
    (0..CLASSES).map(|class| class.to_string()).collect()
}

fn samples(count: usize) -> Samples {
    let values = vec![0; count * 4];
    Samples::new(vec![4], Elements::U8(values)).unwrap()
}

fn private() -> Dataset {
    Dataset::new(Path::new("private"), samples(1), vec![0], classes()).unwrap()
}

/// Seconds that it takes to make a page of a file durable.
fn fsync(folder: &Path) -> f64 {
    let path = folder.join("fsync.tmp");
    let mut file = File::create(&path).unwrap();
    let times = (0..100).map(|_| {
        file.write_all(&[1; 4096]).unwrap();
        let begun = Instant::now();
        file.sync_data().unwrap();
        begun.elapsed().as_secs_f64()
    });
    let median = median(times.collect());
    std::fs::remove_file(path).unwrap();
    median
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
