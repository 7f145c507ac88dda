//! Where a training goes on after a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fedistill_protocol::RoundPlan;

use super::Leaving;
use crate::journal::{Journal, Progress};
use crate::{Student, StudentError};

/// Keeps how far a training has come, and says where one goes on.
pub(crate) trait Checkpoints: Send {
    /// How far this plan's training had come when the process before ended.
    fn resume(&mut self, plan: &RoundPlan) -> Result<Option<Progress>, StudentError> {
        let _ = plan;
        Ok(None)
    }

    /// Whether a pass that ends now is worth keeping.
    fn due(&self) -> bool {
        false
    }

    /// Keeps it. The last of a plan, once all its phases are done, has to be kept: what is answered then
    /// must be what it answers after a crash too. Returns whether it was.
    fn keep(
        &mut self,
        plan: &RoundPlan,
        progress: &Progress,
        last: bool,
        cancelled: &AtomicBool,
    ) -> bool {
        let _ = (plan, progress, last, cancelled);
        true
    }

    /// A plan is given up, whose work `student` has `undone` as far as this process did it, or could not: nothing that was
    /// kept of the plan stays, and a training that another process had begun is undone too.
    fn give_up(
        &mut self,
        plan: &RoundPlan,
        student: &mut dyn Student,
        undone: bool,
    ) -> Result<(), StudentError> {
        let _ = (plan, student, undone);
        Ok(())
    }

    /// The student, if it is to be kept and can be.
    fn snapshot(&self, student: &dyn Student) -> Option<Vec<u8>> {
        let _ = student;
        None
    }
}

/// Nothing is kept: a simulated client's process does not end before the simulation's.
impl Checkpoints for () {}

/// Kept in a client's journal, at most once in a while.
pub(crate) struct Journaled {
    journal: Arc<Journal>,
    /// Least time between two that need not be.
    every: Duration,
    kept: Instant,
    /// The student before the plan that another process has begun, until that is taken up or not.
    before: Option<Vec<u8>>,
    /// Where the process is about to end the next pass is the last.
    leaving: Arc<Leaving>,
}

impl Journaled {
    /// The time after which a journal that could not be written is tried again.
    const AGAIN: Duration = Duration::from_secs(5);

    pub(crate) fn new(journal: Arc<Journal>, every: Duration, leaving: Arc<Leaving>) -> Self {
        Self {
            journal,
            every,
            kept: Instant::now(),
            before: None,
            leaving,
        }
    }

    /// Has in hand what the student was before the plan that another process has begun.
    pub(crate) fn since(mut self, before: Option<Vec<u8>>) -> Self {
        self.before = before;
        self
    }

    fn is_leaving(&self) -> bool {
        self.leaving.is_told()
    }
}

impl Checkpoints for Journaled {
    fn resume(&mut self, plan: &RoundPlan) -> Result<Option<Progress>, StudentError> {
        self.kept = Instant::now();
        let progress = self.journal.resume(plan)?;
        if progress.is_none() {
            self.before = None;
        }
        Ok(progress)
    }

    fn due(&self) -> bool {
        self.is_leaving() || self.kept.elapsed() >= self.every
    }

    fn keep(
        &mut self,
        plan: &RoundPlan,
        progress: &Progress,
        last: bool,
        cancelled: &AtomicBool,
    ) -> bool {
        loop {
            let kept = self.journal.checkpoint(plan, progress);
            self.leaving.wrote(&kept);
            match kept {
                Ok(()) => {
                    self.kept = Instant::now();
                    if self.is_leaving() && !last {
                        cancelled.store(true, Ordering::Relaxed);
                    }
                    return true;
                }
                // Whoever waits for a checkpoint need not: the one before stays.
                Err(_) if self.is_leaving() => {
                    cancelled.store(true, Ordering::Relaxed);
                    return false;
                }
                Err(error) if !last => {
                    // Only what a crash would cost is more.
                    tracing::warn!("{error}: training goes on without a checkpoint");
                    self.kept = Instant::now();
                    return false;
                }
                Err(error) => {
                    let seconds = Self::AGAIN.as_secs();
                    tracing::error!(
                        "{error}: nothing is answered before it is written; tried again in {seconds} s"
                    );
                    self.leaving.sleep(Self::AGAIN);
                    if cancelled.load(Ordering::Relaxed) {
                        return false;
                    }
                }
            }
        }
    }

    fn give_up(
        &mut self,
        plan: &RoundPlan,
        student: &mut dyn Student,
        undone: bool,
    ) -> Result<(), StudentError> {
        let before = self.before.take();
        if let Some(before) = &before {
            student.restore(before)?;
        }
        match student.snapshot() {
            Some(student) if undone || before.is_some() => {
                Ok(self.journal.give_up(plan, &student)?)
            }
            // What it is now is of no use: what was kept of it before stays, and is all there is.
            Some(_) => match self.journal.go_back(plan)? {
                Some(kept) => student.restore(&kept),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn snapshot(&self, student: &dyn Student) -> Option<Vec<u8>> {
        student.snapshot()
    }
}

#[cfg(test)]
mod tests;
