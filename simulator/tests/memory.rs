//! The memory that is stated before a run in memory holds, with few of many clients asked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod peak;

use fedistill_learning::Architecture;
use fedistill_simulator::Transport;
use fedistill_simulator::config::Config;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stated_peak_holds() {
    let config = Config {
        method: "ds-fl:era".to_owned(),
        clients: 200,
        per_round: Some(10),
        rounds: 2,
        transport: Transport::Memory,
        models: vec![Architecture::MlpS, Architecture::ConvS],
        threads: 2,
        ..Config::default()
    };
    peak::the_stated_peak_holds(&config).await;
}
