//! What a client costs beside its training: rounds of students that train nothing and answer at
//! once with 1,000 x 10 logits. Prints seconds a round, CPU seconds a round and peak memory.
//!
//! `cargo test -p fedistill-simulator --test crowd -- --ignored --nocapture`, with `CROWD` set to
//! `memory:1000` for one case alone; each case runs in a process of its own, so that peaks do not mix.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use fedistill_client::{Student, StudentError};
use fedistill_federation::method::LogitMean;
use fedistill_federation::{Ask, Method, MethodError, Partial, Training};
use fedistill_learning::{Dataset, Objective, Samples};
use fedistill_protocol::{Answers, Elements, Optimiser, PhaseData, Start};
use fedistill_simulator::config::Config;
use fedistill_simulator::{Progress, Transport, View, World, simulate_with};
use rand_chacha::ChaCha20Rng;

const ROWS: usize = 1000;
const CLASSES: usize = 10;

/// Learns nothing.
struct Ready(f32);

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
        Ok(values.map(|at| self.0 + (at % 17) as f32 / 8.0).collect())
    }
}

/// `logit-mean` without its distillation: soft labels come down all the same.
#[derive(Debug)]
struct NoTraining(LogitMean);

impl Method for NoTraining {
    fn name(&self) -> String {
        "no-training".to_owned()
    }

    fn ask(&self, training: &Training, labels: bool) -> Ask {
        let mut ask = self.0.ask(training, labels);
        ask.phases.retain(|phase| phase.data == PhaseData::Private);
        ask
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        self.0.take(sum, weight, answers)
    }

    fn aggregate(
        &self,
        sum: &Partial,
        teacher: Option<&Answers>,
        classes: u32,
    ) -> Result<Option<Answers>, MethodError> {
        self.0.aggregate(sum, teacher, classes)
    }

    fn teacher_learns(&self) -> bool {
        false
    }
}

/// Images as large as MNIST's, all of them black: a transfer set, and a sample for each client.
fn world(clients: usize) -> World {
    let classes: Vec<String> = (0..CLASSES).map(|class| class.to_string()).collect();
    let samples = |count: usize| {
        let elements = Elements::U8(vec![0; count * 784]);
        Samples::new(vec![1, 28, 28], elements).unwrap()
    };
    let data = |count: usize| {
        let labels = (0..count).map(|index| (index % CLASSES) as u32).collect();
        Dataset::new(Path::new("crowd"), samples(count), labels, classes.clone()).unwrap()
    };
    let train = Arc::new(data(20));
    let view = |client: usize| View::new(Arc::clone(&train), [client % 20]).unwrap();
    World {
        labelled: data(1),
        transfer: samples(2 * ROWS),
        private: (0..clients).map(view).collect(),
        test: Arc::new(data(1)),
    }
}

async fn seconds(clients: usize, transport: Transport, rounds: u32) -> f64 {
    let config = Config {
        clients,
        rounds,
        transport,
        samples: ROWS as u32,
        ..Config::default()
    };
    let mut plan = config.plan("logit-mean").unwrap();
    plan.method = Arc::new(NoTraining(LogitMean::default()));
    let student = |client: usize| -> Box<dyn Student> { Box::new(Ready(client as f32 / 1e4)) };
    let world = world(clients);
    let outcome = simulate_with(&world, &plan, None, Progress::silent(), student);
    let outcome = outcome.await.unwrap();
    assert_eq!(outcome.rounds.len(), rounds as usize);
    assert!(outcome.rounds.iter().all(|row| row.up.len() == clients));
    outcome.seconds
}

/// User and system time of this process, in seconds; 100 ticks a second on all Linux systems.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    (ticks(12).unwrap_or(0.0) + ticks(13).unwrap_or(0.0)) / 100.0
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.unwrap_or("VmHWM: unknown").replace('\t', " ")
}

fn case(text: &str) {
    let (transport, clients) = text.split_once(':').unwrap();
    let clients: usize = clients.parse().unwrap();
    let transport = match transport {
        "quic" => Transport::Quic,
        _ => Transport::Memory,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let rounds = (4000 / clients as u32).clamp(5, 200);
    // What is there once, connecting and the transfer set, falls out of the difference.
    let (few, many) = (2, 2 + rounds);
    let first = runtime.block_on(seconds(clients, transport, few));
    let before = cpu();
    let all = runtime.block_on(seconds(clients, transport, many));
    let busy = cpu() - before;
    println!(
        "{text}: {:.4} s a round, {:.1} us a client; with connecting {:.4} s and {:.4} CPU s a round; {}",
        (all - first) / f64::from(rounds),
        1e6 * (all - first) / f64::from(rounds) / clients as f64,
        all / f64::from(many),
        busy / f64::from(many),
        peak()
    );
}

#[test]
#[ignore = "a measurement"]
fn crowd() {
    if let Ok(one) = std::env::var("CROWD") {
        return case(&one);
    }
    for one in [
        "memory:10",
        "memory:100",
        "memory:1000",
        "memory:10000",
        "quic:2",
        "quic:100",
    ] {
        let mut own = Command::new(std::env::current_exe().unwrap());
        let own = own.args(["--ignored", "--nocapture", "crowd"]);
        let done = own.env("CROWD", one).output().unwrap();
        let told = String::from_utf8_lossy(&done.stdout).into_owned();
        match told.lines().find(|line| line.starts_with(one)) {
            Some(line) => println!("{line}"),
            None => println!("{one}: failed\n{told}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_takes_part() {
    seconds(200, Transport::Memory, 2).await;
}
