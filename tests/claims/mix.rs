//! Students of different nets in one federation.

use fedistill_learning::Architecture;
use fedistill_simulator::config::Config;

use crate::run;

/// Nets that differ in size and in kind, dealt out in turn.
const MIX: [Architecture; 3] = [Architecture::MlpS, Architecture::MlpM, Architecture::ConvS];

/// Points that a mix of nets may lose.
const MIXED: f64 = 2.0;

/// By how many points students of a mix of nets are below what they would come to among equals, weighed by how many
/// clients have which net: the mean over seeds.
async fn a_mix_loses(rounds: u32, seeds: u64) -> f64 {
    let config = Config {
        rounds,
        baselines: false,
        ..Config::default()
    };
    let students = async |models: &[Architecture], seed: u64| {
        let done = run(Config {
            models: models.to_vec(),
            seed,
            ..config.clone()
        });
        100.0 * done.await.students_mean
    };
    let mut lost = 0.0;
    for seed in 1..=seeds {
        let mixed = students(&MIX, seed).await;
        let mut equals = 0.0;
        for (place, net) in MIX.iter().enumerate() {
            let theirs = students(&[*net], seed).await;
            let clients = (place..config.clients).step_by(MIX.len()).count();
            println!(
                "seed {seed}: {clients} clients, of {net} alone {theirs:.1}, of the mix {mixed:.1}"
            );
            equals += theirs * clients as f64 / config.clients as f64;
        }
        lost += (equals - mixed) / seeds as f64;
    }
    println!("{rounds} rounds: {lost:.2} points are lost");
    lost
}

/// A sample of the law below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn students_of_different_nets_lose_little_soon() {
    let lost = a_mix_loses(4, 1).await;
    assert!(lost <= MIXED, "{lost:.2} points");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn students_of_different_nets_lose_little() {
    let lost = a_mix_loses(Config::default().rounds, 3).await;
    assert!(lost <= MIXED, "{lost:.2} points");
}
