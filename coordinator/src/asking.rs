use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fedistill_federation::Round;
use fedistill_protocol::{Name, RoundId, Version};

use crate::hub::{Arrival, Hub, encode};

/// What a round asks, ready to be sent.
pub(crate) struct Words {
    pub(crate) common: Arc<[u8]>,
    /// For those that are asked something else.
    pub(crate) particular: BTreeMap<Name, Arc<[u8]>>,
}

impl Words {
    fn to(&self, client: &Name) -> Arc<[u8]> {
        Arc::clone(self.particular.get(client).unwrap_or(&self.common))
    }
}

/// Tells the clients of a cohort what the open round asks, a bounded number of them at a time.
pub(crate) struct Asking<'a> {
    cohort: &'a BTreeMap<Name, u32>,
    words: Words,
    /// For clients of older versions, where they could not read those.
    older: Option<Words>,
    at_once: usize,
    /// Whom to tell next.
    queue: VecDeque<Name>,
    /// Who was told, and has neither contributed nor gone.
    busy: BTreeSet<Name>,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(
        cohort: &'a BTreeMap<Name, u32>,
        words: Words,
        older: Option<Words>,
        at_once: usize,
    ) -> Self {
        Self {
            cohort,
            words,
            older,
            at_once,
            queue: cohort.keys().cloned().collect(),
            busy: BTreeSet::new(),
        }
    }

    /// Takes in what came while round `open` is.
    pub(crate) fn heard(&mut self, hub: &Hub, arrival: &Arrival, open: RoundId) {
        match arrival {
            // Who comes back was told on another connection, and keeps its seat; who comes for the
            // first time may have been told already, before this arrival was read.
            Arrival::Joined(name) if self.cohort.contains_key(name) => {
                self.queue.push_front(name.clone());
            }
            Arrival::Left(name) => {
                self.busy.remove(name);
            }
            Arrival::Refused(name, id, _)
            | Arrival::Malformed(name, id)
            | Arrival::Contributed {
                client: name, id, ..
            } if *id == open => {
                self.busy.remove(name);
            }
            // It is told that this is not open, and may take that for an answer to the round that is,
            // and give that up: so it is asked again.
            Arrival::Contributed { client: name, .. }
                if self.cohort.contains_key(name) && hub.forget_greeting(name) =>
            {
                self.queue.push_front(name.clone());
            }
            _ => {}
        }
    }

    /// Tells as many as there is room for what round `id` asks, or that it has their contribution.
    pub(crate) fn go_on(&mut self, hub: &Hub, machine: &Round, id: RoundId) {
        while let Some(front) = self.queue.front()
            && (self.busy.len() < self.at_once || self.busy.contains(front))
            && let Some(name) = self.queue.pop_front()
        {
            let receipt = match machine.receipt(&name) {
                Some(receipt) => match encode(&receipt.into()) {
                    Some(frame) => Some(frame),
                    None => continue,
                },
                None => None,
            };
            let is_asked = receipt.is_none();
            let words = |version: Version| match receipt {
                Some(receipt) => receipt,
                None if version < Version::LATEST => {
                    self.older.as_ref().unwrap_or(&self.words).to(&name)
                }
                None => self.words.to(&name),
            };
            if hub.greet(&name, id, words) && is_asked {
                self.busy.insert(name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
