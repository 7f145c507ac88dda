use fedistill_protocol::{About, AnswerKind, Answers, Knowledge, Loss, LossTerm, Toward};

use super::catalogue::Entry;
use super::parameter::{Given, Parameter};
use super::{
    Ask, Centre, Method, MethodError, Outlook, Setting, Taken, Wanted, by_row, expect_kind,
    matters_without_rows, private,
};
use crate::{Partial, State};

/// FedProto (Tan et al. 2022): prototypes, the mean features of each class.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FedProto {
    lambda: f32,
    width: u32,
    name: String,
}

/// The width of features, which all prototype methods need.
pub(super) const WIDTH: Parameter = Parameter {
    key: "width",
    symbol: "d",
    what: "width of features, which all students must have: what goes into their last layer",
    default: 64.0,
    range: (1.0, Knowledge::MOST_FEATURES as f64),
    one_of: &[],
    whole: true,
    source: "that of `mlp-s`",
};

pub(super) const ENTRY: Entry = Entry {
    name: "fedproto",
    variants: &[],
    source: "Tan et al. 2022",
    summary: "For each class, a client's mean features (a prototype) go up, and the mean over all clients comes down.",
    up: "d features for each class that a client holds: at most 4Cd",
    down: "the prototypes of all classes: 4Cd",
    loss: "cross-entropy, plus λ times the mean squared difference of features and their class's prototype",
    good: "no public samples, different students with features of one width",
    bad: "global accuracy: no client learns of classes that it does not hold; on clients' own data it was within a point of `local` in most of our tables' cells, up to 4.7 above in some (`conv-s`, `dirichlet:0.1`) and up to 3.0 below in others",
    differs: "the plain mean over clients that hold a class, as in the authors' code, not weighted by their samples of it as in the paper: how many those are no client tells; students classify by their last layer, as the authors' code does beside it, where the paper takes the nearest prototype; features beyond 64 either way are cut off, so that sums are exact",
    parameters: &[
        Parameter {
            key: "lambda",
            symbol: "λ",
            what: "weight of the distance to prototypes",
            default: 1.0,
            range: (0.0001, 1000.0),
            one_of: &[],
            whole: false,
            source: "the paper, for MNIST and FEMNIST",
        },
        WIDTH,
    ],
    make: |given| Box::new(FedProto::new(given)),
};

impl FedProto {
    fn new(given: &Given) -> Self {
        Self {
            lambda: given.get("lambda") as f32,
            width: given.get("width") as u32,
            name: given.name(),
        }
    }
}

/// What clients train with prototypes in hand, and what they give back.
pub(super) fn ask(outlook: &Outlook<'_>, state: &State, lambda: f32, width: u32) -> Ask {
    let mut phase = private(outlook.training);
    if state.teaches() {
        let term = LossTerm::new(Loss::Features, Toward::Classes);
        phase.objective.push(term.times(lambda));
    }
    Ask::train(vec![phase], true).report(Wanted {
        width: Some(width),
        ..Wanted::of_classes(AnswerKind::Features)
    })
}

/// Adds prototypes.
pub(super) fn take(sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
    expect_kind(answers, AnswerKind::Features)?;
    let bound = Partial::BOUND;
    let cut = |row: &[f32]| row.iter().map(|f| f.clamp(-bound, bound)).collect();
    let answers = by_row(AnswerKind::Features, answers, cut)?;
    Ok(sum.add(weight, answers.values())?)
}

impl Method for FedProto {
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
        ask(outlook, state, self.lambda, self.width)
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        take(sum, weight, answers)
    }

    fn conclude(
        &self,
        _: &Outlook<'_>,
        taken: Taken<'_>,
        _: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        if let Some(mean) = taken.sum.mean() {
            let prototypes = Answers::new(AnswerKind::Features, self.width, mean)?;
            state.teach(About::Classes, prototypes);
        }
        Ok(())
    }
}
