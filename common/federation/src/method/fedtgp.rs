use fedistill_protocol::{About, AnswerKind, Answers};

use super::catalogue::Entry;
use super::fedproto::{self, WIDTH};
use super::parameter::{Given, Parameter};
use super::prototypes::{Prototypes, Tuition};
use super::{Ask, Centre, Method, MethodError, Outlook, Setting, Taken, matters_without_rows};
use crate::{Partial, State};

/// FedTGP (Zhang et al. 2024): prototypes that the coordinator trains, so that classes lie apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FedTgp {
    lambda: f32,
    width: u32,
    server: Tuition,
    name: String,
}

pub(super) const ENTRY: Entry = Entry {
    name: "fedtgp",
    variants: &[],
    source: "FedTGP, Zhang et al. 2024",
    summary: "As `fedproto`, but what comes down are prototypes that the coordinator has trained to lie close to those of their class and, by a margin that adapts, apart from all others.",
    up: "d features for each class that a client holds: at most 4Cd",
    down: "the trained prototypes of all classes: 4Cd",
    loss: "cross-entropy, plus λ times the mean squared difference of features and their class's prototype",
    good: "as `fedproto`, with students of different architectures",
    bad: "global accuracy: no client learns of classes that it does not hold",
    differs: "students classify by their last layer, where the authors' code takes the nearest prototype; the coordinator keeps every contribution of a round",
    parameters: &[
        Parameter {
            key: "lambda",
            symbol: "λ",
            what: "weight of the distance to prototypes",
            default: 0.1,
            range: (0.0001, 1000.0),
            one_of: &[],
            whole: false,
            source: "the paper; scripts of its authors have 10",
        },
        WIDTH,
        Parameter {
            key: "server-epochs",
            symbol: "S",
            what: "the coordinator's passes over a round's prototypes",
            default: 100.0,
            range: (1.0, 10_000.0),
            one_of: &[],
            whole: true,
            source: "the paper",
        },
        Parameter {
            key: "server-batch",
            symbol: "",
            what: "prototypes a step of the coordinator's training",
            default: 10.0,
            range: (1.0, 60_000.0),
            one_of: &[],
            whole: true,
            source: "the paper",
        },
        Parameter {
            key: "server-rate",
            symbol: "η_S",
            what: "step length of the coordinator's training",
            default: 0.01,
            range: (1e-6, 10.0),
            one_of: &[],
            whole: false,
            source: "the paper",
        },
        Parameter {
            key: "threshold",
            symbol: "τ",
            what: "the largest margin",
            default: 100.0,
            range: (0.0, 1e6),
            one_of: &[],
            whole: false,
            source: "the paper",
        },
    ],
    make: |given| Box::new(FedTgp::new(given)),
};

impl FedTgp {
    fn new(given: &Given) -> Self {
        Self {
            lambda: given.get("lambda") as f32,
            width: given.get("width") as u32,
            server: Tuition {
                epochs: given.get("server-epochs") as u32,
                batch: given.get("server-batch") as usize,
                rate: given.get("server-rate") as f32,
                threshold: given.get("threshold") as f32,
            },
            name: given.name(),
        }
    }
}

impl Method for FedTgp {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        None
    }

    fn uses_teacher(&self) -> bool {
        false
    }

    fn heeds(&self, setting: Setting) -> bool {
        matters_without_rows(setting)
    }

    fn features(&self) -> Option<u32> {
        Some(self.width)
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        fedproto::ask(outlook, state, self.lambda, self.width)
    }

    fn keeps_each(&self) -> bool {
        true
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        fedproto::take(sum, weight, answers)
    }

    fn conclude(
        &self,
        outlook: &Outlook<'_>,
        taken: Taken<'_>,
        _: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        let (classes, width) = (taken.classes as usize, self.width as usize);
        let mut trained = match state.memory.is_empty() {
            true => Prototypes::new(classes, width, outlook.seed),
            false => Prototypes::read(&state.memory, classes, width)
                .ok_or_else(|| MethodError::Memory(self.name()))?,
        };
        let mut said = Vec::new();
        for answers in taken.each.values() {
            for (class, row) in answers.iter().enumerate() {
                if row.iter().any(|f| *f != 0.0) {
                    let cut = |f: &f32| f.clamp(-Partial::BOUND, Partial::BOUND);
                    said.push((class, row.iter().map(cut).collect()));
                }
            }
        }
        if said.is_empty() {
            return Ok(());
        }
        let seed = outlook.seed ^ u64::from(outlook.round);
        trained.train(&said, self.server, seed);
        let mut rows = trained.all();
        if !rows.iter().all(|value| value.is_finite()) {
            let rate = self.server.rate;
            return Err(MethodError::Parameter {
                method: self.name(),
                why: format!(
                    "server-rate is {rate}, with which prototypes at the server grow beyond all numbers: lower it"
                ),
            });
        }
        // Of a class that nobody has held yet nothing is known.
        let known = |class: usize| said.iter().any(|(of, _)| *of == class);
        let before = state.common.first().map(|lesson| &lesson.answers);
        for (class, row) in rows.chunks_exact_mut(width).enumerate() {
            let was = before.and_then(|before| before.iter().nth(class));
            if !known(class) && was.is_none_or(|was| was.iter().all(|f| *f == 0.0)) {
                row.fill(0.0);
            }
        }
        let prototypes = Answers::new(AnswerKind::Features, self.width, rows)?;
        state.teach(About::Classes, prototypes);
        state.memory = trained.bytes();
        Ok(())
    }
}
