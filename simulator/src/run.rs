//! One federation, from its beginning to its end.

mod plan;
mod pooled;
mod ways;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fedistill_client::{Blobs, Client, Policy, Student};
use fedistill_coordinator::{Coordinator, CoordinatorError, Saved, Settings, Teacher};
use fedistill_federation::{Late, Missed, Quorum};
use fedistill_learning::{Architecture, Model};
use fedistill_protocol::{Answers, Digest, Name};
use fedistill_transport::Meter;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::plan::{Keep, Plan, Transport};
pub use self::pooled::pooled;
use self::ways::connect;
pub(crate) use self::ways::names;
use crate::board::{Between, Board, Centre, Ended, Seen, StudentWatch};
use crate::byzantine::{Honest, Liar, Overheard};
use crate::engine::Engine;
use crate::journal::Stage;
use crate::students::Students;
use crate::yardstick::Yardstick;
use crate::{Outcome, Progress, SimulationError, World};

/// Runs one federation to its end.
///
/// # Errors
/// Whatever ends it early.
pub async fn simulate(
    world: &World,
    plan: &Plan,
    teacher: Option<Box<dyn Teacher>>,
    progress: Progress,
) -> Result<Outcome, SimulationError> {
    simulate_kept(world, plan, teacher, progress, None).await
}

/// The same; goes on from what `stage` holds, and keeps it there.
pub(crate) async fn simulate_kept(
    world: &World,
    plan: &Plan,
    teacher: Option<Box<dyn Teacher>>,
    mut progress: Progress,
    mut stage: Option<Stage>,
) -> Result<Outcome, SimulationError> {
    let shape = world.transfer.shape();
    let classes = world.test.classes().len();
    let students = Arc::new(keep_students(world, plan)?);
    let kept = match &mut stage {
        Some(stage) => stage.load(&students)?,
        None => None,
    };
    let mut beginning = Beginning::default();
    let mut over = false;
    if let Some(kept) = kept {
        let round = kept.saved.round;
        progress.note(&format!("goes on after round {round}"));
        progress = progress.after(round);
        over = kept.saved.over;
        beginning.saved = kept.saved;
        beginning.seen = kept.seen;
    }
    let lengths = students.lengths().iter();
    // 4 bytes a parameter, both ways.
    beginning.seen.fedavg = lengths.map(|&length| 8 * length as u64).collect();
    beginning.keep = stage.clone().map(|stage| (stage, Arc::clone(&students)));
    let engine = Arc::new(Engine::new(
        shape.to_vec(),
        classes,
        plan.seed,
        Arc::clone(&students),
    ));
    let lies = plan.byzantine.map(|byzantine| {
        let liars = byzantine.among(students.len(), plan.seed);
        progress.note(&format!(
            "{} of {} clients lie ({}): {liars:?}",
            liars.len(),
            students.len(),
            byzantine.how()
        ));
        let honest = students.len() - liars.len();
        let overheard = || Arc::new(Overheard::new(honest, liars.len()));
        let overheard = byzantine.knowing.then(overheard);
        (byzantine.attack, liars, overheard)
    });
    let student = |client| -> Box<dyn Student> {
        let student = engine.student(client, plan.model(client));
        match &lies {
            Some((attack, liars, overheard)) if liars.contains(&client) => {
                Box::new(Liar::new(student, *attack, overheard.clone()))
            }
            Some((_, _, Some(overheard))) => {
                Box::new(Honest::new(student, client, Arc::clone(overheard)))
            }
            _ => Box::new(student),
        }
    };
    let mut outcome = match over {
        // Nobody would be asked anything, nor told that it is over.
        true => {
            let (set, _) = world.published(plan.method.as_ref(), plan.seed)?;
            let bytes = set.publish()?.pack().len();
            outcome(world, beginning.seen, bytes as u64, None)
        }
        false => run(world, plan, teacher, progress, student, beginning).await?,
    };
    let (parameters, digest) = students.digest()?;
    outcome.parameters = parameters;
    outcome.digest = digest.to_string();
    if let Some(stage) = stage {
        stage.finish(&outcome)?;
    }
    Ok(outcome)
}

/// What was seen, as what a federation came to; what had crossed before a stop, nobody knows.
fn outcome(world: &World, seen: Seen, transfer_bytes: u64, network: Option<u64>) -> Outcome {
    Outcome {
        seconds: seen.rows.iter().map(|row| row.seconds).sum(),
        clients: seen.clients.into_values().collect(),
        parameters: Vec::new(),
        server_before: seen.server_before,
        server_after: seen.server.or(seen.server_before),
        test_samples: world.test.len(),
        rounds: seen.rows,
        digest: String::new(),
        network,
        transfer_bytes,
    }
}

/// Where a federation begins; by default, at its beginning.
#[derive(Default)]
struct Beginning {
    seen: Seen,
    saved: Saved,
    keep: Option<(Stage, Arc<Students>)>,
}

/// A place for the students of all clients, as large as they are.
fn keep_students(world: &World, plan: &Plan) -> Result<Students, SimulationError> {
    let (shape, classes) = (world.transfer.shape(), world.test.classes().len());
    let mut sizes: Vec<(Architecture, usize)> = Vec::new();
    for &model in &plan.models {
        if !sizes.iter().any(|(known, _)| *known == model) {
            let net = model.build(shape, classes, 0)?;
            sizes.push((model, net.weights().len()));
        }
    }
    let length = |model| sizes.iter().find(|(of, _)| *of == model).map_or(0, |s| s.1);
    let lengths: Vec<usize> = (0..world.private.len())
        .map(|client| length(plan.model(client)))
        .collect();
    let bytes = 4 * lengths.iter().sum::<usize>() as u64;
    Ok(match bytes <= plan.keep.memory {
        true => Students::in_memory(lengths),
        false => Students::in_file(lengths, &plan.keep.folder.join("students.bin"))?,
    })
}

/// Runs one federation to its end, with students that the caller makes; what they have become the
/// caller knows.
///
/// # Errors
/// Whatever ends it early.
pub async fn simulate_with(
    world: &World,
    plan: &Plan,
    teacher: Option<Box<dyn Teacher>>,
    progress: Progress,
    student: impl Fn(usize) -> Box<dyn Student>,
) -> Result<Outcome, SimulationError> {
    run(
        world,
        plan,
        teacher,
        progress,
        student,
        Beginning::default(),
    )
    .await
}

async fn run(
    world: &World,
    plan: &Plan,
    teacher: Option<Box<dyn Teacher>>,
    progress: Progress,
    student: impl Fn(usize) -> Box<dyn Student>,
    beginning: Beginning,
) -> Result<Outcome, SimulationError> {
    let begun = Instant::now();
    let Beginning { seen, saved, keep } = beginning;
    let earlier: f64 = seen.rows.iter().map(|row| row.seconds).sum();
    let goes_on = !seen.rows.is_empty();
    let federation: Name = "simulation".parse()?;
    let clients = world.private.len();
    let cohort = plan.per_round.unwrap_or(clients).min(clients);
    let (set, probes) = world.published(plan.method.as_ref(), plan.seed)?;
    // Those who may wait for all others, with a seat and a worker each.
    let knowing = plan.byzantine.filter(|byzantine| byzantine.knowing);
    let waiting = knowing.map_or(0, |byzantine| byzantine.liars);
    // What those have in hand who were here before.
    let in_hand = goes_on.then(|| Arc::new(set.clone()));
    let transfer = set.publish()?;
    let packed = transfer.pack();
    let (transfer_bytes, blob) = (packed.len() as u64, Digest::of(&packed));
    drop(packed);
    let exchange = saved.exchange.clone();
    let holdings = exchange.holdings();
    let board = Board::new(seen);
    let yardstick = Arc::new(Yardstick::of(world));
    let between = Between::new(saved);
    // Long enough for any machine: a simulation has no clock of its own.
    let patience = Duration::from_secs(24 * 3600);
    let settings = Settings {
        federation: federation.clone(),
        classes: world.test.classes().to_vec(),
        method: Arc::clone(&plan.method),
        training: plan.training,
        rounds: plan.rounds,
        asked: most_asked(cohort, clients),
        open_with: clients,
        quorum: Quorum::new(cohort, cohort, Duration::ZERO, patience)?,
        missed: Missed::Reopen,
        late: Late::Refuse,
        silence: patience,
        patience: None,
        pause: Duration::ZERO,
        farewell: Duration::ZERO,
        // The same seed would fail in the same way again.
        attempts: Some(1),
        rows: plan.rows.min(world.transfer.len() as u32),
        precision: plan.precision,
        rounding: plan.rounding,
        seed: plan.seed,
        weights: BTreeMap::new(),
    };
    let mut coordinator = Coordinator::new(settings, transfer, teacher, Box::new(between.clone()))?
        // Enough that no worker waits for the next client, and not more than can be held.
        .asking(4 * plan.threads.max(1) + waiting)
        .observed_by(Centre {
            yardstick: Arc::clone(&yardstick),
            board: Arc::clone(&board),
            clients,
            progress: progress.clone(),
            since: begun,
            between,
            keep,
            ended: Ended::default(),
        });
    if let Some(probes) = probes {
        coordinator = coordinator.probing(probes)?;
    }
    let names = names(clients)?;
    let (listener, dialers) = connect(plan.transport, &federation, &names)?;
    let permits = Arc::new(Semaphore::new(plan.threads.max(1) + waiting));
    // Over a network each client fetches for itself, so that all bytes cross that would.
    let blobs = Arc::new(match plan.transport {
        Transport::Memory => Blobs::fetched_once(),
        Transport::Quic => Blobs::fetched_by_each(),
    });
    let mut tasks = JoinSet::new();
    for (index, (name, dialer)) in names.iter().zip(dialers).enumerate() {
        let data = &world.private[index];
        let watch = StudentWatch {
            client: index,
            yardstick: Arc::clone(&yardstick),
            board: Arc::clone(&board),
        };
        let fail = |error| SimulationError::Client {
            name: name.to_string(),
            error,
        };
        let mut client = Client::new(
            federation.clone(),
            name.clone(),
            student(index),
            data.clone(),
            Policy {
                most_epochs: u32::MAX,
                most_batch: u16::MAX,
                ..Policy::default()
            },
            dialer,
        )
        .map_err(fail)?
        .watched_by(watch)
        .metered(Arc::new(Meter::default()))
        .with_permits(Arc::clone(&permits))
        .sharing(Arc::clone(&blobs))
        .telling({
            let board = Arc::clone(&board);
            move |event| board.hear(index, &event)
        });
        if let Some(samples) = in_hand.as_ref().filter(|_| board.seen().knows(index)) {
            client = client.holding(blob, Arc::clone(samples));
        }
        for (blob, answers) in holdings.get(name).into_iter().flatten() {
            client = client.knowing(*blob, Arc::clone(answers));
        }
        if let Some((blob, packed)) = exchange.given.get(name) {
            let given = Answers::read(packed).map_err(CoordinatorError::from)?;
            client = client.having_given(*blob, Arc::new(given));
        }
        let name = name.clone();
        tasks.spawn(async move {
            let ended = client.run().await;
            let fail = |error| SimulationError::Client {
                name: name.to_string(),
                error,
            };
            ended.map(|_| ()).map_err(fail)
        });
    }
    let clients = async {
        while let Some(done) = tasks.join_next().await {
            done.map_err(|error| SimulationError::Internal(error.to_string()))??;
        }
        Ok::<_, SimulationError>(())
    };
    let centre = coordinator.run(listener, CancellationToken::new());
    tokio::pin!(clients, centre);
    // Clients would wait for ever for a coordinator that has failed, and one that has missed its
    // goodbye for one that has ended.
    tokio::select! {
        biased;
        ended = &mut centre => {
            ended.map_err(said)?;
            let told = tokio::time::timeout(GOODBYES, clients).await;
            told.unwrap_or(Ok(()))?;
        }
        ended = &mut clients => {
            ended?;
            centre.await.map_err(said)?;
        }
    }
    let seen = std::mem::take(&mut *board.seen());
    let network = seen.network.filter(|_| !goes_on);
    if let Some(closing) = seen.rows.get(plan.rounds as usize)
        && closing.clients.is_some()
    {
        return Err(SimulationError::Round {
            round: closing.round,
            why: "a client could not learn what the last round came to".to_owned(),
        });
    }
    Ok(Outcome {
        seconds: earlier + begun.elapsed().as_secs_f64(),
        ..outcome(world, seen, transfer_bytes, network)
    })
}

/// In a simulation nobody is late: a round fails by what some client could not do.
fn said(error: CoordinatorError) -> SimulationError {
    match error {
        CoordinatorError::NoQuorum { id, why, .. } => SimulationError::Round {
            round: id.round,
            why,
        },
        other => other.into(),
    }
}

/// Longest wait for clients to hang up once the coordinator has.
const GOODBYES: Duration = Duration::from_secs(10);

/// The most clients that a round may ask, of these: one more than there are where it asks all of them, who leave nobody out.
fn most_asked(cohort: usize, clients: usize) -> usize {
    match cohort < clients {
        true => cohort,
        false => clients + 1,
    }
}

#[cfg(test)]
mod tests;
