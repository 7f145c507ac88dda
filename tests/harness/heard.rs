//! What real students say, round by round: outputs to measure a codec by.

use std::sync::{Arc, Mutex, PoisonError};

use fedistill_client::{Student, StudentError};
use fedistill_learning::{Learner, Objective, Samples, softmax};
use fedistill_protocol::{AnswerKind, Answers, Optimiser, Start};
use fedistill_simulator::config::Config;
use fedistill_simulator::{Data, Partition, Progress, TeacherSource, Transport, simulate_with};
use rand_chacha::ChaCha20Rng;

use crate::fixture;

type Log = Arc<Mutex<Vec<Vec<f32>>>>;

/// A student that keeps what it says when it is asked about some samples.
struct Heard {
    student: Learner,
    said: Option<Log>,
}

impl Student for Heard {
    fn begin(&mut self, start: Start, optimiser: Optimiser) -> Result<(), StudentError> {
        Student::begin(&mut self.student, start, optimiser)
    }

    fn step(
        &mut self,
        samples: &[f32],
        objective: &Objective<'_>,
        rng: &mut ChaCha20Rng,
    ) -> Result<f32, StudentError> {
        Student::step(&mut self.student, samples, objective, rng)
    }

    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, StudentError> {
        Student::logits(&mut self.student, samples)
    }

    fn logits_of(&mut self, samples: &Samples, rows: &[usize]) -> Result<Vec<f32>, StudentError> {
        let logits = Student::logits_of(&mut self.student, samples, rows)?;
        if let Some(said) = &self.said {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.push(logits.clone());
        }
        Ok(logits)
    }
}

/// Logits of one of ten clients of `logit-mean` on the fixture, no teacher, about the 1,000 transfer samples of each
/// round: a table a round.
pub fn heard(partition: Partition, rounds: u32) -> Vec<Answers> {
    let config = Config {
        data: fixture().to_string_lossy().into_owned(),
        rounds,
        partition,
        teacher: TeacherSource::None,
        transport: Transport::Memory,
        threads: 2,
        ..Config::default()
    };
    let world = Data::read(&config.data)
        .unwrap()
        .share_out(&config)
        .unwrap();
    let plan = config.plan("logit-mean").unwrap();
    let (shape, classes) = (world.transfer.shape(), world.test.classes().len());
    let said = Log::default();
    let student = |client: usize| -> Box<dyn Student> {
        let net = plan.model(client).build(shape, classes, client as u64);
        Box::new(Heard {
            student: Learner::new(net.unwrap()),
            said: (client == 0).then(|| Arc::clone(&said)),
        })
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let done = simulate_with(&world, &plan, None, Progress::silent(), student);
    runtime.block_on(done).unwrap();
    let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
    let tables = said.into_iter();
    tables
        .map(|values| Answers::new(AnswerKind::Logits, classes as u32, values).unwrap())
        .collect()
}

/// The same as probabilities.
pub fn likely(logits: &Answers) -> Answers {
    let values = softmax(logits.values(), logits.classes() as usize);
    Answers::new(AnswerKind::Probabilities, logits.classes(), values).unwrap()
}

/// Bytes at the empirical entropy of order zero of these symbols.
pub fn entropy_bytes(symbols: &[u32]) -> f64 {
    let mut counts = std::collections::BTreeMap::new();
    for symbol in symbols {
        *counts.entry(symbol).or_insert(0u32) += 1;
    }
    let share = |count: u32| f64::from(count) / symbols.len() as f64;
    let bits = counts.into_values();
    let bits = bits.map(|count| -f64::from(count) * share(count).log2());
    bits.sum::<f64>() / 8.0
}
