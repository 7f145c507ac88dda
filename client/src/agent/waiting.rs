//! A plan that waits for what comes with it.

use std::sync::Arc;

use fedistill_protocol::{Answers, Digest, RoundPlan};

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
