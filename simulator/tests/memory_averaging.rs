//! The memory that is stated before parameters are averaged holds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod peak;

use fedistill_learning::Architecture;
use fedistill_simulator::config::Config;

#[tokio::test]
async fn the_stated_peak_holds() {
    let config = Config {
        method: "feddf,steps=20".to_owned(),
        clients: 50,
        per_round: Some(4),
        rounds: 1,
        models: vec![Architecture::FedavgCnn],
        threads: 2,
        ..Config::default()
    };
    peak::the_stated_peak_holds(&config).await;
}
