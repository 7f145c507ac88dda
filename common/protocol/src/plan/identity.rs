use std::sync::Arc;

use crate::{Answers, Digest, ProtocolError, RoundPlan, Version, codec};

impl RoundPlan {
    /// The plan without its short ways, which depend on what was sent and given before by these very
    /// processes: what is left is what it asks.
    #[must_use]
    pub fn without_updates(&self) -> Self {
        let mut plan = self.clone();
        plan.knowledge.iter_mut().for_each(|k| k.update = None);
        plan
    }

    /// The plan as peers of a version are sent it, told by who holds what its knowledge unpacks to, in its order: it
    /// asks the same, only the names and lengths of what comes with it differ. Knowledge that does not come back to the bytes
    /// that it was unpacked from stays as it is.
    #[must_use]
    pub fn packed_for(&self, version: Version, unpacked: &[Arc<Answers>]) -> Self {
        let mut plan = self.without_updates();
        for (knowledge, answers) in plan.knowledge.iter_mut().zip(unpacked) {
            let precision = knowledge.precision;
            if answers.packed_as(precision, knowledge.blob).is_some() {
                let bytes = answers.pack_for(version, precision);
                (knowledge.blob, knowledge.bytes) = (Digest::of(&bytes), bytes.len() as u64);
            }
        }
        plan
    }

    /// Whether another plan is this one, whichever way to its knowledge it names.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.id == other.id && self.without_updates() == other.without_updates()
    }

    /// Tells what a plan asks from all else that may be asked, whichever way it is sent, as long as its knowledge is
    /// packed alike: peers of another version are sent the same under another identity, see [`Self::packed_for`].
    ///
    /// # Errors
    /// A plan that cannot be written.
    pub fn identity(&self) -> Result<Digest, ProtocolError> {
        Ok(Digest::of(&codec::encode("Plan", &self.without_updates())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{About, AnswerKind, Knowledge, Precision, RoundId, Rows};

    fn lesson(bytes: &[u8], answers: &Answers, precision: Precision) -> Knowledge {
        Knowledge {
            blob: Digest::of(bytes),
            bytes: bytes.len() as u64,
            kind: answers.kind(),
            width: answers.classes(),
            about: About::Rows(Rows::Range {
                start: 0,
                count: answers.rows(),
            }),
            precision,
            update: None,
        }
    }

    /// Soft labels that speak of two classes out of a hundred, other ones in each row.
    fn sparse(rows: usize) -> Answers {
        let values = (0..rows).flat_map(|row| {
            let (class, less) = (row * 7919 % 100, (row % 50) as f32 / 100.0);
            (0..100).map(move |at| match at {
                at if at == class => 1.0 - less,
                at if at == (class + 1 + row % 3) % 100 => less,
                _ => 0.0,
            })
        });
        Answers::new(AnswerKind::Probabilities, 100, values.collect()).unwrap()
    }

    #[test]
    fn a_plan_in_the_words_of_one_version_tells_those_of_the_others() {
        let logits = Answers::new(AnswerKind::Logits, 100, vec![0.5; 300]).unwrap();
        for precision in [Precision::U8, Precision::U4, Precision::U2, Precision::U1] {
            let lessons = [sparse(1000), logits.clone()];
            let plans = Version::ALL.map(|version| {
                let packed = lessons
                    .each_ref()
                    .map(|answers| answers.pack_for(version, precision));
                let knowledge = lessons.iter().zip(&packed);
                RoundPlan {
                    federation: "wards".parse().unwrap(),
                    id: RoundId {
                        round: 1,
                        attempt: 0,
                    },
                    transfer: Digest::of(b"set"),
                    seed: 1,
                    knowledge: knowledge
                        .map(|(answers, bytes)| lesson(bytes, answers, precision))
                        .collect(),
                    phases: Vec::new(),
                    report: None,
                    deadline_ms: 1,
                    cohort: 3,
                }
            });
            let [latest, oldest] = &plans;
            assert_ne!(latest.identity(), oldest.identity(), "{precision:?}");
            // On the other side they are as they have been rounded.
            let unpacked = lessons.map(|answers| {
                let packed = answers.pack_for(Version::LATEST, precision);
                Arc::new(Answers::read(&packed).unwrap())
            });
            for plan in &plans {
                for (version, same) in Version::ALL.into_iter().zip(&plans) {
                    assert_eq!(plan.packed_for(version, &unpacked), *same, "{precision:?}");
                }
            }
            // Of other knowledge it says nothing.
            let others = [Arc::new(sparse(999)), Arc::clone(&unpacked[1])];
            assert_eq!(latest.packed_for(Version::OLDEST, &others), *latest);
        }
    }
}
