//! The memory that is stated before a run holds. A process of its own: peaks are of a whole process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use fedistill_learning::{Architecture, Dataset};
use fedistill_simulator::config::Config;
use fedistill_simulator::{MemoryBound, Progress, Transport, World, simulate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stated_peak_holds() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fashion-mnist-mini");
    let config = Config {
        clients: 200,
        per_round: Some(10),
        rounds: 2,
        transport: Transport::Memory,
        models: vec![Architecture::MlpS, Architecture::ConvS],
        threads: 2,
        ..Config::default()
    };
    let (train, test) = Dataset::mnist(&fixtures).unwrap();
    let train = Arc::new(train);
    let sizes = config.sizes();
    let world = World::share_out(&train, test, sizes, config.partition, config.seed).unwrap();
    let plan = config.plan("ds-fl:era").unwrap();
    let bound = MemoryBound::of(&world, &plan, config.teacher_model).unwrap();
    simulate(&world, &plan, None, Progress::silent())
        .await
        .unwrap();
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return;
    };
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let peak: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    println!("peak {} kB, stated {bound}", peak);
    assert!(peak << 10 <= bound.total(), "{peak} kB, stated {bound}");
    // A bound that is far off says nothing.
    assert!(
        bound.total() < 4 * (peak << 10),
        "{peak} kB, stated {bound}"
    );
}
