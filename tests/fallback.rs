//! Federations of real processes where no UDP gets through: they come to the same over TCP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::Duration;

use fedistill_coordinator::Outcome;
use fedistill_protocol::RoundId;
use fedistill_tests::{Deployment, Quiet, Relay, Running, Weather, Wire, run, sound};
use serde_json::Value;

const CLIENTS: usize = 2;

/// Rounds of all clients, and a second door.
const ROUND: &str = r#"
[round]
least = 2
cohort = 2
open-with = 2
least-seconds = 60
most-seconds = 60
samples = 100
[fallback]
tcp = "127.0.0.1:0"
"#;

/// A network without UDP: datagrams go nowhere.
fn swallowing(address: &str) -> Relay {
    let relay = Relay::new(address, Weather::default(), 1);
    relay.cut(true);
    relay
}

/// Starts the coordinator; where it is for UDP and for TCP.
fn start(deployment: &Deployment) -> (Running, String, String) {
    let (mut coordinator, udp) = deployment.start("127.0.0.1:0");
    let line = coordinator.wait_for("let in over TCP on ");
    let tcp = line.rsplit(' ').next().unwrap().to_owned();
    (coordinator, udp, tcp)
}

fn join(deployment: &Deployment, index: usize, udp: &str, tcp: &str) -> Running {
    let mut client = deployment.joining(index, udp);
    client.args(["--fallback", &format!("tcp:{tcp}")]);
    Running::start(&format!("client-{index}"), &mut client)
}

/// What rounds came to, what the coordinator knows of client 1's bytes, and what all have told.
struct Came {
    outcomes: Vec<(RoundId, Option<Outcome>)>,
    ledger: Value,
    told: Vec<String>,
}

/// Runs a federation to its end, and leaves nothing of it.
fn federate(deployment: &Deployment, udp_gets_through: bool) -> Came {
    let (coordinator, udp, tcp) = start(deployment);
    let relay = swallowing(&udp);
    relay.cut(!udp_gets_through);
    let clients = (0..CLIENTS).map(|index| join(deployment, index, relay.address(), &tcp));
    let all: Vec<Running> = clients
        .collect::<Vec<_>>()
        .into_iter()
        .chain([coordinator])
        .collect();
    let told = all.into_iter().map(|process| {
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
        ended.told
    });
    let told = told.collect();
    let folders = deployment.folders(CLIENTS);
    let (records, _) = sound(&folders, None);
    let status = run(deployment
        .coordinator("status")
        .args(["--json", "--config"])
        .arg(deployment.coordinator_config()));
    let status: Value = serde_json::from_str(&status.output).unwrap();
    for folder in folders {
        fs::remove_dir_all(folder).unwrap();
    }
    let history = records.coordinator.unwrap().history.into_iter();
    Came {
        outcomes: history.map(|closed| (closed.id, closed.outcome)).collect(),
        ledger: status["ledger"]["client-1"].clone(),
        told,
    }
}

#[test]
fn where_no_udp_gets_through_the_same_comes_about_over_tcp() {
    let deployment = Deployment::new(CLIENTS, 2, ROUND);
    let quic = federate(&deployment, true);
    let tcp = federate(&deployment, false);
    assert!(quic.outcomes.len() > 2 && quic.outcomes.iter().all(|(_, came)| came.is_some()));
    assert_eq!(tcp.outcomes, quic.outcomes);
    for (came, way, other) in [
        (&quic, "connected over QUIC", "connected over TCP"),
        (&tcp, "connected over TCP", "connected over QUIC"),
    ] {
        for client in &came.told[..CLIENTS] {
            assert!(client.contains(way) && !client.contains(other), "{client}");
        }
    }
    let [.., coordinator] = &tcp.told[..] else {
        unreachable!("it is the last")
    };
    assert_eq!(
        coordinator.matches("let in over TCP").count(),
        CLIENTS + 1,
        "{coordinator}"
    );

    // What is told of bytes is as over QUIC; what TCP was given is the streams' own, and TLS.
    let parts = |came: &Came, way: &str| {
        let part = |what: &str| came.ledger["total"][way][what].as_u64().unwrap();
        let streams = ["packed", "transfer_set", "framing"].map(part);
        (streams, part("quic"))
    };
    for way in ["up", "down"] {
        let (streams, all) = parts(&tcp, way);
        assert_eq!(streams[..2], parts(&quic, way).0[..2]);
        let sum: u64 = streams.iter().sum();
        // Of a short federation much is the handshake, some 3 kB each way.
        assert!(
            all > sum + 500 && all < sum + sum / 50 + 8000,
            "{way}: {all} for {sum}"
        );
    }
}

#[test]
fn a_line_of_tcp_that_was_cut_is_found_again_at_once() {
    let deployment = Deployment::new(CLIENTS, 1_000_000, ROUND);
    let (mut coordinator, udp, tcp) = start(&deployment);
    let (relay, wire) = (swallowing(&udp), Wire::new(&tcp));
    let clients =
        (0..CLIENTS).map(|index| join(&deployment, index, relay.address(), wire.address()));
    let mut clients: Vec<Running> = clients.collect();
    for client in &mut clients {
        client.wait_for("UDP gets through; trying TCP");
        client.wait_for("connected over TCP");
    }
    let mut quiet = None;
    for _ in 0..3 {
        coordinator.skip();
        for _ in 0..2 {
            coordinator.wait_for(" is over, with 2 contributions");
        }
        wire.cut();
        quiet = Some(Quiet::begins(Duration::from_secs(120)));
        for client in &mut clients {
            client.wait_for("next try in");
            client.wait_for("connected over TCP");
        }
    }
    coordinator.skip();
    // One that was closed before may be told only now.
    coordinator.wait_for(" is over, with 2 contributions");
    coordinator.wait_for(" is over, with 2 contributions");
    for process in clients.into_iter().chain([coordinator]) {
        process.terminate();
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
        // What is blocked is not waited for again.
        assert!(
            ended.told.matches("trying TCP").count() < 2,
            "{}",
            ended.told
        );
    }
    deployment.sound(CLIENTS, quiet);
}

/// A client that nobody tells would look for its coordinator for ever.
#[test]
fn who_was_killed_after_its_last_answer_comes_again_and_hears_that_it_is_over() {
    let deployment = Deployment::new(CLIENTS, 1, ROUND);
    // The other one answers later.
    deployment.configure(0, "model = \"conv-s\"\n");
    let (mut coordinator, udp, tcp) = start(&deployment);
    let relay = swallowing(&udp);
    let [slow, mut quick] = [0, 1].map(|index| join(&deployment, index, relay.address(), &tcp));
    quick.wait_for("round 1.0 counts");
    // Over TCP its system says at once that it is gone.
    quick.kill();
    coordinator.wait_for("round 1.0 is over");
    let ended = slow.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);
    relay.cut(false);
    let quick = join(&deployment, 1, relay.address(), &tcp);
    for process in [quick, coordinator] {
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
}
