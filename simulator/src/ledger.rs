//! What crosses in each round, of each client, by what it is for.

use fedistill_transport::{Flow, Traffic};
use serde::{Deserialize, Serialize};

use crate::RoundRow;

/// Bytes one way of the clients of a round, in its order; see [`Flow`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Entries {
    /// What its answers take whole and uncoded, 4 bytes a value.
    pub raw: Vec<u64>,
    /// What crossed of answers, packed.
    pub packed: Vec<u64>,
    /// What crossed of the transfer set.
    pub transfer_set: Vec<u64>,
    /// What else crossed on streams.
    pub framing: Vec<u64>,
    /// UDP payload, with all overhead; none where there is no network. What is under way as a round
    /// ends belongs to either of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quic: Option<Vec<u64>>,
}

impl PartialEq for Entries {
    /// Acknowledgements and packets depend on the moment: what they come to is nobody's result.
    fn eq(&self, other: &Self) -> bool {
        let Self {
            raw,
            packed,
            transfer_set,
            framing,
            quic: _,
        } = self;
        (raw, packed) == (&other.raw, &other.packed)
            && (transfer_set, framing) == (&other.transfer_set, &other.framing)
    }
}

impl Entries {
    fn push(&mut self, flow: Flow) {
        // One of whom nothing was heard keeps its place.
        if flow.quic.is_some() || self.quic.is_some() {
            let before = self.raw.len();
            let quic = self.quic.get_or_insert_with(|| vec![0; before]);
            quic.push(flow.quic.unwrap_or(0));
        }
        self.raw.push(flow.raw);
        self.packed.push(flow.packed);
        self.transfer_set.push(flow.transfer_set);
        self.framing.push(flow.framing);
    }

    /// Of all clients together.
    pub fn total(&self) -> Flow {
        let sum = |bytes: &Vec<u64>| bytes.iter().sum();
        Flow {
            raw: sum(&self.raw),
            packed: sum(&self.packed),
            transfer_set: sum(&self.transfer_set),
            framing: sum(&self.framing),
            quic: self.quic.as_ref().map(sum),
        }
    }
}

/// Bytes of a round.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Ledger {
    /// From each client.
    pub up: Entries,
    /// To each client.
    pub down: Entries,
    /// What federated averaging of the same model costs each client in a round, both ways: twice 4
    /// bytes a parameter. Empty where students are somebody else's.
    #[serde(default)]
    pub fedavg: Vec<u64>,
}

impl Ledger {
    /// Notes what crossed for the next client, and what federated averaging would have cost it.
    pub(crate) fn push(&mut self, traffic: Traffic, fedavg: Option<u64>) {
        self.up.push(traffic.up);
        self.down.push(traffic.down);
        self.fedavg.extend(fedavg);
    }
}

/// Bytes one way of a client in a round: means.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct FlowMeans {
    /// What its answers take whole and uncoded, 4 bytes a value.
    pub raw: f64,
    /// What crossed of answers, packed.
    pub packed: f64,
    /// What crossed of the transfer set: a round's share of what is fetched once.
    pub transfer_set: f64,
    /// What else crossed on streams.
    pub framing: f64,
    /// UDP payload, with all overhead; none where there is no network.
    pub quic: Option<f64>,
}

/// Bytes of a client in a round: means over clients and rounds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LedgerMeans {
    /// From a client.
    pub up: FlowMeans,
    /// To a client.
    pub down: FlowMeans,
    /// What federated averaging of the same models costs, both ways: twice 4 bytes a parameter.
    pub fedavg: f64,
}

impl LedgerMeans {
    /// What crossed in all of these rounds, the closing one too, over `shares`: how often a client was
    /// asked in those that teach. `fedavg` is what a round of federated averaging costs a client.
    pub(crate) fn of(rounds: &[RoundRow], shares: f64, fedavg: f64) -> Self {
        let mean = |way: fn(&Ledger) -> &Entries| {
            let flows = rounds.iter().map(|row| way(&row.ledger).total());
            let sum = flows.fold(Flow::default(), |sum, flow| sum + flow);
            let mean = |bytes: u64| bytes as f64 / shares;
            FlowMeans {
                raw: mean(sum.raw),
                packed: mean(sum.packed),
                transfer_set: mean(sum.transfer_set),
                framing: mean(sum.framing),
                quic: sum.quic.map(mean),
            }
        };
        Self {
            up: mean(|ledger| &ledger.up),
            down: mean(|ledger| &ledger.down),
            fedavg,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(packed: u64, quic: Option<u64>) -> Traffic {
        let flow = |packed| Flow {
            raw: 4 * packed,
            packed,
            transfer_set: 7,
            framing: 30,
            quic,
        };
        Traffic {
            up: flow(packed),
            down: flow(2 * packed),
        }
    }

    #[test]
    fn means_are_of_what_is_noted() {
        let mut row = RoundRow::default();
        row.ledger.push(traffic(100, Some(500)), Some(80));
        row.ledger.push(traffic(300, Some(700)), Some(80));
        assert_eq!(row.ledger.up.total().application(), 400 + 14 + 60);
        assert_eq!(row.ledger.fedavg, [80, 80]);
        let means = LedgerMeans::of(&[row.clone(), RoundRow::default()], 2.0, 80.0);
        assert_eq!((means.up.packed, means.down.packed), (200.0, 400.0));
        assert_eq!((means.up.raw, means.up.framing), (800.0, 30.0));
        assert_eq!((means.up.quic, means.fedavg), (Some(600.0), 80.0));
        // Two runs are the same whose packets were not.
        let mut other = RoundRow::default();
        other.ledger.push(traffic(100, None), Some(80));
        other.ledger.push(traffic(300, None), Some(80));
        assert_eq!(row, other);
        assert_eq!(other.ledger.up.quic, None);
        other.ledger.up.framing[1] += 1;
        assert_ne!(row, other);
        let mut silent = Ledger::default();
        silent.push(Traffic::default(), None);
        silent.push(traffic(1, Some(9)), None);
        silent.push(Traffic::default(), None);
        assert_eq!(silent.up.quic, Some(vec![0, 9, 0]));
    }
}
