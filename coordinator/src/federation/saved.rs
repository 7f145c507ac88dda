//! Going on with what the process before has left.

use fedistill_federation::{Ask, Event, State};
use fedistill_protocol::Version;

use super::Coordinator;
use crate::store::{OpenRound, Subject};
use crate::{CoordinatorError, Exchange, Saved, Settings};

impl Coordinator {
    /// What the process before has left, where that is of the same.
    pub(super) async fn load(&mut self) -> Result<Saved, CoordinatorError> {
        let saved = self.writer.load().await.map_err(CoordinatorError::State)?;
        if let Some(before) = &saved.subject {
            let checked = before.check(&self.subject());
            checked.map_err(CoordinatorError::Settings)?;
        }
        Ok(saved)
    }

    /// What rounds are about, so that none goes on with what others have handed on.
    pub(super) fn subject(&self) -> Subject {
        let Settings {
            classes, method, ..
        } = &self.settings;
        Subject::new(self.manifest.blob, classes, &method.name())
    }

    /// The version in whose words an interrupted round is what would be asked now; `None` where settings have changed
    /// since. A program before this one may have packed the round's lessons otherwise.
    pub(super) fn words_of(&self, saved: &OpenRound, ask: &Ask, state: &State) -> Option<Version> {
        let folds = |event: &Event| matches!(event, Event::Folded { .. });
        if self.settings.method.keeps_each() && saved.events.iter().any(folds) {
            // Its sum has what this method would not see.
            return None;
        }
        let held = Exchange::default();
        Version::ALL.into_iter().find(|words| {
            let (id, cohort) = (saved.plan.id, &saved.cohort);
            let planned = self
                .planner
                .plan(id, ask.clone(), state, cohort, &held, *words);
            planned.plan == saved.plan.without_updates()
        })
    }
}
