//! What a simulation is of: flags over environment over file over defaults.

mod args;
mod effect;
mod nets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fedistill_federation::{MethodError, Training, method};
use fedistill_learning::Architecture;
use fedistill_program::ConfigError;
use fedistill_program::config::{self, Packing, Rounding, Steps};
use fedistill_protocol::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    Averaging, Byzantine, Data, Journal, Keep, Partition, Plan, SimulationError, Sizes,
    TeacherSource, Transport,
};

pub use self::args::{Args, Cli, Command};
pub(crate) use self::effect::heeds;

/// A simulation, whole; every key has a default.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// `fashion-mnist-mini`, `fashion-mnist`, `mnist`, `watch`, or a folder of IDX files with MNIST's
    /// names.
    pub data: String,
    /// The algorithm, by name.
    pub method: String,
    /// Number of clients.
    pub clients: usize,
    /// Clients that a round asks; all where it is not given.
    pub per_round: Option<usize>,
    /// Number of rounds.
    pub rounds: u32,
    /// How samples are spread over clients.
    pub partition: Partition,
    /// Where the teacher comes from.
    pub teacher: TeacherSource,
    /// What carries the bytes.
    pub transport: Transport,
    /// Everything random follows from it.
    pub seed: u64,
    /// The folder that results are written to.
    pub out: PathBuf,
    /// Clients that train at a time. No result depends on it.
    pub threads: usize,
    /// Megabytes that students may take in memory while they do not train; beyond that they are
    /// kept in a file in the folder for results. No result depends on it.
    pub memory_budget_mb: u64,
    /// Seconds, at least, after which the run's state is kept in the folder for results, so that it
    /// can go on after a stop; 0 keeps every round. No result depends on it.
    pub checkpoint_seconds: u64,
    /// The clients' nets; client i has the i-th, and so on from the start.
    pub models: Vec<Architecture>,
    /// The teacher's net, where it is trained here, or untrained.
    pub teacher_model: Architecture,
    /// Share of the training samples that is public, between 0 and 1; with partition natural, of the
    /// people, devices or sites.
    pub public: f64,
    /// Share of each client's private samples, 0 up to but not 1, that is set apart and never trained
    /// on: personal accuracy is measured on it. With 0, on those test samples that are the client's own,
    /// where partition natural knows them; otherwise on the global test set, its classes weighted by the
    /// client's own label frequencies.
    pub personal_held_out: f64,
    /// Transfer samples that a round speaks about.
    pub samples: u32,
    /// How answers are packed; as the method says where it is not given.
    pub packing: Option<Packing>,
    /// How clients round what they pack: `nearest`, or `stochastic`, which is right on average.
    pub rounding: Rounding,
    /// Passes over private data in a round.
    pub private_epochs: u16,
    /// Passes over the round's transfer samples in a round.
    pub distillation_epochs: u16,
    /// Samples a step.
    pub batch: u16,
    /// How steps are taken.
    pub steps: Steps,
    /// Temperature at which clients distil what came down, by KL, 0.01 to 1000; of `feddf`, the server.
    pub distillation_temperature: f32,
    /// Share of a private label that is spread evenly over all classes, 0 up to but not 1.
    pub label_smoothing: f32,
    /// Clients that lie about what they know, `N:lma`, `N:cpa` or `N:fdla`, with `:knowing` after it where they know what
    /// the honest say; none by default.
    pub byzantine: Option<Byzantine>,
    /// Whether `local`, `teacher-only` and pooled data are run too, to compare with.
    pub baselines: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "fashion-mnist-mini".to_owned(),
            method: method::DEFAULT.to_owned(),
            clients: 10,
            per_round: None,
            rounds: 30,
            partition: Partition::Dirichlet(0.3),
            teacher: TeacherSource::Train(100),
            transport: Transport::Quic,
            seed: 1,
            out: "fedistill-report".into(),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS)),
            memory_budget_mb: 512,
            checkpoint_seconds: 10,
            models: vec![Architecture::MlpS],
            teacher_model: Architecture::MlpM,
            public: 0.3,
            personal_held_out: 0.0,
            samples: 1000,
            packing: None,
            rounding: Rounding::Nearest,
            private_epochs: 1,
            distillation_epochs: 3,
            batch: 50,
            steps: Steps::default(),
            distillation_temperature: Training::TEMPERATURE,
            label_smoothing: Training::SMOOTHING,
            byzantine: None,
            baselines: true,
        }
    }
}

impl Config {
    /// The configuration that these arguments lead to.
    ///
    /// # Errors
    /// A file that cannot be used, or settings that make no sense.
    pub fn from_args(args: Args) -> Result<Self, SimulationError> {
        let told = args.tell_clients()?;
        let config = match (&args.config, args.resume) {
            (Some(path), _) => Self::from_file(path)?,
            (None, true) => Self::begun(args.out.clone())?,
            (None, false) => Self::default(),
        };
        let mut config = config.under(args)?;
        if !told && config.partition == Partition::Natural {
            config.clients = Data::clients(&config.data, config.public)?;
        }
        config.check()?;
        config.suits_its_method()?;
        Ok(config)
    }

    /// These settings, but for what flags say; not yet checked.
    pub(crate) fn under(self, args: Args) -> Result<Self, SimulationError> {
        let mut config = self;
        fn set<T>(key: &mut T, flag: Option<T>) {
            if let Some(value) = flag {
                *key = value;
            }
        }
        set(&mut config.data, args.data);
        set(&mut config.method, args.method);
        set(&mut config.clients, args.clients);
        config.per_round = args.per_round.or(config.per_round);
        set(&mut config.rounds, args.rounds);
        set(&mut config.partition, args.partition);
        set(&mut config.teacher, args.teacher);
        set(&mut config.transport, args.transport);
        set(&mut config.seed, args.seed);
        set(&mut config.out, args.out);
        set(&mut config.threads, args.threads);
        set(&mut config.models, args.models);
        config.byzantine = args.byzantine.or(config.byzantine);
        config.baselines &= !args.no_baselines;
        config.settle_paths()?;
        Ok(config)
    }

    /// Makes paths of what is read independent of the folder that the program is started in: a run may
    /// go on from elsewhere.
    fn settle_paths(&mut self) -> Result<(), SimulationError> {
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map_err(|error| SimulationError::Settings(format!("{}: {error}", path.display())))
        };
        if let TeacherSource::File(file) = &mut self.teacher {
            *file = absolute(file)?;
        }
        if !KNOWN.contains(&self.data.as_str()) {
            self.data = absolute(Path::new(&self.data))?
                .to_string_lossy()
                .into_owned();
        }
        Ok(())
    }

    /// What was begun in the folder `out` and is not finished.
    fn begun(out: Option<PathBuf>) -> Result<Self, SimulationError> {
        let out = out.unwrap_or_else(|| Self::default().out);
        match Journal::unfinished(&out)? {
            Some(config) => Ok(Self { out, ..config }),
            None => Err(Journal::nothing_in(&out)),
        }
    }

    /// The first key that makes `other` another run: one that its result depends on.
    pub(crate) fn differs_from(&self, other: &Self) -> Option<String> {
        const FREE: [&str; 5] = [
            "out",
            "threads",
            "memory-budget-mb",
            "checkpoint-seconds",
            "baselines",
        ];
        let keys = |config: &Self| match serde_json::to_value(config) {
            Ok(serde_json::Value::Object(keys)) => keys,
            // A configuration is always an object.
            _ => serde_json::Map::new(),
        };
        let other = keys(other);
        let mut keys = keys(self).into_iter();
        keys.find(|(key, value)| !FREE.contains(&key.as_str()) && other.get(key) != Some(value))
            .map(|(key, _)| key)
    }

    /// Reads a file; relative paths of data and teacher in it start from its folder.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = config::read(path)?;
        let folder = config::folder(path);
        if let TeacherSource::File(file) = &mut config.teacher {
            *file = folder.join(&file);
        }
        if !KNOWN.contains(&config.data.as_str()) {
            config.data = folder.join(&config.data).to_string_lossy().into_owned();
        }
        Ok(config)
    }

    /// Refuses settings that make no sense.
    pub(crate) fn check(&self) -> Result<(), SimulationError> {
        self.teacher.is_there()?;
        let averaging =
            Averaging::by_name(&self.method).and_then(|averaging| match averaging.is_some() {
                true => Ok(averaging),
                false => method::by_name(&self.method).map(|_| None),
            });
        let averaging = averaging.map_err(|error| {
            SimulationError::Settings(match error {
                MethodError::Unknown { .. } => {
                    format!("{error}; or fedavg or feddf, in a simulation only")
                }
                error => error.to_string(),
            })
        })?;
        let wrong = [
            (
                averaging.is_some() && self.models.iter().any(|model| *model != self.models[0]),
                "fedavg and feddf average parameters: give all clients one model",
            ),
            (
                self.clients == 0 || self.clients > 10_000,
                "clients must be 1 to 10000",
            ),
            (
                self.rounds == 0 || self.rounds > 100_000,
                "rounds must be 1 to 100000",
            ),
            (
                self.per_round
                    .is_some_and(|count| count == 0 || count > self.clients),
                "per-round must be 1 to the number of clients",
            ),
            (
                self.byzantine.is_some_and(|b| b.liars > self.clients),
                "byzantine must name no more liars than there are clients",
            ),
            (
                self.byzantine.is_some() && averaging.is_some(),
                "byzantine clients lie in their answers, of which fedavg and feddf ask none: choose another method",
            ),
            (
                self.byzantine.is_some_and(|b| b.knowing)
                    && self.per_round.is_some_and(|count| count < self.clients),
                "knowing byzantine clients wait for all others: leave per-round out",
            ),
            (
                self.threads == 0 || self.threads > MOST_THREADS,
                "threads must be 1 to 1024",
            ),
            (self.models.is_empty(), "models must name at least one net"),
            (
                !(self.public > 0.0 && self.public < 1.0),
                "public must be between 0 and 1",
            ),
            (
                !(0.0..1.0).contains(&self.personal_held_out),
                "personal-held-out must be 0 up to but not 1",
            ),
            (self.samples == 0, "samples must be at least 1"),
        ];
        if let Some((_, why)) = wrong.into_iter().find(|(wrong, _)| *wrong) {
            return Err(SimulationError::Settings(why.to_owned()));
        }
        let training = self.training().check();
        let training = training.and_then(|()| self.steps.check());
        training.map_err(SimulationError::Settings)
    }

    /// Tells a run of these settings that begins with such a world from others: where they do not say how answers
    /// are packed the program does, and not every version of it says the same.
    ///
    /// # Errors
    /// No such algorithm.
    pub(crate) fn beginning(&self, world: Digest) -> Result<Digest, SimulationError> {
        if self.packing.is_some() || Averaging::is(&self.method) {
            return Ok(world);
        }
        let usual = method::by_name(&self.method)?.usual_precision();
        Ok(Digest::of(format!("{world} {usual:?}").as_bytes()))
    }

    /// How hard clients train, and what they minimise.
    fn training(&self) -> Training {
        Training {
            private_epochs: self.private_epochs,
            distillation_epochs: self.distillation_epochs,
            batch: self.batch,
            optimiser: self.steps.into(),
            distillation_temperature: self.distillation_temperature,
            label_smoothing: self.label_smoothing,
        }
    }

    /// Time, at least, between two times that a run's state is kept.
    pub(crate) fn checkpoints(&self) -> Duration {
        Duration::from_secs(self.checkpoint_seconds)
    }

    /// How the data is shared out.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            clients: self.clients,
            public: self.public,
            labelled: match (&self.teacher, Averaging::by_name(&self.method)) {
                (TeacherSource::Train(count), _) => *count,
                (_, Ok(Some(averaging))) => averaging.labelled(),
                _ => 0,
            },
        }
    }

    /// How the federation is run, with the algorithm of this name.
    ///
    /// # Errors
    /// No such algorithm.
    pub fn plan(&self, method: &str) -> Result<Plan, SimulationError> {
        let method = method::by_name(method)?;
        let usual = method.usual_precision();
        Ok(Plan {
            method: method.into(),
            rounds: self.rounds,
            training: self.training(),
            rows: self.samples,
            precision: self.packing.map_or(usual, Into::into),
            rounding: self.rounding.into(),
            models: self.models.clone(),
            transport: self.transport,
            threads: self.threads,
            per_round: self.per_round,
            byzantine: self.byzantine,
            keep: Keep {
                memory: self.memory_budget_mb.saturating_mul(1_000_000),
                folder: self.out.clone(),
            },
            seed: self.seed,
        })
    }
}

/// Each is a thread of the system.
const MOST_THREADS: usize = 1024;

const KNOWN: [&str; 4] = ["fashion-mnist-mini", "fashion-mnist", "mnist", "watch"];

/// The folder of a data set that is known by name, or the folder that is named.
///
/// # Errors
/// No such folder, with what to do about it.
pub fn locate(data: &str) -> Result<PathBuf, SimulationError> {
    if !KNOWN.contains(&data) {
        let path = PathBuf::from(data);
        return match path.is_dir() {
            true => Ok(path),
            false => Err(SimulationError::Settings(format!(
                "no data {data:?}: choose {}, or a folder of IDX files with MNIST's names",
                KNOWN.join(", ")
            ))),
        };
    }
    let own = std::env::var_os("FEDISTILL_DATA").map(PathBuf::from);
    let folders = own.into_iter().chain(["fixtures".into(), "data".into()]);
    let mut paths = folders.map(|folder| folder.join(data));
    paths.find(|path| path.is_dir()).ok_or_else(|| {
        SimulationError::Settings(format!(
            "data {data} is in none of $FEDISTILL_DATA, ./fixtures and ./data: run fixtures/fetch.sh {data} in the repository, or name a folder"
        ))
    })
}

#[cfg(test)]
mod tests;
