use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::{
    Accuracy, ClientOnOwn, Ece, Experiment, OverClients, Partition, RoundRow, ServerOnTest,
    Summary, TeacherSource,
};

/// One federation of a comparison.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Cell {
    /// The algorithm, by name.
    pub method: String,
    /// How labels are spread, as a user writes it.
    pub partition: String,
    /// The teacher, as a user writes it; `none` for a method that hears of none.
    pub teacher: String,
    /// Everything random follows from it.
    pub seed: u64,
}

impl Cell {
    /// The cell of this method under these conditions.
    pub(crate) fn new(
        method: &str,
        partition: Partition,
        teacher: &TeacherSource,
        seed: u64,
    ) -> Self {
        Self {
            method: method.to_owned(),
            partition: partition.to_string(),
            teacher: teacher.to_string(),
            seed,
        }
    }

    /// The name of its folder: for people, and for nothing but this cell.
    pub(crate) fn folder(&self) -> String {
        let whole = self.to_string();
        let digest = blake3::hash(whole.as_bytes()).to_hex();
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = whole.replace(", ", "-").chars().map(plain).collect();
        let short: String = name.chars().take(64).collect();
        format!("{short}-{}", &digest[..8])
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            method,
            partition,
            teacher,
            seed,
        } = self;
        write!(f, "{method}, {partition}, teacher {teacher}, seed {seed}")
    }
}

/// What came of a cell, as it is written down.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// Which.
    #[serde(flatten)]
    pub cell: Cell,
    /// Tells its settings, its data, their split, the teacher's file, the version of the program and how answers are packed
    /// where nobody says it from others.
    pub world: String,
    /// What it came to.
    #[serde(flatten)]
    pub result: CellResult,
}

/// How a cell has ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellResult {
    /// With results.
    Done(Box<Done>),
    /// With an error, which would come again: it follows from the settings and the seed.
    Failed(String),
}

/// What a federation came to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Done {
    /// How good everyone is; what a single run compares with is not in it.
    pub accuracy: Accuracy,
    /// The server's model on the global test set: the averaged model, or the teacher at the end.
    pub server: Option<ServerOnTest>,
    /// The clients' models on their own.
    #[serde(default)]
    pub personal: Option<OverClients<ClientOnOwn>>,
    /// Expected calibration errors.
    pub ece: Ece,
    /// What crossed.
    pub bytes: CellBytes,
    /// blake3 of all final students' parameters.
    pub digest: String,
    /// Wall-clock time; without what was done twice because of a stop.
    pub seconds: f64,
}

/// Bytes of a client in all rounds, with frames and headers: means over clients.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct CellBytes {
    /// From it.
    pub up: f64,
    /// To it, with the transfer set.
    pub down: f64,
    /// What federated averaging of the same models sends in as many rounds, each way.
    pub fedavg: f64,
    /// Of that, what crossed of the transfer set: all of it once to who needs it.
    pub transfer_set: f64,
}

impl CellBytes {
    /// Both ways.
    pub fn total(&self) -> f64 {
        self.up + self.down
    }

    /// How many times what federated averaging sends.
    pub fn of_fedavg(&self) -> f64 {
        self.total() / (2.0 * self.fedavg)
    }

    fn of(experiment: &Experiment, config: &Config) -> Self {
        let federated = &experiment.federated;
        let clients = config.clients as f64;
        let each = |bytes: fn(&RoundRow) -> &Vec<u64>| {
            federated.rounds.iter().flat_map(bytes).sum::<u64>() as f64 / clients
        };
        let asked = config.per_round.unwrap_or(config.clients) * config.rounds as usize;
        let model = Summary::from(experiment).bytes.fedavg_per_client_round;
        Self {
            up: each(|row| &row.up),
            down: each(|row| &row.down),
            fedavg: model * asked as f64 / clients,
            transfer_set: each(|row| &row.ledger.down.transfer_set),
        }
    }
}

impl From<&Experiment> for Done {
    fn from(experiment: &Experiment) -> Self {
        let config = &experiment.config;
        let summary = Summary::from(experiment);
        Self {
            accuracy: summary.accuracy,
            server: summary.metrics.federated.server_on_test,
            personal: summary.metrics.federated.clients_on_own,
            ece: summary.ece,
            bytes: CellBytes::of(experiment, config),
            digest: summary.digest,
            seconds: summary.seconds.federation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_cell_s() {
        let teacher = TeacherSource::File("/a/very/long/path".repeat(20).into());
        let cell = |method: &str| Cell::new(method, Partition::Shards(2), &teacher, 1);
        let (one, other) = (cell("ds-fl:era").folder(), cell("ds-fl-era").folder());
        assert_ne!(one, other);
        assert!(one.starts_with("ds-fl-era-shards-2-teacher-"), "{one}");
        assert!(one.len() < 80 && !one.contains('/'), "{one}");
    }
}
