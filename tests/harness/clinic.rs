//! Federation `clinic`, of the well and the ill, for tests in one process.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use fedistill_client::{Client, Policy};
use fedistill_coordinator::Settings;
use fedistill_federation::{Late, Missed, Quorum, Training, method};
use fedistill_learning::{Architecture, Dataset, Learner, Samples};
use fedistill_protocol::{Elements, Name, Optimiser, Precision, Rounding, TransferSet};
use fedistill_transport::Peer;
use fedistill_transport::memory::Door;

/// A name.
pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Its classes.
pub fn classes() -> Vec<String> {
    ["well", "ill"].map(str::to_owned).to_vec()
}

/// So many samples of 4 bytes.
pub fn samples(count: usize) -> Samples {
    let values = (0..count * 4).map(|i| (i * 67 % 256) as u8).collect();
    Samples::new(vec![4], Elements::U8(values)).unwrap()
}

/// Ten of them, as they are sent.
pub fn transfer() -> TransferSet {
    samples(10).publish().unwrap()
}

/// So many of them, one labelled well, the next ill.
pub fn labelled(count: usize) -> Dataset {
    let labels = (0..count).map(|at| at as u32 % 2).collect();
    Dataset::new(Path::new("private"), samples(count), labels, classes()).unwrap()
}

/// Its client `ward-1`, which knows these classes of ten samples.
pub fn ward(door: &Door, classes: Vec<String>) -> Client {
    let labels = (0..10).map(|i| i % 2).collect();
    let data = Dataset::new(Path::new("data"), samples(10), labels, classes).unwrap();
    let student = Learner::new(Architecture::MlpS.build(&[4], 2, 1).unwrap());
    let (own, federation) = (name("ward-1"), name("clinic"));
    let dialer = door.dialer(Peer::Client {
        federation: federation.clone(),
        name: own.clone(),
    });
    Client::new(federation, own, student, data, Policy::default(), dialer).unwrap()
}

/// One round of `logit-mean` that asks one client about `rows` samples: what a test does not say, it does not care for.
pub fn settings(federation: Name, classes: Vec<String>, rows: u32) -> Settings {
    const MINUTE: Duration = Duration::from_secs(60);
    Settings {
        federation,
        classes,
        method: method::by_name("logit-mean").unwrap().into(),
        training: Training {
            private_epochs: 1,
            distillation_epochs: 1,
            batch: 4,
            optimiser: Optimiser::Sgd {
                learning_rate: 0.1,
                momentum: 0.0,
            },
            distillation_temperature: Training::TEMPERATURE,
            label_smoothing: Training::SMOOTHING,
        },
        rounds: 1,
        asked: 1,
        open_with: 1,
        quorum: Quorum::new(1, 1, Duration::ZERO, MINUTE).unwrap(),
        missed: Missed::Reopen,
        late: Late::Refuse,
        silence: MINUTE,
        patience: Some(MINUTE),
        pause: Duration::ZERO,
        attempts: Some(1),
        rows,
        precision: Precision::F32,
        rounding: Rounding::Nearest,
        seed: 1,
        weights: BTreeMap::new(),
    }
}
