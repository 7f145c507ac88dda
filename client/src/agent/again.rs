//! A plan that is heard again: by a number that was answered, or by one that was begun.

use std::sync::Arc;
use std::time::Duration;

use fedistill_protocol::{Answers, RoundId, RoundPlan, Version};

use super::{Agent, Output, Work};

impl Agent {
    /// Gives the answer that was given before.
    pub(super) fn answer_again(&mut self) {
        if let Work::Done(done) = &self.work {
            let (again, blobs) = (*done.contribution(), done.blobs().to_vec());
            self.put(Output::Offer(blobs));
            self.put(Output::Send(again.into()));
        }
    }

    /// Whether the coordinator that it is connected to has asked for what is at work or answered. One of an older version,
    /// which names no epoch, is believed to have.
    pub(super) fn is_asked(&self) -> bool {
        let epoch = self.welcome.as_ref().map(|welcome| welcome.epoch);
        epoch.is_some_and(|epoch| epoch == 0 || epoch == self.asked_in)
    }

    /// Leaves a coordinator that asks for this round and could only have forgotten that it is answered.
    pub(super) fn has_gone_back(&mut self, id: RoundId) -> bool {
        let Some(welcome) = &self.welcome else {
            return false;
        };
        let (epoch, rolled_back) = (welcome.epoch, welcome.rolled_back);
        let answered = self.answered.as_ref();
        let forbids = answered.and_then(|last| last.forbids(id, rolled_back));
        // A coordinator of an older version cannot say that it was put back.
        let Some(answered) = forbids.filter(|_| epoch > 0) else {
            return false;
        };
        let next = self.epoch.saturating_add(1);
        self.welcome = None;
        self.put(Output::Leave {
            why: format!(
                "the coordinator asks for round {id}, round {answered} is answered: its state is an old copy, or was begun anew; if that is meant, start it with --epoch {next}"
            ),
            after: Duration::ZERO,
            outdated: true,
        });
        true
    }

    /// The plan under the identity with which it was begun, if it was: peers of another version are sent the same knowledge
    /// packed otherwise, and this side may have spoken another one then.
    pub(super) fn as_begun(
        &self,
        plan: Arc<RoundPlan>,
        unpacked: &[Arc<Answers>],
    ) -> Arc<RoundPlan> {
        let begun = self.begun.filter(|begun| begun.id == plan.id);
        let is_begun = |plan: &RoundPlan| plan.identity().ok() == begun.map(|begun| begun.plan);
        if begun.is_none() || is_begun(&plan) {
            return plan;
        }
        let versions = Version::ALL.into_iter();
        let mut packed = versions.map(|version| plan.packed_for(version, unpacked));
        packed.find(is_begun).map_or(plan, Arc::new)
    }
}
