use std::path::Path;

use fedistill_learning::{Architecture, Dataset, Learner, Samples};
use fedistill_protocol::{
    About, Elements, Loss, LossTerm, Name, Optimiser, Phase, PhaseData, RoundPlan, Start, Toward,
};

use super::*;
use crate::agent::tests::plan;
use crate::journal::{Entry, Journal, Kept};
use crate::train::Watcher;
use crate::{Policy, Student};

const HEALTHY: f32 = 0.05;

fn name() -> Name {
    "ward-7".parse().unwrap()
}

/// Sees no student but sound ones, and how often the end of a plan.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<usize>>);

impl Watcher for Ends {
    fn phase_done(&mut self, _: RoundId, _: &Phase, last: bool, student: &mut dyn Student) {
        assert!(is_sound(student));
        *self.0.lock().unwrap() += usize::from(last);
    }
}

fn learner() -> Learner {
    Learner::new(Architecture::MlpS.build(&[8], 2, 5).unwrap())
}

/// A client whose journal is in this folder, which keeps a checkpoint after each pass, and what lies there of its
/// student.
fn client(folder: &Path, ends: &Ends) -> (Client, Kept) {
    let values = (0..320).map(|at| (at as f32 * 0.7).sin()).collect();
    let samples = Samples::new(vec![8], Elements::F32(values)).unwrap();
    let labels = (0..40).map(|at| at % 2).collect();
    let classes = ["a", "b"].map(str::to_owned).to_vec();
    let private = Dataset::new(Path::new("private"), samples, labels, classes).unwrap();
    let federation: Name = "wards".parse().unwrap();
    let (_, door) = fedistill_transport::memory::listen();
    let dialer = door.dialer(fedistill_transport::Peer::Client {
        federation: federation.clone(),
        name: name(),
    });
    let path = folder.join("journal.redb");
    let (journal, kept) = Journal::open(&path, &federation, &name()).unwrap();
    let policy = Policy::default();
    let client = Client::new(federation, name(), learner(), private, policy, dialer).unwrap();
    let client = client.watched_by(ends.clone());
    let client = client.journaled(journal, kept.clone(), Duration::ZERO);
    (client.unwrap(), kept)
}

/// Passes over all private samples at these rates, in batches of so many, each pass a phase; what all classes look like
/// goes up.
fn asked(round: u32, rates: &[f32], batch: u16) -> RoundPlan {
    let mut plan = plan(round);
    plan.knowledge.clear();
    let labels = LossTerm::new(Loss::CrossEntropy { smoothing: 0.0 }, Toward::Labels);
    let phase = |rate: &f32| Phase {
        start: Start::Continue,
        data: PhaseData::Private,
        only: None,
        epochs: 1,
        batch,
        objective: vec![labels],
        optimiser: Optimiser::Sgd {
            learning_rate: *rate,
            momentum: 0.9,
        },
    };
    plan.phases = rates.iter().map(phase).collect();
    if let Some(report) = &mut plan.report {
        report.about = About::Classes;
    }
    plan
}

/// What comes of a plan, begun as the agent has it begun.
fn work(client: &Client, plan: RoundPlan, cancel: &AtomicBool) -> Result<Carried, String> {
    let plan = Arc::new(plan);
    let journal = client.journal.as_ref().unwrap();
    journal.keep(&Entry::Begun(Arc::clone(&plan))).unwrap();
    let job = Job {
        plan,
        knowledge: Vec::new(),
        transfer: None,
    };
    train(&mut lock(&client.bench), &job, cancel)
}

fn weights(client: &Client) -> Vec<f32> {
    lock(&client.bench).student.parameters().to_vec()
}

/// The parameters that a snapshot holds.
fn of(snapshot: &[u8]) -> Vec<f32> {
    let mut learner = learner();
    learner.restore(snapshot).unwrap();
    learner.model().weights().to_vec()
}

#[test]
fn a_plan_that_ruins_the_student_leaves_nothing_of_it() {
    let never = AtomicBool::new(false);
    // In the middle of a phase; in its last step, so that parameters or only answers tell; and after passes that were
    // kept.
    for (rates, batch, what) in [
        (&[1e30][..], 5, "the loss is no longer finite"),
        (&[f32::INFINITY], 40, "parameters are no longer finite"),
        (&[1e30], 40, "answers are not finite"),
        (&[HEALTHY, HEALTHY, 1e30], 5, "the loss is no longer finite"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let ends = Ends::default();
        let (client, _) = self::client(folder.path(), &ends);
        let begin = weights(&client);
        let error = work(&client, asked(0, rates, batch), &never).unwrap_err();
        assert!(error.contains(what), "{error}");
        assert!(error.ends_with(": lower the learning rate"), "{error}");
        assert!(weights(&client) == begin, "{rates:?}");
        assert_eq!(*ends.0.lock().unwrap(), 0, "{rates:?}");
        // The rate is lowered, and what follows is what follows without that plan.
        let healthy = asked(1, &[HEALTHY], 5);
        let carried = work(&client, healthy.clone(), &never).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (other, _) = self::client(elsewhere.path(), &ends);
        assert_eq!(work(&other, healthy, &never).unwrap(), carried);
        assert!(weights(&client) == weights(&other), "{rates:?}");
        // Another ruinous one, and the process ends: the disk has what that began with.
        let good = weights(&client);
        work(&client, asked(2, rates, batch), &never).unwrap_err();
        assert!(weights(&client) == good, "{rates:?}");
        drop(client);
        let (client, kept) = self::client(folder.path(), &ends);
        assert!(of(&kept.student.unwrap()) == good, "{rates:?}");
        assert!(kept.begun.is_none() && weights(&client) == good);
    }
}

/// As one that somebody else has written, which knows snapshots alone.
struct Plain(Learner);

impl Student for Plain {
    fn begin(&mut self, start: Start, optimiser: Optimiser) -> Result<(), StudentError> {
        Student::begin(&mut self.0, start, optimiser)
    }

    fn step(
        &mut self,
        samples: &[f32],
        objective: &fedistill_learning::Objective<'_>,
        rng: &mut rand_chacha::ChaCha20Rng,
    ) -> Result<f32, StudentError> {
        Student::step(&mut self.0, samples, objective, rng)
    }

    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, StudentError> {
        Student::logits(&mut self.0, samples)
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        Student::snapshot(&self.0)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), StudentError> {
        Student::restore(&mut self.0, snapshot)
    }
}

#[test]
fn a_student_that_cannot_undo_is_the_one_that_was_kept_last() {
    let never = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    let (client, _) = self::client(folder.path(), &Ends::default());
    lock(&client.bench).student = Box::new(Plain(learner()));
    let snapshot = |client: &Client| lock(&client.bench).student.snapshot().unwrap();
    work(&client, asked(0, &[HEALTHY], 5), &never).unwrap();
    let good = snapshot(&client);
    for (round, rates) in [(1, &[1e30][..]), (2, &[HEALTHY, HEALTHY, 1e30])] {
        work(&client, asked(round, rates, 5), &never).unwrap_err();
        assert!(snapshot(&client) == good, "{rates:?}");
    }
    drop(client);
    let (_, kept) = self::client(folder.path(), &Ends::default());
    assert!(kept.begun.is_none() && kept.student.unwrap() == good);
}

#[test]
fn a_plan_that_another_process_has_begun_is_undone_to_its_beginning() {
    for earlier in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let ends = Ends::default();
        let (never, cancel) = (AtomicBool::new(false), AtomicBool::new(false));
        let (client, _) = self::client(folder.path(), &ends);
        if earlier {
            work(&client, asked(0, &[HEALTHY], 5), &never).unwrap();
        }
        let begin = weights(&client);
        // The process is told to end, and does after the first pass.
        client.leaving.tell();
        let ruinous = asked(1, &[HEALTHY, 1e30], 5);
        let carried = work(&client, ruinous.clone(), &cancel).unwrap();
        assert_eq!(carried, Carried::Cancelled);
        let midway = weights(&client);
        assert!(midway != begin);
        drop(client);

        let (client, kept) = self::client(folder.path(), &ends);
        assert!(kept.begun.is_some());
        assert!(weights(&client) == midway);
        work(&client, ruinous, &never).unwrap_err();
        assert!(weights(&client) == begin, "earlier: {earlier}");
        drop(client);
        let (client, kept) = self::client(folder.path(), &ends);
        assert!(kept.begun.is_none() && weights(&client) == begin);
    }
}

/// Calls the training off once so many batches were asked for.
struct Until {
    data: Dataset,
    left: Mutex<usize>,
    cancel: Arc<AtomicBool>,
}

impl crate::PrivateData for Until {
    fn len(&self) -> usize {
        self.data.len()
    }

    fn classes(&self) -> &[String] {
        self.data.classes()
    }

    fn shape(&self) -> &[u32] {
        self.data.samples().shape()
    }

    fn labels(&self) -> Result<Vec<u32>, StudentError> {
        Ok(self.data.labels().to_vec())
    }

    fn batch(
        &self,
        indices: &[usize],
        samples: &mut Vec<f32>,
        labels: &mut Vec<u32>,
    ) -> Result<(), StudentError> {
        let mut left = self.left.lock().unwrap();
        *left -= 1;
        self.cancel.store(*left == 0, Ordering::Relaxed);
        self.data.samples().gather(indices, samples);
        labels.extend(indices.iter().map(|&index| self.data.labels()[index]));
        Ok(())
    }
}

#[test]
fn a_plan_that_is_called_off_after_a_ruinous_step_is_undone_and_another_is_not() {
    for (rate, undone) in [(f32::INFINITY, true), (HEALTHY, false)] {
        let folder = tempfile::tempdir().unwrap();
        let (client, _) = self::client(folder.path(), &Ends::default());
        let begin = weights(&client);
        let cancel = Arc::new(AtomicBool::new(false));
        let values = (0..80).map(|at| (at as f32 * 0.7).sin()).collect();
        let samples = Samples::new(vec![8], Elements::F32(values)).unwrap();
        let labels = (0..10).map(|at| at % 2).collect();
        let classes = ["a", "b"].map(str::to_owned).to_vec();
        let data = Dataset::new(Path::new("private"), samples, labels, classes).unwrap();
        lock(&client.bench).private = Box::new(Until {
            data,
            left: Mutex::new(1),
            cancel: Arc::clone(&cancel),
        });
        let carried = work(&client, asked(0, &[rate], 5), &cancel).unwrap();
        assert_eq!(carried, Carried::Cancelled);
        assert_eq!(weights(&client) == begin, undone, "{rate}");
    }
}
