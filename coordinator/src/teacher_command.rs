//! `teacher train`, `teacher import`, `teacher evaluate`.

use std::collections::BTreeMap;
use std::path::Path;

use fedistill_coordinator::CoordinatorError;
use fedistill_coordinator::config::{Config, TeacherConfig};
use fedistill_coordinator::stand_ins::{self, StandIn, file};
use fedistill_federation::method;
use fedistill_learning::checkpoint::{self, About};
use fedistill_learning::{
    Architecture, ArchitectureError, Dataset, LearnError, Learner, Net, Schedule, Source,
};
use fedistill_program::{Exit, Failure, OrExit, print};
use fedistill_protocol::{Answers, Optimiser};

use crate::args::{ConfigFlag, TeacherCommand};

pub(crate) fn run(command: TeacherCommand) -> Result<(), Failure> {
    match command {
        TeacherCommand::Train {
            config,
            epochs,
            batch,
            learning_rate,
            force,
        } => {
            let schedule = Schedule { epochs, batch };
            train(&config, schedule, learning_rate, force)
        }
        TeacherCommand::Import {
            file,
            config,
            names,
            force,
        } => import(&file, &config, &names, force),
        TeacherCommand::Evaluate { config } => evaluate(&config),
    }
}

fn read(flag: &ConfigFlag) -> Result<(Config, TeacherConfig), Failure> {
    let config = Config::from_file(&flag.config).or_exit(Exit::Usage)?;
    let teacher = config.teacher.clone().ok_or_else(|| {
        let why = format!(
            "config {}: no [teacher] section: add one with file = ...",
            flag.config.display()
        );
        Failure::new(Exit::Usage, why)
    })?;
    Ok((config, teacher))
}

fn labelled(config: &Config, source: Option<&Source>, key: &str) -> Result<Dataset, Failure> {
    let source = source.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("the configuration names no {key} samples: add {key}"),
        )
    })?;
    source.labelled(config.classes.clone()).or_exit(Exit::Data)
}

fn keep(file: &Path, force: bool) -> Result<(), Failure> {
    match file.exists() && !force {
        true => Err(Failure::new(
            Exit::Usage,
            format!("{} is there already: --force overwrites it", file.display()),
        )),
        false => Ok(()),
    }
}

fn train(
    flag: &ConfigFlag,
    schedule: Schedule,
    learning_rate: f32,
    force: bool,
) -> Result<(), Failure> {
    let (config, teacher) = read(flag)?;
    keep(&teacher.file, force)?;
    let is_measured = is_measured(&config, &teacher)?;
    let data = labelled(&config, teacher.labelled.as_ref(), "teacher.labelled")?;
    let shape = data.samples().shape().to_vec();
    let training = Training {
        model: teacher.model,
        schedule,
        steps: Optimiser::Sgd {
            learning_rate,
            momentum: 0.0,
        },
        seed: config.seed,
    };
    let tenth = (schedule.epochs / 10).max(1);
    let told = |epoch: usize, loss: f32| {
        if epoch.is_multiple_of(tenth) || epoch == schedule.epochs {
            // Training goes on, whoever listens.
            let epochs = schedule.epochs;
            let _ = print(format_args!("epoch {epoch} of {epochs}: loss {loss:.4}"));
        }
    };
    let net = training.net(&data).or_exit(Exit::Data)?;
    let learner = training.teach(net, &data, told).or_exit(Exit::Failed)?;
    save(&config, &teacher, learner, shape)?;
    if !is_measured {
        return Ok(());
    }
    let logits = training.of_stand_ins(&data).or_exit(Exit::Failed)?;
    let about = file::About::of(&teacher.file, &data).or_exit(Exit::Failed)?;
    let path = file::beside(&teacher.file);
    file::save(&path, &about, &logits).or_exit(Exit::Failed)?;
    let (path, rows) = (path.display(), logits.rows());
    print(format_args!(
        "{path}: what stand-ins say of {rows} labelled samples that they have not seen, to measure the teacher by"
    ))
}

/// How a net becomes a teacher.
struct Training {
    model: Architecture,
    schedule: Schedule,
    steps: Optimiser,
    seed: u64,
}

impl Training {
    /// The net for these samples, before it has learnt anything.
    fn net(&self, data: &Dataset) -> Result<Net, ArchitectureError> {
        let shape = data.samples().shape();
        self.model.build(shape, data.classes().len(), self.seed)
    }

    /// Lets it learn them; `told` hears of each pass.
    fn teach(
        &self,
        net: Net,
        data: &Dataset,
        told: impl FnMut(usize, f32),
    ) -> Result<Learner, LearnError> {
        let mut learner = Learner::new(net);
        learner.fit(data, self.schedule, self.steps, self.seed, told)?;
        Ok(learner)
    }

    /// What others, trained in the same way, say of samples that they have not seen.
    fn of_stand_ins(&self, data: &Dataset) -> Result<Answers, CoordinatorError> {
        stand_ins::logits(data, None, |stand_in| {
            let StandIn {
                number,
                of,
                learns,
                speaks,
            } = stand_in;
            // Training goes on, whoever listens.
            let _ = print(format_args!(
                "stand-in {number} of {of}: learns {} samples, to speak about {speaks} others",
                learns.len()
            ));
            Ok(self.teach(self.net(learns)?, learns, |_, _| ())?)
        })
    }
}

/// Whether the configured method measures the teacher by its own labelled samples.
fn is_measured(config: &Config, teacher: &TeacherConfig) -> Result<bool, Failure> {
    let method = method::by_name(&config.method).or_exit(Exit::Usage)?;
    Ok(teacher.probes && config.probes.is_none() && method.wants_probes())
}

fn import(file: &Path, flag: &ConfigFlag, names: &[String], force: bool) -> Result<(), Failure> {
    let (config, teacher) = read(flag)?;
    keep(&teacher.file, force)?;
    let pair = |text: &String| -> Result<(String, String), Failure> {
        let (ours, theirs) = text.split_once('=').ok_or_else(|| {
            Failure::new(Exit::Usage, format!("--name {text}: write OURS=THEIRS"))
        })?;
        Ok((ours.to_owned(), theirs.to_owned()))
    };
    let names: BTreeMap<String, String> = names.iter().map(pair).collect::<Result<_, _>>()?;
    let samples = config.transfer.samples().or_exit(Exit::Data)?;
    let shape = samples.shape().to_vec();
    let mut net = teacher
        .model
        .build(&shape, config.classes.len(), config.seed)
        .or_exit(Exit::Data)?;
    checkpoint::import(file, &mut net, &names).or_exit(Exit::Data)?;
    save(&config, &teacher, Learner::new(net), shape)
}

fn save(
    config: &Config,
    teacher: &TeacherConfig,
    mut learner: Learner,
    input: Vec<u32>,
) -> Result<(), Failure> {
    let about = About {
        architecture: Some(teacher.model),
        input,
        classes: config.classes.clone(),
    };
    checkpoint::save(&teacher.file, learner.model(), &about, None).or_exit(Exit::Failed)?;
    // What was said in the place of the one before tells nothing of this one.
    file::forget(&file::beside(&teacher.file)).or_exit(Exit::Failed)?;
    let parameters = learner.model().weights().len();
    print(format_args!(
        "{}: {}, {parameters} parameters",
        teacher.file.display(),
        teacher.model
    ))?;
    match &config.held_out {
        Some(source) => tell(&labelled(config, Some(source), "held-out")?, &mut learner),
        None => Ok(()),
    }
}

fn evaluate(flag: &ConfigFlag) -> Result<(), Failure> {
    let (config, teacher) = read(flag)?;
    let saved = checkpoint::load(&teacher.file).or_exit(Exit::Data)?;
    let source = config.held_out.as_ref().ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            "the configuration names no held-out samples: add [held-out]",
        )
    })?;
    let data = labelled(&config, Some(source), "held-out")?;
    let what = format!("teacher {}", teacher.file.display());
    saved.about.check(&what, &data).or_exit(Exit::Data)?;
    tell(&data, &mut Learner::new(saved.net().or_exit(Exit::Data)?))
}

fn tell(data: &Dataset, learner: &mut Learner) -> Result<(), Failure> {
    let evaluation = learner
        .evaluate(data.samples(), data.labels())
        .or_exit(Exit::Data)?;
    print(format_args!("held-out: {evaluation}"))
}
