//! The coordinator's configuration.

mod round;
mod training;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fedistill_federation::{AtCentre, Setting, method};
use fedistill_learning::{Architecture, Source};
use fedistill_program::ConfigError;
use fedistill_program::config::{self, Rounding};
use fedistill_protocol::Name;
use serde::Deserialize;

pub use self::round::{LateConfig, MissedConfig, RoundConfig};
pub use self::training::TrainingConfig;
use crate::{CoordinatorError, FileStore, Settings};

/// A coordinator, whole. Relative paths start from the folder of the file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The federation's name.
    pub federation: String,
    /// Where clients connect.
    #[serde(default = "anywhere")]
    pub listen: SocketAddr,
    /// Where else clients are let in.
    #[serde(default)]
    pub fallback: FallbackConfig,
    /// The coordinator's bundle.
    #[serde(default = "bundle")]
    pub bundle: PathBuf,
    /// The folder of what outlives the process.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// Rounds that are over, their tries, and whose contributions each had, that are remembered: so many at most, all
    /// told.
    #[serde(default = "history")]
    pub history: u64,
    /// Names of the classes, in the order of every model's outputs.
    pub classes: Vec<String>,
    /// Everything random follows from it.
    #[serde(default)]
    pub seed: u64,
    /// The algorithm, by name.
    #[serde(default = "default_method")]
    pub method: String,
    /// Number of rounds.
    pub rounds: u32,
    /// The public samples.
    pub transfer: Source,
    /// The teacher, if there is one.
    pub teacher: Option<TeacherConfig>,
    /// Labelled samples that the teacher has not been trained on, for methods that measure by them
    /// how much it is to be believed. They travel with the transfer set, without their labels.
    pub probes: Option<Source>,
    /// Labelled samples that are only used to report how good the teacher is.
    pub held_out: Option<Source>,
    /// What a round is.
    pub round: RoundConfig,
    /// How hard clients and teacher train in a round.
    #[serde(default)]
    pub training: TrainingConfig,
    /// Weights of clients in the aggregate; 1 for those not named.
    #[serde(default)]
    pub weights: BTreeMap<String, u32>,
}

/// A door for clients that no UDP gets through to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FallbackConfig {
    /// TLS over TCP on this address; without it, there is none.
    pub tcp: Option<SocketAddr>,
}

/// A teacher.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TeacherConfig {
    /// Its file, as `teacher train` or `teacher import` writes it.
    #[serde(default = "teacher_file")]
    pub file: PathBuf,
    /// It begins as a net that knows nothing, whatever the file: it learns what the federation comes
    /// to, and has no vote in it.
    #[serde(default)]
    pub untrained: bool,
    /// Its net, for `teacher train` and `teacher import`, and of an untrained one.
    #[serde(default = "mlp_m")]
    pub model: Architecture,
    /// What `teacher train` trains it on.
    pub labelled: Option<Source>,
    /// Whether a method may measure by those samples what the teacher is worth, where there are no
    /// other probes. The first 200 of them then travel with the transfer set, without their labels: only
    /// who says so lets them.
    #[serde(default)]
    pub probes: bool,
}

fn teacher_file() -> PathBuf {
    "teacher.safetensors".into()
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 4433))
}

fn bundle() -> PathBuf {
    "coordinator.pem".into()
}

fn state() -> PathBuf {
    "state".into()
}

fn history() -> u64 {
    FileStore::REMEMBERED
}

fn default_method() -> String {
    method::DEFAULT.to_owned()
}

fn mlp_m() -> Architecture {
    Architecture::MlpM
}

impl Config {
    /// Reads a file; all paths in what is returned are whole.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = config::read(path)?;
        let folder = config::folder(path);
        config.bundle = folder.join(&config.bundle);
        config.state = folder.join(&config.state);
        if let Some(teacher) = &mut config.teacher {
            teacher.file = folder.join(&teacher.file);
        }
        let teacher = config
            .teacher
            .iter_mut()
            .filter_map(|t| t.labelled.as_mut());
        let sources = [&mut config.transfer];
        for source in sources
            .into_iter()
            .chain(&mut config.probes)
            .chain(&mut config.held_out)
            .chain(teacher)
        {
            source.start_from(&folder);
        }
        Ok(config)
    }

    /// How the federation is run, with a transfer set of `samples` samples.
    ///
    /// # Errors
    /// Settings that contradict each other.
    pub fn settings(&self, samples: u32) -> Result<Settings, CoordinatorError> {
        let weights = self.weights.iter();
        let method = method::by_name(&self.method)?;
        let training = self.training.with(&*method)?;
        let usual = method.usual_precision();
        if self.rounds == 0 {
            return Err(CoordinatorError::Settings(
                "rounds must be at least 1".to_owned(),
            ));
        }
        Ok(Settings {
            federation: self.federation.parse()?,
            classes: self.classes.clone(),
            method: method.into(),
            training,
            rounds: self.rounds,
            asked: self.round.asked()?,
            open_with: self.round.open_with.unwrap_or(self.round.least),
            quorum: self.round.quorum()?,
            missed: self.round.missed(),
            late: self.round.late(),
            silence: self.round.silence()?,
            patience: self.round.patience()?,
            pause: self.round.pause()?,
            farewell: self.round.farewell()?,
            attempts: self.round.attempts,
            rows: self.round.samples.min(samples),
            precision: self.round.packing.map_or(usual, Into::into),
            rounding: self.round.rounding.into(),
            seed: self.seed,
            weights: weights
                .map(|(name, weight)| Ok((name.parse::<Name>()?, *weight)))
                .collect::<Result<_, CoordinatorError>>()?,
        })
    }
}

impl Config {
    /// What stands at the centre.
    fn at_centre(&self) -> AtCentre {
        match &self.teacher {
            None => AtCentre::Nobody,
            Some(teacher) if teacher.untrained => AtCentre::Untrained,
            Some(teacher) if teacher.probes || self.probes.is_some() => AtCentre::Measured,
            Some(_) => AtCentre::Trained,
        }
    }
}

/// What of these settings is without effect, or of little, a line each: what the method makes nothing of, weights of clients among it, keys of its own
/// that wait for another teacher or that so few samples make little of, and more samples than the transfer set has.
pub fn without_effect(config: &Config, settings: &Settings, samples: u32) -> Vec<String> {
    let (method, round, training) = (&settings.method, &config.round, &config.training);
    let usual = TrainingConfig::default();
    let given = [
        ("round", Setting::Packing, round.packing.is_some()),
        (
            "round",
            Setting::Rounding,
            round.rounding != Rounding::default(),
        ),
        (
            "training",
            Setting::PrivateEpochs,
            training.private_epochs != usual.private_epochs,
        ),
        (
            "training",
            Setting::DistillationEpochs,
            training.distillation_epochs != usual.distillation_epochs,
        ),
    ];
    let lost = given
        .into_iter()
        .filter(|(_, setting, is_given)| *is_given && !method.heeds(*setting));
    let lost = lost
        .map(|(section, setting, _)| format!("{section}.{}", setting.is_lost_on(&method.name())));
    let idle = config.at_centre().idle(&**method).into_iter();
    let packed = method::idle_packed(&**method, settings.precision);
    let rounding = method::rounds_nothing(&**method, settings.precision, settings.rounding);
    let heeds = method.heeds(Setting::Samples);
    let is_weighed = config.weights.values().any(|weight| *weight > 1);
    let weighed = (is_weighed && method.keeps_each()).then(|| {
        format!(
            "weights: {} looks at each client's answers by themselves, where all count alike: only what it makes a mean of is weighed, if anything; 0 keeps a client's answers out of all of it",
            method.name()
        )
    });
    let cut = cut(round.samples, samples).filter(|_| heeds);
    let remark = method.remark(round.samples.min(samples));
    let idle = idle.chain(packed).chain(remark);
    lost.chain(idle.map(|why| format!("method: {why}")))
        .chain(rounding.map(|why| format!("round.{why}")))
        .chain(cut.map(|why| format!("round.{why}")))
        .chain(weighed)
        .collect()
}

/// That a round speaks about fewer samples than it is told to, where the transfer set has no more.
pub fn cut(told: u32, samples: u32) -> Option<String> {
    (told > samples).then(|| {
        format!(
            "samples is {told}, but the transfer set has only {samples}: each round speaks about all of them; lower it, or add samples"
        )
    })
}

/// Checks that answers can be told apart by these names of classes.
///
/// # Errors
/// Fewer than two, one that is empty, or one that stands twice.
pub fn check_classes(classes: &[String]) -> Result<(), CoordinatorError> {
    let wrong = |why: String| Err(CoordinatorError::Settings(format!("classes: {why}")));
    if classes.len() < 2 {
        return wrong("a federation needs at least two".to_owned());
    }
    let mut known = std::collections::BTreeSet::new();
    for class in classes {
        if class.trim().is_empty() {
            return wrong("one has no name: name all of them".to_owned());
        }
        if !known.insert(class) {
            return wrong(format!("{class:?} stands twice: name each once"));
        }
    }
    Ok(())
}

/// The configuration that `init` writes.
pub fn template(federation: &Name, classes: &[String]) -> String {
    let classes: Vec<String> = classes.iter().map(|class| format!("{class:?}")).collect();
    format!(
        r#"# A fedistill coordinator. Relative paths start from this file's folder.

federation = "{federation}"
listen = "0.0.0.0:4433"             # UDP
bundle = "coordinator.pem"          # certificate, key and root
state = "state"                     # rounds, teacher and status outlive the process here
# history = 1000000                 # contributions to rounds that are over that are remembered, 180 bytes each
classes = [{classes}]               # the same, in the same order, at every client
seed = 1
method = "{method}"                 # or another of docs/methods.md: logit-mean, ds-fl:era, cfd, teacher-only, ...
rounds = 30

# The public samples that everyone sees; labels are not needed. One of:
#   idx = {{ images = "transfer-images-idx3-ubyte.gz" }}
#   csv = {{ file = "transfer.csv" }}
#   folder = {{ path = "transfer", shape = [3, 32, 32] }}
[transfer]
idx = {{ images = "transfer-images-idx3-ubyte.gz" }}

# The model at the centre. Without this section there is none.
[teacher]
file = "teacher.safetensors"        # written by `teacher train` or `teacher import`
# untrained = true                  # in place of a file: knows nothing, learns what the federation comes to
model = "mlp-m"                     # mlp-s, mlp-m, mlp-l; of images conv-s, conv-m, conv-l, fedavg-cnn, resnet-8, resnet-20, mobilenet-v2
labelled = {{ idx = {{ images = "labelled-images-idx3-ubyte.gz", labels = "labelled-labels-idx1-ubyte.gz" }} }}
# Method adaptive measures how much the teacher is to be believed by up to 200 of its labelled samples and
# by what stand-ins, which `teacher train` trains too, say of those that they have not seen. So these
# travel to clients, unmarked among those of the transfer set and without labels. Where they must not, take
# this out: the teacher then weighs 0.3 times the mean of clients, whatever it is worth.
probes = true

# Other labelled samples to measure the teacher by, in place of those: some that it has not been trained
# on. They travel in the same way. For teachers that `teacher import` has written, and where labelled
# samples are nearly copies of each other, as windows that overlap are: then name other people's.
# [probes]
# idx = {{ images = "probes-images-idx3-ubyte.gz", labels = "probes-labels-idx1-ubyte.gz" }}

# Labelled samples that are only used to report how good the teacher is.
# [held-out]
# idx = {{ images = "test-images-idx3-ubyte.gz", labels = "test-labels-idx1-ubyte.gz" }}

# A second door, for clients that no UDP gets through to: the same over TLS on TCP. They dial it with
# `--fallback tcp`, port 443, once QUIC gets no answer.
# [fallback]
# tcp = "0.0.0.0:443"

[round]
least = 2                           # fewest contributions that a round can close with
# cohort = 100                      # most contributions: a round that has them closes at once; by default, all clients. A closing
                                    # round, in which clients learn what the last one came to, asks all, and waits for them
# over-selection = 1.3              # ask so many times the cohort, so that a round does not wait for the slowest
# open-with = 3                     # clients that must be connected before a round opens
least-seconds = 30                  # before this time, a round waits for all that it asked
most-seconds = 600                  # at this time, a round closes with what it has, if that is `least`
missed = "reopen"                   # where it is not: `reopen` gives it up and begins it anew, `extend` keeps what has come and
                                    # waits most-seconds more, `settle` closes with what there is, even one contribution
# extensions = 3                    # how often `extend` does so, before it gives up
# late = "fold"                     # what comes after its round has closed counts in the next, for less, where both ask about the same;
                                    # by default it is refused
# staleness-exponent = 0.5          # one round late, it weighs 2^-this of what a fresh one does
silence-seconds = 60                # a client at work that is silent for so long is not waited for
# pause-seconds = 86400             # between two rounds: a round a day; clients are sent away and come back in time for the next
# patience-seconds = 3600           # give up when too few clients come for so long
# farewell-seconds = 86400          # once all rounds are done, or started again then, stay for so long and tell who comes that it is over
# attempts = 10                     # give up when a round misses its quorum so often
samples = 1000                      # transfer samples that a round speaks about
# packing = "f16"                   # f32, f16, u8, u4, u2, u1, or top-1 to top-255; by default u8 with adaptive, f16 with others
# rounding = "stochastic"           # clients round by chance, right on average; of u8 and less, where there are many

[training]
private-epochs = 1
distillation-epochs = 3
batch = 50
steps = {{ sgd = {{ learning-rate = 0.1, momentum = 0.0 }} }}
# steps = {{ adamw = {{ learning-rate = 0.001, weight-decay = 0.01 }} }}
# distillation-temperature = 1      # of KL to what came down, for methods that distil by KL
# label-smoothing = 0.1             # share of a private label that is spread over all classes; 0 where it is not given

# Weights of clients in the aggregate; 1 for those not named.
# [weights]
# ward-7 = 2
"#,
        classes = classes.join(", "),
        method = method::DEFAULT
    )
}

#[cfg(test)]
mod tests;
