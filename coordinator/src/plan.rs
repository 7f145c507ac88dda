//! Makes plans of what a method asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use fedistill_federation::{Ask, Lesson, Outlook, State, Training, select};
use fedistill_learning::seed;
use fedistill_protocol::{
    Answers, Digest, Knowledge, Name, Precision, Report, RoundId, RoundPlan, Rounding, Rows,
    Update, Version,
};

use crate::probes::Hidden;

/// What all plans of a federation have in common.
#[derive(Clone, Debug)]
pub(crate) struct Planner {
    pub(crate) federation: Name,
    pub(crate) transfer: Digest,
    pub(crate) samples: u32,
    pub(crate) classes: u32,
    pub(crate) rows: u32,
    pub(crate) precision: Precision,
    pub(crate) rounding: Rounding,
    pub(crate) training: Training,
    pub(crate) seed: u64,
    pub(crate) deadline_ms: u64,
    /// Labelled samples in the transfer set, of which no round makes a choice.
    pub(crate) hidden: Option<Arc<Hidden>>,
}

/// The transfer samples that a round may speak about.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    round: u32,
    fresh: Rows,
    fixed: Rows,
}

/// A round's plan, and what goes with it.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) plan: RoundPlan,
    /// What comes down to these clients in place of the plan's knowledge.
    pub(crate) personal: BTreeMap<Name, Vec<Knowledge>>,
    /// All that clients may fetch.
    pub(crate) blobs: Vec<Vec<u8>>,
    /// In place of these blobs come those to clients of older versions, which could not read them or what leads to them.
    pub(crate) older: BTreeMap<Digest, (Digest, u64)>,
    /// The lessons that all were sent, as they are on the other side.
    pub(crate) sent: Vec<Sent>,
}

/// A lesson as it is on the other side, and the name of its blob.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Name of the blob.
    pub blob: Digest,
    /// What was unpacked from it.
    pub lesson: Lesson,
}

impl Planned {
    /// The plan as clients of this version get it, in common or this one.
    pub(crate) fn of(&self, client: Option<&Name>, version: Version) -> RoundPlan {
        let mut plan = self.plan.clone();
        if let Some(knowledge) = client.and_then(|client| self.personal.get(client)) {
            plan.knowledge.clone_from(knowledge);
        }
        if version < Version::LATEST {
            for knowledge in &mut plan.knowledge {
                if let Some((blob, bytes)) = self.older.get(&knowledge.blob) {
                    (knowledge.blob, knowledge.bytes, knowledge.update) = (*blob, *bytes, None);
                }
            }
        }
        plan
    }

    /// Clients whose plan is not everyone's.
    pub(crate) fn particular(&self) -> impl Iterator<Item = &Name> {
        self.personal.keys()
    }
}

impl Planner {
    /// The transfer samples that a round speaks about: a fresh choice for each.
    pub(crate) fn rows(&self, round: u32) -> Rows {
        self.choose(&format!("rows/{round}"))
    }

    pub(crate) fn chosen(&self, round: u32) -> Chosen {
        Chosen {
            round,
            fresh: self.rows(round),
            fixed: self.choose("rows/fixed"),
        }
    }

    /// What a method knows as it plans.
    pub(crate) fn outlook<'a>(&'a self, chosen: &'a Chosen) -> Outlook<'a> {
        Outlook {
            round: chosen.round,
            training: &self.training,
            fresh: &chosen.fresh,
            fixed: &chosen.fixed,
            samples: self.samples,
            probes: self.hidden.as_ref().map(|hidden| &hidden.probes),
            precision: self.precision,
            seed: stream_seed(self.seed, u32::MAX),
        }
    }

    fn choose(&self, stream: &str) -> Rows {
        let others = self.hidden.as_ref().map(|hidden| hidden.others.as_slice());
        let samples = others.map_or(self.samples as usize, <[u32]>::len);
        let mut rng = seed::stream(self.seed, stream);
        let mut rows: Vec<u32> = seed::permutation(samples, &mut rng)
            .into_iter()
            .take(self.rows as usize)
            .map(|place| others.map_or(place as u32, |others| others[place]))
            .collect();
        rows.sort_unstable();
        Rows::of(rows)
    }

    pub(crate) fn cohort(&self, round: u32, candidates: &[Name], count: usize) -> Vec<Name> {
        select(self.seed, round, candidates, count)
    }

    /// The plan of a round, for a cohort of so many; `before` is what all were sent last. Lessons are packed in the `words`
    /// of a version: the latest, but where a round goes on that an older program has begun. Clients that cannot read them
    /// get them in those of the oldest.
    pub(crate) fn plan(
        &self,
        id: RoundId,
        ask: Ask,
        state: &State,
        cohort: &BTreeMap<Name, u32>,
        before: &[Sent],
        words: Version,
    ) -> Planned {
        let precision = ask.precision.unwrap_or(self.precision);
        let mut blobs = Vec::new();
        let (mut common, mut sent, mut personal) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut older = Older::default();
        if ask.lessons {
            for (index, lesson) in state.common.iter().enumerate() {
                let precision = precision.of(lesson.answers.kind());
                let bytes = lesson.answers.pack_for(words, precision);
                let mut knowledge = knowledge(lesson, &bytes, precision);
                let mut is_known = Answers::is_known_to(Version::OLDEST, &bytes);
                if ask.updates {
                    let base = before.get(index);
                    let base = base.filter(|base| base.lesson.about == lesson.about);
                    if let Some((update, bytes)) = base.and_then(|base| {
                        update(&lesson.answers, base, precision, bytes.len(), words)
                    }) {
                        is_known &= Answers::is_update_known_to(Version::OLDEST, &bytes);
                        knowledge.update = Some(update);
                        blobs.push(bytes);
                    }
                    if let Some(answers) = rounded(&lesson.answers, &bytes) {
                        let about = lesson.about.clone();
                        let lesson = Lesson { about, answers };
                        let blob = knowledge.blob;
                        sent.push(Sent { blob, lesson });
                    }
                }
                if !is_known {
                    older.put(knowledge.blob, lesson, precision);
                }
                common.push(knowledge);
                blobs.push(bytes);
            }
            for (client, lessons) in &state.personal {
                if !cohort.contains_key(client) {
                    continue;
                }
                let each = lessons.iter().map(|lesson| {
                    let precision = precision.of(lesson.answers.kind());
                    let bytes = lesson.answers.pack_for(words, precision);
                    let knowledge = knowledge(lesson, &bytes, precision);
                    if !Answers::is_known_to(Version::OLDEST, &bytes) {
                        older.put(knowledge.blob, lesson, precision);
                    }
                    blobs.push(bytes);
                    knowledge
                });
                personal.insert(client.clone(), each.collect());
            }
        }
        let report = ask.report.map(|wanted| Report {
            kind: wanted.kind,
            about: wanted.about,
            width: wanted.width.unwrap_or(self.classes),
            precision: wanted.precision.unwrap_or(self.precision).of(wanted.kind),
            rounding: self.rounding,
            adjust: wanted.adjust,
            silence: wanted.silence,
            update: wanted.updates,
        });
        let plan = RoundPlan {
            federation: self.federation.clone(),
            id,
            transfer: self.transfer,
            seed: stream_seed(self.seed, id.round),
            knowledge: common,
            phases: ask.phases,
            report,
            deadline_ms: self.deadline_ms,
            cohort: cohort.len() as u32,
        };
        blobs.extend(older.blobs);
        Planned {
            plan,
            personal,
            blobs,
            older: older.names,
            sent,
        }
    }
}

/// What clients of older versions get in place of what they could not read.
#[derive(Default)]
struct Older {
    names: BTreeMap<Digest, (Digest, u64)>,
    blobs: Vec<Vec<u8>>,
}

impl Older {
    fn put(&mut self, instead: Digest, lesson: &Lesson, precision: Precision) {
        let bytes = lesson.answers.pack_for(Version::OLDEST, precision);
        let name = (Digest::of(&bytes), bytes.len() as u64);
        if self.names.insert(instead, name).is_none() {
            self.blobs.push(bytes);
        }
    }
}

fn knowledge(lesson: &Lesson, bytes: &[u8], precision: Precision) -> Knowledge {
    Knowledge {
        blob: Digest::of(bytes),
        bytes: bytes.len() as u64,
        kind: lesson.answers.kind(),
        width: lesson.answers.classes(),
        about: lesson.about.clone(),
        precision,
        update: None,
    }
}

/// Answers as they are once they have been packed to `bytes`.
fn rounded(answers: &Answers, bytes: &[u8]) -> Option<Answers> {
    Answers::unpack(bytes, answers.kind(), answers.rows(), answers.classes()).ok()
}

/// A way from what was sent before, where it is shorter than `whole` bytes.
fn update(
    answers: &Answers,
    base: &Sent,
    precision: Precision,
    whole: usize,
    words: Version,
) -> Option<(Update, Vec<u8>)> {
    let bytes = answers.update_for(words, &base.lesson.answers, precision)?;
    let update = Update {
        base: base.blob,
        blob: Digest::of(&bytes),
        bytes: bytes.len() as u64,
    };
    (bytes.len() < whole).then_some((update, bytes))
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

#[cfg(test)]
mod tests;
