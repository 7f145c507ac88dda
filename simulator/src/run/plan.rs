//! How a simulated federation is run.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use fedistill_federation::{Method, Training};
use fedistill_learning::Architecture;
use fedistill_protocol::{Precision, Rounding};
use serde::{Deserialize, Serialize};

use crate::Byzantine;

/// What carries the bytes of a simulated federation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// QUIC on loopback, with mutual TLS and a certificate for each client.
    Quic,
    /// Channels within the process.
    Memory,
}

/// How a simulated federation is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The algorithm.
    pub method: Arc<dyn Method>,
    /// Rounds.
    pub rounds: u32,
    /// How hard clients and teacher train in a round.
    pub training: Training,
    /// Transfer samples that a round speaks about.
    pub rows: u32,
    /// How answers are packed.
    pub precision: Precision,
    /// How clients round what they pack.
    pub rounding: Rounding,
    /// The clients' nets; client i has the i-th, and so on from the start.
    pub models: Vec<Architecture>,
    /// What carries the bytes.
    pub transport: Transport,
    /// Clients that train at a time.
    pub threads: usize,
    /// Clients that a round asks; all by default.
    pub per_round: Option<usize>,
    /// How students are kept while they do not train.
    pub keep: Keep,
    /// Clients that lie about what they know; by default none do.
    pub byzantine: Option<Byzantine>,
    /// Everything random follows from it.
    pub seed: u64,
}

impl Plan {
    /// The net of a client.
    pub fn model(&self, client: usize) -> Architecture {
        let models = self.models.len().max(1);
        let model = self.models.get(client % models).copied();
        model.unwrap_or(Architecture::MlpS)
    }
}

/// How students are kept while they do not train.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Bytes that they may take in memory; beyond that they go to a file.
    pub memory: u64,
    /// The folder of that file.
    pub folder: PathBuf,
}
