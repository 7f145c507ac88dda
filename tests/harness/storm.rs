//! A federation of real processes, of which one or another is killed at random instants and started again at
//! once.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fedistill_check::{Liveness, Records, Report, verify};
use fedistill_learning::seed;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;

use crate::{Deployment, Running};

/// How much is killed, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// Clients of the federation.
    pub clients: usize,
    /// Kills of the coordinator.
    pub coordinator_kills: usize,
    /// Kills of clients, all together.
    pub client_kills: usize,
    /// Mean time between two kills of the coordinator.
    pub pace: Duration,
    /// What instants follow from.
    pub seed: u64,
}

/// What a storm has come to.
#[derive(Debug)]
pub struct Aftermath {
    /// From each start of the coordinator after a kill until it listens.
    pub recoveries: Vec<Duration>,
    /// How long it took.
    pub took: Duration,
    /// What was kept, held against each other.
    pub report: Report,
}

/// A round's deadline, which a storm's federation has.
const DEADLINE: Duration = Duration::from_secs(10);

impl Storm {
    /// Files for such a federation: short rounds, as many as there is time for.
    pub fn deployment(&self) -> Deployment {
        let round = format!(
            "[round]\nleast = {}\nopen-with = 1\nleast-seconds = 1\nmost-seconds = {}\nsilence-seconds = 1.5\nsamples = 40\n[training]\nprivate-epochs = 3\n",
            self.clients.div_ceil(2),
            DEADLINE.as_secs()
        );
        let deployment = Deployment::new(self.clients, 1_000_000, &round);
        for index in 0..self.clients {
            deployment.configure(
                index,
                "checkpoint-seconds = 0.0\nkeep-alive-seconds = 0.3\n",
            );
        }
        deployment
    }

    /// Lets it rage, then waits for a round in peace, stops everyone, and looks at what they kept.
    pub fn rage(&self, deployment: &Deployment) -> Aftermath {
        let begun = Instant::now();
        let mut rng = seed::stream(self.seed, "storm");
        let (coordinator, address) = deployment.start("127.0.0.1:0");
        let mut coordinator = Some(coordinator);
        let mut clients: Vec<Option<Running>> = (0..self.clients)
            .map(|index| Some(deployment.join(index, &address)))
            .collect();
        let mut recoveries = Vec::new();
        let kills = self.coordinator_kills + self.client_kills;
        let (mut of_coordinator, mut of_clients) = (self.coordinator_kills, self.client_kills);
        let whole = self.pace * self.coordinator_kills.max(1) as u32;
        let mean = whole.div_f64(kills.max(1) as f64);
        while of_coordinator + of_clients > 0 {
            std::thread::sleep(pause(&mut rng, mean));
            if rng.random_range(0..of_coordinator + of_clients) < of_coordinator {
                of_coordinator -= 1;
                coordinator.take().into_iter().for_each(Running::kill);
                let again = Instant::now();
                coordinator = Some(deployment.start(&address).0);
                recoveries.push(again.elapsed());
            } else {
                of_clients -= 1;
                let index = rng.random_range(0..self.clients);
                clients[index].take().into_iter().for_each(Running::kill);
                clients[index] = Some(deployment.join(index, &address));
            }
        }
        let quiet_since = now();
        if let Some(coordinator) = &mut coordinator {
            coordinator.skip();
            // The line of a round that was closed a moment before may come only now; the ones after it are of
            // rounds that began later.
            for _ in 0..3 {
                coordinator.wait_for(" is over, with");
            }
        }
        let running = clients.into_iter().flatten().chain(coordinator);
        let running: Vec<Running> = running.collect();
        running.iter().for_each(Running::terminate);
        for process in running {
            let ended = process.end();
            // One that was started a moment ago may not listen to signals yet, and is ended by this one.
            assert!(matches!(ended.code, Some(0) | None), "{}", ended.told);
        }
        let folders = self.folders(deployment);
        let records = Records::read(folders.iter().map(PathBuf::as_path)).unwrap();
        let liveness = Liveness {
            quiet_since,
            within: 2 * DEADLINE.as_millis() as u64,
        };
        Aftermath {
            recoveries,
            took: begun.elapsed(),
            report: verify(&records, Some(liveness)),
        }
    }

    /// The state folders of all processes.
    pub fn folders(&self, deployment: &Deployment) -> Vec<PathBuf> {
        let clients = (0..self.clients).map(|index| deployment.path(&format!("state-{index}")));
        let coordinator = deployment.path("federation/state");
        std::iter::once(coordinator).chain(clients).collect()
    }
}

/// A pause of `mean` on average, exponentially distributed: at any instant a kill is as likely as at any
/// other.
fn pause(rng: &mut ChaCha20Rng, mean: Duration) -> Duration {
    let uniform: f64 = rng.random();
    mean.mul_f64(-(1.0 - uniform).ln())
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}
