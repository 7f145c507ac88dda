//! Whether what clients say is at odds with what the federation believed before.

use fedistill_federation::{Centre, CentreError, Taken};
use fedistill_protocol::{About, AnswerKind, Answers};

/// How far a round's aggregate agrees with the teacher, as it was before it learnt from it.
///
/// A teacher that is good, or a federation that has come to an agreement, is not contradicted on most
/// samples from one round to the next, unless clients lie, were given other data, or know so little of
/// each other's classes that a mean of what they say means nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Share of the round's samples, 0 to 1, of which both hold the same class the likeliest.
    pub agreement: f64,
    /// The round, from 0.
    pub round: u32,
}

impl Drift {
    /// Below this, a majority of samples is contradicted.
    pub const ALARM: f64 = 0.5;
    /// Rounds in which clients and teacher may still be far apart, for they have just met.
    pub const SETTLING: u32 = 3;

    /// Whether somebody should look.
    pub fn is_alarming(self) -> bool {
        self.round >= Self::SETTLING && self.agreement < Self::ALARM
    }

    /// Holds what has come up in a round against what the teacher says of the same samples; `None` where
    /// nothing came up about samples, or only features.
    ///
    /// # Errors
    /// What the teacher reports.
    pub(crate) fn of(
        round: u32,
        taken: &Taken<'_>,
        kind: Option<AnswerKind>,
        centre: &mut dyn Centre,
    ) -> Result<Option<Self>, CentreError> {
        let (Some(About::Rows(rows)), Some(mean)) = (taken.about, taken.sum.mean()) else {
            return Ok(None);
        };
        let Some(kind) = kind.filter(|kind| *kind != AnswerKind::Features) else {
            return Ok(None);
        };
        let aggregate = Answers::new(kind, taken.classes, mean)?;
        let believed = centre.answer(rows)?;
        let all = aggregate
            .iter()
            .zip(aggregate.speaks())
            .zip(believed.iter());
        let said = all.filter(|((_, speaks), _)| *speaks);
        let agree: Vec<bool> = said.map(|((a, _), b)| largest(a) == largest(b)).collect();
        let agreed = agree.iter().filter(|agree| **agree).count();
        Ok((!agree.is_empty()).then(|| Self {
            agreement: agreed as f64 / agree.len() as f64,
            round,
        }))
    }
}

fn largest(row: &[f32]) -> usize {
    let more = |best: usize, class: usize| if row[class] > row[best] { class } else { best };
    (1..row.len()).fold(0, more)
}
