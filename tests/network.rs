//! Federations of real processes over a bad network.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use fedistill_tests::{Deployment, Quiet, Relay, Running, Weather};

const CLIENTS: usize = 2;

/// Rounds without end, of all clients.
const ALL: &str = "[round]\nleast = 2\nleast-seconds = 30\nmost-seconds = 60\nsilence-seconds = 20\nsamples = 40\n";

struct Federation {
    deployment: Deployment,
    coordinator: Running,
    relay: Relay,
    clients: Vec<Running>,
}

impl Federation {
    fn new(round: &str, weather: Weather) -> Self {
        let deployment = Deployment::new(CLIENTS, 1_000_000, round);
        for index in 0..CLIENTS {
            deployment.configure(index, "keep-alive-seconds = 0.5\n");
        }
        let (coordinator, address) = deployment.start("127.0.0.1:0");
        let relay = Relay::new(&address, weather, 1);
        let clients = (0..CLIENTS).map(|index| deployment.join(index, relay.address()));
        Self {
            clients: clients.collect(),
            deployment,
            coordinator,
            relay,
        }
    }

    /// Waits until so many rounds more have come about.
    fn rounds(&mut self, count: usize) {
        self.coordinator.skip();
        for _ in 0..count {
            self.coordinator.wait_for(" is over, with 2 contributions");
        }
    }

    /// Stops everyone and looks at what they kept; what each has told. A network that is bad to the end has no quiet.
    fn end(self, quiet: Option<Quiet>) -> Vec<String> {
        let Self {
            deployment,
            coordinator,
            relay,
            clients,
        } = self;
        let all: Vec<Running> = clients.into_iter().chain([coordinator]).collect();
        let told = all
            .into_iter()
            .map(|process| {
                let asked = Instant::now();
                process.terminate();
                let ended = process.end();
                assert_eq!(ended.code, Some(0), "{}", ended.told);
                let took = asked.elapsed();
                assert!(took < Duration::from_secs(10), "it took {took:?} to stop");
                ended.told
            })
            .collect();
        drop(relay);
        deployment.sound(CLIENTS, quiet);
        told
    }
}

#[test]
fn rounds_come_about_where_a_fifth_is_lost_and_all_is_late() {
    let weather = Weather {
        loss: 0.2,
        repeated: 0.02,
        delay: Duration::from_millis(80),
        jitter: Duration::from_millis(40),
        rate: None,
    };
    let mut federation = Federation::new(ALL, weather);
    federation.rounds(2);
    federation.end(None);
}

#[test]
fn a_narrow_line_only_takes_longer() {
    const RATE: f64 = 200_000.0;
    let weather = Weather {
        delay: Duration::from_millis(20),
        rate: Some(RATE),
        ..Weather::default()
    };
    let begun = Instant::now();
    let mut federation = Federation::new(ALL, weather);
    federation.rounds(1);
    let took = begun.elapsed().as_secs_f64();
    let blobs = federation.deployment.path("state-0/blobs");
    let set = std::fs::read_dir(blobs).unwrap().next().unwrap().unwrap();
    let set = set.metadata().unwrap().len() as f64;
    let least = CLIENTS as f64 * set / RATE;
    assert!(took > least, "{set} bytes to each in {took} s");
    federation.rounds(2);
    federation.end(None);
}

#[test]
fn a_connection_outlives_a_change_of_address() {
    let mut federation = Federation::new(ALL, Weather::default());
    federation.rounds(2);
    let mut quiet = None;
    for _ in 0..3 {
        federation.relay.move_away();
        quiet = Some(Quiet::begins(Duration::from_secs(120)));
        federation.rounds(2);
    }
    let told = federation.end(quiet);
    for client in &told[..CLIENTS] {
        assert!(
            !client.contains("next try") && client.matches("in federation").count() == 1,
            "{client}"
        );
    }
}

#[test]
fn a_line_that_was_cut_is_found_again() {
    // Who is silent is not waited for; a round without both is given up, and opens again.
    let brisk = "[round]\nleast = 2\nleast-seconds = 1\nmost-seconds = 3\nsilence-seconds = 1\nsamples = 40\n";
    let mut federation = Federation::new(brisk, Weather::default());
    federation.rounds(1);
    federation.relay.cut(true);
    federation.coordinator.wait_for("has missed its quorum");
    federation.relay.cut(false);
    // Two deadlines, once what was cut is found again: by then a connection that hears nothing has ended.
    let quiet = Quiet::begins(Duration::from_secs(2 * 3 + 30));
    federation.rounds(2);
    federation.end(Some(quiet));
}
