use std::collections::BTreeMap;

use fedistill_federation::Event;
use fedistill_protocol::{Name, RoundId, RoundPlan};

use super::{OpenRound, Saved, Store, StoreError};

/// Forgets everything with the process: for simulations.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Saved);

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Saved, StoreError> {
        Ok(self.0.clone())
    }

    fn open(&mut self, plan: &RoundPlan, cohort: &BTreeMap<Name, u32>) -> Result<(), StoreError> {
        self.0.open = Some(OpenRound {
            plan: plan.clone(),
            cohort: cohort.clone(),
            events: Vec::new(),
        });
        Ok(())
    }

    fn append(&mut self, id: RoundId, event: &Event) -> Result<(), StoreError> {
        if let Some(open) = self.0.open.as_mut().filter(|open| open.plan.id == id) {
            open.events.push(event.clone());
        }
        Ok(())
    }

    fn close(&mut self, next: &Saved) -> Result<(), StoreError> {
        self.0 = next.clone();
        Ok(())
    }
}
