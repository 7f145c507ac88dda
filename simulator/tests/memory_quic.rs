//! The memory that is stated before a run over QUIC holds, where every client fetches the transfer set
//! over a connection of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod peak;

use fedistill_simulator::Transport;
use fedistill_simulator::config::Config;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stated_peak_holds() {
    let config = Config {
        method: "ds-fl:era".to_owned(),
        clients: 100,
        rounds: 1,
        transport: Transport::Quic,
        threads: 2,
        ..Config::default()
    };
    peak::the_stated_peak_holds(&config).await;
}
