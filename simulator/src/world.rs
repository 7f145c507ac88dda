use std::path::Path;
use std::sync::Arc;

use fedistill_coordinator::{CoordinatorError, Labelled, NetTeacher, stand_ins};
use fedistill_federation::{Method, Probes};
use fedistill_learning::checkpoint::{self, About};
use fedistill_learning::{
    Architecture, CheckpointError, Dataset, Learner, Samples, Schedule, seed,
};
use fedistill_protocol::{Digest, Optimiser};
use rand::RngExt;

use crate::{Partition, SimulationError, TeacherSource, View};

/// How a data set is shared out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Number of clients.
    pub clients: usize,
    /// Share of the training samples that is public, 0 to 1.
    pub public: f64,
    /// Public samples of which the teacher knows the labels, or the server that validates by them.
    pub labelled: usize,
}

/// One data set, shared out: no sample is in two places.
#[derive(Clone, Debug)]
pub struct World {
    /// What the teacher is trained on, or what models at the centre are validated by (`feddf`).
    pub labelled: Dataset,
    /// Whose each of them is, where its people, devices or sites are told apart.
    pub labelled_groups: Option<Vec<i32>>,
    /// Those of them that a method may measure by, with what teachers say that have not seen them.
    pub probes: Option<Labelled>,
    /// What everyone sees, without labels.
    pub transfer: Samples,
    /// What each client has for itself: views of one shared set.
    pub private: Vec<View>,
    /// What of each client's own samples is only used to report; empty where nothing is set apart.
    pub held_out: Vec<View>,
    /// Only used to report.
    pub test: Arc<Dataset>,
}

impl World {
    /// Shares out `train`: public samples by chance, the rest over clients as `partition` says.
    ///
    /// # Errors
    /// Fewer samples than that needs.
    pub fn share_out(
        train: &Arc<Dataset>,
        test: Dataset,
        sizes: Sizes,
        partition: Partition,
        seed: u64,
    ) -> Result<Self, SimulationError> {
        let order = seed::permutation(train.len(), &mut seed::stream(seed, "share-out"));
        let public = (train.len() as f64 * sizes.public).round() as usize;
        let (public, private) = order.split_at(public.min(order.len()));
        let labels: Vec<u32> = private.iter().map(|&index| train.labels()[index]).collect();
        let parts = partition.split(&labels, train.classes().len(), sizes.clients, seed)?;
        let parts = parts.into_iter().map(|part| {
            let places = part.into_iter().map(|place| private[place]);
            places.collect()
        });
        Self::of(train, test, public, sizes.labelled, parts.collect())
    }

    /// The world of these public places in `train`, the first of which are labelled, and each client's.
    pub(crate) fn of(
        train: &Arc<Dataset>,
        test: Dataset,
        public: &[usize],
        labelled: usize,
        private: Vec<Vec<usize>>,
    ) -> Result<Self, SimulationError> {
        if labelled >= public.len() {
            return Err(SimulationError::Settings(format!(
                "{} of {} samples are public, {labelled} of them cannot be labelled: no transfer set is left",
                public.len(),
                train.len(),
            )));
        }
        let (labelled, transfer) = public.split_at(labelled);
        let private = private.into_iter().map(|places| {
            View::new(Arc::clone(train), places)
                .ok_or_else(|| SimulationError::Internal("a part beyond the data".to_owned()))
        });
        Ok(Self {
            labelled: train.select(labelled),
            labelled_groups: None,
            probes: None,
            transfer: train.samples().select(transfer),
            private: private.collect::<Result<_, _>>()?,
            held_out: Vec::new(),
            test: Arc::new(test),
        })
    }

    /// Tells this world, and what a program of this version makes of it, from others: all samples, all
    /// labels, who has which, and the teacher's file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn digest(&self, teacher: &TeacherSource) -> Result<Digest, SimulationError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(concat!("fedistill ", env!("CARGO_PKG_VERSION")).as_bytes());
        hasher.update(&fedistill_learning::ARITHMETIC.to_le_bytes());
        self.transfer.digest_into(&mut hasher);
        let shared = self.private.first().map(View::data);
        for set in [&self.labelled, &*self.test].into_iter().chain(shared) {
            set.samples().digest_into(&mut hasher);
            let labels = set.labels().iter();
            hasher.update(&labels.flat_map(|l| l.to_le_bytes()).collect::<Vec<u8>>());
        }
        let groups = self.labelled_groups.iter().flatten();
        hasher.update(&groups.flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
        for view in self.private.iter().chain(&self.held_out) {
            hasher.update(&(view.len() as u64).to_le_bytes());
            let places = view.places().flat_map(|place| (place as u32).to_le_bytes());
            hasher.update(&places.collect::<Vec<u8>>());
        }
        if let TeacherSource::File(path) = teacher {
            let read = std::fs::read(path).map_err(|source| CheckpointError::Io {
                path: path.clone(),
                source,
            });
            hasher.update(&read?);
        }
        Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
    }

    /// Notes whose each training sample is, for those of them that are labelled: the first of `public`.
    #[must_use]
    pub(crate) fn with_groups(mut self, groups: &[i32], public: &[usize]) -> Self {
        let labelled = &public[..self.labelled.len()];
        self.labelled_groups = Some(labelled.iter().map(|&place| groups[place]).collect());
        self
    }

    /// Notes labelled samples for methods that measure by them, with the logits of [`stand_ins`] for
    /// the teacher of this world, which has learnt them.
    ///
    /// # Errors
    /// A net that does not fit the data.
    pub fn with_probes(
        mut self,
        source: &TeacherSource,
        architecture: Architecture,
        seed: u64,
    ) -> Result<Self, SimulationError> {
        if let TeacherSource::Train(_) = source {
            let groups = self.labelled_groups.as_deref();
            let logits = stand_ins::logits(&self.labelled, groups, |stand_in| {
                Ok(taught(&stand_in.learns, architecture, seed)?)
            })?;
            let labelled = Labelled::new(&self.labelled, Some(logits));
            self.probes = Some(labelled.map_err(CoordinatorError::from)?);
        }
        Ok(self)
    }

    /// The transfer set as clients get it, and what is hidden in it for a method that wants that.
    pub(crate) fn published(
        &self,
        method: &dyn Method,
        seed: u64,
    ) -> Result<(Samples, Option<Probes>), SimulationError> {
        let probes = self.probes.as_ref().filter(|_| method.wants_probes());
        let Some(probes) = probes else {
            return Ok((self.transfer.clone(), None));
        };
        let hidden = probes.hide_in(&self.transfer, seed);
        let (set, probes) = hidden.ok_or_else(|| {
            SimulationError::Internal("labelled samples of another shape".to_owned())
        })?;
        Ok((set, Some(probes)))
    }

    /// The teacher, trained if need be.
    ///
    /// # Errors
    /// A file that cannot be used or does not fit the data.
    pub fn teacher(
        &self,
        source: &TeacherSource,
        architecture: Architecture,
        seed: u64,
    ) -> Result<Option<NetTeacher>, SimulationError> {
        let shape = self.transfer.shape();
        let classes = self.test.classes();
        let about = About {
            architecture: Some(architecture),
            input: shape.to_vec(),
            classes: classes.to_vec(),
        };
        match source {
            TeacherSource::None => Ok(None),
            TeacherSource::Untrained => {
                let net = architecture.build(shape, classes.len(), seed_of(seed, "teacher"))?;
                Ok(Some(NetTeacher::untrained(Learner::new(net), about)))
            }
            TeacherSource::Train(_) => {
                let learner = taught(&self.labelled, architecture, seed)?;
                Ok(Some(NetTeacher::new(learner, about)))
            }
            TeacherSource::File(path) => Ok(Some(load_teacher(path, shape, classes)?)),
        }
    }
}

/// Enough for a few hundred samples.
const TEACHER_EPOCHS: usize = 60;
const TEACHER_STEPS: Optimiser = Optimiser::Sgd {
    learning_rate: 0.1,
    momentum: 0.0,
};

/// A net that has learnt these samples.
fn taught(
    labelled: &Dataset,
    architecture: Architecture,
    seed: u64,
) -> Result<Learner, SimulationError> {
    let (shape, classes) = (labelled.samples().shape(), labelled.classes().len());
    let net = architecture.build(shape, classes, seed_of(seed, "teacher"))?;
    let mut learner = Learner::new(net);
    let schedule = Schedule {
        epochs: TEACHER_EPOCHS,
        batch: 10,
    };
    learner.fit(labelled, schedule, TEACHER_STEPS, seed, |_, _| ())?;
    Ok(learner)
}

/// Reads a teacher and holds it against the data that it is to teach.
fn load_teacher(
    path: &Path,
    shape: &[u32],
    classes: &[String],
) -> Result<NetTeacher, SimulationError> {
    let saved = checkpoint::load(path)?;
    if saved.about.input != shape || saved.about.classes != classes {
        return Err(SimulationError::Settings(format!(
            "teacher {} takes samples of shape {:?} and {} classes, the data has {shape:?} and {}",
            path.display(),
            saved.about.input,
            saved.about.classes.len(),
            classes.len()
        )));
    }
    Ok(NetTeacher::new(Learner::new(saved.net()?), saved.about))
}

/// A seed of its own for `purpose`.
pub(crate) fn seed_of(seed: u64, purpose: &str) -> u64 {
    seed::stream(seed, purpose).random()
}
