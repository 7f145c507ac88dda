use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::compare::store::shared;
use crate::compare::{CellResult, Comparison, Done, Record, page, table};
use crate::{Measure, Partition, SimulationError, TeacherSource, output};

/// What came of a comparison: `compare.json` has all of it. Keys stay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// The program's version.
    pub version: &'static str,
    /// What all cells share, as `summary.json` has it, without what differs or changes no result.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Seeds, in the order in which they were named.
    pub seeds: Vec<u64>,
    /// What was named and could not be run, a line each.
    pub left_out: Vec<String>,
    /// A row for each partition, teacher and method.
    pub rows: Vec<Row>,
    /// All cells, in the order in which they ran.
    pub cells: Vec<Record>,
    /// What was compared.
    #[serde(skip)]
    pub comparison: Comparison,
}

/// A line of the table: one method under the same conditions, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// How labels were spread.
    pub partition: Partition,
    /// The teacher that others had here; a method that hears of none was run without.
    pub teacher: TeacherSource,
    /// The algorithm.
    pub method: String,
    /// Cells with results.
    pub done: usize,
    /// Why others have none, a line each.
    pub failed: Vec<String>,
    /// Shares of samples, 0 to 1, by the name of a column, each a measure of its own; those that there
    /// are.
    pub accuracy: BTreeMap<&'static str, Spread>,
    /// Bytes from a client in all rounds: the mean over clients and seeds.
    pub up: f64,
    /// Bytes to a client in all rounds.
    pub down: f64,
    /// Of that, bytes of the transfer set.
    pub transfer_set: f64,
    /// How many times the bytes of federated averaging, both ways together.
    pub of_fedavg: f64,
    /// Whether no other method of this partition and teacher has better students; one that has failed
    /// for some seed is not the best.
    pub best: bool,
}

/// Of a value over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Its mean.
    pub mean: f64,
    /// Its sample standard deviation (divided by one less than there are seeds); none of one seed.
    pub std: Option<f64>,
}

impl Spread {
    /// Of these values, if there are any.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (!values.is_empty()).then(|| Self {
            mean,
            std: (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
        })
    }
}

/// A column of accuracies: its name, and what it shows of a cell.
type Column = (&'static str, fn(&Done) -> Option<f64>);

/// What methods are held against each other by.
pub(crate) const STUDENTS: &str = "students";

/// The columns of accuracies, from the left. One that no cell has is not shown.
pub(crate) const ACCURACIES: [Column; 3] = [
    (STUDENTS, |done| Some(done.accuracy.students_mean)),
    ("personal", |done| Some(done.personal?.mean.share())),
    ("server", |done| Some(done.server?.share())),
];

impl Row {
    fn new(
        partition: Partition,
        teacher: &TeacherSource,
        method: &str,
        records: &[&Record],
    ) -> Self {
        let results = records.iter().map(|record| &record.result);
        let done: Vec<&Done> = results
            .filter_map(|result| match result {
                CellResult::Done(done) => Some(&**done),
                CellResult::Failed(_) => None,
            })
            .collect();
        let failed = records.iter().filter_map(|record| match &record.result {
            CellResult::Failed(why) => Some(format!("seed {}: {why}", record.cell.seed)),
            CellResult::Done(_) => None,
        });
        let spread = |of: fn(&Done) -> Option<f64>| {
            let values: Vec<f64> = done.iter().filter_map(|done| of(done)).collect();
            Spread::of(&values)
        };
        let mean = |of: fn(&Done) -> f64| {
            let sum: f64 = done.iter().map(|done| of(done)).sum();
            sum / done.len().max(1) as f64
        };
        let accuracies = ACCURACIES.iter();
        Self {
            partition,
            teacher: teacher.clone(),
            method: method.to_owned(),
            done: done.len(),
            failed: failed.collect(),
            accuracy: accuracies
                .filter_map(|(name, of)| Some((*name, spread(*of)?)))
                .collect(),
            up: mean(|done| done.bytes.up),
            down: mean(|done| done.bytes.down),
            transfer_set: mean(|done| done.bytes.transfer_set),
            of_fedavg: mean(|done| done.bytes.of_fedavg()),
            best: false,
        }
    }

    /// Accuracy of the students, if any seed has come to one.
    pub fn students(&self) -> Option<Spread> {
        self.accuracy.get(STUDENTS).copied()
    }

    /// Whether it is of the same partition and teacher as `other`.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        (self.partition, &self.teacher) == (other.partition, &other.teacher)
    }
}

impl Results {
    pub(crate) fn new(
        comparison: &Comparison,
        cells: Vec<Record>,
    ) -> Result<Self, SimulationError> {
        let grid = &comparison.grid;
        let mut rows = Vec::new();
        for &partition in &grid.partitions {
            for teacher in &grid.teachers {
                let first = rows.len();
                for method in &grid.methods {
                    let mut records = Vec::new();
                    for &seed in &grid.seeds {
                        let cell = comparison.cell(method, partition, teacher, seed)?;
                        records.extend(
                            cells
                                .iter()
                                .filter(|record| Some(&record.cell) == cell.as_ref()),
                        );
                    }
                    if !records.is_empty() {
                        rows.push(Row::new(partition, teacher, method, &records));
                    }
                }
                mark_best(&mut rows[first..]);
            }
        }
        let mut settings = match serde_json::to_value(shared(&comparison.config)) {
            Ok(serde_json::Value::Object(settings)) => settings,
            // Settings are always an object.
            _ => serde_json::Map::new(),
        };
        for key in ["method", "partition", "teacher", "seed", "out", "threads"] {
            settings.remove(key);
        }
        for key in ["memory-budget-mb", "checkpoint-seconds", "baselines"] {
            settings.remove(key);
        }
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            settings,
            seeds: grid.seeds.clone(),
            left_out: comparison.left_out()?,
            rows,
            cells,
            comparison: comparison.clone(),
        })
    }

    /// Cells that have failed, with the reason.
    pub fn failed(&self) -> Vec<String> {
        let failed = self.cells.iter().filter_map(|record| match &record.result {
            CellResult::Failed(why) => Some(format!("{}: {why}", record.cell)),
            CellResult::Done(_) => None,
        });
        failed.collect()
    }

    /// The table, for a terminal.
    pub fn table(&self) -> String {
        table::plain(self)
    }

    /// The table, in Markdown.
    pub fn markdown(&self) -> String {
        table::markdown(self)
    }

    /// Writes `compare.json`, `compare.md` and `compare.html`, each whole or not at all.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        let page = page::html(self).map_err(std::io::Error::other)?;
        for (name, text) in [
            ("compare.json", json),
            ("compare.md", self.markdown()),
            ("compare.html", page),
        ] {
            output::write_file(&folder.join(name), &text)?;
        }
        Ok(())
    }
}

/// Marks the rows, all of one partition and teacher, whose students are the best.
fn mark_best(rows: &mut [Row]) {
    let students = |row: &Row| match row.failed.is_empty() {
        true => row.students().map(|students| students.mean),
        false => None,
    };
    let most = rows
        .iter()
        .filter_map(students)
        .fold(f64::NEG_INFINITY, f64::max);
    for row in rows {
        row.best = students(row) == Some(most);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compare::{CellBytes, Grid};
    use crate::config::Config;
    use crate::{ClientOnOwn, OverClients, ServerOnTest};

    /// Two partitions, with a teacher and without, three seeds: `logit-mean` is the best, but fails by
    /// shards, without a teacher always and with one for the second seed.
    pub(crate) fn example() -> Results {
        let grid = Grid {
            methods: ["local", "logit-mean", "teacher-only"]
                .map(str::to_owned)
                .to_vec(),
            partitions: vec![Partition::Iid, Partition::Shards(2)],
            teachers: vec![TeacherSource::None, TeacherSource::Train(50)],
            seeds: vec![1, 2, 3],
        };
        let comparison = Comparison::new(Config::default(), grid).unwrap();
        let tasks = comparison.tasks().unwrap();
        let records = tasks.into_iter().map(|task| {
            let cell = task.cell;
            let points = match cell.method.as_str() {
                "local" => 50.0,
                "logit-mean" => 70.0,
                _ => 60.0,
            };
            let accuracy = (points + cell.seed as f64) / 100.0;
            let fails = cell.method == "logit-mean" && cell.partition == "shards:2";
            let result = match (fails, cell.teacher.as_str(), cell.seed) {
                (true, "none", _) | (true, _, 2) => CellResult::Failed("it | diverged".to_owned()),
                _ => CellResult::Done(Box::new(Done {
                    accuracy: crate::Accuracy {
                        students_mean: accuracy,
                        ..crate::Accuracy::default()
                    },
                    server: (cell.method != "local").then(|| ServerOnTest::of(accuracy / 2.0)),
                    personal: OverClients::of([ClientOnOwn::of(accuracy + 0.1)]),
                    ece: crate::Ece::default(),
                    bytes: CellBytes {
                        up: 1000.0,
                        down: 3000.0,
                        fedavg: 1000.0 * cell.seed as f64,
                        transfer_set: 100.0,
                    },
                    digest: String::new(),
                    seconds: 1.0,
                })),
            };
            let world = String::new();
            Record {
                cell,
                world,
                result,
            }
        });
        let records = records.collect();
        Results::new(&comparison, records).unwrap()
    }

    #[test]
    fn a_spread_is_of_a_sample() {
        assert_eq!(Spread::of(&[]), None);
        let (mean, std) = (0.5, None);
        assert_eq!(Spread::of(&[0.5]), Some(Spread { mean, std }));
        let (mean, std) = (5.0, Some((32.0f64 / 7.0).sqrt()));
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(Spread::of(&values), Some(Spread { mean, std }));
    }

    #[test]
    fn rows_are_over_seeds_and_the_best_of_them_has_no_failure() {
        let results = example();
        let told: Vec<_> = results
            .rows
            .iter()
            .map(|row| (row.method.as_str(), row.done, row.failed.len(), row.best))
            .collect();
        assert_eq!(
            told,
            [
                ("local", 3, 0, false),
                ("logit-mean", 3, 0, true),
                // With a teacher.
                ("local", 3, 0, false),
                ("logit-mean", 3, 0, true),
                ("teacher-only", 3, 0, false),
                // By shards.
                ("local", 3, 0, true),
                ("logit-mean", 0, 3, false),
                ("local", 3, 0, false),
                ("logit-mean", 2, 1, false),
                ("teacher-only", 3, 0, true),
            ]
        );
        let row = &results.rows[1];
        let students = row.students().unwrap();
        assert!((students.mean - 0.72).abs() < 1e-9, "{students:?}");
        assert!((students.std.unwrap() - 0.01).abs() < 1e-9, "{students:?}");
        assert_eq!((row.up, row.down), (1000.0, 3000.0));
        let of_fedavg = (2.0 + 1.0 + 2.0 / 3.0) / 3.0;
        assert!((row.of_fedavg - of_fedavg).abs() < 1e-9);
        assert_eq!(results.failed().len(), 4);
        assert_eq!(results.left_out.len(), 1);
    }

    #[test]
    fn files_say_it_all_and_need_nothing_else() {
        let results = example();
        let folder = tempfile::tempdir().unwrap();
        results.write(folder.path()).unwrap();
        let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&read("compare.json")).unwrap();
        let cells = json["cells"].as_array().unwrap();
        assert_eq!(cells.len(), results.cells.len());
        for (cell, record) in cells.iter().zip(&results.cells) {
            let read: Record = serde_json::from_value(cell.clone()).unwrap();
            assert_eq!(read, *record);
        }
        let of = |key: &str| json["settings"].get(key).is_some();
        assert!(of("rounds") && !of("seed") && !of("threads") && !of("out"));
        let page = read("compare.html");
        // One for each partition and teacher.
        assert_eq!(page.matches("<svg").count(), 4);
        for outside in ["<script", "<link", "src=", "href="] {
            assert!(!page.contains(outside), "the page needs {outside}");
        }
    }
}
