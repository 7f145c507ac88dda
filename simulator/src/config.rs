//! What a simulation is of: flags over environment over file over defaults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use fedistill_federation::{MethodError, Setting, Training, method};
use fedistill_learning::Architecture;
use fedistill_program::config::{self, Packing, Rounding, Steps};
use fedistill_program::{ConfigError, Exit};
use fedistill_protocol::Digest;
use serde::{Deserialize, Serialize};

use crate::compare::CompareArgs;
use crate::{
    Averaging, Byzantine, Data, Journal, Keep, Partition, Plan, SimulationError, Sizes,
    TeacherSource, Transport,
};

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

/// Run a whole federation on this machine: a coordinator with its teacher and many clients, with
/// the wire bytes of a real one. Without arguments: ten clients on Fashion-MNIST over QUIC.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "fedistill-simulate",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// Another task than one federation.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Of one federation.
    #[command(flatten)]
    pub run: Args,
}

/// What else the program does.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Compare methods: a federation for each of them, each partition, each teacher and each seed.
    Compare(Box<CompareArgs>),
}

/// How one federation is told of.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "fedistill-simulate", version, after_help = Exit::HELP)]
pub struct Args {
    /// A TOML file; flags come before it, it comes before the defaults.
    #[arg(long, value_name = "FILE", env = "FEDISTILL_CONFIG")]
    pub config: Option<PathBuf>,
    /// fashion-mnist-mini, fashion-mnist, mnist, watch, or a folder of IDX files with MNIST's names.
    /// Names are looked for in $FEDISTILL_DATA, ./fixtures and ./data.
    #[arg(long, value_name = "NAME|DIR", env = "FEDISTILL_DATA_SET")]
    pub data: Option<String>,
    /// The algorithm, as NAME:VARIANT,KEY=VALUE,...: adaptive, logit-mean, ds-fl, fedmd, fedntd, cfd, scarlet, vote,
    /// selective, comet, kt-pfl, fd, fedproto, fedtgp, teacher-only or local (docs/methods.md); or, to
    /// compare with and in a simulation only, fedavg or feddf.
    #[arg(long, value_name = "NAME", env = "FEDISTILL_METHOD")]
    pub method: Option<String>,
    /// Number of clients; by default 10 or, with partition natural, as many as the data makes.
    #[arg(long, value_name = "N", env = "FEDISTILL_CLIENTS")]
    pub clients: Option<usize>,
    /// Clients that a round asks, chosen by chance for each; all by default.
    #[arg(long, value_name = "N", env = "FEDISTILL_PER_ROUND")]
    pub per_round: Option<usize>,
    /// Number of rounds.
    #[arg(long, value_name = "N", env = "FEDISTILL_ROUNDS")]
    pub rounds: Option<u32>,
    /// How samples are spread over clients: iid, dirichlet:ALPHA, shards:K (sorted and cut) or classes:K (so
    /// many classes each, evenly shared), all by label; or natural, a client for each person, device or
    /// site that the data tells of.
    #[arg(long, value_name = "HOW", env = "FEDISTILL_PARTITION")]
    pub partition: Option<Partition>,
    /// none, untrained (a net that learns what the federation comes to, and has no vote in it), train:N
    /// (trained on N labelled public samples), or a file.
    #[arg(long, value_name = "WHICH", env = "FEDISTILL_TEACHER")]
    pub teacher: Option<TeacherSource>,
    /// quic (on loopback, with mutual TLS) or memory.
    #[arg(long, value_enum, env = "FEDISTILL_TRANSPORT")]
    pub transport: Option<Transport>,
    /// Everything random follows from it.
    #[arg(long, value_name = "S", env = "FEDISTILL_SEED")]
    pub seed: Option<u64>,
    /// The folder that summary.json, rounds.jsonl and report.html are written to.
    #[arg(long, value_name = "DIR", env = "FEDISTILL_OUT")]
    pub out: Option<PathBuf>,
    /// Clients that train at a time, 1 to 1024; no result depends on it. All cores by default.
    #[arg(long, value_name = "N", env = "FEDISTILL_THREADS")]
    pub threads: Option<usize>,
    /// The clients' nets, dealt out in turn: mlp-s, mlp-m or mlp-l; of images, conv-s, conv-m, conv-l,
    /// fedavg-cnn, resnet-8, resnet-20 or mobilenet-v2; of windows of sensor values, sensor-conv.
    /// (tinybert-4 takes texts, which no data set here has.)
    #[arg(
        long,
        value_name = "NET,...",
        value_delimiter = ',',
        env = "FEDISTILL_MODELS"
    )]
    pub models: Option<Vec<Architecture>>,
    /// Let N clients, chosen by the seed, lie about what they know: N:lma (sure of the least likely class),
    /// N:cpa (of the class that goes least together with the likeliest one) or N:fdla (their values in the
    /// wrong order); N:lma:knowing and so on by the mean of what all honest clients say, which they know. A method whose aggregate is a mean takes robust=median or robust=geometric-median
    /// against them.
    #[arg(long, value_name = "N:ATTACK", env = "FEDISTILL_BYZANTINE")]
    pub byzantine: Option<Byzantine>,
    /// Run the federation alone, without what it is compared with.
    #[arg(long)]
    pub no_baselines: bool,
    /// Go on with the run in the folder for results that a stop has ended; without further
    /// arguments it is as it was begun. The result is the same, to the bit, as without the stop.
    #[arg(long, conflicts_with = "share_out")]
    pub resume: bool,
    /// Run nothing: write to DIR what each party would have, as IDX files, for a federation of
    /// processes.
    #[arg(long, value_name = "DIR")]
    pub share_out: Option<PathBuf>,
}

impl Args {
    /// Whether the number of clients is told: by a flag, the file, or a run that was begun.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(crate) fn tell_clients(&self) -> Result<bool, ConfigError> {
        #[derive(Deserialize)]
        struct Told {
            clients: Option<usize>,
        }
        Ok(match &self.config {
            _ if self.clients.is_some() => true,
            Some(path) => config::read::<Told>(path)?.clients.is_some(),
            None => self.resume,
        })
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
        let averaging = Averaging::by_name(&self.method);
        if let (None, Err(error)) = (averaging, method::by_name(&self.method)) {
            let why = match error {
                MethodError::Unknown { .. } => {
                    format!("{error}; or fedavg or feddf, in a simulation only")
                }
                error => error.to_string(),
            };
            return Err(SimulationError::Settings(why));
        }
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

    /// Refuses what would be without effect on the method. Where several are compared it is for others.
    fn suits_its_method(&self) -> Result<(), SimulationError> {
        let setting = Setting::DistillationTemperature;
        let is_given = self.distillation_temperature != Training::TEMPERATURE;
        match is_given && !heeds(&self.method, setting) {
            true => Err(SimulationError::Settings(setting.is_lost_on(&self.method))),
            false => Ok(()),
        }
    }

    /// That rounds speak about fewer samples than `samples` says, where a transfer set has only so many
    /// and the method speaks about it.
    pub(crate) fn cut(&self, transfer: usize) -> Option<String> {
        let transfer = transfer.try_into().unwrap_or(u32::MAX);
        let why = fedistill_coordinator::config::cut(self.samples, transfer);
        why.filter(|_| heeds(&self.method, Setting::Samples))
    }

    /// Tells a run of these settings that begins with such a world from others: where they do not say how answers
    /// are packed the program does, and not every version of it says the same.
    ///
    /// # Errors
    /// No such algorithm.
    pub(crate) fn beginning(&self, world: Digest) -> Result<Digest, SimulationError> {
        if self.packing.is_some() || Averaging::by_name(&self.method).is_some() {
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
            labelled: match self.teacher {
                TeacherSource::Train(count) => count,
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

/// Whether a setting makes a difference to the algorithm of this name; one that nobody knows is refused
/// elsewhere.
pub(crate) fn heeds(method: &str, setting: Setting) -> bool {
    match Averaging::by_name(method) {
        Some(which) => which.heeds(setting),
        None => method::by_name(method).map_or(true, |method| method.heeds(setting)),
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
mod tests {
    use fedistill_protocol::Precision;

    use super::*;

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        let text = "clients = 4\nrounds = 7\npartition = \"shards:2\"\nteacher = \"t.safetensors\"";
        std::fs::write(&path, text).unwrap();
        let args = ["x", "--config", path.to_str().unwrap(), "--rounds", "9"];
        let config = Config::from_args(Args::parse_from(args)).unwrap();
        assert_eq!((config.clients, config.rounds), (4, 9));
        assert_eq!(config.partition, Partition::Shards(2));
        let teacher = TeacherSource::File(folder.path().join("t.safetensors"));
        assert_eq!(config.teacher, teacher);
        assert_eq!(config.data, Config::default().data);
    }

    #[test]
    fn without_a_word_the_method_says_how_answers_are_packed() {
        let precision = |config: &Config, method| config.plan(method).unwrap().precision;
        let silent = Config::default();
        assert_eq!(precision(&silent, "adaptive"), Precision::U8);
        assert_eq!(precision(&silent, "ds-fl"), Precision::F16);
        // As a run's results, or its journal, tell of it.
        let told = serde_json::to_string(&silent).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&told).unwrap(), silent);
        let said = Config {
            packing: Some(Packing::F16),
            ..silent.clone()
        };
        assert_eq!(precision(&said, "adaptive"), Precision::F16);
        let told = serde_json::to_string(&said).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&told).unwrap(), said);
        assert_eq!(said.differs_from(&silent).as_deref(), Some("packing"));
    }

    #[test]
    fn what_the_program_says_tells_a_run_from_others() {
        let world = Digest::of(b"world");
        let begins = |method: &str, packing| {
            let config = Config {
                method: method.to_owned(),
                packing,
                ..Config::default()
            };
            config.beginning(world).unwrap()
        };
        let [ours, theirs] = ["adaptive", "ds-fl"].map(|method| begins(method, None));
        assert!(ours != theirs && ours != world && theirs != world);
        assert_eq!(begins("logit-mean", None), theirs);
        // What the user says is in the settings themselves; parameters cross as they are.
        assert_eq!(begins("adaptive", Some(Packing::F16)), world);
        assert_eq!(begins("fedavg", None), world);
    }

    #[test]
    fn the_help_names_every_net() {
        use clap::CommandFactory;
        let help = Args::command().render_long_help().to_string();
        for (name, _) in Architecture::ALL {
            assert!(help.contains(name), "{name}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (args, part) in [
            (["x", "--clients", "0"], "clients must be"),
            (["x", "--rounds", "0"], "rounds must be"),
            (["x", "--method", "fedprox"], "choose adaptive"),
            (["x", "--threads", "0"], "threads"),
            (["x", "--byzantine", "11:lma"], "no more liars than"),
            (
                ["x", "--byzantine=4:lma:knowing", "--per-round=5"],
                "wait for all others",
            ),
            (["x", "--threads", "1025"], "threads must be 1 to 1024"),
            (["x", "--threads", "18446744073709551615"], "threads"),
        ] {
            let error = Config::from_args(Args::parse_from(args)).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        for (text, part) in [
            ("threads = 100000", "threads must be"),
            ("personal-held-out = 1.0", "personal-held-out must be 0"),
            ("personal-held-out = nan", "personal-held-out must be 0"),
            ("batch = 0", "batch is 0: write"),
            (
                "distillation-temperature = 0",
                "distillation-temperature is 0:",
            ),
            ("label-smoothing = 1.5", "label-smoothing is 1.5:"),
            (
                "distillation-temperature = 2\nmethod = \"fedmd\"",
                "distillation-temperature changes nothing with fedmd",
            ),
            (
                "distillation-temperature = 2\nmethod = \"fedavg\"",
                "distillation-temperature changes nothing with fedavg",
            ),
            (
                "steps = { sgd = { learning-rate = -1 } }",
                "learning-rate is -1",
            ),
            (
                "steps = { adamw = { learning-rate = nan } }",
                "learning-rate is NaN",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let args = Args::parse_from(["x", "--config", path.to_str().unwrap()]);
            let error = Config::from_args(args).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let mixed = ["x", "--method", "feddf", "--models", "mlp-s,conv-s"];
        let error = Config::from_args(Args::parse_from(mixed)).unwrap_err();
        assert!(error.to_string().contains("one model"), "{error}");
        for args in [
            ["x", "--partition", "even"],
            ["x", "--models", "gpt"],
            ["x", "--teacher", "train:0"],
            ["x", "--byzantine", "4:nice"],
        ] {
            assert!(Args::try_parse_from(args).is_err(), "{args:?}");
        }
        let error = locate("nowhere").unwrap_err().to_string();
        assert!(
            error.contains("nowhere") && error.contains("fashion-mnist"),
            "{error}"
        );
    }
}
