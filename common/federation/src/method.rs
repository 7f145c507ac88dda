//! Federated-distillation algorithms: what a round asks, how contributions add up, and what the
//! next soft labels are. One file each; a client never learns which one runs.

mod ds_fl;
mod local;
mod logit_mean;
mod teacher_only;

use std::fmt;

use fedistill_protocol::{AnswerKind, Answers, Phase, ProtocolError};
use thiserror::Error;

pub use ds_fl::{DsFl, Reduction};
pub use local::Local;
pub use logit_mean::LogitMean;
pub use teacher_only::TeacherOnly;

use crate::{Partial, PartialError};

/// What a method asks of a round; the driver adds which samples, and makes a plan of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Kind of the soft labels that come down; `None` where the method sends none.
    pub knowledge: Option<AnswerKind>,
    /// What clients train, in this order.
    pub phases: Vec<Phase>,
    /// Kind of the answers that clients give back; `None` where nothing goes up.
    pub report: Option<AnswerKind>,
}

/// How hard clients train in a round, which every method leaves to the user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Passes over private data.
    pub private_epochs: u16,
    /// Passes over the round's transfer samples.
    pub distillation_epochs: u16,
    /// Samples a step.
    pub batch: u16,
    /// How steps are taken.
    pub optimiser: fedistill_protocol::Optimiser,
}

/// One federated-distillation algorithm.
///
/// Contributions are taken in one by one and forgotten; only their [`Partial`] sum is kept.
pub trait Method: fmt::Debug + Send + Sync {
    /// Its name as a user writes it, `ds-fl:era` for example.
    fn name(&self) -> String;

    /// What a round asks; `labels` says whether there are soft labels to send down yet (in the
    /// first round of a federation without a teacher there are none).
    fn ask(&self, training: &Training, labels: bool) -> Ask;

    /// What is asked once after the last round, so that students hold the last aggregate: by
    /// default its distillation alone. `None` where there is nothing to ask.
    fn closing(&self, training: &Training) -> Option<Ask> {
        let mut ask = self.ask(training, true);
        ask.report = None;
        ask.phases
            .retain(|phase| phase.data == fedistill_protocol::PhaseData::Transfer);
        (ask.knowledge.is_some() && !ask.phases.is_empty()).then_some(ask)
    }

    /// Adds one client's answers, given with the client's weight, to the sum.
    ///
    /// # Errors
    /// Answers of another kind than [`Ask::report`], or that do not add to the sum.
    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError>;

    /// The next soft labels, from what clients gave back and from the teacher's logits on the
    /// same samples; `None` where the method yields none.
    ///
    /// # Errors
    /// A sum or teacher that does not fit `classes`.
    fn aggregate(
        &self,
        sum: &Partial,
        teacher: Option<&Answers>,
        classes: u32,
    ) -> Result<Option<Answers>, MethodError>;

    /// Whether the aggregate is distilled back into the teacher.
    fn teacher_learns(&self) -> bool;

    /// Whether it comes to nothing without a teacher.
    fn needs_teacher(&self) -> bool {
        false
    }
}

/// Why answers cannot be used.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum MethodError {
    /// Answers that do not add up.
    #[error(transparent)]
    Partial(#[from] PartialError),
    /// Answers of another kind or shape.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A method that takes no contribution was given one.
    #[error("method {0} takes no contributions")]
    TakesNothing(String),
    /// No method has this name.
    #[error("no method {0:?}: choose logit-mean, ds-fl:sa, ds-fl:era, teacher-only or local")]
    Unknown(String),
}

/// The method that a user names.
///
/// # Errors
/// [`MethodError::Unknown`], with the names there are.
pub fn by_name(name: &str) -> Result<Box<dyn Method>, MethodError> {
    Ok(match name {
        "ds-fl:era" => Box::new(DsFl::era()),
        "ds-fl" | "ds-fl:sa" => Box::new(DsFl::simple()),
        "local" => Box::new(Local),
        "logit-mean" => Box::new(LogitMean::default()),
        "teacher-only" => Box::new(TeacherOnly),
        _ => return Err(MethodError::Unknown(name.to_owned())),
    })
}

/// Private training: cross-entropy on the client's own labels.
fn private(training: &Training) -> Phase {
    use fedistill_protocol::{Loss, LossTerm, PhaseData, Start};
    Phase {
        start: Start::Continue,
        data: PhaseData::Private,
        epochs: training.private_epochs,
        batch: training.batch,
        objective: vec![LossTerm {
            loss: Loss::CrossEntropy,
            weight: 1.0,
        }],
        optimiser: training.optimiser,
    }
}

/// Distillation of the round's soft labels at temperature 1.
fn distillation(training: &Training) -> Phase {
    use fedistill_protocol::{Loss, LossTerm, PhaseData};
    Phase {
        data: PhaseData::Transfer,
        epochs: training.distillation_epochs,
        objective: vec![LossTerm {
            loss: Loss::Kl { temperature: 1.0 },
            weight: 1.0,
        }],
        ..private(training)
    }
}

/// Distillation where there is something to distil, then private training.
fn distil_then_train(training: &Training, labels: bool) -> Vec<Phase> {
    let distil = labels.then(|| distillation(training));
    distil.into_iter().chain([private(training)]).collect()
}

/// Refuses answers of another kind than the method asked for.
fn expect_kind(answers: &Answers, expected: AnswerKind) -> Result<(), ProtocolError> {
    match answers.kind() == expected {
        true => Ok(()),
        false => Err(ProtocolError::WrongKind {
            actual: answers.kind(),
            expected,
        }),
    }
}

/// `softmax(scale * row)`, stable for any finite row.
fn softmax(row: &[f32], scale: f32) -> Vec<f32> {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = row
        .iter()
        .map(|value| (f64::from(scale) * f64::from(value - most)).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers
        .into_iter()
        .map(|power| (power / sum) as f32)
        .collect()
}

#[cfg(test)]
mod tests;
