//! Thousands of connections on which nothing happens: what does each take?

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fedistill_protocol::Message;
use fedistill_tests::{Device, Handmade, Puppet, Vitals};
use fedistill_transport::quic::QuicDialer;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::all::came_to;
use crate::series::line;

/// Hold thousands of connections on which nothing happens, and tell what each takes of the coordinator's memory. All have
/// proved who they are and are welcome; no round opens. Ends with exit code 1 if one is turned away or lost, or takes more than 45 kB.
#[derive(Debug, clap::Args)]
pub(crate) struct Idle {
    /// How many, at last; memory is looked at without any, and with a fifth, a half and all of them.
    #[arg(long, default_value_t = 5000)]
    connections: usize,
    /// Handshakes under way at a time.
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// Time before each look, in seconds: clients say each 10 s that they are there.
    #[arg(long, default_value_t = 15.0)]
    settle: f64,
}

/// What a connection may take, in bytes.
const GOAL: f64 = 45e3;

impl Idle {
    /// Runs it.
    pub(crate) fn run(&self) -> ExitCode {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        match runtime.block_on(self.hold()) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }

    async fn hold(&self) -> bool {
        let federation = Handmade::new(10, 10);
        // More than will ever come.
        let hosted = federation.hosted(1, "least = 1\nopen-with = 1000000\n");
        let (mut coordinator, address) = hosted.start("127.0.0.1:0");
        let devices: Vec<Device> = (0..self.connections)
            .map(|number| federation.enrol(number))
            .collect();
        let mut dialers = Vec::new();
        for device in &devices {
            let dialer = QuicDialer::new(address.clone(), None, &device.identity).unwrap();
            dialers.push(match dialers.first() {
                Some(first) => dialer.beside(first),
                None => dialer,
            });
        }
        println!(
            "| connections | memory | each | handshakes a second | of the coordinator's time, each | descriptors |"
        );
        println!("|---|---|---|---|---|---|");
        let mut held = Vec::new();
        let mut points = Vec::new();
        let mut handshakes = 0.0;
        let mut waiting = dialers.into_iter();
        for step in [
            0,
            self.connections / 5,
            self.connections / 2,
            self.connections,
        ] {
            let before = Vitals::of(coordinator.id()).unwrap();
            let (begun, new) = (Instant::now(), step - held.len());
            let room = Arc::new(Semaphore::new(self.at_once));
            let mut coming = JoinSet::new();
            for dialer in waiting.by_ref().take(new) {
                let (room, name, classes) =
                    (Arc::clone(&room), federation.name(), federation.classes());
                coming.spawn(async move {
                    let _turn = room.acquire().await;
                    let mut puppet = Puppet::connect(&dialer, name, classes).await.unwrap();
                    let message = puppet.next().await;
                    assert!(matches!(message, Some(Message::Welcome(_))), "{message:?}");
                    puppet
                });
            }
            held.extend(coming.join_all().await);
            let took = begun.elapsed().as_secs_f64();
            let busy = Vitals::of(coordinator.id()).unwrap().ran - before.ran;
            tokio::time::sleep(Duration::from_secs_f64(self.settle)).await;
            coordinator.skip();
            let now = Vitals::of(coordinator.id()).unwrap();
            points.push((step as f64, now.resident as f64));
            let first = points[0].1;
            let each = (now.resident as f64 - first) / step as f64 / 1e3;
            handshakes = new as f64 / took;
            let (rate, cost) = (handshakes, 1e3 * busy.as_secs_f64() / new as f64);
            let told = match new {
                0 => "| |".to_owned(),
                _ => format!("{each:.1} kB | {rate:.0} | {cost:.2} ms"),
            };
            println!(
                "| {step} | {:.1} MB | {told} | {} |",
                now.resident as f64 / 1e6,
                now.descriptors
            );
        }
        let alive = held
            .iter()
            .filter(|puppet| puppet.connection.close_reason().is_none());
        let alive = alive.count();
        // What the first ones take beside is the program's own: code and pools that all share.
        let (slope, _) = line(&points[1..]);
        println!(
            "{alive} of {} connections are there still; {:.1} kB for each more by least squares, at most {:.0} kB is the goal",
            self.connections,
            slope / 1e3,
            GOAL / 1e3
        );
        came_to(&format!(
            "{alive} of {} are there still, {:.1} kB each, {handshakes:.0} handshakes a second",
            self.connections,
            slope / 1e3
        ));
        alive == self.connections && slope <= GOAL
    }
}
