//! `fedistill-check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fedistill_check::{Liveness, ReadError, Records, Report, verify};
use fedistill_program::{Exit, Failure, OrExit, arguments, finish, print};

/// Reads what the coordinator and clients of a federation have kept, once they have ended, and says whether
/// anything that was acknowledged is lost or counts twice.
#[derive(Debug, Parser)]
#[command(version, after_help = Exit::HELP)]
struct Args {
    /// State folders: the coordinator's, and those of clients.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// When the last fault ended, in milliseconds since 1970: a round must have come about within
    /// `--within` seconds of it. Rounds bear the time of the coordinator's wall clock: give that
    /// machine's, and nothing where somebody has set it since.
    #[arg(long, requires = "within")]
    quiet_since: Option<u64>,
    /// Twice a round's deadline, in seconds.
    #[arg(long, requires = "quiet_since")]
    within: Option<u32>,
}

fn main() -> ExitCode {
    finish("fedistill-check", run(&arguments("fedistill-check")))
}

fn run(args: &Args) -> Result<(), Failure> {
    let records = Records::read(args.folders.iter().map(PathBuf::as_path));
    let records = records.map_err(|error| {
        let exit = match error {
            ReadError::Nothing(_) | ReadError::Second(_) | ReadError::Again { .. } => Exit::Usage,
            _ => Exit::Data,
        };
        Failure::new(exit, error)
    })?;
    if args.quiet_since.is_some() && records.coordinator.is_none() {
        let why =
            "whether rounds come about is in the coordinator's state alone: name its folder too";
        return Err(Failure::new(Exit::Usage, why));
    }
    let liveness = args.quiet_since.zip(args.within);
    let liveness = liveness.map(|(quiet_since, seconds)| Liveness {
        quiet_since,
        within: 1000 * u64::from(seconds),
    });
    let report: Report = verify(&records, liveness);
    match args.json {
        true => print(serde_json::to_string_pretty(&report).or_exit(Exit::Failed)?)?,
        false => print(&report)?,
    }
    match report.broken.first() {
        None if report.coordinator => Ok(()),
        None => {
            let why = "whether anything is lost or counts twice was not looked at: name the coordinator's folder too";
            Err(Failure::new(Exit::Usage, why))
        }
        Some(first) => {
            let (count, how) = (report.broken.len(), &first.how);
            let why = format!("{count} promises broken, the first: {how}");
            Err(Failure::new(Exit::Failed, why))
        }
    }
}
