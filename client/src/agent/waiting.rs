//! A plan that waits for what comes with it.

use std::sync::Arc;

use fedistill_protocol::{Answers, Digest, RoundPlan};

use super::Work;
use crate::Wanted;

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) plan: Arc<RoundPlan>,
    /// What has come of its knowledge, in its order.
    pub(super) got: Vec<Arc<Answers>>,
    /// Whether an update has led nowhere: then all comes whole.
    pub(super) whole: bool,
}

impl Waiting {
    /// What is here need not come again.
    pub(super) fn take_from(&mut self, known: &[(Digest, Arc<Answers>)]) {
        while let Some(knowledge) = self.plan.knowledge.get(self.got.len())
            && let Some((_, answers)) = known.iter().find(|(blob, _)| *blob == knowledge.blob)
        {
            self.got.push(Arc::clone(answers));
        }
    }

    /// What is to be fetched next, and what it is.
    pub(super) fn next(
        &self,
        known: &[(Digest, Arc<Answers>)],
        classes: u32,
    ) -> Option<(Digest, u64, Wanted)> {
        let knowledge = self.plan.knowledge.get(self.got.len())?;
        let update = knowledge.update.filter(|_| !self.whole);
        let base = update.and_then(|update| {
            let base = known.iter().find(|(digest, _)| *digest == update.base);
            Some((update, Arc::clone(&base?.1)))
        });
        Some(match base {
            Some((update, base)) => {
                let wanted = Wanted::Update {
                    base,
                    blob: knowledge.blob,
                    precision: knowledge.precision,
                };
                (update.blob, update.bytes, wanted)
            }
            None => {
                let wanted = Wanted::Knowledge {
                    kind: knowledge.kind,
                    rows: knowledge.about.count(classes),
                    width: knowledge.width,
                };
                (knowledge.blob, knowledge.bytes, wanted)
            }
        })
    }
}

impl Work {
    /// The plan that waits.
    pub(super) fn waiting(&self) -> Option<&Waiting> {
        match self {
            Self::Waiting(waiting) => Some(waiting),
            Self::Done(done) => done.asked_again(),
            Self::Idle | Self::Training(_) => None,
        }
    }

    /// The same, to change it.
    pub(super) fn waiting_mut(&mut self) -> Option<&mut Waiting> {
        match self {
            Self::Waiting(waiting) => Some(waiting),
            Self::Done(done) => done.again().as_mut(),
            Self::Idle | Self::Training(_) => None,
        }
    }

    /// Has a plan wait; beside the answer to one, where it may be the same.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        match self {
            Self::Done(done) => *done.again() = Some(waiting),
            _ => *self = Self::Waiting(waiting),
        }
    }

    /// No plan waits any more. What is answered stays so.
    pub(super) fn take_waiting(&mut self) -> Option<Waiting> {
        if let Self::Done(done) = self {
            return done.again().take();
        }
        match std::mem::replace(self, Self::Idle) {
            Self::Waiting(waiting) => Some(waiting),
            other => {
                *self = other;
                None
            }
        }
    }
}
