//! What happens between two rounds: the method works with the teacher.

use std::sync::{Arc, OnceLock};

use fedistill_federation::{Asked, Centre, Committed, Method, MethodError, Outlook, State, Taken};
use fedistill_protocol::RoundPlan;

use super::Coordinator;
use crate::centre::TeacherCentre;
use crate::drift::Drift;
use crate::plan::stream_seed;
use crate::{CoordinatorError, Teacher};

impl Coordinator {
    /// What comes of a round: what the next one begins with, and what the teacher learns.
    pub(super) async fn learn(
        &mut self,
        state: State,
        plan: &RoundPlan,
        committed: Committed,
    ) -> Result<State, CoordinatorError> {
        let about = plan.report.as_ref().map(|report| report.about.clone());
        let kind = plan.report.as_ref().map(|report| report.kind);
        let classes = self.settings.classes.len() as u32;
        let id = plan.id;
        // One that has learnt nothing yet has nothing to say.
        let knows = |teacher: &dyn Teacher| teacher.is_trained() || id.round > 0;
        let watches = self.teacher.as_deref().is_some_and(knows);
        let asked = Asked::of(committed.asked, self.settings.asked);
        let drift = Arc::new(OnceLock::new());
        let seen = Arc::clone(&drift);
        let conclude = move |work: Work<'_>| {
            let taken = Taken {
                sum: &committed.sum,
                each: &committed.each,
                about: about.as_ref(),
                classes,
                asked,
            };
            let Work {
                method,
                outlook,
                mut centre,
                state,
            } = work;
            if watches && let Some(centre) = centre.as_deref_mut() {
                // Nobody else writes it.
                let _ = seen.set(Drift::of(id.round, &taken, kind, centre)?);
            }
            method.conclude(&outlook, taken, centre, state)
        };
        if self.teacher.is_some() {
            tracing::info!("the teacher learns from round {id}");
        }
        let state = self.between(id.round, state, conclude).await?;
        if let Some(drift) = drift.get().copied().flatten() {
            if drift.is_alarming() {
                let percent = 100.0 * drift.agreement;
                tracing::warn!(
                    "round {id}: what clients say agrees with the teacher on {percent:.0} % of samples only: some lie, have other data, or know too little of each other's classes for a mean"
                );
            }
            self.observer.drifted(id, drift);
        }
        Ok(state)
    }

    /// Lets the method work with the teacher between two rounds.
    pub(super) async fn between(
        &mut self,
        round: u32,
        mut state: State,
        work: impl FnOnce(Work<'_>) -> Result<(), MethodError> + Send + 'static,
    ) -> Result<State, CoordinatorError> {
        let (planner, transfer) = (self.planner.clone(), Arc::clone(&self.transfer));
        let method = Arc::clone(&self.settings.method);
        let mut teacher = self.teacher.take();
        let before = state.decided.clone();
        let work = move || {
            let chosen = planner.chosen(round);
            let mut centre = teacher.as_deref_mut().map(|teacher| TeacherCentre {
                teacher,
                transfer,
                classes: planner.classes,
                training: planner.training,
                seed: stream_seed(planner.seed, round),
            });
            let done = work(Work {
                method: method.as_ref(),
                outlook: planner.outlook(&chosen),
                centre: centre.as_mut().map(|centre| centre as &mut dyn Centre),
                state: &mut state,
            });
            (teacher, done.map(|()| state))
        };
        // Training takes seconds: not on a thread that serves connections.
        let done = tokio::task::spawn_blocking(work).await;
        let (teacher, state) = done.map_err(|error| CoordinatorError::Teacher(error.into()))?;
        self.teacher = teacher;
        let state = state?;
        for (what, value) in &state.decided {
            if before.get(what) != Some(value) {
                let method = self.settings.method.name();
                tracing::info!("{method} decides: {what} {value:.3}");
            }
        }
        Ok(state)
    }
}

/// What a method has in hand between two rounds.
pub(super) struct Work<'a> {
    pub(super) method: &'a dyn Method,
    pub(super) outlook: Outlook<'a>,
    pub(super) centre: Option<&'a mut dyn Centre>,
    pub(super) state: &'a mut State,
}

#[cfg(test)]
mod tests;
