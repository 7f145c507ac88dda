//! Federations in which nobody trains: students answer at once with 1,000 x 10 logits, so that a
//! round costs what a client costs beside its training.
#![allow(clippy::unwrap_used, reason = "this data fits together")]

use std::path::Path;
use std::sync::Arc;

use fedistill_client::{Student, StudentError};
use fedistill_federation::method::LogitMean;
use fedistill_federation::{Ask, Method, MethodError, Partial, Training};
use fedistill_learning::{Dataset, Objective, Samples};
use fedistill_protocol::{Answers, Elements, Optimiser, PhaseData, Start};
use fedistill_simulator::config::Config;
use fedistill_simulator::{
    Outcome, Progress, SimulationError, Transport, View, World, simulate_with,
};
use rand_chacha::ChaCha20Rng;

const ROWS: usize = 1000;
const CLASSES: usize = 10;

/// Learns nothing.
struct Ready(f32);

impl Student for Ready {
    fn begin(&mut self, _: Start, _: Optimiser) -> Result<(), StudentError> {
        Ok(())
    }

    fn step(
        &mut self,
        _: &[f32],
        _: &Objective<'_>,
        _: &mut ChaCha20Rng,
    ) -> Result<f32, StudentError> {
        Ok(0.0)
    }

    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, StudentError> {
        self.logits_of(samples, &vec![0; samples.len()])
    }

    fn logits_of(&mut self, _: &Samples, rows: &[usize]) -> Result<Vec<f32>, StudentError> {
        let values = 0..rows.len() * CLASSES;
        Ok(values.map(|at| self.0 + (at % 17) as f32 / 8.0).collect())
    }
}

/// `logit-mean` without its distillation: soft labels come down all the same.
#[derive(Debug)]
struct NoTraining(LogitMean);

impl Method for NoTraining {
    fn name(&self) -> String {
        "no-training".to_owned()
    }

    fn ask(&self, training: &Training, labels: bool) -> Ask {
        let mut ask = self.0.ask(training, labels);
        ask.phases.retain(|phase| phase.data == PhaseData::Private);
        ask
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        self.0.take(sum, weight, answers)
    }

    fn aggregate(
        &self,
        sum: &Partial,
        teacher: Option<&Answers>,
        classes: u32,
    ) -> Result<Option<Answers>, MethodError> {
        self.0.aggregate(sum, teacher, classes)
    }

    fn teacher_learns(&self) -> bool {
        false
    }
}

/// Images as large as MNIST's, all of them black: a transfer set, and a sample for each client.
fn world(clients: usize) -> World {
    let classes: Vec<String> = (0..CLASSES).map(|class| class.to_string()).collect();
    let samples = |count: usize| {
        let elements = Elements::U8(vec![0; count * 784]);
        Samples::new(vec![1, 28, 28], elements).unwrap()
    };
    let data = |count: usize| {
        let labels = (0..count).map(|index| (index % CLASSES) as u32).collect();
        Dataset::new(Path::new("idle"), samples(count), labels, classes.clone()).unwrap()
    };
    let train = Arc::new(data(20));
    let view = |client: usize| View::new(Arc::clone(&train), [client % 20]).unwrap();
    World {
        labelled: data(1),
        transfer: samples(2 * ROWS),
        private: (0..clients).map(view).collect(),
        test: Arc::new(data(1)),
    }
}

/// So many rounds of so many clients, all of which take part.
pub(crate) async fn run(
    clients: usize,
    transport: Transport,
    rounds: u32,
) -> Result<Outcome, SimulationError> {
    let config = Config {
        clients,
        rounds,
        transport,
        samples: ROWS as u32,
        ..Config::default()
    };
    let mut plan = config.plan("logit-mean")?;
    plan.method = Arc::new(NoTraining(LogitMean::default()));
    let student = |client: usize| -> Box<dyn Student> { Box::new(Ready(client as f32 / 1e4)) };
    simulate_with(&world(clients), &plan, None, Progress::silent(), student).await
}
