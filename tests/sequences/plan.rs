//! What is the same in all rounds of a sequence.

use std::sync::Arc;
use std::time::Duration;

use fedistill_federation::{
    Ask, Before, Centre, Folding, Method, MethodError, Outlook, Partial, Quorum, State, Taken,
    method,
};
use fedistill_learning::Samples;
use fedistill_protocol::{
    About, AnswerKind, Answers, Digest, Elements, Precision, Report, RoundId, RoundPlan, Rounding,
    Rows, Silence, TransferManifest, TransferSet, Welcome,
};

use crate::op::Setup;

/// Rows of a contribution.
pub(crate) const ROWS: usize = 8;
/// Longest silence of a client at work.
pub(crate) const SILENCE: Duration = Duration::from_secs(20);
/// Before this, a round waits for all that it asked.
const LEAST_TIME: Duration = Duration::from_secs(5);
/// A round's deadline.
pub(crate) const MOST_TIME: Duration = Duration::from_secs(60);

/// What all clients and the coordinator have agreed on.
pub(crate) struct Terms {
    pub(crate) manifest: Welcome,
    pub(crate) set: Arc<Samples>,
    pub(crate) setup: Setup,
}

impl Terms {
    pub(crate) fn new(setup: Setup) -> Self {
        let elements = Elements::U8(vec![0; ROWS]);
        let set = TransferSet::new(vec![1], elements).unwrap();
        let packed = set.pack();
        let classes = (0..setup.clients.max(2)).map(|class| format!("class-{class}"));
        let transfer = TransferManifest {
            blob: Digest::of(&packed),
            bytes: packed.len() as u64,
            samples: ROWS as u32,
            shape: vec![1],
            classes: classes.collect(),
        };
        Self {
            manifest: Welcome {
                federation: "sequences".parse().unwrap(),
                transfer,
                heartbeat_ms: SILENCE.as_millis() as u32,
                epoch: 1,
                rolled_back: 0,
            },
            set: Arc::new(set.into()),
            setup,
        }
    }

    pub(crate) fn classes(&self) -> usize {
        self.manifest.transfer.classes.len()
    }

    /// How late contributions are taken in, in a round that asks this.
    pub(crate) fn folding(&self, plan: &RoundPlan, before: Option<&Before>) -> Option<Folding> {
        self.setup.folds.then(|| Folding {
            exponent: 0.5,
            report: plan.report.clone(),
            before: before.cloned(),
        })
    }

    pub(crate) fn quorum(&self) -> Quorum {
        let (least, most) = (self.setup.least.into(), self.setup.most.into());
        Quorum::new(least, most, LEAST_TIME, MOST_TIME).unwrap()
    }

    /// A plan that trains nothing and asks for answers on all rows.
    pub(crate) fn plan(&self, id: RoundId, cohort: usize) -> RoundPlan {
        let rows = Rows::Range {
            start: 0,
            count: ROWS as u32,
        };
        RoundPlan {
            federation: self.manifest.federation.clone(),
            id,
            transfer: self.manifest.transfer.blob,
            seed: 0,
            knowledge: Vec::new(),
            phases: Vec::new(),
            report: Some(Report {
                kind: AnswerKind::Logits,
                about: About::Rows(rows),
                width: self.classes() as u32,
                precision: Precision::F32,
                rounding: Rounding::Nearest,
                adjust: 0.0,
                silence: Silence::Never,
                update: false,
            }),
            deadline_ms: MOST_TIME.as_millis() as u64,
            cohort: cohort as u32,
        }
    }
}

/// Adds up answers as they are, so that sums can be read off.
#[derive(Debug)]
pub(crate) struct Plain;

impl Method for Plain {
    fn name(&self) -> String {
        "plain".to_owned()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        None
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        method::by_name("logit-mean").unwrap().ask(outlook, state)
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        Ok(sum.add(weight, answers.values())?)
    }

    fn conclude(
        &self,
        _: &Outlook<'_>,
        _: Taken<'_>,
        _: Option<&mut dyn Centre>,
        _: &mut State,
    ) -> Result<(), MethodError> {
        Ok(())
    }
}
