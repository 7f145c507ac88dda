//! Contributions to the round before: who may still give one, and what became of it.

use std::collections::BTreeMap;

use fedistill_protocol::{About, Answers, Digest, Name, Receipt, RejectReason, Rejected, RoundId};

use crate::late::{Folded, Folding, carried_over};

/// A contribution that is in this round's sum.
#[derive(Debug)]
struct Held {
    folded: Folded,
    /// A receipt may be given once it is.
    durable: bool,
}

/// Who was late for the round before.
#[derive(Debug)]
pub(super) struct Latecomers {
    /// How they are taken in; `None` where they are refused, but for those that the log has.
    pub(super) folding: Option<Folding>,
    held: BTreeMap<Name, Held>,
}

/// A late contribution as this round takes it in.
#[derive(Debug)]
pub(super) struct Fit {
    /// Its weight, in parts.
    pub(super) parts: u32,
    pub(super) answers: Answers,
}

/// What is to be done with a contribution to another round.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is new: take it in.
    New(Fit),
    /// It is on its way to the disk.
    Pending,
    /// It counts already.
    Again(Receipt),
}

impl Latecomers {
    pub(super) fn new(folding: Option<Folding>) -> Self {
        Self {
            folding,
            held: BTreeMap::new(),
        }
    }

    /// What becomes of a contribution to round `id`, which is not `open`, the one that is.
    pub(super) fn judge(
        &self,
        client: &Name,
        id: RoundId,
        blob: Digest,
        answers: Option<&Answers>,
        open: RoundId,
    ) -> Result<Verdict, Rejected> {
        let reject = |reason, detail: String| Err(Rejected::new(reason, detail));
        let wrong = || format!("round {id} is not open: round {open} is");
        if let Some(held) = self.held.get(client).filter(|held| held.folded.of == id) {
            return match (held.folded.blob == blob, held.durable) {
                (true, true) => Ok(Verdict::Again(Receipt { id, blob })),
                (true, false) => Ok(Verdict::Pending),
                (false, _) => {
                    let taken = held.folded.blob;
                    let detail =
                        format!("client {client} already contributed {taken:?} to round {id}");
                    reject(RejectReason::Conflict, detail)
                }
            };
        }
        let before = self
            .folding
            .as_ref()
            .and_then(|folding| Some((folding, folding.before.as_ref()?)))
            .filter(|(_, before)| before.plan.id == id);
        let Some((folding, before)) = before else {
            return reject(RejectReason::WrongRound, wrong());
        };
        let Some(&weight) = before.missing.get(client) else {
            return reject(RejectReason::WrongRound, wrong());
        };
        let (Some(from), Some(answers)) = (&before.plan.report, answers) else {
            return reject(RejectReason::TooLate, wrong());
        };
        let shape = (answers.kind(), answers.rows(), answers.classes());
        let rows = match &from.about {
            About::Rows(rows) => rows.count(),
            // As many as there are classes, which the sum knows.
            About::Classes => answers.rows(),
        };
        if shape != (from.kind, rows, from.width) {
            let detail = format!("answers of shape {shape:?} to round {id}, which asks for others");
            return reject(RejectReason::Malformed, detail);
        }
        let to = folding.report.as_ref();
        let Some(carried) = to.and_then(|to| carried_over(answers, from, to)) else {
            let detail = format!(
                "round {id} is over, and what it says of no use to round {open}, which asks about other samples"
            );
            return reject(RejectReason::TooLate, detail);
        };
        let staleness = open.round.saturating_sub(id.round);
        Ok(Verdict::New(Fit {
            parts: folding.discounted(weight, staleness),
            answers: carried,
        }))
    }

    /// One is in the sum.
    pub(super) fn hold(&mut self, client: Name, folded: Folded, durable: bool) {
        self.held.insert(client, Held { folded, durable });
    }

    /// One is durable: its receipt.
    pub(super) fn stored(&mut self, client: &Name) -> Option<Receipt> {
        let held = self.held.get_mut(client)?;
        held.durable = true;
        let Folded { of: id, blob } = held.folded;
        Some(Receipt { id, blob })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn has(&self, client: &Name) -> bool {
        self.held.contains_key(client)
    }

    /// All that are in the sum.
    pub(super) fn folded(&self) -> BTreeMap<Name, Folded> {
        let held = self.held.iter();
        held.map(|(client, held)| (client.clone(), held.folded))
            .collect()
    }
}
