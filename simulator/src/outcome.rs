use std::collections::BTreeMap;

use fedistill_learning::Evaluation;
use serde::{Deserialize, Serialize};

/// What one round came to. Rows are equal that came to the same, however long that took.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RoundRow {
    /// Which round.
    pub round: u32,
    /// Which clients took part, where not all did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Vec<usize>>,
    /// Accuracy of the student of each client that took part, after it has distilled what came down.
    pub students: Vec<f64>,
    /// The teacher's, after it has learnt from the round.
    pub teacher: Option<f64>,
    /// What the method has decided by itself so far.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decided: BTreeMap<String, f64>,
    /// Bytes up, of each of them.
    pub up: Vec<u64>,
    /// Bytes down, of each of them; the transfer set is in a client's first.
    pub down: Vec<u64>,
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
            students,
            teacher,
            decided,
            up,
            down,
            seconds: _,
        } = self;
        (round, clients) == (&other.round, &other.clients)
            && (students, teacher) == (&other.students, &other.teacher)
            && decided == &other.decided
            && (up, down) == (&other.up, &other.down)
    }
}

/// What a simulated federation came to.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Outcome {
    /// Each client's student at the end, on the test samples.
    pub students: Vec<Evaluation>,
    /// Each student's number of parameters.
    pub parameters: Vec<usize>,
    /// The teacher as it began, on the test samples.
    pub teacher_before: Option<Evaluation>,
    /// The teacher at the end.
    pub teacher_after: Option<Evaluation>,
    /// Round by round; the last is the closing distillation, where the method has one.
    pub rounds: Vec<RoundRow>,
    /// blake3 of all final students' parameters, in the order of clients.
    pub digest: String,
    /// All bytes on the network, both ways, with all overhead; unknown of a run that was stopped and
    /// went on, and where there is no network.
    pub network: Option<u64>,
    /// Bytes of the transfer set, which each client fetches once.
    pub transfer_bytes: u64,
    /// Wall-clock time; of a run that went on after a stop, without what was done twice.
    pub seconds: f64,
}
