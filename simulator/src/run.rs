use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use fedistill_client::{Client, Event, Policy, PrivateData, Student, Watcher};
use fedistill_coordinator::{Coordinator, MemoryStore, Observer, Settings, Teacher};
use fedistill_federation::{Method, Quorum, Training};
use fedistill_learning::{Architecture, Dataset, Evaluation, Learner, Schedule};
use fedistill_protocol::{Digest, Name, Phase, PhaseData, Precision, RoundId};
use fedistill_transport::identity::{Authority, Identity, Validity};
use fedistill_transport::quic::{Limits, QuicDialer, QuicListener};
use fedistill_transport::{Dial, Listen, Meter, Peer, memory};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::world::seed_of;
use crate::{Progress, SimulationError, View, World};

/// What carries the bytes of a simulated federation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// QUIC on loopback, with mutual TLS and a certificate for each client.
    Quic,
    /// Channels within the process.
    Memory,
}

/// How a simulated federation is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The algorithm.
    pub method: Arc<dyn Method>,
    /// Rounds.
    pub rounds: u32,
    /// How hard clients and teacher train in a round.
    pub training: Training,
    /// Transfer samples that a round speaks about.
    pub rows: u32,
    /// How answers are packed.
    pub precision: Precision,
    /// The clients' nets; client i has the i-th, and so on from the start.
    pub models: Vec<Architecture>,
    /// What carries the bytes.
    pub transport: Transport,
    /// Clients that train at a time.
    pub threads: usize,
    /// Everything random follows from it.
    pub seed: u64,
}

/// What one round came to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RoundRow {
    /// Which round.
    pub round: u32,
    /// Accuracy of each client's student, after it has distilled what came down.
    pub students: Vec<f64>,
    /// The teacher's, after it has learnt from the round.
    pub teacher: Option<f64>,
    /// Bytes up, of each client.
    pub up: Vec<u64>,
    /// Bytes down, of each client; the transfer set is in the first round's.
    pub down: Vec<u64>,
}

/// What a simulated federation came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Each client's student at the end, on the test samples.
    pub students: Vec<Evaluation>,
    /// Each student's number of parameters.
    pub parameters: Vec<usize>,
    /// The teacher as it began, on the test samples.
    pub teacher_before: Option<Evaluation>,
    /// The teacher at the end.
    pub teacher_after: Option<Evaluation>,
    /// Round by round; the last is the closing distillation, where the method has one.
    pub rounds: Vec<RoundRow>,
    /// blake3 of all final students' parameters, in the order of clients.
    pub digest: String,
    /// All bytes on the network, both ways, with all overhead.
    pub network: Option<u64>,
    /// Bytes of the transfer set, which each client fetches once.
    pub transfer_bytes: u64,
    /// Wall-clock time.
    pub seconds: f64,
}

/// What is seen of the students and the teacher while they learn.
#[derive(Default)]
struct Board {
    students: BTreeMap<(u32, usize), Evaluation>,
    parameters: BTreeMap<usize, Vec<f32>>,
    teacher: Vec<(u32, Evaluation)>,
    before: Option<Evaluation>,
}

type Shared = Arc<Mutex<Board>>;

fn lock(board: &Shared) -> std::sync::MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

struct StudentWatch {
    index: usize,
    test: Arc<Dataset>,
    board: Shared,
}

impl Watcher for StudentWatch {
    /// Of a round counts how good the student is once it has distilled, if it does; private training
    /// then makes it its own again.
    fn phase_done(&mut self, id: RoundId, phase: &Phase, last: bool, student: &mut dyn Student) {
        let key = (id.round, self.index);
        let known = lock(&self.board).students.contains_key(&key);
        if phase.data == PhaseData::Transfer || (last && !known) {
            // A student of ours that has learnt can also answer.
            if let Ok(logits) = student.logits(self.test.samples()) {
                let classes = self.test.classes().len();
                let evaluation = Evaluation::of(&logits, self.test.labels(), classes);
                lock(&self.board).students.insert(key, evaluation);
            }
        }
        if last {
            let parameters = student.parameters().to_vec();
            lock(&self.board).parameters.insert(self.index, parameters);
        }
    }
}

struct TeacherWatch {
    test: Arc<Dataset>,
    board: Shared,
    progress: Progress,
}

impl TeacherWatch {
    fn evaluate(&self, teacher: Option<&mut dyn Teacher>) -> Option<Evaluation> {
        let logits = teacher?.logits(self.test.samples()).ok()?;
        let classes = self.test.classes().len();
        Some(Evaluation::of(&logits, self.test.labels(), classes))
    }
}

impl Observer for TeacherWatch {
    fn started(&mut self, _: u32, teacher: Option<&mut dyn Teacher>) {
        let evaluation = self.evaluate(teacher);
        lock(&self.board).before = evaluation;
    }

    fn round_done(&mut self, id: RoundId, _: &[Name], teacher: Option<&mut dyn Teacher>) {
        let evaluation = self.evaluate(teacher);
        let mut board = lock(&self.board);
        if let Some(evaluation) = evaluation {
            board.teacher.push((id.round, evaluation));
        }
        let of_round = board.students.range((id.round, 0)..=(id.round, usize::MAX));
        let accuracies: Vec<f64> = of_round.map(|(_, e)| e.accuracy).collect();
        drop(board);
        let mean = accuracies.iter().sum::<f64>() / accuracies.len().max(1) as f64;
        self.progress
            .round(id.round, mean, evaluation.map(|e| e.accuracy));
    }
}

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
    let begun = Instant::now();
    let federation: Name = "simulation".parse()?;
    let clients = world.private.len();
    let transfer = world.transfer.clone().publish()?;
    let transfer_bytes = transfer.pack().len() as u64;
    let board = Shared::default();
    // Long enough for any machine: a simulation has no clock of its own.
    let patience = Duration::from_secs(24 * 3600);
    let settings = Settings {
        federation: federation.clone(),
        classes: world.test.classes().to_vec(),
        method: Arc::clone(&plan.method),
        training: plan.training,
        rounds: plan.rounds,
        cohort: clients,
        open_with: clients,
        quorum: Quorum::new(clients, clients, Duration::ZERO, patience)?,
        silence: patience,
        patience: None,
        // The same seed would fail in the same way again.
        attempts: Some(1),
        rows: plan.rows.min(transfer.samples()),
        precision: plan.precision,
        seed: plan.seed,
        weights: BTreeMap::new(),
    };
    let coordinator = Coordinator::new(settings, transfer, teacher, Box::<MemoryStore>::default())?
        .observed_by(TeacherWatch {
            test: Arc::clone(&world.test),
            board: Arc::clone(&board),
            progress: progress.clone(),
        });
    let names: Vec<Name> = (0..clients)
        .map(|index| {
            format!(
                "client-{index:0width$}",
                width = clients.ilog10() as usize + 1
            )
            .parse()
        })
        .collect::<Result<_, _>>()?;
    let (listener, dialers) = connect(plan.transport, &federation, &names)?;
    let permits = Arc::new(Semaphore::new(plan.threads.max(1)));
    let (events, mut told) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for (index, (name, dialer)) in names.iter().zip(dialers).enumerate() {
        let data = &world.private[index];
        let architecture = plan.models[index % plan.models.len().max(1)];
        let own = seed_of(plan.seed, &format!("student/{index}"));
        let net = architecture.build(data.shape(), data.classes().len(), own)?;
        let watch = StudentWatch {
            index,
            test: Arc::clone(&world.test),
            board: Arc::clone(&board),
        };
        let fail = |error| SimulationError::Client {
            name: name.to_string(),
            error,
        };
        let (own_events, mut heard) = mpsc::unbounded_channel();
        let client = Client::new(
            federation.clone(),
            name.clone(),
            Learner::new(net),
            data.clone(),
            Policy {
                most_epochs: u32::MAX,
                ..Policy::default()
            },
            dialer,
        )
        .map_err(fail)?
        .watched_by(watch)
        .metered(Arc::new(Meter::default()))
        .with_permits(Arc::clone(&permits))
        .events(own_events);
        let (events, name) = (events.clone(), name.clone());
        tasks.spawn(async move {
            let ended = client.run().await;
            while let Ok(event) = heard.try_recv() {
                // The receiver lives to the end of the simulation.
                let _ = events.send((index, event));
            }
            let fail = |error| SimulationError::Client {
                name: name.to_string(),
                error,
            };
            ended.map(|_| ()).map_err(fail)
        });
    }
    drop(events);
    // Clients would wait for ever for a coordinator that has failed.
    tokio::try_join!(
        async { Ok(coordinator.run(listener, CancellationToken::new()).await?) },
        async {
            while let Some(done) = tasks.join_next().await {
                done.map_err(|error| SimulationError::Internal(error.to_string()))??;
            }
            Ok::<_, SimulationError>(())
        }
    )?;
    let mut outcome = Outcome {
        transfer_bytes,
        seconds: begun.elapsed().as_secs_f64(),
        ..Outcome::default()
    };
    let mut crossed: BTreeMap<(u32, usize), (u64, u64)> = BTreeMap::new();
    while let Ok((index, event)) = told.try_recv() {
        match event {
            Event::Counted { id, sent, received } => {
                crossed.insert((id.round, index), (sent, received));
            }
            Event::Closed {
                network: Some(bytes),
            } => {
                outcome.network = Some(outcome.network.unwrap_or(0) + bytes);
            }
            _ => {}
        }
    }
    gather(&mut outcome, &lock(&board), &crossed, names.len());
    Ok(outcome)
}

/// Puts together what was seen.
fn gather(
    outcome: &mut Outcome,
    board: &Board,
    crossed: &BTreeMap<(u32, usize), (u64, u64)>,
    clients: usize,
) {
    let rounds = board
        .students
        .keys()
        .map(|(round, _)| round + 1)
        .max()
        .unwrap_or(0);
    let mut before = vec![(0, 0); clients];
    for round in 0..rounds {
        let mut row = RoundRow {
            round,
            ..RoundRow::default()
        };
        for (index, before) in before.iter_mut().enumerate() {
            let seen = board.students.get(&(round, index));
            row.students
                .push(seen.map_or(f64::NAN, |evaluation| evaluation.accuracy));
            let now = crossed.get(&(round, index)).copied().unwrap_or(*before);
            row.up.push(now.0 - before.0);
            row.down.push(now.1 - before.1);
            *before = now;
        }
        row.teacher = board
            .teacher
            .iter()
            .find(|(of, _)| *of == round)
            .map(|(_, evaluation)| evaluation.accuracy);
        outcome.rounds.push(row);
    }
    let last = rounds.saturating_sub(1);
    outcome.students = (0..clients)
        .filter_map(|index| board.students.get(&(last, index)).copied())
        .collect();
    outcome.teacher_before = board.before;
    outcome.teacher_after = board.teacher.last().map(|(_, e)| *e).or(board.before);
    outcome.parameters = board.parameters.values().map(Vec::len).collect();
    let parameters = board.parameters.values().flatten();
    let bytes: Vec<u8> = parameters.flat_map(|value| value.to_le_bytes()).collect();
    outcome.digest = Digest::of(&bytes).to_string();
}

type Ways = (Arc<dyn Listen>, Vec<Box<dyn Dial>>);

/// A door, and a way to it for each client.
fn connect(
    transport: Transport,
    federation: &Name,
    names: &[Name],
) -> Result<Ways, SimulationError> {
    match transport {
        Transport::Memory => {
            let (listener, door) = memory::listen();
            let dialer = |name: &Name| -> Box<dyn Dial> {
                let (federation, name) = (federation.clone(), name.clone());
                Box::new(door.dialer(Peer::Client { federation, name }))
            };
            Ok((Arc::new(listener), names.iter().map(dialer).collect()))
        }
        Transport::Quic => {
            let authority = Authority::create(federation.clone())?;
            let identity =
                |bundle: String| Identity::parse(Path::new("simulated bundle"), bundle.as_bytes());
            let valid = Validity::days(7);
            let host = "127.0.0.1".to_owned();
            let bundle = authority.coordinator(std::slice::from_ref(&host), valid)?;
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let listener = QuicListener::bind(any, &identity(bundle)?, Limits::default())?;
            let address = listener.address()?.to_string();
            let dialers = names.iter().map(|name| {
                let identity = identity(authority.client(name, valid)?)?;
                let dialer = QuicDialer::new(address.clone(), None, &identity)?;
                let dialer: Box<dyn Dial> = Box::new(dialer);
                Ok(dialer)
            });
            let dialers = dialers.collect::<Result<_, SimulationError>>()?;
            Ok((Arc::new(listener), dialers))
        }
    }
}

/// The upper bound: one student that has all private data in one place, which a federation exists
/// to avoid. It takes as many passes over it as clients do over theirs.
///
/// # Errors
/// A net that does not fit the data.
pub fn pooled(
    world: &World,
    plan: &Plan,
    progress: &Progress,
) -> Result<Evaluation, SimulationError> {
    let all = View::join(&world.private)
        .ok_or_else(|| SimulationError::Internal("no private data".to_owned()))?
        .to_dataset();
    let (shape, classes) = (all.samples().shape(), all.classes().len());
    let architecture = plan.models.first().copied().unwrap_or(Architecture::MlpS);
    let seed = seed_of(plan.seed, "pooled");
    let mut learner = Learner::new(architecture.build(shape, classes, seed)?);
    let schedule = Schedule {
        epochs: plan.rounds as usize * usize::from(plan.training.private_epochs),
        batch: plan.training.batch.into(),
    };
    let epochs = schedule.epochs as u32;
    let told = |epoch: usize, loss: f32| progress.epoch(epoch as u32, epochs, loss);
    learner.fit(&all, schedule, plan.training.optimiser, seed, told)?;
    Ok(learner.evaluate(world.test.samples(), world.test.labels())?)
}
