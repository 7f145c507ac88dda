//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use fedistill_program::Exit;
use fedistill_transport::Fallback;

/// Take part in a federation: train a small student on this device's private data, learn from all
/// others, and give back nothing but soft labels.
#[derive(Debug, Parser)]
#[command(name = "fedistill-client", version, after_help = Exit::HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take part until the federation is over; connects again for ever, whatever breaks.
    Run {
        #[command(flatten)]
        config: ConfigFlag,
        /// Where the coordinator is (HOST:PORT), instead of what the configuration says.
        #[arg(long, env = "FEDISTILL_COORDINATOR")]
        coordinator: Option<String>,
        /// Where it is over TCP once QUIC gets no answer, as where UDP is blocked: none, tcp (the same host,
        /// port 443), tcp:PORT or tcp:HOST:PORT; instead of what the configuration says.
        #[arg(long, env = "FEDISTILL_FALLBACK")]
        fallback: Option<Fallback>,
    },
    /// Tell how good the student is on the held-out samples of the configuration.
    Evaluate {
        #[command(flatten)]
        config: ConfigFlag,
        /// Use the private training samples, where there are no held-out ones.
        #[arg(long)]
        private: bool,
    },
    /// Print what the student says of samples: one CSV line each, with its class and how sure it is.
    Predict {
        #[command(flatten)]
        config: ConfigFlag,
        /// A folder of images, a .csv file, or a file of IDX images.
        input: PathBuf,
        /// A column of the .csv file to pass over.
        #[arg(long)]
        label: Option<String>,
        /// Print the probabilities of all classes.
        #[arg(long)]
        all: bool,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct ConfigFlag {
    /// The configuration.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "client.toml",
        env = "FEDISTILL_CONFIG"
    )]
    pub(crate) config: PathBuf,
}
