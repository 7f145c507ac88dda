//! Training, beside the conversation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fedistill_protocol::{Answers, RoundId};
use fedistill_transport::Direction;

use super::{Client, Event};
use crate::agent::Job;
use crate::train::{Bench, Carried, Hands, is_sound};
use crate::{Student, StudentError};

/// What came of a round's training.
pub(super) struct Trained {
    pub(super) id: RoundId,
    /// Whether it was called off: another plan of the same number may have come since.
    pub(super) cancelled: Arc<AtomicBool>,
    /// Bytes that its answers take whole and uncoded.
    pub(super) raw: u64,
    pub(super) result: Result<Option<Answers>, String>,
}

impl Client {
    pub(super) fn train(&mut self, job: Job) {
        let classes = self
            .agent
            .welcome()
            .map_or(0, |welcome| welcome.transfer.classes.len() as u32);
        let lessons = job.plan.knowledge.iter();
        let lessons = lessons.map(|knowledge| knowledge.raw_bytes(classes)).sum();
        self.meter.uncoded(Direction::Received, lessons);
        let report = job.plan.report.as_ref();
        let raw = report.map_or(0, |report| report.raw_bytes(classes));
        self.cancel = Arc::default();
        let (bench, cancel) = (Arc::clone(&self.bench), Arc::clone(&self.cancel));
        let (results, permits) = (self.results.0.clone(), self.permits.clone());
        tracing::info!(client = %self.name, "trains for round {}", job.plan.id);
        self.tell(Event::Training(job.plan.id));
        tokio::spawn(async move {
            let permit = match permits {
                Some(permits) => permits.acquire_owned().await.ok(),
                None => None,
            };
            let id = job.plan.id;
            let cancelled = Arc::clone(&cancel);
            let work = move || {
                let _permit = permit;
                train(&mut lock(&bench), &job, &cancel)
            };
            let result = tokio::task::spawn_blocking(work).await;
            let result = match result {
                Ok(Ok(Carried::Cancelled)) => return,
                Ok(Ok(Carried::Out(answers))) => Ok(answers),
                Ok(Err(why)) => Err(why),
                Err(error) => Err(format!("the student failed: {error}")),
            };
            let trained = Trained {
                id,
                cancelled,
                raw,
                result,
            };
            // Nobody listens once the client has ended.
            let _ = results.send(Box::new(trained));
        });
    }
}

impl Client {
    /// Lets training that is under way come to a checkpoint, if that does not take long; then it ends.
    pub(super) async fn drain(&self) {
        const LONGEST: Duration = Duration::from_secs(5);
        if self.journal.is_some() && self.agent.training().is_some() {
            self.leaving.tell();
            let bench = Arc::clone(&self.bench);
            // Whoever trains holds it until the end.
            let ended = tokio::task::spawn_blocking(move || drop(lock(&bench)));
            let in_time = tokio::time::timeout(LONGEST, ended).await.is_ok();
            let name = &self.name;
            match self.leaving.unwritten() {
                Some(why) => {
                    tracing::warn!(client = %name, "{why}: training goes on from the checkpoint before, if there is one");
                }
                None if in_time => {}
                None => {
                    let seconds = LONGEST.as_secs();
                    tracing::warn!(client = %name, "a pass takes longer than {seconds} s: training goes on from the checkpoint before it");
                }
            }
        }
        self.cancel.store(true, Ordering::Relaxed);
    }
}

fn train(bench: &mut Bench, job: &Job, cancel: &AtomicBool) -> Result<Carried, String> {
    let Bench {
        name,
        student,
        private,
        watcher,
        checkpoints,
        likeness,
    } = bench;
    let student = student.as_mut();
    let carried = student.wake().and_then(|()| {
        let hands = Hands {
            name,
            student: &mut *student,
            private: private.as_ref(),
            watcher: watcher.as_mut(),
            checkpoints: checkpoints.as_mut(),
            likeness,
        };
        let carried =
            hands.carry_out(&job.plan, &job.knowledge, job.transfer.as_deref(), cancel);
        if leaves_ruins(&carried, student) {
            let undone = student.undo();
            if let Err(error) = undone.and_then(|undone| checkpoints.give_up(&job.plan, student, undone)) {
                let id = job.plan.id;
                tracing::error!(client = %name, "the student is not what it was before round {id}: {error}");
            }
        }
        carried
    });
    let rested = student.rest();
    carried
        .and_then(|carried| rested.map(|()| carried))
        .map_err(|error| error.to_string())
}

/// Whether the next plan must not begin with the student that this one leaves: what failed would fail again, even
/// once the coordinator asks for less.
fn leaves_ruins(carried: &Result<Carried, StudentError>, student: &dyn Student) -> bool {
    match carried {
        Ok(Carried::Out(_)) => false,
        Ok(Carried::Cancelled) => !is_sound(student),
        Err(_) => true,
    }
}

/// A student that panicked in one round may still learn in the next.
pub(super) fn lock(bench: &Mutex<Bench>) -> std::sync::MutexGuard<'_, Bench> {
    bench.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
