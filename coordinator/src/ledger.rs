//! What crosses between the coordinator and each client, by what it is for.

mod books;

use std::collections::BTreeMap;

use fedistill_program::size;
use fedistill_protocol::Name;
use fedistill_transport::{Connection, Direction, Flow, Metered, Traffic};
use serde::{Deserialize, Serialize};

pub(crate) use self::books::{Books, Lessons};

/// What has crossed on a connection, seen from the coordinator.
pub(crate) fn traffic(connection: &Metered) -> Traffic {
    let (meter, network) = (connection.meter(), connection.network_bytes());
    let (up, down) = (meter.received(), meter.sent());
    Traffic {
        up: meter.flow(Direction::Received, up, network.map(|bytes| bytes.received)),
        down: meter.flow(Direction::Sent, down, network.map(|bytes| bytes.sent)),
    }
}

/// What has crossed for one client.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// From the end of the round before to the end of the last one.
    pub last_round: Traffic,
    /// In all rounds, and of one that is open what had crossed before a stop.
    pub total: Traffic,
    /// Of the open round, what had crossed before a stop: [`Self::total`] has it already.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub under_way: Traffic,
    /// Parameters of its student, where it says so: federated averaging would send them all each way in
    /// each round, as f32.
    #[serde(default)]
    pub parameters: u64,
}

fn is_nothing(traffic: &Traffic) -> bool {
    *traffic == Traffic::default()
}

/// What has crossed for each client, as `status.json` has it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Ledger {
    clients: BTreeMap<String, Entry>,
    /// What had crossed in this process when the last round ended.
    #[serde(skip)]
    before: BTreeMap<Name, Traffic>,
}

impl Ledger {
    /// What has crossed for this client.
    pub fn of(&self, client: &str) -> Option<&Entry> {
        self.clients.get(client)
    }

    /// What students clients have.
    pub(crate) fn models(&mut self, parameters: &BTreeMap<Name, u64>) {
        for (name, &parameters) in parameters.iter().filter(|(_, count)| **count > 0) {
            let entry = self.clients.entry(name.to_string()).or_default();
            entry.parameters = parameters;
        }
    }

    /// A round has ended; this had crossed in this process by then.
    pub(crate) fn close(&mut self, now: BTreeMap<Name, Traffic>) {
        self.count(now);
        for entry in self.clients.values_mut() {
            entry.last_round = std::mem::take(&mut entry.under_way);
        }
    }

    /// The process ends within a round, or a round with it; this had crossed in the process by then.
    pub(crate) fn count(&mut self, now: BTreeMap<Name, Traffic>) {
        for (name, traffic) in &now {
            let before = self.before.get(name).copied().unwrap_or_default();
            let entry = self.clients.entry(name.to_string()).or_default();
            let since = traffic.since(&before);
            entry.under_way += since;
            entry.total += since;
        }
        self.before = now;
    }

    /// In a line, what crossed in the last round for each of these clients on average.
    pub(crate) fn line(&self, clients: &[String]) -> Option<String> {
        let rounds: Vec<Traffic> = clients
            .iter()
            .filter_map(|client| Some(self.of(client)?.last_round))
            .collect();
        let count = rounds.len() as f64;
        let way = |of: fn(&Traffic) -> Flow| {
            let flow = rounds.iter().map(of).fold(Flow::default(), |a, b| a + b);
            let mean = |bytes: u64| size(bytes as f64 / count);
            let quic = flow.quic.map_or_else(String::new, |quic| {
                format!(", {} on the network", mean(quic))
            });
            let set = match flow.transfer_set {
                0 => String::new(),
                set => format!(", {} of the transfer set", mean(set)),
            };
            format!(
                "{} ({} of answers, {} uncoded{set}, {} of framing{quic})",
                mean(flow.application()),
                mean(flow.packed),
                mean(flow.raw),
                mean(flow.framing)
            )
        };
        let models = clients.iter().filter_map(|client| self.of(client));
        let models: Vec<f64> = models
            .filter(|entry| entry.parameters > 0)
            .map(|entry| 4.0 * entry.parameters as f64)
            .collect();
        let averaging = match models.len() {
            0 => String::new(),
            known => format!(
                "; federated averaging of their models would take {} each way",
                size(models.iter().sum::<f64>() / known as f64)
            ),
        };
        (!rounds.is_empty()).then(|| {
            format!(
                "bytes of each: up {}, down {}{averaging}",
                way(|traffic| traffic.up),
                way(|traffic| traffic.down)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(packed: u64) -> Traffic {
        let flow = Flow {
            raw: 10 * packed,
            packed,
            framing: 100,
            quic: Some(2 * packed),
            ..Flow::default()
        };
        Traffic {
            up: flow,
            down: flow,
        }
    }

    #[test]
    fn rounds_add_up_over_processes() {
        let name: Name = "ward-7".parse().unwrap();
        let mut ledger = Ledger::default();
        assert_eq!(ledger.line(&["ward-7".to_owned()]), None);
        for packed in [1000, 3000] {
            ledger.close([(name.clone(), traffic(packed))].into());
        }
        let entry = ledger.of("ward-7").unwrap();
        assert_eq!(entry.total, traffic(3000));
        assert_eq!(entry.last_round.up.packed, 2000);
        assert_eq!(entry.last_round.up.framing, 0);
        // Another process begins to count anew, and goes on with what is written.
        let text = serde_json::to_string(&ledger).unwrap();
        let mut later: Ledger = serde_json::from_str(&text).unwrap();
        later.close([(name.clone(), traffic(500))].into());
        assert_eq!(later.of("ward-7").unwrap().last_round, traffic(500));
        assert_eq!(later.of("ward-7").unwrap().total.up.packed, 3500);
        let line = later.line(&["ward-7".to_owned()]).unwrap();
        assert_eq!(
            line,
            "bytes of each: up 600 B (500 B of answers, 5.0 kB uncoded, 100 B of framing, 1.0 kB on the network), down 600 B (500 B of answers, 5.0 kB uncoded, 100 B of framing, 1.0 kB on the network)"
        );
        let mut first = Ledger::default();
        let mut with_set = traffic(500);
        with_set.down.transfer_set = 2_000_000;
        first.close([(name.clone(), with_set)].into());
        let line = first.line(&["ward-7".to_owned()]).unwrap();
        assert!(
            line.contains("down 2.00 MB (500 B of answers, 5.0 kB uncoded, 2.00 MB of the transfer set, 100 B of framing"),
            "{line}"
        );
        // A round that is open at a stop goes on in the next process, and its bytes are of one round.
        later.count([(name.clone(), traffic(700))].into());
        let entry = later.of("ward-7").unwrap();
        assert_eq!(entry.total.up.packed, 3700);
        assert_eq!(entry.last_round.up.packed, 500);
        let text = serde_json::to_string(&later).unwrap();
        let mut later: Ledger = serde_json::from_str(&text).unwrap();
        later.close([(name.clone(), traffic(40))].into());
        let entry = later.of("ward-7").unwrap();
        assert_eq!(entry.total.up.packed, 3740);
        assert_eq!(entry.last_round.up.packed, 240);
        later.close([(name.clone(), traffic(50))].into());
        assert_eq!(later.of("ward-7").unwrap().last_round.up.packed, 10);
        // Who is not there any more sends nothing.
        later.close(BTreeMap::new());
        assert_eq!(later.of("ward-7").unwrap().last_round, Traffic::default());
    }
}
