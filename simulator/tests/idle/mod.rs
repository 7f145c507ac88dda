//! Federations in which nobody trains: students answer at once with 1,000 x 10 logits, so that a
//! round costs what a client costs beside its training.
#![allow(clippy::unwrap_used, reason = "this data fits together")]

use std::path::Path;
use std::sync::Arc;

use fedistill_client::{Student, StudentError};
use fedistill_federation::{
    Ask, Centre, Method, MethodError, Outlook, Partial, State, Taken, method,
};
use fedistill_learning::{Dataset, Objective, Samples};
use fedistill_protocol::{AnswerKind, Answers, Elements, Optimiser, PhaseData, Start};
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
struct NoTraining(Box<dyn Method>);

impl Method for NoTraining {
    fn name(&self) -> String {
        "no-training".to_owned()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        self.0.teaches()
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        let mut ask = self.0.ask(outlook, state);
        ask.phases.retain(|phase| phase.data == PhaseData::Private);
        ask
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        self.0.take(sum, weight, answers)
    }

    fn conclude(
        &self,
        outlook: &Outlook<'_>,
        taken: Taken<'_>,
        _: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        self.0.conclude(outlook, taken, None, state)
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
        labelled_groups: None,
        probes: None,
        transfer: samples(2 * ROWS),
        private: (0..clients).map(view).collect(),
        held_out: Vec::new(),
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
    let logit_mean =
        method::by_name("logit-mean").map_err(|e| SimulationError::Settings(e.to_string()))?;
    plan.method = Arc::new(NoTraining(logit_mean));
    let student = |client: usize| -> Box<dyn Student> { Box::new(Ready(client as f32 / 1e4)) };
    simulate_with(&world(clients), &plan, None, Progress::silent(), student).await
}
