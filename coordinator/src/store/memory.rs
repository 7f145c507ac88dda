use std::collections::BTreeMap;

use fedistill_federation::Event;
use fedistill_protocol::{Name, RoundId, RoundPlan};

use super::history::{acknowledged, late, now};
use super::{Closed, Epoch, OpenRound, Outcome, Saved, Store, StoreError};

/// Forgets everything with the process: for simulations.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    saved: Saved,
    history: Vec<Closed>,
}

impl MemoryStore {
    /// The open try goes into the history.
    fn end(&mut self, outcome: Option<&Outcome>) {
        if let Some(open) = self.saved.open.take() {
            // One that had not begun to count may open again under its own number.
            self.history.retain(|closed| closed.id != open.plan.id);
            self.history.push(Closed {
                id: open.plan.id,
                epoch: EPOCH.number,
                at: now(),
                acknowledged: acknowledged(&open.events),
                late: late(&open.events),
                outcome: outcome.cloned(),
            });
        }
    }
}

/// Nobody has had it before.
const EPOCH: Epoch = Epoch {
    number: 1,
    first: 1,
    rolled_back: 0,
};

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Saved, StoreError> {
        Ok(self.saved.clone())
    }

    fn epoch(&self) -> Epoch {
        EPOCH
    }

    fn is_immediate(&self) -> bool {
        true
    }

    fn history(&mut self) -> Result<Vec<Closed>, StoreError> {
        Ok(self.history.clone())
    }

    fn open(&mut self, plan: &RoundPlan, cohort: &BTreeMap<Name, u32>) -> Result<(), StoreError> {
        self.end(None);
        self.saved.open = Some(OpenRound {
            plan: plan.clone(),
            cohort: cohort.clone(),
            events: vec![Event::Opened(plan.id)],
        });
        Ok(())
    }

    fn append(&mut self, id: RoundId, events: &[Event]) -> Result<(), StoreError> {
        if let Some(open) = self.saved.open.as_mut().filter(|open| open.plan.id == id) {
            open.events.extend_from_slice(events);
        }
        Ok(())
    }

    fn close(&mut self, next: &Saved, outcome: &Outcome) -> Result<(), StoreError> {
        self.end(Some(outcome));
        self.saved = next.clone();
        Ok(())
    }
}
