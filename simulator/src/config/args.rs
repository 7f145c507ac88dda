//! What the command line says.

use std::path::PathBuf;

use clap::Parser;
use fedistill_learning::Architecture;
use fedistill_program::{ConfigError, Exit, config};
use serde::Deserialize;

use crate::compare::CompareArgs;
use crate::{Byzantine, Partition, TeacherSource, Transport};

/// Run a whole federation on this machine: a coordinator with its teacher and many clients, with
/// the wire bytes of a real one. Without arguments: ten clients on Fashion-MNIST over QUIC.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "fedistill-simulate",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// Another task than one federation.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Of one federation.
    #[command(flatten)]
    pub run: Args,
}

/// What else the program does.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Compare methods: a federation for each of them, each partition, each teacher and each seed.
    Compare(Box<CompareArgs>),
}

/// How one federation is told of.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "fedistill-simulate", version, after_help = Exit::HELP)]
pub struct Args {
    /// A TOML file; flags come before it, it comes before the defaults.
    #[arg(long, value_name = "FILE", env = "FEDISTILL_CONFIG")]
    pub config: Option<PathBuf>,
    /// fashion-mnist-mini, fashion-mnist, mnist, watch, or a folder of IDX files with MNIST's names.
    /// Names are looked for in $FEDISTILL_DATA, ./fixtures and ./data.
    #[arg(long, value_name = "NAME|DIR", env = "FEDISTILL_DATA_SET")]
    pub data: Option<String>,
    /// The algorithm, as NAME:VARIANT,KEY=VALUE,...: adaptive, logit-mean, ds-fl, fedmd, fedntd, cfd, scarlet, vote,
    /// selective, comet, kt-pfl, fd, fedproto, fedtgp, teacher-only or local (docs/methods.md); or, to
    /// compare with and in a simulation only, fedavg or feddf.
    #[arg(long, value_name = "NAME", env = "FEDISTILL_METHOD")]
    pub method: Option<String>,
    /// Number of clients; by default 10 or, with partition natural, as many as the data makes.
    #[arg(long, value_name = "N", env = "FEDISTILL_CLIENTS")]
    pub clients: Option<usize>,
    /// Clients that a round asks, chosen by chance for each; all by default.
    #[arg(long, value_name = "N", env = "FEDISTILL_PER_ROUND")]
    pub per_round: Option<usize>,
    /// Number of rounds.
    #[arg(long, value_name = "N", env = "FEDISTILL_ROUNDS")]
    pub rounds: Option<u32>,
    /// How samples are spread over clients: iid, dirichlet:ALPHA, shards:K (sorted and cut) or classes:K (so
    /// many classes each, evenly shared), all by label; or natural, a client for each person, device or
    /// site that the data tells of.
    #[arg(long, value_name = "HOW", env = "FEDISTILL_PARTITION")]
    pub partition: Option<Partition>,
    /// none, untrained (a net that learns what the federation comes to, and has no vote in it), train:N
    /// (trained on N labelled public samples), or a file.
    #[arg(long, value_name = "WHICH", env = "FEDISTILL_TEACHER")]
    pub teacher: Option<TeacherSource>,
    /// quic (on loopback, with mutual TLS) or memory.
    #[arg(long, value_enum, env = "FEDISTILL_TRANSPORT")]
    pub transport: Option<Transport>,
    /// Everything random follows from it.
    #[arg(long, value_name = "S", env = "FEDISTILL_SEED")]
    pub seed: Option<u64>,
    /// The folder that summary.json, rounds.jsonl and report.html are written to.
    #[arg(long, value_name = "DIR", env = "FEDISTILL_OUT")]
    pub out: Option<PathBuf>,
    /// Clients that train at a time, 1 to 1024; no result depends on it. All cores by default.
    #[arg(long, value_name = "N", env = "FEDISTILL_THREADS")]
    pub threads: Option<usize>,
    /// The clients' nets, dealt out in turn: mlp-s, mlp-m or mlp-l; of images, conv-s, conv-m, conv-l,
    /// fedavg-cnn, resnet-8, resnet-20 or mobilenet-v2; of windows of sensor values, sensor-conv.
    /// (tinybert-4 takes texts, which no data set here has.)
    #[arg(
        long,
        value_name = "NET,...",
        value_delimiter = ',',
        env = "FEDISTILL_MODELS"
    )]
    pub models: Option<Vec<Architecture>>,
    /// Let N clients, chosen by the seed, lie about what they know: N:lma (sure of the least likely class),
    /// N:cpa (of the class that goes least together with the likeliest one) or N:fdla (their values in the
    /// wrong order); N:lma:knowing and so on by the mean of what all honest clients say, which they know. A method whose aggregate is a mean takes robust=median or robust=geometric-median
    /// against them.
    #[arg(long, value_name = "N:ATTACK", env = "FEDISTILL_BYZANTINE")]
    pub byzantine: Option<Byzantine>,
    /// Run the federation alone, without what it is compared with.
    #[arg(long)]
    pub no_baselines: bool,
    /// Go on with the run in the folder for results that a stop has ended; without further
    /// arguments it is as it was begun. The result is the same, to the bit, as without the stop.
    #[arg(long, conflicts_with = "share_out")]
    pub resume: bool,
    /// Run nothing: write to DIR what each party would have, as IDX files, for a federation of
    /// processes.
    #[arg(long, value_name = "DIR")]
    pub share_out: Option<PathBuf>,
}

impl Args {
    /// Whether the number of clients is told: by a flag, the file, or a run that was begun.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(crate) fn tell_clients(&self) -> Result<bool, ConfigError> {
        #[derive(Deserialize)]
        struct Told {
            clients: Option<usize>,
        }
        Ok(match &self.config {
            _ if self.clients.is_some() => true,
            Some(path) => config::read::<Told>(path)?.clients.is_some(),
            None => self.resume,
        })
    }
}
