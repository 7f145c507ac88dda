//! The command line.

use std::path::PathBuf;

use clap::builder::{RangedI64ValueParser, RangedU64ValueParser};
use clap::{Parser, Subcommand};
use fedistill_program::Exit;
use fedistill_program::config::Steps;
use fedistill_protocol::Name;
use fedistill_transport::identity::{Validity, check_host};

/// Hold a federation's teacher and public samples, and run its rounds with the clients that come.
#[derive(Debug, Parser)]
#[command(name = "fedistill-coordinator", version, after_help = Exit::HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a federation: its root certificate, the coordinator's own, and a commented
    /// configuration.
    Init {
        /// A folder, made if it is not there.
        folder: PathBuf,
        /// The federation's name: a-z, 0-9, - _ and .
        #[arg(long, default_value = "federation")]
        federation: Name,
        /// What clients call this machine: a name or an address; may be given again.
        #[arg(long = "host", default_values = ["localhost", "127.0.0.1"], value_parser = host)]
        hosts: Vec<String>,
        /// Names of the classes.
        #[arg(long, value_delimiter = ',', default_value = "0,1,2,3,4,5,6,7,8,9")]
        classes: Vec<String>,
        /// Days for which the coordinator's certificate is valid.
        #[arg(long, default_value_t = 365, value_parser = days())]
        days: u32,
    },
    /// Make the bundle that lets one device take part. It holds a private key: hand it over
    /// safely.
    ClientCert {
        /// The device's name: a-z, 0-9, - _ and .
        name: Name,
        /// The folder that `init` made.
        #[arg(long, default_value = ".")]
        folder: PathBuf,
        /// Where to write it; FOLDER/NAME.pem by default.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Days for which it is valid.
        #[arg(long, default_value_t = 90, value_parser = days())]
        days: u32,
    },
    /// Train, import or evaluate the teacher.
    #[command(subcommand)]
    Teacher(TeacherCommand),
    /// Run the rounds that are left. SIGTERM or Ctrl-C stops it; started again, it goes on.
    Run {
        #[command(flatten)]
        config: ConfigFlag,
        /// Listen here instead of where the configuration says.
        #[arg(long, env = "FEDISTILL_LISTEN")]
        listen: Option<std::net::SocketAddr>,
        /// The state was put back on purpose to what it had been before: run under this epoch, above all that
        /// clients have seen, or a later one. They take no part in rounds that they have answered, unless told so.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..1 << 48))]
        epoch: Option<u64>,
    },
    /// Tell how far the rounds are.
    Status {
        #[command(flatten)]
        config: ConfigFlag,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TeacherCommand {
    /// Train the teacher on the labelled samples of the configuration.
    Train {
        #[command(flatten)]
        config: ConfigFlag,
        /// Passes over the samples.
        #[arg(long, default_value_t = 60, value_parser = count())]
        epochs: usize,
        /// Samples a step.
        #[arg(long, default_value_t = 10, value_parser = count())]
        batch: usize,
        /// Length of a step of stochastic gradient descent.
        #[arg(long, default_value_t = 0.1, value_parser = rate, allow_negative_numbers = true)]
        learning_rate: f32,
        /// Overwrite a teacher that is there.
        #[arg(long)]
        force: bool,
    },
    /// Take over parameters that another tool has trained, from a safetensors file.
    Import {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        config: ConfigFlag,
        /// What a parameter is called in the file; may be given again.
        #[arg(long = "name", value_name = "OURS=THEIRS")]
        names: Vec<String>,
        /// Overwrite a teacher that is there.
        #[arg(long)]
        force: bool,
    },
    /// Tell how good the teacher is on the held-out samples of the configuration.
    Evaluate {
        #[command(flatten)]
        config: ConfigFlag,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct ConfigFlag {
    /// The configuration.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "coordinator.toml",
        env = "FEDISTILL_CONFIG"
    )]
    pub(crate) config: PathBuf,
}

fn days() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=Validity::MOST_DAYS.into())
}

fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn rate(text: &str) -> Result<f32, String> {
    let learning_rate = text
        .parse()
        .map_err(|error: std::num::ParseFloatError| error.to_string())?;
    let momentum = 0.0;
    let steps = Steps::Sgd {
        learning_rate,
        momentum,
    };
    steps.check().map(|()| learning_rate)
}

fn host(text: &str) -> Result<String, String> {
    check_host(text).map(|()| text.to_owned())
}
