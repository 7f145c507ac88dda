use std::path::Path;
use std::str::FromStr;

use clap::Parser;
use fedistill_program::Exit;

use crate::compare::store;
use crate::compare::{Comparison, Grid};
use crate::config::{Args, Config};
use crate::{Data, Partition, SimulationError};

/// Compare methods: a federation for each of them, on each partition, with each teacher and each seed.
///
/// Ends with one table, in compare.md too; compare.json has every federation, compare.html accuracy
/// against bytes. The same command goes on after a stop, and with more methods, partitions, teachers or
/// seeds runs only what is new.
#[derive(Clone, Debug, Parser)]
#[command(
    after_help = Exit::HELP,
    mut_arg("method", unused),
    mut_arg("seed", unused),
    mut_arg("share_out", unused),
    mut_arg("no_baselines", unused),
    mut_arg("out", |arg| arg.help(
        "The folder that compare.json, compare.md and compare.html are written to, and all federations below cells/"
    )),
    mut_arg("resume", |arg| arg.help(
        "Go on with the comparison in the folder for results; without further arguments it is as it was begun. The results are the same, to the bit, as without the stop"
    ).long_help(None)),
)]
pub struct CompareArgs {
    /// The algorithms, those of --method: local and teacher-only too where they are to be compared
    /// with. Parameters of a name stay with it: `ds-fl:era,x=2,fedavg` are two. `NAME@KEY=VALUE,...` has
    /// settings of its own, to compare at equal bytes, say: `adaptive@packing=u4,samples=500`.
    #[arg(
        long,
        value_name = "NAME,...",
        required_unless_present_any = ["resume", "method", "share_out"]
    )]
    pub methods: Vec<String>,
    /// How samples are spread over clients; by default that of --partition alone.
    #[arg(long, value_name = "HOW,...")]
    pub partitions: Vec<String>,
    /// Teachers; by default that of --teacher alone. What needs none is run once for all of them.
    #[arg(long, value_name = "WHICH,...")]
    pub teachers: Vec<String>,
    /// Takes the seeds 1 to N, 1 to 1000; 3 by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: Option<u64>,
    /// Takes these seeds.
    #[arg(
        long,
        value_name = "S,...",
        value_delimiter = ',',
        conflicts_with = "seeds"
    )]
    pub seed_list: Option<Vec<u64>>,
    /// Everything else is as in a single simulation.
    #[command(flatten)]
    pub run: Args,
}

/// An argument of one federation alone.
fn unused(arg: clap::Arg) -> clap::Arg {
    arg.hide(true)
        .env(clap::builder::Resettable::<clap::builder::OsStr>::Reset)
}

impl Comparison {
    /// The comparison that these arguments lead to. Nothing is run or written yet.
    ///
    /// # Errors
    /// A file that cannot be used, or settings that make no sense in some federation.
    pub fn from_args(args: CompareArgs) -> Result<Self, SimulationError> {
        let CompareArgs { run: single, .. } = &args;
        for (given, why) in [
            (
                single.method.is_some(),
                "a comparison takes --methods, not --method",
            ),
            (
                single.seed.is_some(),
                "a comparison takes --seeds or --seed-list, not --seed",
            ),
            (
                single.share_out.is_some(),
                "a comparison shares nothing out: leave --share-out or compare out",
            ),
            (
                single.no_baselines,
                "a comparison runs no baselines but those that --methods names: leave --no-baselines out",
            ),
        ] {
            if given {
                return Err(SimulationError::Settings(why.to_owned()));
            }
        }
        let resume = single.resume;
        let begun = match resume {
            true => {
                let out = single.out.clone().unwrap_or_else(|| Config::default().out);
                Some(store::begun(&out)?.ok_or_else(|| nothing_in(&out))?)
            }
            false => None,
        };
        let config = match (&single.config, &begun) {
            (Some(path), _) => Config::from_file(path)?,
            (None, Some((config, _))) => config.clone(),
            (None, None) => Config::default(),
        };
        let (given_partition, given_teacher) = (single.partition, single.teacher.is_some());
        let told = single.tell_clients()?;
        let mut config = config.under(args.run)?;
        let before = begun.map(|(_, grid)| grid);
        let partitions = match (names(&args.partitions)?, given_partition, &before) {
            (names, _, _) if !names.is_empty() => parsed(&names)?,
            (_, None, Some(before)) => before.partitions.clone(),
            _ => vec![config.partition],
        };
        // Beside other partitions too: all are of as many clients.
        if !told && partitions.contains(&Partition::Natural) {
            config.clients = Data::clients(&config.data, config.public)?;
        }
        let teachers = match (names(&args.teachers)?, given_teacher, &before) {
            (names, _, _) if !names.is_empty() => parsed(&names)?,
            (_, false, Some(before)) => before.teachers.clone(),
            _ => vec![config.teacher.clone()],
        };
        let methods = match (names(&args.methods)?, &before) {
            (names, Some(before)) if names.is_empty() => before.methods.clone(),
            (names, _) => names,
        };
        let seeds = match (args.seeds, args.seed_list, before) {
            (Some(count), _, _) => (1..=count).collect(),
            (_, Some(list), _) => list,
            (_, _, Some(before)) => before.seeds,
            (_, _, None) => (1..=3).collect(),
        };
        let grid = Grid {
            methods,
            partitions,
            teachers,
            seeds,
        };
        Self::new(config, grid)
    }
}

fn nothing_in(out: &Path) -> SimulationError {
    SimulationError::Settings(format!(
        "no comparison to go on with in {}: leave --resume out to begin one",
        out.display()
    ))
}

/// Splits lists at their commas; one that comes before `key=value` belongs to the name before it.
fn names(lists: &[String]) -> Result<Vec<String>, SimulationError> {
    let mut names: Vec<String> = Vec::new();
    for list in lists {
        let mut fresh = true;
        for part in list.split(',').map(str::trim) {
            match (is_parameter(part), names.last_mut()) {
                (true, Some(name)) if !fresh => {
                    name.push(',');
                    name.push_str(part);
                }
                (true, _) => {
                    return Err(SimulationError::Settings(format!(
                        "{part:?} in {list:?} is a parameter of no name: write NAME,KEY=VALUE"
                    )));
                }
                (false, _) if part.is_empty() => {
                    return Err(SimulationError::Settings(format!(
                        "a name is missing in {list:?}: write NAME,NAME"
                    )));
                }
                (false, _) => names.push(part.to_owned()),
            }
            fresh = false;
        }
    }
    Ok(names)
}

/// Whether this is `key=value` and not a name, which may hold such a pair after its colon.
fn is_parameter(part: &str) -> bool {
    let is_key = |key: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        !key.is_empty() && key.chars().all(known)
    };
    part.split_once('=').is_some_and(|(key, _)| is_key(key))
}

fn parsed<T: FromStr>(names: &[String]) -> Result<Vec<T>, SimulationError>
where
    T::Err: ToString,
{
    let parse = |name: &String| {
        name.parse()
            .map_err(|error: T::Err| SimulationError::Settings(error.to_string()))
    };
    names.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TeacherSource;
    use crate::config::{Cli, Command};

    fn compare(args: &[&str]) -> Result<Comparison, SimulationError> {
        let args = ["fedistill-simulate", "compare"].iter().chain(args);
        match Cli::try_parse_from(args).unwrap().command {
            Some(Command::Compare(args)) => Comparison::from_args(*args),
            None => unreachable!(),
        }
    }

    #[test]
    fn a_comma_before_a_parameter_does_not_end_a_name() {
        let names = |lists: &[&str]| {
            let lists: Vec<String> = lists.iter().map(ToString::to_string).collect();
            names(&lists).map_err(|error| error.to_string())
        };
        for (lists, expected) in [
            (
                &["local,ds-fl:era , fedavg"][..],
                &["local", "ds-fl:era", "fedavg"][..],
            ),
            (
                &["ds-fl:era2,beta=2,x_1=-3,local", "fedavg"],
                &["ds-fl:era2,beta=2,x_1=-3", "local", "fedavg"],
            ),
            // The first parameter may follow a colon.
            (&["a:x=1,y=2,b:z=3"], &["a:x=1,y=2", "b:z=3"]),
            (&["a", "b,k="], &["a", "b,k="]),
            // So may a setting of its own an at sign.
            (&["a@x=1,y=2,b,z=3@k=4"], &["a@x=1,y=2", "b,z=3@k=4"]),
            (&[], &[]),
        ] {
            assert_eq!(names(lists).unwrap(), expected, "{lists:?}");
        }
        // A parameter belongs to a name of its own list.
        for lists in [&["a", "beta=2,b"][..], &["beta=2"]] {
            assert!(names(lists).unwrap_err().contains("of no name"));
        }
        for list in ["a,,b", "", "a,"] {
            assert!(names(&[list]).unwrap_err().contains("a name is missing"));
        }
    }

    #[test]
    fn lists_come_from_flags_and_the_rest_from_a_simulation_s() {
        let args = [
            "--methods",
            "local,fedavg",
            "--rounds",
            "4",
            "--partition",
            "iid",
        ];
        let comparison = compare(&args).unwrap();
        assert_eq!(comparison.grid.partitions, [Partition::Iid]);
        assert_eq!(comparison.grid.teachers, [TeacherSource::Train(100)]);
        assert_eq!(comparison.grid.seeds, [1, 2, 3]);
        assert_eq!(comparison.config.rounds, 4);
        let args = [&args[..2], &["--seeds", "2", "--teachers", "none,train:5"]].concat();
        let comparison = compare(&args).unwrap();
        assert_eq!(comparison.grid.seeds, [1, 2]);
        let teachers = [TeacherSource::None, TeacherSource::Train(5)];
        assert_eq!(comparison.grid.teachers, teachers);
        let args = [
            "--methods",
            "local",
            "--seed-list",
            "5,1,5",
            "--partitions",
            "iid,classes:2",
        ];
        let comparison = compare(&args).unwrap();
        assert_eq!(comparison.grid.seeds, [5, 1]);
        let partitions = [Partition::Iid, Partition::Classes(2)];
        assert_eq!(comparison.grid.partitions, partitions);
    }

    #[test]
    fn what_is_not_a_comparison_s_is_refused() {
        for (args, part) in [
            (&["--methods", "local,fedprox"][..], "choose adaptive"),
            (&["--methods", "local", "--rounds", "0"], "rounds must be"),
            (
                &["--methods", "local", "--partitions", "odd"],
                "no partition",
            ),
            (
                &["--methods", "local", "--teachers", "train:0"],
                "write train:N",
            ),
            (
                &["--methods", "fedavg,local", "--models", "mlp-s,mlp-m"],
                "one model",
            ),
            (
                &["--methods", "teacher-only", "--teacher", "none"],
                "nothing is left",
            ),
            (&["--method", "local"], "takes --methods"),
            (&["--methods", "local", "--seed", "3"], "--seed-list"),
            (
                &["--methods", "local", "--share-out", "x"],
                "shares nothing out",
            ),
            (
                &["--resume", "--out", "/nowhere/at-all"],
                "leave --resume out",
            ),
        ] {
            let error = compare(args).unwrap_err().to_string();
            assert!(error.contains(part), "{args:?}: {error}");
        }
        for args in [
            &["x", "compare"][..],
            &["x", "compare", "--methods", "local", "--seeds", "0"],
            &[
                "x",
                "compare",
                "--methods",
                "local",
                "--seeds",
                "2",
                "--seed-list",
                "1",
            ],
            &["x", "--rounds", "3", "compare", "--methods", "local"],
        ] {
            assert!(Cli::try_parse_from(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn help_is_of_a_comparison() {
        use clap::CommandFactory;
        let mut cli = Cli::command();
        let compare = cli.find_subcommand_mut("compare").unwrap();
        let help = compare.render_long_help().to_string();
        assert!(
            help.starts_with("Compare methods") && help.contains("cells/"),
            "{help}"
        );
        for hidden in ["--seed <", "--method <", "--share-out", "--no-baselines"] {
            assert!(!help.contains(hidden), "{hidden}: {help}");
        }
        let help = Cli::command().render_long_help().to_string();
        assert!(help.starts_with("Run a whole federation"), "{help}");
        assert!(help.contains("--seed <"), "{help}");
    }
}
