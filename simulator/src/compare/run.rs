//! Runs the cells of a comparison, one after the other; each has all threads.

use std::collections::BTreeMap;

use fedistill_coordinator::CoordinatorError;
use fedistill_protocol::Digest;

use crate::compare::grid::{Beginning, Task};
use crate::compare::store::{self, Store};
use crate::compare::{CellResult, Comparison, Done, Record, Results};
use crate::config::Config;
use crate::progress::time_left;
use crate::{Journal, Progress, SimulationError, experiment, output};

/// Runs what is not yet done of a comparison, in its folder. `tell` hears a line of each cell,
/// `progress` makes what tells of its rounds. A cell that fails by what it is does not end the
/// comparison: it is in the results.
///
/// # Errors
/// Data, a split, a net or a teacher that cannot be used, before the first cell runs; a folder of
/// another comparison; a disk, a network that fails.
pub async fn run(
    comparison: &Comparison,
    tell: impl Fn(&str),
    progress: impl Fn(&str, u32) -> Progress,
) -> Result<Results, SimulationError> {
    let tasks = comparison.tasks()?;
    let beginnings = comparison.worlds(&tasks)?;
    let store = Store::open(comparison)?;
    for line in comparison.left_out()? {
        tell(&line);
    }
    for line in lost(&tasks, &beginnings) {
        tell(&line);
    }
    let worlds = beginnings.iter().map(|beginning| beginning.world);
    let mut records = Vec::new();
    for (task, world) in tasks.iter().zip(worlds.clone()) {
        records.push(store.record(task, world)?);
    }
    store.begin(comparison)?;
    let mut pace = Pace::default();
    for (task, record) in tasks.iter().zip(&records) {
        match record.as_ref().map(|record| &record.result) {
            Some(CellResult::Done(done)) => pace.took(&task.cell.method, done.seconds),
            Some(CellResult::Failed(_)) => {}
            None => pace.waits(&task.cell.method),
        }
    }
    let known = records.iter().flatten().count();
    if known > 0 {
        tell(&format!("{known} of {} federations are done", tasks.len()));
    }
    for (place, (task, world)) in tasks.iter().zip(worlds).enumerate() {
        if records[place].is_some() {
            continue;
        }
        let (cell, method) = (&task.cell, &task.cell.method);
        let result = run_cell(&store, task, world, &tell, &progress).await?;
        let told = match &result {
            CellResult::Done(done) => {
                pace.took(method, done.seconds);
                let share = 100.0 * done.accuracy.students_mean;
                format!("students {share:.1} %, {:.1} s", done.seconds)
            }
            CellResult::Failed(why) => format!("failed: {why}"),
        };
        pace.waited(method);
        let (done, of) = (place + 1, tasks.len());
        let left = time_left(pace.left());
        tell(&format!("{done} of {of}: {cell}: {told}{left}"));
        records[place] = Some(Record {
            cell: cell.clone(),
            world: store::made_of(task, world),
            result,
        });
    }
    Results::new(comparison, records.into_iter().flatten().collect())
}

/// Which methods are told to speak about more samples than there are, or have keys of their own that change nothing
/// beside a teacher that is compared or little beside so many samples, a line each.
fn lost(tasks: &[Task], beginnings: &[Beginning]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (task, beginning) in tasks.iter().zip(beginnings) {
        let (config, transfer) = (&task.config, beginning.transfer);
        let idle = config.idle_keys().into_iter();
        let packed = config.idle_packed().into_iter();
        let few = config
            .rounds_nothing()
            .into_iter()
            .chain(config.cut(transfer))
            .chain(config.remark(transfer));
        for why in idle.chain(packed).chain(few) {
            let line = format!("{}: {why}", task.cell.method);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

/// Runs one cell and keeps what came of it.
async fn run_cell(
    store: &Store,
    task: &Task,
    world: Digest,
    tell: &impl Fn(&str),
    progress: &impl Fn(&str, u32) -> Progress,
) -> Result<CellResult, SimulationError> {
    let folder = store.folder(&task.cell)?;
    let config = Config {
        out: folder.clone(),
        ..task.config.clone()
    };
    // Whatever is wrong with the journal is wrong with the folder, not with the cell.
    let journal = match Journal::unfinished(&folder)? {
        Some(_) => {
            tell(&format!("{}: goes on where it was stopped", task.cell));
            Journal::resume(&config)?
        }
        None => Journal::begin(&config)?,
    };
    journal.hold_against(world)?;
    let result = match experiment::run(&config, Some(&journal), progress).await {
        Ok(experiment) => {
            output::write(&experiment, &folder).map_err(SimulationError::Results)?;
            CellResult::Done(Box::new(Done::from(&experiment)))
        }
        Err(error) if is_of_the_machine(&error) => return Err(error),
        Err(error) => CellResult::Failed(error.to_string()),
    };
    store.keep(&Record {
        cell: task.cell.clone(),
        world: store::made_of(task, world),
        result: result.clone(),
    })?;
    journal.end();
    Ok(result)
}

/// Whether an error may not come again once something around the program has been mended; all others
/// follow from settings and seed.
fn is_of_the_machine(error: &SimulationError) -> bool {
    use SimulationError as E;
    matches!(
        error,
        E::Data(_)
            | E::Checkpoint(_)
            | E::Keep(_)
            | E::Results(_)
            | E::Store(_)
            | E::Transport(_)
            | E::Coordinator(CoordinatorError::Store(_))
    )
}

/// How long what is left may take: a cell as long as others of its method, or as others.
#[derive(Default)]
struct Pace<'a> {
    /// Of each method: cells that have been timed, their seconds, cells that wait.
    methods: BTreeMap<&'a str, (u32, f64, u32)>,
}

impl<'a> Pace<'a> {
    fn waits(&mut self, method: &'a str) {
        self.methods.entry(method).or_default().2 += 1;
    }

    fn waited(&mut self, method: &'a str) {
        let waiting = &mut self.methods.entry(method).or_default().2;
        *waiting = waiting.saturating_sub(1);
    }

    fn took(&mut self, method: &'a str, seconds: f64) {
        let (cells, sum, _) = self.methods.entry(method).or_default();
        (*cells, *sum) = (*cells + 1, *sum + seconds);
    }

    fn left(&self) -> f64 {
        let all = self.methods.values();
        let (cells, sum) = all.fold((0, 0.0), |(cells, sum), m| (cells + m.0, sum + m.1));
        let mean = |cells: u32, sum: f64| sum / f64::from(cells.max(1));
        let left = self.methods.values().map(|&(timed, seconds, waiting)| {
            let each = match timed {
                0 => mean(cells, sum),
                timed => mean(timed, seconds),
            };
            each * f64::from(waiting)
        });
        left.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Grid;
    use crate::{Partition, TeacherSource};

    #[test]
    fn more_samples_than_there_are_are_told_of_once() {
        let grid = Grid {
            methods: ["ds-fl:sa", "ds-fl:sa@samples=300", "fd"]
                .map(str::to_owned)
                .to_vec(),
            partitions: vec![Partition::Iid],
            teachers: vec![TeacherSource::None],
            seeds: vec![1, 2],
        };
        let shared = Config {
            samples: 200,
            ..Config::default()
        };
        let tasks = Comparison::new(shared, grid).unwrap().tasks().unwrap();
        let beginning = |transfer| Beginning {
            world: Digest::of(b"world"),
            transfer,
        };
        let lines = |transfer| lost(&tasks, &vec![beginning(transfer); tasks.len()]);
        assert!(lines(300).is_empty());
        let expected = "ds-fl:sa@samples=300: samples is 300, but the transfer set has only 299: each round speaks about all of them";
        let told = lines(299);
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}");
        assert_eq!(lines(199).len(), 2);
    }

    #[test]
    fn keys_without_effect_are_told_of_once_for_each_teacher() {
        let grid = Grid {
            methods: ["adaptive,caution=2", "fd"].map(str::to_owned).to_vec(),
            partitions: vec![Partition::Iid],
            teachers: vec![TeacherSource::None, TeacherSource::Train(100)],
            seeds: vec![1, 2],
        };
        let tasks = Comparison::new(Config::default(), grid).unwrap();
        let tasks = tasks.tasks().unwrap();
        let beginning = Beginning {
            world: Digest::of(b"world"),
            transfer: 1000,
        };
        let told = lost(&tasks, &vec![beginning; tasks.len()]);
        let expected = "adaptive,caution=2: caution of adaptive,caution=2 changes nothing where there is no teacher: leave it out";
        assert_eq!(told, [expected]);
    }

    #[test]
    fn a_digest_of_few_steps_is_told_of_once() {
        let grid = Grid {
            methods: ["fedmd", "fedmd@samples=6000", "fd"]
                .map(str::to_owned)
                .to_vec(),
            partitions: vec![Partition::Iid, Partition::Shards(2)],
            teachers: vec![TeacherSource::None],
            seeds: vec![1, 2],
        };
        let tasks = Comparison::new(Config::default(), grid).unwrap();
        let tasks = tasks.tasks().unwrap();
        let beginning = Beginning {
            world: Digest::of(b"world"),
            transfer: 9000,
        };
        let told = lost(&tasks, &vec![beginning; tasks.len()]);
        let expected = "fedmd: the digest of fedmd is 4 steps a round";
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}");
    }

    #[test]
    fn a_cell_takes_as_long_as_others_of_its_method() {
        let mut pace = Pace::default();
        for method in ["slow", "slow", "fast", "fast", "new"] {
            pace.waits(method);
        }
        assert_eq!(pace.left(), 0.0);
        pace.took("slow", 10.0);
        pace.waited("slow");
        assert_eq!(pace.left(), 40.0);
        pace.took("fast", 2.0);
        pace.waited("fast");
        assert_eq!(pace.left(), 10.0 + 2.0 + 6.0);
    }
}
