use fedistill_federation::method;
use fedistill_protocol::Digest;
use serde::{Deserialize, Serialize};

use crate::compare::{Cell, entrant};
use crate::config::Config;
use crate::{Averaging, Data, Partition, SimulationError, Sizes, TeacherSource};

/// What is compared: all of these with all of those.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Grid {
    /// Algorithms, by name; `METHOD@KEY=VALUE,...` has settings of its own.
    pub methods: Vec<String>,
    /// How labels are spread over clients.
    pub partitions: Vec<Partition>,
    /// Where teachers come from.
    pub teachers: Vec<TeacherSource>,
    /// What everything random follows from.
    pub seeds: Vec<u64>,
}

/// A comparison: a grid, and what is the same in all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What is the same. Its method, partition, teacher and seed mean nothing.
    pub config: Config,
    /// What differs.
    pub grid: Grid,
}

/// A cell, with what it takes to run it.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) cell: Cell,
    pub(crate) config: Config,
}

impl Comparison {
    /// This grid under these settings, each federation of which makes sense.
    ///
    /// # Errors
    /// A method that nobody knows, or settings that make no sense in some federation.
    pub fn new(config: Config, grid: Grid) -> Result<Self, SimulationError> {
        let Grid {
            methods,
            partitions,
            teachers,
            seeds,
        } = grid;
        let grid = Grid {
            methods: once(methods),
            partitions: once(partitions),
            teachers: once(teachers),
            seeds: once(seeds),
        };
        let this = Self { config, grid };
        let mut known = Vec::new();
        for name in &this.grid.methods {
            let meaning = entrant::meaning(name, &this.config)?;
            if let Some((_, other)) = known.iter().find(|(known, _)| *known == meaning) {
                return Err(SimulationError::Settings(format!(
                    "{name:?} is {other:?} by another name: leave one of them out"
                )));
            }
            known.push((meaning, name));
        }
        // Also where no method hears of it.
        this.grid
            .teachers
            .iter()
            .try_for_each(TeacherSource::is_there)?;
        if this.tasks()?.is_empty() {
            let why = this.left_out()?.into_iter().next();
            return Err(SimulationError::Settings(format!(
                "nothing is left to compare: {}",
                why.unwrap_or_else(|| "name methods, partitions, teachers and seeds".to_owned())
            )));
        }
        Ok(this)
    }

    /// What this grid names and nobody can run, a line each.
    ///
    /// # Errors
    /// None of a comparison that makes sense.
    pub fn left_out(&self) -> Result<Vec<String>, SimulationError> {
        let mut lines = Vec::new();
        for method in &self.grid.methods {
            let hears = Hears::of(method)?;
            let deaf = self
                .grid
                .teachers
                .iter()
                .filter(|teacher| knows_nothing(teacher));
            if hears == Hears::MustHave {
                lines.extend(deaf.map(|teacher| {
                    format!("{method} with teacher {teacher} is left out: it needs one that knows something")
                }));
            }
        }
        Ok(lines)
    }

    /// The cell of a method under these conditions; none where it cannot be run.
    pub(crate) fn cell(
        &self,
        method: &str,
        partition: Partition,
        teacher: &TeacherSource,
        seed: u64,
    ) -> Result<Option<Cell>, SimulationError> {
        Ok(self
            .task(method, partition, teacher, seed)?
            .map(|task| task.cell))
    }

    fn task(
        &self,
        method: &str,
        partition: Partition,
        teacher: &TeacherSource,
        seed: u64,
    ) -> Result<Option<Task>, SimulationError> {
        let teacher = match (Hears::of(method)?, teacher) {
            (Hears::MustHave, teacher) if knows_nothing(teacher) => return Ok(None),
            // It comes to the same with any: once is enough.
            (Hears::Nothing, _) => &TeacherSource::None,
            _ => teacher,
        };
        let cell = Cell::new(method, partition, teacher, seed);
        let config = Config {
            partition,
            teacher: teacher.clone(),
            seed,
            baselines: false,
            ..entrant::settings(method, &self.config)?
        };
        Ok(Some(Task { cell, config }))
    }

    /// All cells, each once, in the order in which they are run: whatever is stopped has some seeds of
    /// all methods, not some methods of all seeds.
    pub(crate) fn tasks(&self) -> Result<Vec<Task>, SimulationError> {
        let mut tasks: Vec<Task> = Vec::new();
        let mut known = std::collections::HashSet::new();
        for &seed in &self.grid.seeds {
            for &partition in &self.grid.partitions {
                for teacher in &self.grid.teachers {
                    for method in &self.grid.methods {
                        let task = self.task(method, partition, teacher, seed)?;
                        let new = |task: &Task| known.insert(task.cell.clone());
                        tasks.extend(task.filter(new));
                    }
                }
            }
        }
        Ok(tasks)
    }

    /// Makes each cell's world once, before the first cell is run: gives what tells it from others.
    ///
    /// # Errors
    /// Data, a split, a net or a teacher that cannot be used.
    pub(crate) fn worlds(&self, tasks: &[Task]) -> Result<Vec<Beginning>, SimulationError> {
        let data = Data::read(&self.config.data)?;
        let train = data.train();
        let (shape, classes) = (train.samples().shape(), train.classes().len());
        for model in &self.config.models {
            model.build(shape, classes, 0)?;
        }
        let mut known = std::collections::HashSet::new();
        for Task { config, .. } in tasks {
            if known.insert(&config.method) {
                config.has_features(shape, classes)?;
            }
        }
        let mut worlds: Vec<((Config, Sizes), Beginning)> = Vec::new();
        let mut all = Vec::new();
        for Task { config, .. } in tasks {
            // A world does not know the method, but for labelled samples that it may set apart.
            let key = Config {
                method: String::new(),
                ..config.clone()
            };
            let key = (key, config.sizes());
            let begins = |known: Beginning| -> Result<_, SimulationError> {
                let world = config.beginning(known.world)?;
                Ok(Beginning { world, ..known })
            };
            if let Some((_, known)) = worlds.iter().find(|(of, _)| *of == key) {
                all.push(begins(*known)?);
                continue;
            }
            let world = data.clone().share_out(config)?;
            if let TeacherSource::File(_) = config.teacher {
                world.teacher(&config.teacher, config.teacher_model, config.seed)?;
            }
            let beginning = Beginning {
                world: world.digest(&config.teacher)?,
                transfer: world.transfer.len(),
            };
            worlds.push((key, beginning));
            all.push(begins(beginning)?);
        }
        Ok(all)
    }
}

/// What a cell begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    /// Tells its world, and how answers are packed where nobody says it, from others.
    pub(crate) world: Digest,
    /// Samples of the transfer set.
    pub(crate) transfer: usize,
}

/// Each once, in the order in which they first come.
fn once<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    let mut known = Vec::new();
    for one in all {
        if !known.contains(&one) {
            known.push(one);
        }
    }
    known
}

/// Whether nothing is to be learnt from such a teacher as a federation begins.
fn knows_nothing(teacher: &TeacherSource) -> bool {
    matches!(teacher, TeacherSource::None | TeacherSource::Untrained)
}

/// What a method hears of a teacher.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hears {
    /// Neither of it nor of transfer samples, whose number depends on what it has learnt from.
    Nothing,
    /// What there is.
    Something,
    /// It needs one.
    MustHave,
}

impl Hears {
    fn of(name: &str) -> Result<Self, SimulationError> {
        let name = entrant::method_of(name);
        if let Some(averaging) = Averaging::by_name(name)? {
            return Ok(match averaging == Averaging::FedAvg {
                true => Self::Nothing,
                false => Self::Something,
            });
        }
        let method = method::by_name(name)?;
        let something = method.uses_teacher();
        Ok(match (method.needs_teacher(), something) {
            (true, _) => Self::MustHave,
            (false, true) => Self::Something,
            (false, false) => Self::Nothing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(methods: &[&str], teachers: &[TeacherSource]) -> Comparison {
        let grid = Grid {
            methods: methods.iter().map(ToString::to_string).collect(),
            partitions: vec![Partition::Iid, Partition::Shards(2), Partition::Iid],
            teachers: teachers.to_vec(),
            seeds: vec![3, 1],
        };
        Comparison::new(Config::default(), grid).unwrap()
    }

    #[test]
    fn one_method_by_two_names_and_a_teacher_that_is_not_there_are_refused() {
        let new = |methods: &[&str], teacher| {
            let grid = Grid {
                methods: methods.iter().map(ToString::to_string).collect(),
                partitions: vec![Partition::Iid],
                teachers: vec![teacher],
                seeds: vec![1],
            };
            Comparison::new(Config::default(), grid).map_err(|error| error.to_string())
        };
        for methods in [
            ["vote", "vote:ssfl"],
            ["adaptive", "adaptive,clip=20"],
            ["logit-mean@packing=f16", "logit-mean"],
            ["ds-fl:era@samples=1000", "ds-fl:era"],
        ] {
            let error = new(&methods, TeacherSource::Train(50)).unwrap_err();
            assert!(error.contains("by another name: leave one"), "{error}");
        }
        for methods in [
            ["vote", "vote:tally"],
            ["adaptive", "adaptive@packing=f16"],
            ["fedavg", "feddf"],
        ] {
            new(&methods, TeacherSource::Train(50)).unwrap();
        }
        let error = new(&["local"], TeacherSource::File("foo".into())).unwrap_err();
        assert!(error.contains("no teacher \"foo\": write none"), "{error}");
    }

    #[test]
    fn each_cell_is_run_once_and_what_needs_a_teacher_not_without() {
        let methods = [
            "local",
            "teacher-only",
            "logit-mean",
            "fedavg",
            "feddf",
            "local",
        ];
        let teachers = [TeacherSource::None, TeacherSource::Train(50)];
        let comparison = comparison(&methods, &teachers);
        let tasks = comparison.tasks().unwrap();
        let of = |method: &str| {
            let of = tasks.iter().filter(|task| task.config.method == method);
            of.count()
        };
        let counts = methods.map(of);
        assert_eq!(counts, [4, 4, 8, 4, 8, 4]);
        assert_eq!(tasks.len(), 28);
        assert!(tasks[..14].iter().all(|task| task.cell.seed == 3));
        assert!(tasks.iter().all(|task| !task.config.baselines));
        let left_out = comparison.left_out().unwrap();
        assert_eq!(
            left_out,
            ["teacher-only with teacher none is left out: it needs one that knows something"]
        );
        // Both rows of a table are of one cell.
        let cell = |teacher| {
            comparison
                .cell("local", Partition::Iid, teacher, 1)
                .unwrap()
        };
        assert_eq!(cell(&teachers[0]), cell(&teachers[1]));
        let none = comparison.cell("teacher-only", Partition::Iid, &teachers[0], 1);
        assert_eq!(none.unwrap(), None);
    }
}
