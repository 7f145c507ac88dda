//! A federation of real processes, of which one or another is killed at random instants and started again at
//! once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fedistill_check::{Records, Report, verify};
use fedistill_learning::seed;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;

use crate::{Deployment, Quiet, Running};

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
    /// From each start until the first client is let in again and the open round goes on; of those starts that lived so long.
    pub resumptions: Vec<Duration>,
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
        let mut resumptions = Vec::new();
        let mut started: Option<Instant> = None;
        let kills = self.coordinator_kills + self.client_kills;
        let (mut of_coordinator, mut of_clients) = (self.coordinator_kills, self.client_kills);
        let whole = self.pace * self.coordinator_kills.max(1) as u32;
        let mean = whole.div_f64(kills.max(1) as f64);
        while of_coordinator + of_clients > 0 {
            std::thread::sleep(pause(&mut rng, mean));
            if rng.random_range(0..of_coordinator + of_clients) < of_coordinator {
                of_coordinator -= 1;
                if let Some(mut dying) = coordinator.take() {
                    resumptions.extend(resumed(&mut dying, started));
                    dying.kill();
                }
                let again = Instant::now();
                coordinator = Some(deployment.start(&address).0);
                recoveries.push(again.elapsed());
                started = Some(again);
            } else {
                of_clients -= 1;
                let index = rng.random_range(0..self.clients);
                clients[index].take().into_iter().for_each(Running::kill);
                clients[index] = Some(deployment.join(index, &address));
            }
        }
        let quiet = Quiet::begins(2 * DEADLINE);
        if let Some(coordinator) = &mut coordinator {
            resumptions.extend(resumed(coordinator, started));
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
        let folders = deployment.folders(self.clients);
        let records = Records::read(folders.iter().map(PathBuf::as_path)).unwrap();
        Aftermath {
            recoveries,
            resumptions,
            took: begun.elapsed(),
            report: verify(&records, Some(quiet.liveness())),
        }
    }
}

/// How long after its start a coordinator let the first client in; `None` where it was not started by a storm, or has
/// not lived so long.
fn resumed(coordinator: &mut Running, started: Option<Instant>) -> Option<Duration> {
    let let_in = coordinator.heard("connected with ");
    Some(let_in?.duration_since(started?))
}

/// A pause of `mean` on average, exponentially distributed: at any instant a kill is as likely as at any
/// other.
fn pause(rng: &mut ChaCha20Rng, mean: Duration) -> Duration {
    let uniform: f64 = rng.random();
    mean.mul_f64(-(1.0 - uniform).ln())
}
