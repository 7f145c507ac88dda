use std::sync::atomic::{AtomicBool, Ordering};

use fedistill_learning::{Objective, Samples, Schedule, Targets, seed, softmax};
use fedistill_protocol::{AnswerKind, Answers, Name, Phase, PhaseData, RoundId, RoundPlan};

use crate::{PrivateData, Student, StudentError};

/// Looks over a student's shoulder, on the thread on which it learns.
pub trait Watcher: Send {
    /// A phase of a plan is done; `last` says whether it was the plan's last.
    fn phase_done(&mut self, id: RoundId, phase: &Phase, last: bool, student: &mut dyn Student) {
        let _ = (id, phase, last, student);
    }
}

/// Nobody looks.
impl Watcher for () {}

/// What a client trains with: all that must stay on the device.
pub(crate) struct Bench {
    pub(crate) name: Name,
    pub(crate) student: Box<dyn Student>,
    pub(crate) private: Box<dyn PrivateData>,
    pub(crate) watcher: Box<dyn Watcher>,
}

/// What came of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Carried {
    /// It was cancelled before its end.
    Cancelled,
    /// It was carried out; with answers, where it asks for some.
    Out(Option<Answers>),
}

/// Does what a checked plan asks: trains `student`, and has it answer where the plan asks for that.
/// Stops after the step under way once `cancelled` is set.
///
/// Everything random follows from the plan's seed and the client's name.
///
/// # Errors
/// What the student or the data report.
///
/// # Panics
/// A plan that was not held against the transfer set and its knowledge: `RoundPlan::check`.
#[allow(
    clippy::too_many_arguments,
    reason = "all of it is what one training is about"
)]
pub fn carry_out(
    plan: &RoundPlan,
    knowledge: Option<&Answers>,
    transfer: &Samples,
    name: &Name,
    student: &mut dyn Student,
    private: &dyn PrivateData,
    watcher: &mut dyn Watcher,
    cancelled: &AtomicBool,
) -> Result<Carried, StudentError> {
    let known: Vec<usize> = plan
        .knowledge
        .iter()
        .flat_map(|knowledge| knowledge.rows.iter())
        .map(|row| row as usize)
        .collect();
    let mut samples = Vec::new();
    let mut labels = Vec::new();
    let mut soft: Vec<f32> = Vec::new();
    for (index, phase) in plan.phases.iter().enumerate() {
        student.begin(phase.start, phase.optimiser)?;
        let stream = |what: &str| seed::stream(plan.seed, &format!("{what}/{name}/{index}"));
        let (mut order, mut noise) = (stream("order"), stream("noise"));
        let schedule = Schedule {
            epochs: phase.epochs.into(),
            batch: phase.batch.into(),
        };
        let count = match phase.data {
            PhaseData::Private => private.len(),
            PhaseData::Transfer => known.len(),
        };
        for batch in schedule.batches(count, &mut order) {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(Carried::Cancelled);
            }
            samples.clear();
            let targets = match (phase.data, knowledge) {
                (PhaseData::Private, _) => {
                    labels.clear();
                    private.batch(&batch, &mut samples, &mut labels)?;
                    Targets::Hard(&labels)
                }
                (PhaseData::Transfer, Some(knowledge)) => {
                    let rows: Vec<usize> = batch.iter().map(|&index| known[index]).collect();
                    transfer.gather(&rows, &mut samples);
                    let width = knowledge.classes() as usize;
                    soft.clear();
                    for &index in &batch {
                        let row = index * width..(index + 1) * width;
                        soft.extend_from_slice(&knowledge.values()[row]);
                    }
                    Targets::Soft {
                        kind: knowledge.kind(),
                        values: &soft,
                    }
                }
                (PhaseData::Transfer, None) => {
                    return Err("the plan distils, but its knowledge is not here".into());
                }
            };
            let objective = Objective::new(&phase.objective, targets);
            student.step(&samples, &objective, &mut noise)?;
        }
        watcher.phase_done(plan.id, phase, index + 1 == plan.phases.len(), student);
    }
    let Some(report) = &plan.report else {
        return Ok(Carried::Out(None));
    };
    let rows: Vec<usize> = report.rows.iter().map(|row| row as usize).collect();
    let logits = student.logits_of(transfer, &rows)?;
    let classes = private.classes().len();
    let values = match report.kind {
        AnswerKind::Logits => logits,
        AnswerKind::Probabilities => softmax(&logits, classes),
    };
    let answers = Answers::new(report.kind, classes as u32, values)?;
    Ok(Carried::Out(Some(answers)))
}
