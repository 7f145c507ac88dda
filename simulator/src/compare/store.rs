//! A comparison on disk: `cells/comparison.json` says what is compared, `cells/CELL/cell.json` what
//! came of a cell. Each is written whole or not at all.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use fedistill_protocol::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::compare::grid::Task;
use crate::compare::{Cell, Comparison, Grid, Record};
use crate::config::Config;
use crate::{Partition, SimulationError, TeacherSource, output};

#[derive(Deserialize, Serialize)]
struct Begun {
    settings: Config,
    grid: Grid,
}

/// The settings that all cells share, without what they differ in and without what no result depends
/// on.
pub(crate) fn shared(config: &Config) -> Config {
    let plain = Config::default();
    Config {
        method: plain.method,
        partition: Partition::Iid,
        teacher: TeacherSource::None,
        seed: 0,
        out: PathBuf::new(),
        threads: 1,
        memory_budget_mb: plain.memory_budget_mb,
        checkpoint_seconds: plain.checkpoint_seconds,
        baselines: false,
        ..config.clone()
    }
}

/// Tells what a cell is made of from others: its settings and the world that it begins in. Who removes `comparison.json` and
/// begins another comparison in the same folder is not to be told what came of this one.
pub(crate) fn made_of(task: &Task, world: Digest) -> String {
    Digest::of(format!("{world} {:?}", shared(&task.config)).as_bytes()).to_string()
}

fn cells(out: &Path) -> PathBuf {
    out.join("cells")
}

/// What was begun in this folder, on this machine's cores.
pub(crate) fn begun(out: &Path) -> Result<Option<(Config, Grid)>, SimulationError> {
    let begun: Option<Begun> = read(&cells(out).join("comparison.json"))?;
    Ok(begun.map(|Begun { settings, grid }| {
        let plain = Config::default();
        let config = Config {
            out: out.to_owned(),
            threads: plain.threads,
            ..settings
        };
        (config, grid)
    }))
}

/// Where a comparison's cells are kept.
#[derive(Debug)]
pub(crate) struct Store {
    out: PathBuf,
}

impl Store {
    /// Of this comparison, which may have been begun before with another grid.
    ///
    /// # Errors
    /// One of other settings in the same folder, or a folder that cannot be written.
    pub(crate) fn open(comparison: &Comparison) -> Result<Self, SimulationError> {
        let config = &comparison.config;
        let settings = shared(config);
        if let Some((before, _)) = begun(&config.out)?
            && let Some(key) = shared(&before).differs_from(&settings)
        {
            return Err(SimulationError::Settings(format!(
                "{} holds a comparison with another {key}: go on with the same settings, name another folder with --out, or remove that one",
                cells(&config.out).display()
            )));
        }
        let this = Self {
            out: config.out.clone(),
        };
        make(&cells(&this.out))?;
        Ok(this)
    }

    /// Says what is compared here, once nothing that is here already is of something else.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(crate) fn begin(&self, comparison: &Comparison) -> Result<(), SimulationError> {
        let begun = Begun {
            settings: shared(&comparison.config),
            grid: comparison.grid.clone(),
        };
        write(&cells(&self.out).join("comparison.json"), &begun)
    }

    /// The folder of a cell, which is there from now on.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn folder(&self, cell: &Cell) -> Result<PathBuf, SimulationError> {
        let folder = cells(&self.out).join(cell.folder());
        make(&folder)?;
        Ok(folder)
    }

    fn file(&self, cell: &Cell) -> PathBuf {
        cells(&self.out).join(cell.folder()).join("cell.json")
    }

    /// What came of a cell, if it is over.
    ///
    /// # Errors
    /// A file that cannot be used, or of other settings or another world: other data or another program.
    pub(crate) fn record(
        &self,
        task: &Task,
        world: Digest,
    ) -> Result<Option<Record>, SimulationError> {
        let cell = &task.cell;
        let path = self.file(cell);
        let Some(record) = read::<Record>(&path)? else {
            return Ok(None);
        };
        match record.cell == *cell && record.world == made_of(task, world) {
            true => Ok(Some(record)),
            false => Err(SimulationError::Settings(format!(
                "{} was made with other settings, of other data, with another teacher's file or by another version of this program: name another folder with --out, or remove {}",
                path.display(),
                cells(&self.out).display()
            ))),
        }
    }

    /// Keeps what came of a cell, in its folder, which must be there.
    pub(crate) fn keep(&self, record: &Record) -> Result<(), SimulationError> {
        write(&self.file(&record.cell), record)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SimulationError> {
    let unusable = |why: String| {
        SimulationError::Settings(format!(
            "{}: {why}: it cannot be used, remove it to begin it afresh",
            path.display()
        ))
    };
    match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(unusable(error.to_string())),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(error.to_string())),
    }
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), SimulationError> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from);
    text.and_then(|text| output::write_file(path, &text))
        .map_err(SimulationError::Results)
}

fn make(folder: &Path) -> Result<(), SimulationError> {
    fs::create_dir_all(folder).map_err(|error| {
        let why = format!("cannot make {}: {error}", folder.display());
        SimulationError::Results(Error::new(error.kind(), why))
    })
}
