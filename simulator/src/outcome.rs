use std::collections::BTreeMap;

use fedistill_transport::Traffic;
use serde::{Deserialize, Serialize};

use crate::ledger::Ledger;
use crate::metrics::{ClientOnOwn, ClientOnTest, ClientScore, ServerOnTest, ServerScore};

/// What one round came to. Rows are equal that came to the same, however long that took.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RoundRow {
    /// Which round.
    pub round: u32,
    /// Which clients took part, where not all did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Vec<usize>>,
    /// The server's model on the global test set: the teacher after it has learnt from the round, or
    /// the averaged model.
    #[serde(default, alias = "teacher")]
    pub server_on_test: Option<ServerOnTest>,
    /// The model of each client that took part on the global test set: its student after it has
    /// distilled what came down, or the averaged model that it is sent.
    #[serde(default, alias = "students")]
    pub clients_on_test: Vec<ClientOnTest>,
    /// The same models on their client's own; `None` where nothing of its own can be tested.
    #[serde(default)]
    pub clients_on_own: Vec<Option<ClientOnOwn>>,
    /// What the method has decided by itself so far.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decided: BTreeMap<String, f64>,
    /// Share of the round's samples of which what came up and the teacher as it was before hold the same
    /// class the likeliest; below a half, from the fourth round on, is an alarm. None where there is nothing to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Bytes up, of each of them.
    pub up: Vec<u64>,
    /// Bytes down, of each of them; the transfer set is in a client's first.
    pub down: Vec<u64>,
    /// What of those bytes is for what, and what they cost on the network.
    #[serde(default)]
    pub ledger: Ledger,
    /// Wall-clock time from the end of the round before, or from the first one's start, to this one's
    /// end, evaluation included.
    #[serde(default)]
    pub seconds: f64,
}

impl PartialEq for RoundRow {
    fn eq(&self, other: &Self) -> bool {
        // All fields by name, so that a new one is not forgotten here.
        let Self {
            round,
            clients,
            server_on_test,
            clients_on_test,
            clients_on_own,
            decided,
            agreement,
            up,
            down,
            ledger,
            seconds: _,
        } = self;
        (round, clients) == (&other.round, &other.clients)
            && (server_on_test, clients_on_test) == (&other.server_on_test, &other.clients_on_test)
            && (clients_on_own, decided) == (&other.clients_on_own, &other.decided)
            && agreement == &other.agreement
            && (up, down) == (&other.up, &other.down)
            && ledger == &other.ledger
    }
}

impl RoundRow {
    /// Notes what has crossed for the next client.
    pub(crate) fn enter(&mut self, traffic: Traffic, fedavg: Option<u64>) {
        self.up.push(traffic.up.application());
        self.down.push(traffic.down.application());
        self.ledger.push(traffic, fedavg);
    }

    /// Notes how good the clients' models are, in their order.
    pub(crate) fn score<'a>(&mut self, clients: impl IntoIterator<Item = &'a ClientScore>) {
        for client in clients {
            self.clients_on_test.push(client.on_test);
            self.clients_on_own.push(client.on_own);
        }
    }
}

/// What a simulated federation came to.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Outcome {
    /// The models of all clients that have taken part, in their order, each as it was when it did so last; where a closing
    /// round follows, that asks all. The averaged model, of all clients.
    pub clients: Vec<ClientScore>,
    /// Each student's number of parameters.
    pub parameters: Vec<usize>,
    /// The teacher as it began.
    pub server_before: Option<ServerScore>,
    /// The server's model at the end: the teacher, or the averaged model.
    pub server_after: Option<ServerScore>,
    /// Samples of the global test set.
    #[serde(default)]
    pub test_samples: usize,
    /// Round by round; the last is the closing distillation, where the method has one.
    pub rounds: Vec<RoundRow>,
    /// blake3 of all final students' parameters, in the order of clients.
    pub digest: String,
    /// All bytes on the network, both ways, with all overhead; unknown of a run that was stopped and
    /// went on, and where there is no network.
    pub network: Option<u64>,
    /// Bytes of the transfer set, which each client that needs it fetches once.
    pub transfer_bytes: u64,
    /// Wall-clock time; of a run that went on after a stop, without what was done twice.
    pub seconds: f64,
}
