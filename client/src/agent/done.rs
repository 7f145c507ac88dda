//! What a plan has come to, until the coordinator says that it counts.

use std::sync::Arc;

use fedistill_protocol::{
    Answers, Contribution, Digest, ProtocolError, Receipt, RoundId, RoundPlan, Update, Version,
};

use super::{Blob, Waiting};
use crate::journal::Finished;

/// A contribution, and what the coordinator may fetch of it.
#[derive(Debug)]
pub(super) struct Done {
    asked: Asked,
    /// In which it was asked for.
    epoch: u64,
    contribution: Contribution,
    /// The answers whole, and what leads to them from earlier ones.
    blobs: Vec<Blob>,
    /// The answers as they are on the other side, where the next ones may be an update of them.
    answers: Option<Arc<Answers>>,
    counted: bool,
    /// The coordinator would not have it: it is not announced again of its own accord.
    rejected: bool,
    /// A plan of the same number that is known under another identity: once what comes with it is here, it shows
    /// whether it asks the same.
    again: Option<Waiting>,
}

/// What is answered.
#[derive(Debug)]
enum Asked {
    Plan(Arc<RoundPlan>),
    /// As far as another process has kept it: [`RoundPlan::identity`].
    Identity(Digest),
}

impl Asked {
    fn identity(&self) -> Result<Digest, ProtocolError> {
        match self {
            Self::Plan(plan) => plan.identity(),
            Self::Identity(identity) => Ok(*identity),
        }
    }
}

impl Done {
    /// The round whose coordinator has not yet said what it makes of this.
    pub(super) fn awaits_receipt(&self) -> Option<RoundId> {
        (!self.counted && !self.rejected).then_some(self.contribution.id)
    }

    /// Packs what a plan has come to, for a coordinator of this version; as an update of what was `given` before too,
    /// where that is shorter.
    pub(super) fn of(
        version: Version,
        plan: &Arc<RoundPlan>,
        epoch: u64,
        answers: Option<Answers>,
        given: Option<&(Digest, Arc<Answers>)>,
    ) -> Self {
        let bytes: Arc<[u8]> = match (&plan.report, &answers) {
            (Some(report), Some(answers)) => answers.pack_for(version, report.precision).into(),
            _ => Arc::new([]),
        };
        let mut done = Self {
            asked: Asked::Plan(Arc::clone(plan)),
            epoch,
            contribution: Contribution {
                id: plan.id,
                blob: Digest::of(&bytes),
                bytes: bytes.len() as u64,
                update: None,
            },
            blobs: Vec::new(),
            answers: None,
            counted: false,
            rejected: false,
            again: None,
        };
        done.blobs
            .push((done.contribution.blob, Arc::clone(&bytes)));
        if let (Some(report), Some(answers)) = (&plan.report, answers)
            && report.update
        {
            let (kind, rows) = (answers.kind(), answers.rows());
            let rounded = Answers::unpack(&bytes, kind, rows, answers.classes()).ok();
            done.answers = rounded.map(Arc::new);
            if let Some((base, given)) = given
                && let Some(update) = answers.update_for(version, given, report.precision)
                && update.len() < bytes.len()
            {
                let blob = Digest::of(&update);
                done.contribution.update = Some(Update {
                    base: *base,
                    blob,
                    bytes: update.len() as u64,
                });
                done.blobs.push((blob, update.into()));
            }
        }
        done
    }

    /// One that another process had kept.
    pub(super) fn restored(finished: Finished) -> Self {
        let Finished {
            id,
            epoch,
            plan,
            blob,
            packed,
            counted,
        } = finished;
        Self {
            asked: Asked::Identity(plan),
            epoch,
            contribution: Contribution {
                id,
                blob,
                bytes: packed.len() as u64,
                update: None,
            },
            blobs: vec![(blob, packed)],
            answers: None,
            counted,
            rejected: false,
            again: None,
        }
    }

    /// What has to outlive the process.
    ///
    /// # Errors
    /// A plan that cannot be written.
    pub(super) fn finished(&self) -> Result<Finished, ProtocolError> {
        let Contribution { id, blob, .. } = self.contribution;
        let whole = self.blobs.first();
        Ok(Finished {
            id,
            epoch: self.epoch,
            plan: self.asked.identity()?,
            blob,
            packed: whole.map_or_else(Arc::default, |(_, packed)| Arc::clone(packed)),
            counted: self.counted,
        })
    }

    /// Whether it is this plan that it answers: of the same round, and asking the same, packed alike.
    pub(super) fn answers(&self, plan: &RoundPlan) -> bool {
        self.contribution.id == plan.id && plan.identity().ok() == self.asked.identity().ok()
    }

    /// The same, where what comes with the plan is here, however it was packed.
    pub(super) fn answers_however_packed(
        &self,
        plan: &RoundPlan,
        unpacked: &[Arc<Answers>],
    ) -> bool {
        let mut versions = Version::ALL.into_iter();
        versions.any(|version| self.answers(&plan.packed_for(version, unpacked)))
    }

    /// Whether this plan may be the one that it answers, packed otherwise.
    pub(super) fn may_answer(&self, plan: &RoundPlan) -> bool {
        self.contribution.id == plan.id && !plan.knowledge.is_empty()
    }

    /// A plan that may be the one that it answers.
    pub(super) fn again(&mut self) -> &mut Option<Waiting> {
        &mut self.again
    }

    /// The same, to look at.
    pub(super) fn asked_again(&self) -> Option<&Waiting> {
        self.again.as_ref()
    }

    pub(super) fn contribution(&self) -> &Contribution {
        &self.contribution
    }

    pub(super) fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    pub(super) fn is(&self, receipt: &Receipt) -> bool {
        (self.contribution.id, self.contribution.blob) == (receipt.id, receipt.blob)
    }

    pub(super) fn counted(&self) -> bool {
        self.counted
    }

    /// Whether the coordinator has said nothing of it yet.
    pub(super) fn is_open(&self) -> bool {
        !self.counted && !self.rejected
    }

    pub(super) fn reject(&mut self) {
        self.rejected = true;
    }

    pub(super) fn count(&mut self) {
        self.counted = true;
        self.again = None;
    }

    /// What the other side now holds, where that may be updated.
    pub(super) fn given(&self) -> Option<(Digest, Arc<Answers>)> {
        let answers = self.answers.as_ref()?;
        Some((self.contribution.blob, Arc::clone(answers)))
    }
}
