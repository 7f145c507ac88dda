//! Measures the relations of papers on whole data sets, and writes the table of `docs/papers.md`:
//! `cargo run --release -p fedistill-tests --bin fedistill-papers -- --data mnist,fashion-mnist`
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use fedistill_tests::papers::{Lab, RELATIONS, find, markdown};

/// Measure the relations that papers report, and print a table of them: each rule is about the mean over
/// seeds.
#[derive(Debug, Parser)]
#[command(name = "fedistill-papers", version)]
struct Args {
    /// Data sets: mnist, fashion-mnist, or folders of four IDX files with MNIST's names. Names are looked
    /// for in $FEDISTILL_DATA, ./fixtures and ./data.
    #[arg(
        long,
        value_name = "NAME|DIR,...",
        value_delimiter = ',',
        default_value = "mnist,fashion-mnist"
    )]
    data: Vec<String>,
    /// These relations alone, by number: C1, C3 and so on.
    #[arg(long, value_name = "NUMBER,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Number of seeds, from 1.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Clients that train at a time; no figure depends on it.
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let chosen = |number: &str| args.only.is_empty() || args.only.iter().any(|only| only == number);
    if let Some(unknown) = args
        .only
        .iter()
        .find(|only| !RELATIONS.iter().any(|(number, _)| number == only))
    {
        eprintln!("fedistill-papers: no relation {unknown}: there are C1 to C7 and C9 to C12");
        return ExitCode::from(2);
    }
    let mut all_hold = true;
    for name in &args.data {
        let source = match find(name) {
            Ok(source) => source,
            Err(error) => {
                eprintln!("fedistill-papers: {error}");
                return ExitCode::from(2);
            }
        };
        let begun = Instant::now();
        let lab = Lab::full(source, args.seeds, args.threads);
        let measured = RELATIONS.into_iter().filter(|(number, _)| chosen(number));
        let measured = measured.map(|(number, measure)| {
            let findings = measure(&lab);
            for finding in &findings {
                eprintln!("{name} {number} | {finding}");
            }
            (number, findings)
        });
        let measured: Vec<_> = measured.collect();
        all_hold &= measured
            .iter()
            .flat_map(|(_, findings)| findings)
            .all(|finding| finding.holds() || finding.explained);
        println!("## {name}\n\n{}", markdown(&measured));
        eprintln!("{name}: {:.0} s", begun.elapsed().as_secs_f64());
    }
    match all_hold {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
