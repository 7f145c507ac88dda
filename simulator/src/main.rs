//! `fedistill-simulate`: a whole federation on one machine, or many that are compared.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use fedistill_coordinator::CoordinatorError;
use fedistill_program::{Exit, Failure, OrExit, arguments, finish, lock, log, print};
use fedistill_simulator::compare::{self, CompareArgs, Comparison};
use fedistill_simulator::config::{Args, Cli, Command, Config};
use fedistill_simulator::{
    Experiment, Journal, Progress, SimulationError, experiment, output, share_out,
};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    log::start("error");
    let Cli { command, run } = arguments("fedistill-simulate");
    let done = match command {
        Some(Command::Compare(args)) => compare(*args),
        None => simulate(run),
    };
    finish("fedistill-simulate", done)
}

fn simulate(args: Args) -> Result<(), Failure> {
    let (folder, resume) = (args.share_out.clone(), args.resume);
    let config = Config::from_args(args).map_err(failure)?;
    if let Some(folder) = folder {
        share_out(&config, &folder).map_err(failure)?;
        return print(format_args!("shared out to {}", folder.display()));
    }
    output::prepare(&config.out).or_exit(Exit::Failed)?;
    let journal = match resume {
        true => Journal::resume(&config),
        false => Journal::begin(&config),
    };
    let journal = journal.map_err(failure)?;
    let runtime = runtime(&config)?;
    let done = runtime.block_on(experiment::run(&config, Some(&journal), Progress::new));
    let experiment = done.map_err(failure)?;
    tell(&experiment, &config.out)?;
    journal.end();
    Ok(())
}

fn compare(args: CompareArgs) -> Result<(), Failure> {
    let comparison = Comparison::from_args(args).map_err(failure)?;
    let out = &comparison.config.out;
    output::prepare(out).or_exit(Exit::Failed)?;
    // What it writes can be made again, so it goes on where nothing can be locked.
    let _lock = lock::take_if_known(out)?;
    let runtime = runtime(&comparison.config)?;
    let tell = |line: &str| {
        // Whoever read it may have left, which ends no run.
        let _ = writeln!(std::io::stderr(), "{line}");
    };
    let done = runtime.block_on(compare::run(&comparison, tell, Progress::passing));
    let results = done.map_err(failure)?;
    results.write(out).or_exit(Exit::Failed)?;
    let report = out.join("compare.html");
    print(format_args!(
        "{}\nreport: {}",
        results.table(),
        report.display()
    ))?;
    let failed = results.failed();
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(Failure::new(
            Exit::Failed,
            format!(
                "{} of {} federations failed, first {first}",
                failed.len(),
                results.cells.len()
            ),
        )),
    }
}

fn runtime(config: &Config) -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .max_blocking_threads(config.threads + 2)
        .enable_all()
        .build()
        .or_exit(Exit::Failed)
}

fn tell(experiment: &Experiment, out: &Path) -> Result<(), Failure> {
    output::write(experiment, out).or_exit(Exit::Failed)?;
    let table = fedistill_simulator::table(experiment);
    let report = out.join("report.html");
    print(format_args!("{table}\nreport: {}", report.display()))
}

fn failure(error: SimulationError) -> Failure {
    let exit = match &error {
        SimulationError::Config(_) | SimulationError::Settings(_) => Exit::Usage,
        SimulationError::Partition(_) | SimulationError::Method(_) => Exit::Usage,
        SimulationError::Data(_) | SimulationError::Checkpoint(_) => Exit::Data,
        SimulationError::Store(_) | SimulationError::Damaged(_) => Exit::Data,
        SimulationError::Architecture(_) => Exit::Data,
        SimulationError::Coordinator(CoordinatorError::Settings(_)) => Exit::Usage,
        SimulationError::Transport(_) => Exit::Network,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}
