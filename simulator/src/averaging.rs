//! Methods that average parameters, to compare with: in a federation of ours weights never leave a
//! device, so these go through no protocol and exist in the simulator alone.

mod fusion;
mod local;
mod sum;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use fedistill_coordinator::Saved;
use fedistill_federation::method::Given;
use fedistill_federation::{MethodError, Setting, select};
use fedistill_learning::{LearnError, Learner, Model, Samples, seed};
use fedistill_protocol::Digest;
use fedistill_transport::{Flow, Traffic};

use self::fusion::Lesson;
pub use self::fusion::{FEDDF, Fusion};
use self::local::Work;
use crate::board::Seen;
use crate::journal::Stage;
use crate::metrics::{ClientScore, Measure, ServerScore};
use crate::run::names;
use crate::students::Students;
use crate::world::seed_of;
use crate::yardstick::Yardstick;
use crate::{Outcome, Plan, Progress, RoundRow, SimulationError, TeacherSource, World};

/// An algorithm that sends parameters both ways, and so needs one net for all clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Averaging {
    /// Federated averaging (McMahan et al. 2017): the mean of the cohort's parameters, by number of
    /// samples.
    FedAvg,
    /// Ensemble distillation for model fusion (Lin et al. 2020): that mean, which then learns the
    /// softmax of the cohort's mean logits on transfer samples, for as long as labelled samples say that it helps.
    FedDf(Fusion),
}

impl Averaging {
    /// The algorithm that a user calls so, `feddf` with [`FEDDF`] after it, `feddf,steps=500` for example; none
    /// where it is called otherwise.
    ///
    /// # Errors
    /// A key that it does not have, or a value that the key cannot have.
    pub fn by_name(name: &str) -> Result<Option<Self>, MethodError> {
        let mut parts = name.split(',');
        let called = parts.next().unwrap_or_default();
        let settings: Vec<&str> = parts.collect();
        Ok(match called {
            "fedavg" => {
                Given::read("fedavg", &[], &settings)?;
                Some(Self::FedAvg)
            }
            "feddf" => {
                let given = Given::read("feddf", &FEDDF, &settings)?;
                let fusion = Fusion::of(&given);
                if fusion.is_never_out_of_patience() {
                    return Err(MethodError::Parameter {
                        method: name.to_owned(),
                        why: "patience changes nothing beside the other keys: leave it out"
                            .to_owned(),
                    });
                }
                Some(Self::FedDf(fusion))
            }
            _ => None,
        })
    }

    /// Whether a name is one of such an algorithm, whatever its keys.
    pub fn is(name: &str) -> bool {
        let called = name.split_once(',').map_or(name, |(called, _)| called);
        ["fedavg", "feddf"].contains(&called)
    }

    /// Whether another value of a setting makes a difference. Parameters cross as they are, one of
    /// the two distils nothing, and the other as long as its own keys say.
    pub fn heeds(self, setting: Setting) -> bool {
        match setting {
            Setting::PrivateEpochs => true,
            Setting::Packing | Setting::Rounding | Setting::DistillationEpochs => false,
            Setting::Samples | Setting::DistillationTemperature => self != Self::FedAvg,
        }
    }

    /// That a key of its own is without effect beside such a teacher.
    pub(crate) fn idle(self, teacher: &TeacherSource) -> Option<String> {
        match (self, teacher) {
            (Self::FedDf(fusion), teacher)
                if fusion.is_never_measured() && !matches!(teacher, TeacherSource::Train(_)) =>
            {
                let why = "patience of feddf changes nothing with validation=0, by which nothing is measured: leave it out";
                Some(why.to_owned())
            }
            (Self::FedDf(fusion), TeacherSource::Train(count)) if fusion.sets_apart() => {
                Some(format!(
                    "validation of feddf changes nothing beside teacher train:{count}: those labelled samples are in its place; leave it out"
                ))
            }
            _ => None,
        }
    }

    /// Labelled samples that the server takes off the public ones for itself, where no teacher is trained on some.
    pub(crate) fn labelled(self) -> usize {
        match self {
            Self::FedAvg => 0,
            Self::FedDf(fusion) => fusion.validation(),
        }
    }
}

impl fmt::Display for Averaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FedAvg => "fedavg",
            Self::FedDf(_) => "feddf",
        })
    }
}

/// Runs one federation of averaged parameters to its end. The model at the centre is the server's and,
/// as it is sent to all, that of each client of a round; it is measured after each round. Bytes are 4 a
/// parameter, each way.
///
/// # Errors
/// Nets that differ between clients, or training that runs away.
pub fn average(
    world: &World,
    plan: &Plan,
    which: Averaging,
    progress: &Progress,
) -> Result<Outcome, SimulationError> {
    average_kept(world, plan, which, progress, None)
}

/// The same; goes on from what `stage` holds, and keeps it there.
pub(crate) fn average_kept(
    world: &World,
    plan: &Plan,
    which: Averaging,
    progress: &Progress,
    mut stage: Option<Stage>,
) -> Result<Outcome, SimulationError> {
    let begun = Instant::now();
    let model = plan.model(0);
    if plan.models.iter().any(|other| *other != model) {
        return Err(SimulationError::Settings(format!(
            "{which} averages parameters, which takes one net for all clients: name one in models"
        )));
    }
    let (shape, classes) = (world.transfer.shape(), world.test.classes().len());
    let build = |seed| model.build(shape, classes, seed);
    let net = build(seed_of(plan.seed, "averaged"))?;
    let mut parameters = net.weights().to_vec();
    let bytes = 4 * parameters.len() as u64;
    // Nothing is coded and nothing crosses.
    let flow = Flow {
        raw: bytes,
        packed: bytes,
        ..Flow::default()
    };
    let traffic = Traffic {
        up: flow,
        down: flow,
    };
    let mut centre = Learner::new(net);
    let workers = plan.threads.max(1);
    let desks: Vec<Mutex<Learner>> = (0..workers)
        .map(|_| Ok(Mutex::new(Learner::new(build(0)?))))
        .collect::<Result<_, SimulationError>>()?;
    let clients = names(world.private.len())?;
    let cohort = plan.per_round.unwrap_or(clients.len()).min(clients.len());
    // The model at the centre is kept as the only student.
    let kept = Students::in_memory(vec![parameters.len()]);
    let yardstick = Yardstick::of(world);
    let mut seen = Seen::default();
    let mut progress = progress.clone();
    if let Some(stage) = &mut stage
        && let Some(before) = stage.load(&kept)?
    {
        parameters.clear();
        kept.load(0, &mut parameters)?;
        seen = before.seen;
        progress.note(&format!("goes on after round {}", seen.rows.len()));
        progress = progress.after(seen.rows.len() as u32);
    }
    let earlier: f64 = seen.rows.iter().map(|row| row.seconds).sum();
    let mut since = Instant::now();
    for round in seen.rows.len() as u32..plan.rounds {
        let own = seed_of(plan.seed, &format!("averaging/{round}"));
        let asked = select(plan.seed, round, &clients, cohort);
        let asked: Vec<usize> = asked
            .iter()
            .filter_map(|name| clients.binary_search(name).ok())
            .collect();
        let rows = match which {
            Averaging::FedAvg => Vec::new(),
            Averaging::FedDf(_) => {
                let mut rng = seed::stream(own, "rows");
                let mut rows = seed::permutation(world.transfer.len(), &mut rng);
                rows.truncate(plan.rows as usize);
                rows
            }
        };
        let work = Work {
            world,
            plan,
            parameters: &parameters,
            rows: &rows,
            seed: own,
        };
        let (mean, logits) = work.train(&asked, &clients, &desks)?;
        centre.set_weights(&mean)?;
        if let Averaging::FedDf(fusion) = which {
            let lesson = Lesson {
                transfer: &world.transfer,
                rows: &rows,
                logits: &logits,
                temperature: plan.training.distillation_temperature,
                labelled: &world.labelled,
                seed: own,
            };
            fusion.fuse(&mut centre, &lesson)?;
        }
        parameters.copy_from_slice(centre.model().weights());
        let (server, scores) = measure(&yardstick, &asked, classes, &parameters, &desks)?;
        progress.round(round, server.on_test.share(), None);
        let now = Instant::now();
        let seconds = (now - since).as_secs_f64();
        since = now;
        let mut row = RoundRow {
            round,
            server_on_test: Some(server.on_test),
            seconds,
            clients: (asked.len() < clients.len()).then_some(asked),
            ..RoundRow::default()
        };
        row.score(&scores);
        for _ in &scores {
            row.enter(traffic, Some(2 * bytes));
        }
        seen.rows.push(row);
        seen.server = Some(server);
        if let Some(stage) = &mut stage
            && stage.is_due()
        {
            kept.save(0, &parameters)?;
            let saved = Saved {
                round: round + 1,
                ..Saved::default()
            };
            stage.keep(&saved, &seen, &kept)?;
        }
    }
    // The model that it has come to is everyone's, whoever was asked last.
    let everyone: Vec<usize> = (0..clients.len()).collect();
    let (_, scores) = measure(&yardstick, &everyone, classes, &parameters, &desks)?;
    let bytes: Vec<u8> = parameters.iter().flat_map(|w| w.to_le_bytes()).collect();
    let outcome = Outcome {
        clients: scores,
        server_after: seen.server,
        test_samples: world.test.len(),
        parameters: vec![parameters.len()],
        rounds: seen.rows,
        digest: Digest::of(&bytes).to_string(),
        seconds: earlier + begun.elapsed().as_secs_f64(),
        ..Outcome::default()
    };
    if let Some(stage) = stage {
        stage.finish(&outcome)?;
    }
    Ok(outcome)
}

/// Samples that a worker takes at a time.
const CHUNK: usize = 256;

/// How good these parameters are, as the server's and as those of each of these clients.
fn measure(
    yardstick: &Yardstick,
    clients: &[usize],
    classes: usize,
    parameters: &[f32],
    desks: &[Mutex<Learner>],
) -> Result<(ServerScore, Vec<ClientScore>), SimulationError> {
    let samples = yardstick.samples();
    let rows: Vec<usize> = (0..samples.len()).collect();
    let tested = yardstick.tested(&answer(samples, &rows, classes, parameters, desks)?);
    let scores = clients.iter().map(|&client| {
        let held_out = match yardstick.held_out(client) {
            Some((samples, rows)) => answer(samples, &rows, classes, parameters, desks)?,
            None => Vec::new(),
        };
        Ok(yardstick.client(client, &tested, &held_out))
    });
    let scores = scores.collect::<Result<_, SimulationError>>()?;
    Ok((tested.server(), scores))
}

/// The logits that these parameters give of some samples, which all workers share.
fn answer(
    samples: &Samples,
    rows: &[usize],
    classes: usize,
    parameters: &[f32],
    desks: &[Mutex<Learner>],
) -> Result<Vec<f32>, SimulationError> {
    let mut logits = vec![0.0; rows.len() * classes];
    let chunks = Mutex::new(rows.chunks(CHUNK).zip(logits.chunks_mut(CHUNK * classes)));
    let work = |desk: &Mutex<Learner>| -> Result<(), LearnError> {
        let mut learner = lock(desk);
        learner.set_weights(parameters)?;
        loop {
            let Some((rows, logits)) = lock(&chunks).next() else {
                return Ok(());
            };
            logits.copy_from_slice(&learner.logits_of(samples, rows)?);
        }
    };
    std::thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = desks
            .iter()
            .map(|desk| scope.spawn(move || work(desk)))
            .collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => done?,
                Err(_) => return Err(SimulationError::Internal("a worker panicked".to_owned())),
            }
        }
        Ok(())
    })?;
    Ok(logits)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
