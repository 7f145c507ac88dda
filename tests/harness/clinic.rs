//! Federation `clinic`, of the well and the ill, for tests in one process.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use fedistill_client::{Client, Policy};
use fedistill_coordinator::Settings;
use fedistill_federation::{Late, Missed, Quorum, Training, method};
use fedistill_learning::{Architecture, Dataset, Learner, Samples};
use fedistill_protocol::{
    About, AnswerKind, Digest, Elements, LossTerm, Name, Optimiser, Phase, PhaseData, Precision,
    Report, RoundId, RoundPlan, Rounding, Rows, Silence, Start, TransferManifest, TransferSet,
    Welcome,
};
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

const OPTIMISER: Optimiser = Optimiser::Sgd {
    learning_rate: 0.1,
    momentum: 0.0,
};

/// What its coordinator says to whom it lets in, where it has this transfer set.
pub fn welcome(set: &TransferSet) -> Welcome {
    let packed = set.pack();
    Welcome {
        federation: name("clinic"),
        transfer: TransferManifest {
            blob: Digest::of(&packed),
            bytes: packed.len() as u64,
            samples: set.samples(),
            shape: set.shape().to_vec(),
            classes: classes(),
        },
        heartbeat_ms: 1000,
        epoch: 1,
        rolled_back: 0,
    }
}

/// A plan of its first round, for private samples alone, with one loss; nothing goes up.
pub fn plan(transfer: Digest, loss: LossTerm) -> RoundPlan {
    RoundPlan {
        federation: name("clinic"),
        id: RoundId {
            round: 0,
            attempt: 0,
        },
        transfer,
        seed: 1,
        knowledge: Vec::new(),
        phases: vec![Phase {
            start: Start::Continue,
            data: PhaseData::Private,
            only: None,
            epochs: 1,
            batch: 4,
            objective: vec![loss],
            optimiser: OPTIMISER,
        }],
        report: None,
        deadline_ms: 60_000,
        cohort: 1,
    }
}

/// Logits of these transfer samples.
pub fn report(rows: Rows) -> Report {
    Report {
        kind: AnswerKind::Logits,
        about: About::Rows(rows),
        width: 2,
        precision: Precision::F32,
        rounding: Rounding::Nearest,
        adjust: 0.0,
        silence: Silence::Never,
        update: false,
    }
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
            optimiser: OPTIMISER,
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
        farewell: Duration::ZERO,
        attempts: Some(1),
        rows,
        precision: Precision::F32,
        rounding: Rounding::Nearest,
        seed: 1,
        weights: BTreeMap::new(),
    }
}
