//! Makes plans of what a method asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fedistill_federation::{Ask, Lesson, Outlook, State, Training, select};
use fedistill_learning::seed;
use fedistill_protocol::{
    Answers, Digest, Knowledge, Name, Precision, Report, RoundId, RoundPlan, Rounding, Rows,
    Update, Version,
};

use crate::probes::Hidden;
use crate::{Exchange, Sent};

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
    /// What comes down to some clients in place of the plan's knowledge: other lessons, or other ways to the same.
    pub(crate) others: Vec<Vec<Knowledge>>,
    /// Which of those to whom.
    pub(crate) personal: BTreeMap<Name, usize>,
    /// All that clients may fetch.
    pub(crate) blobs: Vec<Vec<u8>>,
    /// In place of these blobs come those to clients of older versions, which could not read them or what leads to them.
    pub(crate) older: BTreeMap<Digest, (Digest, u64)>,
    /// Updates that those could not read.
    pub(crate) newer: BTreeSet<Digest>,
    /// The lessons that all were sent, as they are on the other side.
    pub(crate) sent: Vec<Sent>,
}

impl Planned {
    /// The plan as clients of this version get it, with this in place of its knowledge.
    pub(crate) fn with(&self, instead: Option<&[Knowledge]>, version: Version) -> RoundPlan {
        let mut plan = self.plan.clone();
        if let Some(knowledge) = instead {
            plan.knowledge = knowledge.to_vec();
        }
        if version < Version::LATEST {
            for knowledge in &mut plan.knowledge {
                if let Some((blob, bytes)) = self.older.get(&knowledge.blob) {
                    (knowledge.blob, knowledge.bytes, knowledge.update) = (*blob, *bytes, None);
                }
                let update = &mut knowledge.update;
                update.take_if(|update| self.newer.contains(&update.blob));
            }
        }
        plan
    }

    /// Whether clients of older versions get other plans.
    pub(crate) fn differs_by_version(&self) -> bool {
        !self.older.is_empty() || !self.newer.is_empty()
    }

    /// The blobs of which each is the last that a client fetches for this plan: who has one holds all lessons.
    pub(crate) fn last_blobs(&self) -> BTreeSet<Digest> {
        let others = self.others.iter().filter_map(|knowledge| knowledge.last());
        let last = self.plan.knowledge.last().into_iter().chain(others);
        last.flat_map(|last| [Some(last.blob), last.update.map(|update| update.blob)])
            .flatten()
            .collect()
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

    /// The plan of a round, for a cohort of so many; `before` is what clients hold. Lessons are packed in the `words`
    /// of a version: the latest, but where a round goes on that an older program has begun. Clients that cannot read them
    /// get them in those of the oldest.
    pub(crate) fn plan(
        &self,
        id: RoundId,
        ask: Ask,
        state: &State,
        cohort: &BTreeMap<Name, u32>,
        before: &Exchange,
        words: Version,
    ) -> Planned {
        let precision = ask.precision.unwrap_or(self.precision);
        let mut blobs = Vec::new();
        let (mut common, mut sent) = (Vec::new(), Vec::new());
        let (mut others, mut personal) = (Vec::new(), BTreeMap::new());
        let mut newer = BTreeSet::new();
        let mut older = Older::default();
        if ask.lessons {
            for (index, lesson) in state.common.iter().enumerate() {
                let precision = precision.of(lesson.answers.kind());
                let bytes = lesson.answers.pack_for(words, precision);
                let mut knowledge = knowledge(lesson, &bytes, precision);
                let mut is_known = Answers::is_known_to(Version::OLDEST, &bytes);
                if ask.updates {
                    let base = before.sent.get(index);
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
                others.push(each.collect());
                personal.insert(client.clone(), others.len() - 1);
            }
        }
        if ask.lessons && ask.updates {
            let is_meant =
                |client: &Name| cohort.contains_key(client) && !state.personal.contains_key(client);
            let mut room: u64 = common.iter().map(|knowledge| knowledge.bytes).sum();
            room = room.saturating_mul(MOST_OTHER_WAYS);
            before.bases(is_meant, |base, clients| {
                let ways = from(base, &state.common, &common, words);
                let taken = ways.iter().flatten().map(|(_, bytes)| bytes.len() as u64);
                let Some(rest) = room.checked_sub(taken.sum()) else {
                    return;
                };
                room = rest;
                for bytes in ways.iter().flatten().map(|(_, bytes)| bytes) {
                    if !Answers::is_update_known_to(Version::OLDEST, bytes) {
                        newer.insert(Digest::of(bytes));
                    }
                }
                // Whole lessons come with the common plan too.
                if ways.iter().all(Option::is_none) {
                    return;
                }
                let knowledge = common.iter().zip(&ways).map(|(knowledge, way)| Knowledge {
                    update: way.as_ref().map(|(update, _)| *update),
                    ..knowledge.clone()
                });
                others.push(knowledge.collect());
                let which = others.len() - 1;
                personal.extend(clients.iter().map(|client| ((*client).clone(), which)));
                blobs.extend(ways.into_iter().flatten().map(|(_, bytes)| bytes));
            });
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
            others,
            personal,
            blobs,
            older: older.names,
            newer,
            sent,
        }
    }
}

/// Updates for who has missed rounds take at most the room of so many times the lessons: the older a base, the longer the
/// way from it, and the less it saves.
const MOST_OTHER_WAYS: u64 = 4;

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

/// For each of these lessons, which come as this knowledge, the way from what was sent before.
fn from(
    base: &[Sent],
    lessons: &[Lesson],
    knowledge: &[Knowledge],
    words: Version,
) -> Vec<Option<(Update, Vec<u8>)>> {
    let lessons = lessons.iter().zip(knowledge).enumerate();
    let ways = lessons.map(|(index, (lesson, knowledge))| {
        let base = base.get(index)?;
        let is_same = base.lesson.about == lesson.about;
        let whole = usize::try_from(knowledge.bytes).ok().filter(|_| is_same)?;
        update(&lesson.answers, base, knowledge.precision, whole, words)
    });
    ways.collect()
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
