//! A crowd of clients that train nothing takes part in each round.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod idle;

use fedistill_simulator::Transport;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_takes_part() {
    let (clients, rounds) = (200, 2);
    let outcome = idle::run(clients, Transport::Memory, rounds).await.unwrap();
    assert_eq!(outcome.rounds.len(), rounds as usize);
    assert!(outcome.rounds.iter().all(|row| row.up.len() == clients));
}
