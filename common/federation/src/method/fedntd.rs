use fedistill_protocol::{AnswerKind, Answers, Loss, LossTerm, PhaseData, Toward};

use super::catalogue::Entry;
use super::logit_mean::LogitMean;
use super::parameter::{Given, Parameter};
use super::{Ask, Centre, Method, MethodError, Outlook, Taken};
use crate::{Partial, State};

/// Logit means, and private training that forgets less (after FedNTD, Lee et al. 2022).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FedNtd {
    means: LogitMean,
    beta: f32,
    temperature: f32,
    name: String,
}

pub(super) const ENTRY: Entry = Entry {
    name: "fedntd",
    variants: &[],
    source: "after FedNTD, Lee et al. 2022",
    summary: "As `logit-mean`, and private training keeps what the student said of all classes but the right one before it.",
    up: "logits on N samples: 4NC",
    down: "their mean on the N samples of the round before: 4NC",
    loss: "KL to what came down; then cross-entropy, plus β times not-true distillation of the student as it was before private training",
    good: "label skew, where private training unlearns the classes that a client does not hold",
    bad: "even data, where there is little to forget; short federations: in our tables it was below `logit-mean` under most skews (after 15 rounds on MNIST with `mlp-s` above it, but with one class each)",
    differs: "its loss on soft labels instead of averaged parameters: the student just distilled stands for the global model",
    parameters: &[
        Parameter {
            key: "beta",
            symbol: "β",
            what: "weight of the not-true term",
            default: 1.0,
            range: (0.001, 1000.0),
            one_of: &[],
            whole: false,
            source: "the paper",
        },
        Parameter {
            key: "temperature",
            symbol: "τ",
            what: "temperature of the not-true term",
            default: 1.0,
            range: (0.1, 100.0),
            one_of: &[],
            whole: false,
            source: "the paper",
        },
    ],
    make: |given| Box::new(FedNtd::new(given)),
};

impl FedNtd {
    fn new(given: &Given) -> Self {
        Self {
            means: LogitMean::default(),
            beta: given.get("beta") as f32,
            temperature: given.get("temperature") as f32,
            name: given.name(),
        }
    }
}

impl Method for FedNtd {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        self.means.teaches()
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        let mut ask = self.means.ask(outlook, state);
        let loss = Loss::NotTrue {
            temperature: self.temperature,
        };
        let term = LossTerm::new(loss, Toward::Before).times(self.beta);
        // Before anything came down there is nothing to keep.
        if state.teaches() {
            let private = ask.phases.iter_mut();
            let private = private.filter(|phase| phase.data == PhaseData::Private);
            private.for_each(|phase| phase.objective.push(term));
        }
        ask
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        self.means.take(sum, weight, answers)
    }

    fn conclude(
        &self,
        outlook: &Outlook<'_>,
        taken: Taken<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        self.means.conclude(outlook, taken, centre, state)
    }
}
