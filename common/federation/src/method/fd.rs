use std::collections::BTreeMap;

use fedistill_protocol::{About, AnswerKind, Answers, Loss, LossTerm, Toward};

use super::catalogue::Entry;
use super::parameter::{Given, Parameter};
use super::{
    Ask, Centre, Method, MethodError, Outlook, Setting, Taken, Wanted, matters_without_rows, mean,
    on_simplex, private, take_probabilities,
};
use crate::{Lesson, Partial, State};

/// FD (Jeong et al. 2018): the mean softmax of each class, without a transfer set.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fd {
    gamma: f32,
    name: String,
}

pub(super) const ENTRY: Entry = Entry {
    name: "fd",
    variants: &[],
    source: "Jeong et al. 2018",
    summary: "For each class, the mean softmax of a client's own samples goes up, and the mean over all other clients comes down.",
    up: "a row of C probabilities for each class that a client holds: at most 4C²",
    down: "the mean over the other clients of each class: 4C²",
    loss: "cross-entropy, plus γ times cross-entropy with what came down about the sample's class",
    good: "hardly any bytes, no public samples at all; on even data of MNIST with `mlp-s` it was the best of its table, at 93.8 for 91.7 of `local`",
    bad: "global accuracy under skew, where it was at most 1.2 points above `local` in our tables, and up to 3.9 below; on clients' own data it cost up to 4.0 points in some of those and gained up to 3.8 in others",
    differs: "means are taken of the student as it is at the end of a round, once over all its own samples, where the paper sums up over the steps of training what the student says as it changes, which no plan asks for; of the others, only those that hold a class count for its mean",
    parameters: &[Parameter {
        key: "gamma",
        symbol: "γ",
        what: "weight of the others' means",
        default: 1.0,
        range: (0.001, 1000.0),
        one_of: &[],
        whole: false,
        source: "usual in its comparisons; the paper states none",
    }],
    make: |given| Box::new(Fd::new(given)),
};

impl Fd {
    fn new(given: &Given) -> Self {
        Self {
            gamma: given.get("gamma") as f32,
            name: given.name(),
        }
    }
}

impl Method for Fd {
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

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        let mut phase = private(outlook.training);
        if state.teaches() {
            let term = LossTerm::new(Loss::SoftCrossEntropy, Toward::Classes);
            phase.objective.push(term.times(self.gamma));
        }
        Ask::train(vec![phase], true).report(Wanted::of_classes(AnswerKind::Probabilities))
    }

    fn keeps_each(&self) -> bool {
        true
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        take_probabilities(sum, weight, answers)
    }

    fn conclude(
        &self,
        _: &Outlook<'_>,
        taken: Taken<'_>,
        _: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        let Some(all) = mean(taken, AnswerKind::Probabilities)? else {
            return Ok(());
        };
        state.teach(About::Classes, all);
        let mut personal = BTreeMap::new();
        for client in taken.each.keys() {
            let others = taken.each.iter().filter(|(other, _)| *other != client);
            let others: Vec<&Answers> = others.map(|(_, answers)| answers).collect();
            let answers = Answers::new(
                AnswerKind::Probabilities,
                taken.classes,
                mean_of(&others, taken.classes),
            )?;
            let about = About::Classes;
            personal.insert(client.clone(), vec![Lesson { about, answers }]);
        }
        state.personal = personal;
        Ok(())
    }
}

/// The mean of each class's rows, over those that hold it; zeros where nobody does.
fn mean_of(all: &[&Answers], classes: u32) -> Vec<f32> {
    let classes = classes as usize;
    let row = |class: usize| {
        let rows = all.iter().filter_map(|answers| answers.iter().nth(class));
        let rows: Vec<Vec<f32>> = rows.map(on_simplex).collect();
        let spoken = rows
            .iter()
            .filter(|row| row.iter().any(|p| *p > 0.0))
            .count();
        (0..classes).map(move |at| {
            let sum: f64 = rows.iter().map(|row| f64::from(row[at])).sum();
            (sum / spoken.max(1) as f64) as f32
        })
    };
    (0..classes).flat_map(row).collect()
}
