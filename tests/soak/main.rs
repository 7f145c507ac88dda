//! Puts a federation of real processes under stress for as long as one likes, and prints what came of it:
//! `cargo run --release -p fedistill-tests --bin fedistill-soak -- kills`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for a terminal; a failed run ends with a panic"
)]

mod acknowledge;
mod all;
mod churn;
mod dropout;
mod fleet;
mod idle;
mod reconnect;
mod series;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use fedistill_tests::Storm;

use crate::acknowledge::Load;
use crate::all::{All, came_to};
use crate::churn::Churn;
use crate::dropout::Dropout;
use crate::idle::Idle;
use crate::reconnect::Reconnect;

/// Put a federation of real processes under stress.
#[derive(Debug, Parser)]
#[command(name = "fedistill-soak", version, args_override_self = true)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run all of it, one after the other, and print a table of what it came to.
    All(All),
    /// Kill coordinator and clients (-9) at random instants.
    Kills {
        /// Kills of the coordinator.
        #[arg(long, default_value_t = 1000)]
        coordinator: usize,
        /// Kills of clients, all together.
        #[arg(long, default_value_t = 10_000)]
        clients: usize,
        /// Clients of the federation.
        #[arg(long, default_value_t = 4)]
        of: usize,
        /// Mean time between two kills of the coordinator, in seconds.
        #[arg(long, default_value_t = 2.0)]
        pace: f64,
        /// What instants follow from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Measure what it costs that nothing is acknowledged before it is on disk. Ends with exit code 1 where that is more than half.
    Acknowledge(Load),
    /// Have clients leave and come for hours, and watch the coordinator's memory and descriptors.
    Churn(Churn),
    /// Hold thousands of connections on which nothing happens, and tell what each takes.
    Idle(Idle),
    /// Have a share of clients drop out of each round, and tell how many rounds come about, and how soon.
    Dropout(Dropout),
    /// Have a coordinator go and come back, and tell when its clients are back.
    Reconnect(Reconnect),
}

fn main() -> ExitCode {
    match Args::parse().what {
        What::Kills {
            coordinator,
            clients,
            of,
            pace,
            seed,
        } => kills(&Storm {
            clients: of,
            coordinator_kills: coordinator,
            client_kills: clients,
            pace: Duration::from_secs_f64(pace),
            seed,
        }),
        What::All(all) => all.run(),
        What::Acknowledge(load) => load.run(),
        What::Churn(churn) => churn.run(),
        What::Idle(idle) => idle.run(),
        What::Dropout(dropout) => dropout.run(),
        What::Reconnect(reconnect) => reconnect.run(),
    }
}

/// Median and 99th percentile, in words.
fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let quantile = |share: f64| {
        let at = (share * times.len().saturating_sub(1) as f64).round() as usize;
        times.get(at).map_or(0.0, Duration::as_secs_f64) * 1000.0
    };
    format!(
        "{:.0} ms (p50), {:.0} ms (p99)",
        quantile(0.5),
        quantile(0.99)
    )
}

fn kills(storm: &Storm) -> ExitCode {
    let deployment = storm.deployment();
    let aftermath = storm.rage(&deployment);
    let kills = format!(
        "{} kills of the coordinator, {} of {} clients, in {:.0} s (seed {})",
        storm.coordinator_kills,
        storm.client_kills,
        storm.clients,
        aftermath.took.as_secs_f64(),
        storm.seed
    );
    println!("{kills}");
    let recovered = format!(
        "the coordinator listens again after {}; of {} starts that lived so long, the first client is let in again and the round goes on after {}",
        quantiles(aftermath.recoveries),
        aftermath.resumptions.len(),
        quantiles(aftermath.resumptions)
    );
    println!("{recovered}");
    println!("{}", aftermath.report);
    came_to(&format!("{kills}: {}; {recovered}", aftermath.report));
    match aftermath.report.broken.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
