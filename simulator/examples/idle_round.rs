//! What a round costs beside training: `idle_round [--json] CLIENTS ROUNDS [memory|quic]`.
//!
//! Clients train nothing and answer at once with 1,000 x 10 logits, in memory unless told
//! otherwise. Prints seconds a round; in the first one all connect and fetch the transfer set.
//! Peak memory and CPU time are for whoever runs it to look at.

#[path = "../tests/idle/mod.rs"]
mod idle;

use std::error::Error;

use clap::Parser;
use fedistill_simulator::Transport;

#[derive(Parser)]
struct Args {
    /// How many take part, in each round.
    clients: usize,
    rounds: u32,
    #[arg(value_enum, default_value_t = Transport::Memory)]
    transport: Transport,
    /// Print a JSON object a round.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()?;
    let run = idle::run(args.clients, args.transport, args.rounds);
    let outcome = runtime.block_on(run)?;
    for row in outcome.rounds {
        let (round, seconds) = (row.round + 1, row.seconds);
        match args.json {
            true => println!(
                "{}",
                serde_json::json!({"round": round, "seconds": seconds})
            ),
            false => println!("round {round}: {seconds:.4} s"),
        }
    }
    Ok(())
}
