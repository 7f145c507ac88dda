//! What it costs that nothing is acknowledged before it is on disk: clients that answer at once, over QUIC on
//! loopback, of a coordinator whose store is a file and of one whose store is memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use fedistill_client::Event;
use fedistill_coordinator::{FileStore, MemoryStore, Store};
use fedistill_protocol::RoundId;
use fedistill_tests::{Device, Handmade};
use fedistill_transport::quic::{Limits, QuicDialer, QuicListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::all::came_to;

const CLASSES: usize = 10;

/// How much is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// Clients at a time: a measurement each.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    clients: Vec<usize>,
    /// Transfer samples that a contribution speaks about.
    #[arg(long, default_value_t = 1000)]
    rows: u32,
    /// How often each is measured; medians are printed.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Contributions of a measurement, at least.
    #[arg(long, default_value_t = 400)]
    least: usize,
    /// Where the store is: a folder on the disk that is meant.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

impl Load {
    /// Measures, one after the other, and prints a table.
    pub(crate) fn run(&self) -> ExitCode {
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
        let mut told = Vec::new();
        let mut is_half = true;
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
            is_half &= share >= 0.5;
            println!("| {clients} | {memory:.0} | {file:.0} | {share:.2} |");
            told.push(format!(
                "{clients} clients {file:.0} of {memory:.0} ({share:.2})"
            ));
        }
        came_to(&format!(
            "{}; an fsync takes {fsync:.2} ms",
            told.join(", ")
        ));
        match is_half {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }

    /// Contributions acknowledged a second, from the end of the first round, in which all connect, to the
    /// end of the last.
    fn rate(&self, clients: usize, rounds: u32, store: Box<dyn Store>) -> f64 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let federation = Handmade::new(CLASSES, self.rows);
            let address = "127.0.0.1:0".parse().unwrap();
            let listener =
                QuicListener::bind(address, &federation.host(), Limits::default()).unwrap();
            let address = listener.address().unwrap().to_string();
            let coordinator = federation.coordinator(federation.settings(clients, rounds), store);
            let devices: Vec<Device> = (0..clients)
                .map(|number| federation.enrol(number))
                .collect();
            let (told, mut counted) = mpsc::unbounded_channel();
            let mut all = JoinSet::new();
            for (number, device) in devices.iter().enumerate() {
                let dialer = QuicDialer::new(address.clone(), None, &device.identity).unwrap();
                let told = told.clone();
                let client = federation.client(device, federation.student(number), dialer);
                let client = client.telling(move |event| {
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
