use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// How a program ends; the numbers are part of its interface. 2 is what the argument parser
/// uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Something else went wrong: a full disk, a bug.
    Failed,
    /// Bad arguments or a bad configuration.
    Usage,
    /// Data, a model or a state folder cannot be used.
    Data,
    /// A certificate, key or bundle cannot be used.
    Identity,
    /// No address to listen on, or no way to the other side.
    Network,
    /// The coordinator will not have this client, or the client does not fit its federation.
    NotWelcome,
    /// Too few clients for too long.
    TooFewClients,
}

impl Exit {
    /// Its number.
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Data => 3,
            Self::Identity => 4,
            Self::Network => 5,
            Self::NotWelcome => 6,
            Self::TooFewClients => 7,
        }
    }

    /// What `--help` says about exit codes.
    pub const HELP: &'static str = "Exit codes: 0 done, 1 failed, 2 bad arguments or configuration, 3 bad data, model or state, 4 bad certificate or key, 5 network, 6 not welcome in the federation, 7 too few clients";
}

/// Why a program ends early.
#[derive(Debug)]
pub struct Failure {
    /// The number.
    pub exit: Exit,
    /// One line: what, where, what to do.
    pub why: String,
}

impl Failure {
    /// Ends with `exit`, because of `why`.
    pub fn new(exit: Exit, why: impl Display) -> Self {
        let why = why.to_string();
        Self { exit, why }
    }
}

/// Says with which number an error ends the program.
pub trait OrExit<T> {
    /// This result, with `exit` as the way to end.
    ///
    /// # Errors
    /// The same, as a [`Failure`].
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Display> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(exit, error))
    }
}

/// The arguments of this process. Where they are none of its, it ends as [`finish`] has it: on one line, with
/// [`Exit::Usage`]; and where help or the version is asked for, with that.
pub fn arguments<T: clap::Parser>(program: &str) -> T {
    T::try_parse().unwrap_or_else(|error| {
        // Who says nothing at all is told what there is.
        let kind = clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        if !error.use_stderr() || error.kind() == kind {
            error.exit();
        }
        let why = in_a_line(&error.to_string());
        // Nothing is left to tell it to when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{program}: {why}; see --help");
        std::process::exit(Exit::Usage.code().into())
    })
}

/// What an argument parser says in many lines, but for how to ask it for more.
fn in_a_line(told: &str) -> String {
    let told = told.strip_prefix("error: ").unwrap_or(told);
    let is_said = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more");
    let lines = told.lines().take_while(is_said);
    lines
        .flat_map(str::split_whitespace)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Tells why the program ends, on one line of standard error, and gives its exit code.
pub fn finish(program: &str, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let why = failure.why.split_whitespace().collect::<Vec<_>>().join(" ");
            // Nothing is left to tell it to when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{program}: {why}");
            ExitCode::from(failure.exit.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[arg(long)]
        rounds: u32,
        #[arg(long, conflicts_with = "rounds")]
        all: bool,
    }

    #[test]
    fn what_is_wrong_with_arguments_takes_a_line() {
        let cases = [
            (
                &["x", "--rounds=q"][..],
                "invalid value 'q' for '--rounds <ROUNDS>': invalid digit found in string",
            ),
            (
                &["x", "--round=2"],
                "unexpected argument '--round' found tip: a similar argument exists: '--rounds'",
            ),
            (
                &["x"],
                "the following required arguments were not provided: --rounds <ROUNDS>",
            ),
            (
                &["x", "--rounds=1", "--all"],
                "the argument '--rounds <ROUNDS>' cannot be used with '--all'",
            ),
        ];
        for (args, said) in cases {
            let error = Args::try_parse_from(args).unwrap_err();
            assert_eq!(in_a_line(&error.to_string()), said);
        }
    }
}
