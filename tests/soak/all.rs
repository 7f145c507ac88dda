//! All that this program does, one after the other, and what it came to.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

/// What a part's line begins with that goes into the table.
const CAME_TO: &str = "came to: ";

/// Tells what a part came to: a line for the table.
pub(crate) fn came_to(what: &str) {
    println!("{CAME_TO}{what}");
}

/// Run all of it, one after the other, and print a table of what it came to. Each part is a process of its own; ends with exit
/// code 1 if one of them does not end well. It takes hours.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct All {
    /// As short as it says something: a few minutes.
    #[arg(long)]
    quick: bool,
}

/// A part: what it is, its arguments, and those that make it short.
struct Part {
    what: &'static str,
    program: Program,
    arguments: &'static str,
    quick: &'static str,
}

#[derive(Clone, Copy)]
enum Program {
    /// This one.
    Soak,
    /// Tests that are passed over otherwise; `quick` are others in their place.
    Tests,
}

const PARTS: &[Part] = &[
    Part {
        what: "kills (-9) of a coordinator and of clients at random instants",
        program: Program::Soak,
        arguments: "kills",
        quick: "--coordinator 10 --clients 60",
    },
    Part {
        what: "a disk that says only at fsync that it is full, and a reboot after it; as root, as it mounts a file system",
        program: Program::Tests,
        arguments: "crashes what_is_acknowledged --ignored",
        quick: "crashes a_contribution_of_which",
    },
    Part {
        what: "a kill after each write, through a whole round",
        program: Program::Tests,
        arguments: "crashes killed_after_each --ignored",
        quick: "crashes killed_after_its",
    },
    Part {
        what: "random sequences of operations",
        program: Program::Tests,
        arguments: "sequences a_hundred_thousand --ignored",
        quick: "sequences a_hundred_thousand --ignored",
    },
    Part {
        what: "contributions acknowledged a second, on disk and in memory",
        program: Program::Soak,
        arguments: "acknowledge",
        quick: "--clients 1,100 --repeats 1",
    },
    Part {
        what: "clients that leave and come",
        program: Program::Soak,
        arguments: "churn",
        quick: "--clients 20 --minutes 0.4 --period 2 --every 1 --pace 0.3",
    },
    Part {
        what: "connections on which nothing happens",
        program: Program::Soak,
        arguments: "idle",
        quick: "--connections 500 --settle 1",
    },
    Part {
        what: "clients of a coordinator that is killed (-9), and back a second later",
        program: Program::Soak,
        arguments: "reconnect",
        quick: "--clients 100 --times 1 --keep-alive 1",
    },
    Part {
        what: "clients of a coordinator that is stopped, and back a second later",
        program: Program::Soak,
        arguments: "reconnect --going stopped",
        quick: "--clients 100 --times 1 --keep-alive 1",
    },
    Part {
        what: "clients that drop out of rounds",
        program: Program::Soak,
        arguments: "dropout",
        quick: "--dropout 0,0.3 --over-selection 1,1.3 --cohort 5 --clients 8 --rounds 20 --median 0.05",
    },
    Part {
        what: "the same where a fifth of all datagrams is lost and all are late",
        program: Program::Soak,
        arguments: "dropout --loss 0.2 --delay-ms 200 --rounds 20",
        quick: "--dropout 0,0.3 --over-selection 1.3 --cohort 5 --clients 8 --rounds 4",
    },
];

impl Part {
    fn command(&self, quick: bool) -> Command {
        let soak = std::env::current_exe().unwrap();
        match self.program {
            Program::Soak => {
                let mut command = Command::new(soak);
                command.args(self.arguments.split(' '));
                if quick {
                    // What is said twice counts as it is said last.
                    command.args(self.quick.split(' '));
                }
                command
            }
            Program::Tests => {
                let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
                let mut command = Command::new(cargo);
                command.current_dir(fedistill_tests::root());
                command.args(["test", "--quiet", "--locked", "-p", "fedistill-tests"]);
                let profile = soak.parent().and_then(|folder| folder.file_name());
                if profile.is_some_and(|profile| profile == "release") {
                    command.arg("--release");
                }
                let arguments = if quick { self.quick } else { self.arguments };
                let (test, rest) = arguments.split_once(' ').unwrap();
                command.args(["--test", test, "--", "--nocapture", "--test-threads", "1"]);
                command.args(rest.split(' '));
                command
            }
        }
    }

    /// Runs it, and passes on what it prints; what it came to, and whether it ended well.
    fn run(&self, quick: bool) -> (String, bool) {
        let mut child = self.command(quick).stdout(Stdio::piped()).spawn().unwrap();
        let mut told = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            println!("{line}");
            // A test's name may stand before what it prints.
            if let Some((_, what)) = line.split_once(CAME_TO) {
                told.push(what.to_owned());
            }
        }
        let status = child.wait().unwrap();
        let fine = status.success() && !told.is_empty();
        if !fine {
            told.insert(0, format!("**failed** ({status})"));
        }
        (told.join("; "), fine)
    }
}

impl All {
    /// Runs it.
    pub(crate) fn run(self) -> ExitCode {
        let mut rows = Vec::new();
        let mut fine = true;
        for part in PARTS {
            println!("\n{}", part.what);
            let (told, well) = part.run(self.quick);
            fine &= well;
            rows.push(format!("| {} | {told} |", part.what));
        }
        println!("\n| what | came to |\n|---|---|");
        rows.iter().for_each(|row| println!("{row}"));
        match fine {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}
