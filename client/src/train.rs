mod checkpoints;
mod gauge;
mod leaving;
mod lessons;
mod likeness;
mod report;
mod table;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fedistill_learning::Samples;
use fedistill_protocol::{Answers, Name, Phase, RoundId, RoundPlan};

pub(crate) use self::checkpoints::{Checkpoints, Journaled};
pub(crate) use self::leaving::Leaving;
use self::lessons::{ClassLessons, Lessons};
pub(crate) use self::likeness::Likeness;
use self::table::{Stint, Table};
use crate::journal::Progress;
use crate::{PrivateData, Student, StudentError};

/// Looks over a student's shoulder, on the thread on which it learns.
pub trait Watcher: Send {
    /// A phase of a plan is done; `last` says whether it was the plan's last. Then the plan has its answers too: of one
    /// that fails the end is not seen.
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
    pub(crate) checkpoints: Box<dyn Checkpoints>,
    pub(crate) likeness: Likeness,
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
/// What the student or the data report, or knowledge that is not that of the plan.
///
/// # Panics
/// A plan that was not held against the transfer set and its knowledge: `RoundPlan::check`.
#[allow(
    clippy::too_many_arguments,
    reason = "all of it is what one training is about"
)]
pub fn carry_out(
    plan: &RoundPlan,
    knowledge: &[Arc<Answers>],
    transfer: &Samples,
    name: &Name,
    student: &mut dyn Student,
    private: &dyn PrivateData,
    watcher: &mut dyn Watcher,
    cancelled: &AtomicBool,
) -> Result<Carried, StudentError> {
    let hands = Hands {
        name,
        student,
        private,
        watcher,
        checkpoints: &mut (),
        likeness: &mut Likeness::default(),
    };
    hands.carry_out(plan, knowledge, Some(transfer), cancelled)
}

/// What a client works with.
pub(crate) struct Hands<'a> {
    pub(crate) name: &'a Name,
    pub(crate) student: &'a mut dyn Student,
    pub(crate) private: &'a dyn PrivateData,
    pub(crate) watcher: &'a mut dyn Watcher,
    pub(crate) checkpoints: &'a mut dyn Checkpoints,
    pub(crate) likeness: &'a mut Likeness,
}

impl Hands<'_> {
    pub(crate) fn carry_out(
        self,
        plan: &RoundPlan,
        knowledge: &[Arc<Answers>],
        transfer: Option<&Samples>,
        cancelled: &AtomicBool,
    ) -> Result<Carried, StudentError> {
        let Self {
            name,
            student,
            private,
            watcher,
            checkpoints,
            likeness,
        } = self;
        if knowledge.len() != plan.knowledge.len() {
            return Err("the plan's knowledge is not here".into());
        }
        let mut table = Table {
            plan,
            transfer,
            private,
            classes: private.classes().len(),
            lessons: Lessons::of(plan, knowledge)?,
            of_classes: ClassLessons::of(plan, knowledge)?,
            held: None,
        };
        let mut resumed = checkpoints.resume(plan)?;
        let first = resumed
            .as_ref()
            .map_or(0, |progress| progress.phase as usize);
        if let Some(progress) = resumed.take_if(|_| first >= plan.phases.len()) {
            // All is trained.
            student.restore(&progress.now)?;
        }
        for (index, phase) in plan.phases.iter().enumerate().skip(first) {
            let mut stint = Stint {
                index,
                phase,
                resumed: resumed.take(),
                checkpoints,
            };
            if !table.phase(&mut stint, name, student, cancelled)? {
                return Ok(Carried::Cancelled);
            }
            check(student)?;
            let last = index + 1 == plan.phases.len();
            let due = last || checkpoints.due();
            if let Some(now) = checkpoints.snapshot(student).filter(|_| due) {
                let progress = Progress {
                    phase: index as u32 + 1,
                    now,
                    ..Progress::default()
                };
                if !checkpoints.keep(plan, &progress, last, cancelled) && last {
                    return Ok(Carried::Cancelled);
                }
            }
            if !last {
                watcher.phase_done(plan.id, phase, false, student);
            }
        }
        let answers = table.answers(name, student, likeness)?;
        // Who looks on may keep the student: one whose answers cannot be used is not to be kept.
        if let Some(phase) = plan.phases.last() {
            watcher.phase_done(plan.id, phase, true, student);
        }
        Ok(Carried::Out(answers))
    }
}

/// Whether a student's parameters, as far as it tells them, are numbers.
pub(crate) fn is_sound(student: &dyn Student) -> bool {
    student.parameters().iter().all(|value| value.is_finite())
}

/// A step that ruins a student shows in the loss of the next one alone: before anything is kept or said, this looks.
fn check(student: &dyn Student) -> Result<(), StudentError> {
    match is_sound(student) {
        true => Ok(()),
        false => {
            Err("the student's parameters are no longer finite: lower the learning rate".into())
        }
    }
}
