//! Runs a simulation, and holds the memory that was stated before it against the peak. Peaks are of a
//! whole process, so each test that does it is a program of its own.

use std::path::Path;
use std::sync::Arc;

use fedistill_learning::Dataset;
use fedistill_simulator::config::Config;
use fedistill_simulator::{Averaging, MemoryBound, Progress, World, average, simulate};

/// The peak of this process so far, in bytes.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}

async fn run(config: &Config) -> MemoryBound {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fashion-mnist-mini");
    let (train, test) = Dataset::mnist(&fixtures).unwrap();
    let train = Arc::new(train);
    let sizes = config.sizes();
    let world = World::share_out(&train, test, sizes, config.partition, config.seed).unwrap();
    let progress = Progress::silent();
    match Averaging::by_name(&config.method).unwrap() {
        Some(which) => {
            let plan = config.plan("local").unwrap();
            let bound = MemoryBound::of_averaging(&world, &plan, which).unwrap();
            average(&world, &plan, which, &progress).unwrap();
            bound
        }
        None => {
            let plan = config.plan(&config.method).unwrap();
            let bound = MemoryBound::of(&world, &plan, config.teacher_model).unwrap();
            simulate(&world, &plan, None, progress).await.unwrap();
            bound
        }
    }
}

pub(crate) async fn the_stated_peak_holds(config: &Config) {
    let stated = run(config).await;
    let Some(peak) = peak() else { return };
    println!("peak {} kB, stated {stated}", peak >> 10);
    assert!(peak <= stated.total(), "{peak} bytes, stated {stated}");
    // A bound that is far off says nothing.
    assert!(stated.total() < 4 * peak, "{peak} bytes, stated {stated}");
}
