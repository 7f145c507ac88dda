use fedistill_protocol::{AnswerKind, Answers};

use super::catalogue::Entry;
use super::parameter::{Given, Parameter};
use super::{
    Ask, AtCentre, Centre, Method, MethodError, Outlook, Taken, Wanted, distil_then_train, mean,
    pass_on, take_logits,
};
use crate::{Partial, State};

/// The mean of centred, clipped logits, with the teacher's own vote, distilled into the students
/// and back into the teacher.
///
/// Logits rather than probabilities: under label skew a client that never saw a class says so by a
/// low logit, which a mean of probabilities cannot hear. Each row is centred (its mean taken off,
/// which no softmax notices) and clipped, so that no client can outweigh all others.
/// After FedMD (Li and Wang 2019), with distillation by KL in place of L1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LogitMean {
    /// Centred logits are clipped to this either way; above 0, at most [`Partial::BOUND`].
    clip: f32,
    /// The teacher votes as this many clients of weight 1 do.
    teacher_weight: u32,
    name: String,
}

pub(super) const ENTRY: Entry = Entry {
    name: "logit-mean",
    variants: &[],
    source: "after FedMD, Li and Wang 2019",
    summary: "The mean of centred, clipped logits, with the teacher's own vote, is distilled into students and teacher.",
    up: "logits on N samples: 4NC",
    down: "their mean on the N samples of the round before: 4NC",
    loss: "KL to what came down; then cross-entropy",
    good: "label skew with a weak teacher or none: a client that never saw a class says so by a low logit, which a mean of probabilities cannot hear",
    bad: "a good teacher and strong skew: the mean is worse than the teacher was, and teaches it",
    differs: "KL in place of L1, centring and clipping, a vote of the teacher",
    parameters: &[
        Parameter {
            key: "clip",
            symbol: "",
            what: "centred logits are cut off here, either way",
            default: 20.0,
            range: (0.01, Partial::BOUND as f64),
            one_of: &[],
            whole: false,
            source: "ours",
        },
        Parameter {
            key: "teacher-weight",
            symbol: "w",
            what: "the teacher votes as so many clients do",
            default: 1.0,
            range: (0.0, 1000.0),
            one_of: &[],
            whole: true,
            source: "ours",
        },
    ],
    make: |given| Box::new(LogitMean::new(given)),
};

impl LogitMean {
    fn new(given: &Given) -> Self {
        Self {
            clip: given.get("clip") as f32,
            teacher_weight: given.get("teacher-weight") as u32,
            name: given.name(),
        }
    }
}

impl Default for LogitMean {
    fn default() -> Self {
        Self {
            clip: 20.0,
            teacher_weight: 1,
            name: ENTRY.name.to_owned(),
        }
    }
}

impl Method for LogitMean {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Logits)
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        Ask::train(distil_then_train(outlook.training, state), true)
            .report(Wanted::on(AnswerKind::Logits, outlook.fresh))
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        take_logits(sum, weight, answers, self.clip)
    }

    /// Who is not there, or knows nothing, has no vote.
    fn idle(&self, at: AtCentre) -> Vec<&'static str> {
        match at < AtCentre::Trained {
            true => vec!["teacher-weight"],
            false => Vec::new(),
        }
    }

    fn conclude(
        &self,
        _: &Outlook<'_>,
        taken: Taken<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        let rows = taken.rows()?;
        let mut sum = taken.sum.clone();
        let mut centre = centre;
        if let Some(centre) = &mut centre
            && centre.is_trained()
        {
            self.take(&mut sum, self.teacher_weight, &centre.answer(rows)?)?;
        }
        let taken = Taken { sum: &sum, ..taken };
        match mean(taken, AnswerKind::Logits)? {
            Some(labels) => pass_on(rows, labels, centre, state),
            None => Ok(()),
        }
    }
}
