//! `teacher train`, `teacher import`, `teacher evaluate`.

use std::collections::BTreeMap;
use std::path::Path;

use fedistill_coordinator::config::{Config, TeacherConfig};
use fedistill_learning::checkpoint::{self, About};
use fedistill_learning::{Dataset, Learner, Schedule, Source};
use fedistill_program::{Exit, Failure, OrExit, print};
use fedistill_protocol::Optimiser;

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
    let data = labelled(&config, teacher.labelled.as_ref(), "teacher.labelled")?;
    let shape = data.samples().shape().to_vec();
    let net = teacher
        .model
        .build(&shape, config.classes.len(), config.seed)
        .or_exit(Exit::Data)?;
    let mut learner = Learner::new(net);
    let steps = Optimiser::Sgd {
        learning_rate,
        momentum: 0.0,
    };
    let tenth = (schedule.epochs / 10).max(1);
    let told = |epoch: usize, loss: f32| {
        if epoch.is_multiple_of(tenth) || epoch == schedule.epochs {
            // Training goes on, whoever listens.
            let epochs = schedule.epochs;
            let _ = print(format_args!("epoch {epoch} of {epochs}: loss {loss:.4}"));
        }
    };
    learner
        .fit(&data, schedule, steps, config.seed, told)
        .or_exit(Exit::Failed)?;
    save(&config, &teacher, learner, shape)
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
