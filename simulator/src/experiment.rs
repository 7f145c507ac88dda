//! A federation and the baselines that every table needs beside it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use fedistill_coordinator::Teacher;
use fedistill_learning::Evaluation;

use crate::averaging::average_kept;
use crate::config::Config;
use crate::run::simulate_kept;
use crate::{
    Averaging, Data, Journal, MemoryBound, Outcome, Progress, SimulationError, Transport, View,
    pooled,
};

/// A federation and what it is compared with.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// What was run.
    pub config: Config,
    /// The federation itself.
    pub federated: Outcome,
    /// Students that learn alone, where that was run.
    pub local: Option<Outcome>,
    /// Students that hear the teacher and are not heard, where that was run.
    pub teacher_only: Option<Outcome>,
    /// One student with all private data, where that was run.
    pub pooled: Option<Evaluation>,
    /// Private samples of each client, by class.
    pub labels: Vec<Vec<usize>>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Wall-clock time of all; of a run that went on after a stop, without what was done twice.
    pub seconds: f64,
}

/// Runs a federation and its baselines; `progress` makes what tells of each, by its name. What is in
/// `journal` goes on from there, and is kept there.
///
/// # Errors
/// Whatever ends one of them early.
pub async fn run(
    config: &Config,
    journal: Option<&Arc<Journal>>,
    progress: impl Fn(&str, u32) -> Progress,
) -> Result<Experiment, SimulationError> {
    let begun = Instant::now();
    let mut world = Data::read(&config.data)?.share_out(config)?;
    let averaging = Averaging::by_name(&config.method)?;
    if averaging.is_none() && config.plan(&config.method)?.method.wants_probes() {
        world = world.with_probes(&config.teacher, config.teacher_model, config.seed)?;
    }
    if let Some(journal) = journal {
        journal.hold_against(config.beginning(world.digest(&config.teacher)?)?)?;
    }
    config.has_features(world.transfer.shape(), world.test.classes().len())?;
    let lost = config.without_effect(world.transfer.len());
    // What was done before this process began.
    let earlier = Cell::new(0.0);
    let stage = |method: &str| -> Result<_, SimulationError> {
        let stage = journal.map(|journal| journal.stage(method));
        let outcome = match &stage {
            Some(stage) => stage.outcome()?,
            None => None,
        };
        if let Some(outcome) = &outcome {
            earlier.set(earlier.get() + outcome.seconds);
        }
        Ok((stage, outcome))
    };
    let done = |outcome: &Outcome, begun: Instant| {
        let before = outcome.seconds - begun.elapsed().as_secs_f64();
        earlier.set(earlier.get() + before.max(0.0));
    };
    // Of the federation alone: with its baselines it is the same.
    let note_lost = |method: &str, progress: &Progress| {
        for why in lost.iter().filter(|_| method == config.method) {
            progress.note(why);
        }
    };
    let run = async |method: &str, transport: Transport| {
        let (stage, outcome) = stage(method)?;
        if let Some(outcome) = outcome {
            return Ok::<_, SimulationError>(outcome);
        }
        let begun = Instant::now();
        let mut plan = config.plan(method)?;
        plan.transport = transport;
        let teacher = world.teacher(&config.teacher, config.teacher_model, config.seed)?;
        let teacher = teacher.map(|teacher| Box::new(teacher) as Box<dyn Teacher>);
        let progress = progress(method, config.rounds);
        note_lost(method, &progress);
        let bound = MemoryBound::of(&world, &plan, config.teacher_model)?;
        progress.note(&bound.to_string());
        let outcome = simulate_kept(&world, &plan, teacher, progress.clone(), stage).await;
        progress.finish();
        let outcome = outcome?;
        done(&outcome, begun);
        Ok(outcome)
    };
    let federated = match averaging {
        Some(which) => match stage(&config.method)? {
            (_, Some(outcome)) => outcome,
            (stage, None) => {
                let begun = Instant::now();
                let plan = config.plan("local")?;
                let progress = progress(&config.method, config.rounds);
                note_lost(&config.method, &progress);
                let bound = MemoryBound::of_averaging(&world, &plan, which)?;
                progress.note(&bound.to_string());
                let outcome = average_kept(&world, &plan, which, &progress, stage)?;
                progress.finish();
                done(&outcome, begun);
                outcome
            }
        },
        None => run(&config.method, config.transport).await?,
    };
    // What is only compared with needs no network; its results do not depend on one.
    let baseline = async |method: &str, wanted: bool| match wanted && config.baselines {
        true if config.method == method => Ok(Some(federated.clone())),
        true => run(method, Transport::Memory).await.map(Some),
        false => Ok(None),
    };
    let has_teacher = federated.server_before.is_some();
    let teacher_only = baseline("teacher-only", has_teacher).await?;
    let local = baseline("local", true).await?;
    let pooled = match config.baselines {
        true => {
            let plan = config.plan("local")?;
            let told = progress(
                "pooled data",
                plan.rounds * u32::from(config.private_epochs),
            );
            told.note(&MemoryBound::of_pooled(&world, &plan)?.to_string());
            let evaluation = pooled(&world, &plan, &told)?;
            told.finish();
            Some(evaluation)
        }
        false => None,
    };
    Ok(Experiment {
        labels: world.private.iter().map(View::counts).collect(),
        classes: world.test.classes().to_vec(),
        config: config.clone(),
        federated,
        local,
        teacher_only,
        pooled,
        seconds: earlier.get() + begun.elapsed().as_secs_f64(),
    })
}
