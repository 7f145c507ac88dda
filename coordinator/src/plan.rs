//! Makes plans of what a method asks.

use fedistill_federation::{Ask, select};
use fedistill_learning::seed;
use fedistill_protocol::{
    AnswerKind, Answers, Digest, Knowledge, Name, Precision, Report, RoundId, RoundPlan, Rows,
};

/// What all plans of a federation have in common.
#[derive(Clone, Debug)]
pub(crate) struct Planner {
    pub(crate) federation: Name,
    pub(crate) transfer: Digest,
    pub(crate) samples: u32,
    pub(crate) rows: u32,
    pub(crate) precision: Precision,
    pub(crate) seed: u64,
    pub(crate) deadline_ms: u64,
}

impl Planner {
    /// The transfer samples that a round speaks about: a fresh choice for each.
    pub(crate) fn rows(&self, round: u32) -> Rows {
        let count = self.rows.min(self.samples) as usize;
        let mut rng = seed::stream(self.seed, &format!("rows/{round}"));
        let mut rows: Vec<u32> = seed::permutation(self.samples as usize, &mut rng)
            .into_iter()
            .take(count)
            .map(|row| row as u32)
            .collect();
        rows.sort_unstable();
        Rows::of(rows)
    }

    pub(crate) fn cohort(&self, round: u32, candidates: &[Name], count: usize) -> Vec<Name> {
        select(self.seed, round, candidates, count)
    }

    /// The plan of a round, and the blob of the knowledge that goes with it.
    pub(crate) fn plan(
        &self,
        id: RoundId,
        ask: Ask,
        labels: Option<&(Rows, Answers)>,
        cohort: u32,
    ) -> (RoundPlan, Option<Vec<u8>>) {
        let knowledge = ask.knowledge.and_then(|kind| {
            let (rows, answers) = labels?;
            debug_assert_eq!(answers.kind(), kind);
            let bytes = answers.pack(self.precision);
            let knowledge = Knowledge {
                blob: Digest::of(&bytes),
                bytes: bytes.len() as u64,
                kind: answers.kind(),
                rows: rows.clone(),
            };
            Some((knowledge, bytes))
        });
        let (knowledge, bytes) = knowledge.unzip();
        let report = |kind: AnswerKind| Report {
            kind,
            rows: self.rows(id.round),
            precision: self.precision,
        };
        let plan = RoundPlan {
            federation: self.federation.clone(),
            id,
            transfer: self.transfer,
            seed: stream_seed(self.seed, id.round),
            knowledge,
            phases: ask.phases,
            report: ask.report.map(report),
            deadline_ms: self.deadline_ms,
            cohort,
        };
        (plan, bytes)
    }
}

/// The seed of one round.
pub(crate) fn stream_seed(seed: u64, round: u32) -> u64 {
    let mut bytes = seed.to_le_bytes().to_vec();
    bytes.extend(b"round");
    bytes.extend(round.to_le_bytes());
    let digest = Digest::of(&bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(first)
}
