use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use fedistill_client::{Blobs, Client, Event, Policy, Student, Watcher};
use fedistill_coordinator::{Coordinator, Observer, Saved, Settings, Store, StoreError, Teacher};
use fedistill_federation::{Method, Quorum, Training};
use fedistill_learning::{Architecture, Dataset, Evaluation, Learner, Model, Schedule};
use fedistill_protocol::{Name, Phase, PhaseData, Precision, RoundId, RoundPlan};
use fedistill_transport::identity::{Authority, Identity, Validity};
use fedistill_transport::quic::{Limits, QuicDialer, QuicListener};
use fedistill_transport::{Dial, Listen, Meter, Peer, memory};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::students::Students;
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
    /// Clients that a round asks; all by default.
    pub per_round: Option<usize>,
    /// How students are kept while they do not train.
    pub keep: Keep,
    /// Everything random follows from it.
    pub seed: u64,
}

impl Plan {
    /// The net of a client.
    pub fn model(&self, client: usize) -> Architecture {
        let models = self.models.len().max(1);
        let model = self.models.get(client % models).copied();
        model.unwrap_or(Architecture::MlpS)
    }
}

/// How students are kept while they do not train.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Bytes that they may take in memory; beyond that they go to a file.
    pub memory: u64,
    /// The folder of that file.
    pub folder: PathBuf,
}

/// What one round came to. Rows are equal that came to the same, however long that took.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RoundRow {
    /// Which round.
    pub round: u32,
    /// Which clients took part, where not all did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Vec<usize>>,
    /// Accuracy of the student of each client that took part, after it has distilled what came down.
    pub students: Vec<f64>,
    /// The teacher's, after it has learnt from the round.
    pub teacher: Option<f64>,
    /// Bytes up, of each of them.
    pub up: Vec<u64>,
    /// Bytes down, of each of them; the transfer set is in a client's first.
    pub down: Vec<u64>,
    /// Wall-clock time from the end of the round before, or from the first one's start, to this one's
    /// end, evaluation included.
    #[serde(default)]
    pub seconds: f64,
}

impl PartialEq for RoundRow {
    fn eq(&self, other: &Self) -> bool {
        // All fields by name, so that a new one is not forgotten here.
        let Self {
            round,
            clients,
            students,
            teacher,
            up,
            down,
            seconds: _,
        } = self;
        (round, clients) == (&other.round, &other.clients)
            && (students, teacher) == (&other.students, &other.teacher)
            && (up, down) == (&other.up, &other.down)
    }
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
    crossed: BTreeMap<(u32, usize), (u64, u64)>,
    network: Option<u64>,
    teacher: Vec<(u32, Evaluation)>,
    before: Option<Evaluation>,
    seconds: BTreeMap<u32, f64>,
}

type Shared = Arc<Mutex<Board>>;

impl Board {
    fn hear(&mut self, index: usize, event: &Event) {
        match event {
            Event::Counted { id, sent, received } => {
                self.crossed.insert((id.round, index), (*sent, *received));
            }
            Event::Closed {
                network: Some(bytes),
            } => self.network = Some(self.network.unwrap_or(0) + bytes),
            _ => {}
        }
    }
}

/// A store that keeps nothing of a round: a simulation that stops in it begins it again.
#[derive(Debug, Default)]
struct Forgetful;

impl Store for Forgetful {
    fn load(&mut self) -> Result<Saved, StoreError> {
        Ok(Saved::default())
    }

    fn open(&mut self, _: &RoundPlan, _: &BTreeMap<Name, u32>) -> Result<(), StoreError> {
        Ok(())
    }

    fn append(&mut self, _: RoundId, _: &fedistill_federation::Event) -> Result<(), StoreError> {
        Ok(())
    }

    fn close(&mut self, _: &Saved) -> Result<(), StoreError> {
        Ok(())
    }
}

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
    }
}

struct TeacherWatch {
    test: Arc<Dataset>,
    board: Shared,
    progress: Progress,
    /// When the round that is under way began.
    since: Instant,
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
        self.since = Instant::now();
    }

    fn round_done(&mut self, id: RoundId, _: &[Name], teacher: Option<&mut dyn Teacher>) {
        let evaluation = self.evaluate(teacher);
        let now = Instant::now();
        let seconds = (now - self.since).as_secs_f64();
        self.since = now;
        let mut board = lock(&self.board);
        board.seconds.insert(id.round, seconds);
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
    let shape = world.transfer.shape();
    let classes = world.test.classes().len();
    let students = Arc::new(keep_students(world, plan)?);
    let engine = Arc::new(Engine::new(
        shape.to_vec(),
        classes,
        plan.seed,
        Arc::clone(&students),
    ));
    let student =
        |client| -> Box<dyn Student> { Box::new(engine.student(client, plan.model(client))) };
    let mut outcome = simulate_with(world, plan, teacher, progress, student).await?;
    let (parameters, digest) = students.digest()?;
    outcome.parameters = parameters;
    outcome.digest = digest.to_string();
    Ok(outcome)
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
    let begun = Instant::now();
    let federation: Name = "simulation".parse()?;
    let clients = world.private.len();
    let cohort = plan.per_round.unwrap_or(clients).min(clients);
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
        cohort,
        open_with: clients,
        quorum: Quorum::new(cohort, cohort, Duration::ZERO, patience)?,
        silence: patience,
        patience: None,
        // The same seed would fail in the same way again.
        attempts: Some(1),
        rows: plan.rows.min(transfer.samples()),
        precision: plan.precision,
        seed: plan.seed,
        weights: BTreeMap::new(),
    };
    let coordinator = Coordinator::new(settings, transfer, teacher, Box::<Forgetful>::default())?
        // Enough that no worker waits for the next client, and not more than can be held.
        .asking(4 * plan.threads.max(1))
        .observed_by(TeacherWatch {
            test: Arc::clone(&world.test),
            board: Arc::clone(&board),
            progress: progress.clone(),
            since: begun,
        });
    let names = names(clients)?;
    let (listener, dialers) = connect(plan.transport, &federation, &names)?;
    let permits = Arc::new(Semaphore::new(plan.threads.max(1)));
    // Over a network each client fetches for itself, so that all bytes cross that would.
    let blobs = Arc::new(match plan.transport {
        Transport::Memory => Blobs::fetched_once(),
        Transport::Quic => Blobs::fetched_by_each(),
    });
    let mut tasks = JoinSet::new();
    for (index, (name, dialer)) in names.iter().zip(dialers).enumerate() {
        let data = &world.private[index];
        let watch = StudentWatch {
            index,
            test: Arc::clone(&world.test),
            board: Arc::clone(&board),
        };
        let fail = |error| SimulationError::Client {
            name: name.to_string(),
            error,
        };
        let client = Client::new(
            federation.clone(),
            name.clone(),
            student(index),
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
        .sharing(Arc::clone(&blobs))
        .telling({
            let board = Arc::clone(&board);
            move |event| lock(&board).hear(index, &event)
        });
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
    gather(&mut outcome, &lock(&board), names.len());
    Ok(outcome)
}

/// Puts together what was seen.
fn gather(outcome: &mut Outcome, board: &Board, clients: usize) {
    let mut before = vec![(0, 0); clients];
    let rounds = board.students.keys().map(|(round, _)| round + 1).max();
    for round in 0..rounds.unwrap_or(0) {
        let seen = board.students.range((round, 0)..=(round, usize::MAX));
        let took_part: Vec<usize> = seen.clone().map(|((_, index), _)| *index).collect();
        let mut row = RoundRow {
            round,
            students: seen.map(|(_, evaluation)| evaluation.accuracy).collect(),
            seconds: board.seconds.get(&round).copied().unwrap_or_default(),
            ..RoundRow::default()
        };
        for &index in &took_part {
            let before = &mut before[index];
            let now = board.crossed.get(&(round, index)).copied();
            let now = now.unwrap_or(*before);
            row.up.push(now.0 - before.0);
            row.down.push(now.1 - before.1);
            *before = now;
        }
        row.clients = (took_part.len() < clients).then_some(took_part);
        row.teacher = board
            .teacher
            .iter()
            .find(|(of, _)| *of == round)
            .map(|(_, evaluation)| evaluation.accuracy);
        outcome.rounds.push(row);
    }
    let last = rounds.unwrap_or(0).saturating_sub(1);
    let last = board.students.range((last, 0)..=(last, usize::MAX));
    outcome.students = last.map(|(_, evaluation)| *evaluation).collect();
    outcome.teacher_before = board.before;
    outcome.teacher_after = board.teacher.last().map(|(_, e)| *e).or(board.before);
    outcome.network = board.network;
}

/// Names of so many clients, in their order.
pub(crate) fn names(clients: usize) -> Result<Vec<Name>, SimulationError> {
    let width = clients.max(1).ilog10() as usize + 1;
    let name = |index| format!("client-{index:0width$}").parse();
    Ok((0..clients).map(name).collect::<Result<_, _>>()?)
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
