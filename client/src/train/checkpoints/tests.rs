use std::sync::atomic::AtomicBool;

use std::path::Path;

use fedistill_learning::{Architecture, Dataset, Learner, Samples, seed};
use fedistill_protocol::{
    About, AnswerKind, Answers, Elements, Loss, LossTerm, Optimiser, Phase, PhaseData, Rows, Start,
    Toward,
};
use rand::RngExt;

use super::*;
use crate::agent::tests::plan;
use crate::train::{Carried, Hands, Likeness};

/// Keeps all that it is given, and goes on from what it is told.
#[derive(Default)]
struct Tape {
    from: Option<Progress>,
    kept: Vec<Progress>,
    /// Stops the training once so much is kept, as a crash would.
    most: Option<usize>,
}

impl Checkpoints for Tape {
    fn resume(&mut self, _: &RoundPlan) -> Result<Option<Progress>, StudentError> {
        Ok(self.from.take())
    }

    fn due(&self) -> bool {
        true
    }

    fn keep(
        &mut self,
        _: &RoundPlan,
        progress: &Progress,
        _: bool,
        cancelled: &AtomicBool,
    ) -> bool {
        self.kept.push(progress.clone());
        if self.most == Some(self.kept.len()) {
            cancelled.store(true, Ordering::Relaxed);
        }
        true
    }

    fn snapshot(&self, student: &dyn Student) -> Option<Vec<u8>> {
        student.snapshot()
    }
}

const SHAPE: [u32; 1] = [8];

fn samples(count: usize, stream: &str) -> Samples {
    let mut rng = seed::stream(3, stream);
    let values = (0..8 * count).map(|_| rng.random::<f32>()).collect();
    Samples::new(SHAPE.to_vec(), Elements::F32(values)).unwrap()
}

fn private() -> Dataset {
    let labels: Vec<u32> = (0..40).map(|at| at % 2).collect();
    let classes = vec!["a".to_owned(), "b".to_owned()];
    Dataset::new(
        Path::new("private"),
        samples(40, "private"),
        labels,
        classes,
    )
    .unwrap()
}

fn lesson() -> Answers {
    let mut rng = seed::stream(3, "lesson");
    let values = (0..24).map(|_| 4.0 * rng.random::<f32>() - 2.0).collect();
    Answers::new(AnswerKind::Logits, 2, values).unwrap()
}

/// Three phases: with a memory of what was said before it, with momentum, and of a single pass.
fn asked() -> RoundPlan {
    let mut plan = plan(3);
    plan.knowledge[0].about = About::Rows(Rows::Range {
        start: 0,
        count: 12,
    });
    let adamw = Optimiser::AdamW {
        learning_rate: 0.01,
        weight_decay: 0.01,
    };
    let sgd = Optimiser::Sgd {
        learning_rate: 0.05,
        momentum: 0.9,
    };
    let kl = Loss::Kl { temperature: 2.0 };
    let labels = LossTerm::new(Loss::CrossEntropy { smoothing: 0.0 }, Toward::Labels);
    let phase = |data, epochs, objective, optimiser| Phase {
        start: Start::Continue,
        data,
        only: None,
        epochs,
        batch: 5,
        objective,
        optimiser,
    };
    plan.phases = vec![
        phase(
            PhaseData::Transfer,
            3,
            vec![
                LossTerm::new(kl, Toward::Knowledge),
                LossTerm::new(Loss::Mse, Toward::Before),
            ],
            adamw,
        ),
        phase(PhaseData::Private, 4, vec![labels], sgd),
        phase(PhaseData::Private, 1, vec![labels], adamw),
    ];
    plan
}

fn learner() -> Learner {
    // With dropout: what it draws has to go on where it stopped.
    Learner::new(Architecture::MlpL.build(&SHAPE, 2, 5).unwrap())
}

/// What a training comes to, and the student's parameters after it.
fn train(student: &mut Learner, tape: &mut Tape) -> (Carried, Vec<f32>) {
    let private = private();
    let hands = Hands {
        name: &"ward-7".parse().unwrap(),
        student,
        private: &private,
        watcher: &mut (),
        checkpoints: tape,
        likeness: &mut Likeness::default(),
    };
    let carried = hands
        .carry_out(
            &asked(),
            &[Arc::new(lesson())],
            Some(&samples(12, "transfer")),
            &AtomicBool::new(false),
        )
        .unwrap();
    (carried, student.model().weights().to_vec())
}

#[test]
fn a_training_goes_on_from_each_checkpoint_to_the_same_bits() {
    let mut tape = Tape::default();
    let whole = train(&mut learner(), &mut tape);
    // After each pass; a phase's last one is the phase's end.
    let places: Vec<(u32, u16)> = tape.kept.iter().map(|p| (p.phase, p.epochs)).collect();
    let passes = [
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 0),
        (3, 0),
    ];
    assert_eq!(places, passes);
    for progress in tape.kept {
        let place = (progress.phase, progress.epochs);
        let mut resumed = Tape {
            from: Some(progress),
            ..Tape::default()
        };
        // Another process: nothing is left of the student but what was kept.
        let again = train(&mut learner(), &mut resumed);
        assert_eq!(again, whole, "from {place:?}");
    }
}

#[test]
fn a_training_that_breaks_off_twice_comes_to_the_same() {
    let whole = train(&mut learner(), &mut Tape::default());
    let mut from = None;
    for most in [2, 3] {
        let mut tape = Tape {
            from: from.take(),
            most: Some(most),
            ..Tape::default()
        };
        assert_eq!(train(&mut learner(), &mut tape).0, Carried::Cancelled);
        from = tape.kept.pop();
    }
    let mut last = Tape {
        from,
        ..Tape::default()
    };
    assert_eq!(train(&mut learner(), &mut last), whole);
}
