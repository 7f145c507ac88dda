use std::collections::BTreeMap;

use fedistill_protocol::{About, Answers, Digest, Name, Report, RoundId, RoundPlan};

/// What becomes of a contribution whose round has closed without it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Late {
    /// It is refused, with the reason.
    #[default]
    Refuse,
    /// It is folded into the round after its own, with the weight of its client times
    /// `(1 + staleness)^-exponent`: the polynomial discount of FedAsync (Xie et al. 2019), in the
    /// rounds of FedBuff (Nguyen et al. 2022). Staleness is the number of rounds between the two.
    Fold {
        /// 0 counts it as if it were fresh; the higher, the less it weighs.
        exponent: f64,
    },
}

impl Late {
    /// Parts of a client's weight that discounted ones are rounded to.
    pub const PARTS: u32 = 256;
}

/// How a round takes in late contributions to the round before.
#[derive(Clone, Debug, PartialEq)]
pub struct Folding {
    /// How fast they lose weight; see [`Late::Fold`].
    pub exponent: f64,
    /// What this round asks; `None` where nothing goes up.
    pub report: Option<Report>,
    /// The round before; `None` where nothing is awaited of it. A log remembers it by itself.
    pub before: Option<Before>,
}

impl Folding {
    /// The weight that is left of a client's, in parts of [`Late::PARTS`]; 1 at least, where there
    /// is any.
    pub(crate) fn discounted(&self, weight: u32, staleness: u32) -> u32 {
        let left = (1.0 + f64::from(staleness)).powf(-self.exponent);
        let parts = f64::from(weight) * f64::from(Late::PARTS) * left;
        (parts.round() as u32).max(u32::from(weight > 0))
    }
}

/// A round that has closed without some whom it asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    /// What it asked.
    pub plan: RoundPlan,
    /// Whose contributions may still come, and with what weight each.
    pub missing: BTreeMap<Name, u32>,
}

/// A contribution that counts in a later round than it was made for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Folded {
    /// The round that it was made for.
    pub of: RoundId,
    /// Digest of its packed bytes.
    pub blob: Digest,
}

/// What answers to `from` say about what `to` asks: rows that `from` did not ask for are silent.
/// `None` where that is nothing, or where the two do not mean the same.
pub(crate) fn carried_over(answers: &Answers, from: &Report, to: &Report) -> Option<Answers> {
    let means = |report: &Report| (report.kind, report.width, report.adjust.to_bits());
    if means(from) != means(to) {
        return None;
    }
    match (&from.about, &to.about) {
        (About::Classes, About::Classes) => Some(answers.clone()),
        (About::Rows(asked), About::Rows(wanted)) => {
            let rows: BTreeMap<u32, &[f32]> = asked.iter().zip(answers.iter()).collect();
            let width = answers.classes() as usize;
            let mut values = Vec::with_capacity(wanted.count() as usize * width);
            for sample in wanted.iter() {
                match rows.get(&sample) {
                    Some(row) => values.extend_from_slice(row),
                    None => values.resize(values.len() + width, 0.0),
                }
            }
            let carried = Answers::new(answers.kind(), answers.classes(), values).ok()?;
            let speaks = carried.speaks().any(|speaks| speaks);
            speaks.then_some(carried)
        }
        (About::Classes, About::Rows(_)) | (About::Rows(_), About::Classes) => None,
    }
}

#[cfg(test)]
mod tests {
    use fedistill_protocol::{AnswerKind, Precision, Rounding, Rows, Silence};

    use super::*;

    fn report(rows: &[u32]) -> Report {
        Report {
            kind: AnswerKind::Logits,
            about: About::Rows(Rows::of(rows.to_vec())),
            width: 2,
            precision: Precision::F32,
            rounding: Rounding::Nearest,
            adjust: 0.0,
            silence: Silence::Never,
            update: false,
        }
    }

    #[test]
    fn weights_are_discounted_by_the_polynomial() {
        let folding = |exponent| Folding {
            exponent,
            report: None,
            before: None,
        };
        // 256 / sqrt(2) is 181.02.
        assert_eq!(folding(0.5).discounted(1, 1), 181);
        assert_eq!(folding(0.5).discounted(100, 1), 18_102);
        assert_eq!(folding(0.5).discounted(1, 3), 128);
        assert_eq!(folding(1.0).discounted(1, 1), 128);
        assert_eq!(folding(0.0).discounted(3, 1), 3 * Late::PARTS);
        // Little is not nothing, and nothing is.
        assert_eq!(folding(10.0).discounted(1, 1), 1);
        assert_eq!(folding(0.5).discounted(0, 1), 0);
    }

    #[test]
    fn answers_are_carried_over_to_the_samples_that_both_rounds_ask_about() {
        let answers = vec![1.0, 2.0, 3.0, 4.0, 0.0, 0.0];
        let answers = Answers::new(AnswerKind::Logits, 2, answers).unwrap();
        let from = report(&[3, 5, 9]);
        let carried = carried_over(&answers, &from, &report(&[1, 5, 8, 9])).unwrap();
        assert_eq!(carried.values(), [0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(carried_over(&answers, &from, &from), Some(answers.clone()));
        // No sample in common; one that nothing is said of; something else that is asked.
        assert_eq!(carried_over(&answers, &from, &report(&[1, 2])), None);
        assert_eq!(carried_over(&answers, &from, &report(&[9, 11])), None);
        let adjusted = Report {
            adjust: 0.5,
            ..report(&[3, 5, 9])
        };
        assert_eq!(carried_over(&answers, &from, &adjusted), None);
        let classes = Report {
            about: About::Classes,
            ..report(&[])
        };
        assert_eq!(carried_over(&answers, &from, &classes), None);
        let means = Answers::new(AnswerKind::Logits, 2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(carried_over(&means, &classes, &classes), Some(means));
    }
}
