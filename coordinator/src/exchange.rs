//! What both sides hold of each other, so that only what has changed need cross.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fedistill_federation::Lesson;
use fedistill_protocol::{About, Answers, Digest, Name, Rows};

/// A lesson as it is on the other side, and the name of its blob.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Name of the blob.
    pub blob: Digest,
    /// What was unpacked from it.
    pub lesson: Lesson,
}

/// What both sides have of each other. Nothing depends on it: who does not hold what it is taken to hold fetches the
/// whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchange {
    /// What all clients were sent last.
    pub sent: Vec<Sent>,
    /// Who holds that.
    pub held_by: BTreeSet<Name>,
    /// What all were sent before it, the latest first, as long as somebody holds it.
    pub earlier: Vec<Earlier>,
    /// What each client gave back last: the name of the blob, and the blob.
    pub given: BTreeMap<Name, (Digest, Arc<[u8]>)>,
}

/// Lessons that all were sent once, as the rows in which they differ from those that were sent after them.
#[derive(Clone, Debug, PartialEq)]
pub struct Earlier {
    /// Of each lesson its name then, and those rows: which ones of its table, and what they were.
    pub changed: Vec<Sent>,
    /// Who holds them, and nothing later.
    pub held_by: BTreeSet<Name>,
}

impl Exchange {
    /// The most earlier lessons that are remembered: of each that somebody in a cohort holds, a plan works out a way to the
    /// newest ones, over all their values.
    const MOST: usize = 32;
    /// What differs in all of them takes at most the room of so many of the newest: over as many changes an update is about
    /// as long as the whole, and what a large table takes is bounded by its own size.
    const TABLES: usize = 2;

    /// A round is over in which all were `sent` this; these clients hold it now.
    pub(crate) fn turn(&mut self, sent: Vec<Sent>, held_by: BTreeSet<Name>) {
        self.leave(&held_by);
        let before = std::mem::replace(&mut self.sent, sent);
        if self.sent.is_empty() {
            self.held_by.clear();
            self.earlier.clear();
            return;
        }
        if names(&before).eq(names(&self.sent)) {
            self.held_by.extend(held_by);
            return;
        }
        let held_before = std::mem::replace(&mut self.held_by, held_by);
        let pairs = before.iter().zip(&self.sent);
        let changed: Option<Vec<Sent>> = pairs.map(|(old, new)| difference(old, new)).collect();
        match changed.filter(|_| before.len() == self.sent.len()) {
            Some(changed) => {
                let held_by = held_before;
                self.earlier.insert(0, Earlier { changed, held_by });
            }
            None => self.earlier.clear(),
        }
        self.forget();
    }

    /// It has turned out late that these clients hold what all were sent last.
    pub(crate) fn held_late(&mut self, held_by: BTreeSet<Name>) {
        self.leave(&held_by);
        self.held_by.extend(held_by);
        self.forget();
    }

    /// These hold something later.
    fn leave(&mut self, who: &BTreeSet<Name>) {
        self.held_by.retain(|client| !who.contains(client));
        for earlier in &mut self.earlier {
            earlier.held_by.retain(|client| !who.contains(client));
        }
    }

    /// Forgets what is too much, and what nobody holds.
    fn forget(&mut self) {
        let mut room = Self::TABLES * values(&self.sent);
        let mut fits = |earlier: &Earlier| {
            let rest = room.checked_sub(values(&earlier.changed));
            rest.inspect(|rest| room = *rest).is_some()
        };
        let earlier = self.earlier.iter().take(Self::MOST);
        let fitting = earlier.take_while(|earlier| fits(earlier)).count();
        self.earlier.truncate(fitting);
        // What lies before one that is held leads to it.
        let held = self.earlier.iter().rposition(|e| !e.held_by.is_empty());
        self.earlier.truncate(held.map_or(0, |last| last + 1));
    }

    /// Earlier lessons as they were, the latest first, and who of those that are `meant` holds them.
    pub(crate) fn bases<'a>(
        &'a self,
        meant: impl Fn(&Name) -> bool,
        mut each: impl FnMut(&[Sent], &[&'a Name]),
    ) {
        let holders = |earlier: &'a Earlier| -> Vec<&'a Name> {
            let held_by = earlier.held_by.iter();
            held_by.filter(|client| meant(client)).collect()
        };
        let mut left = self.earlier.iter().map(|e| holders(e).len()).sum::<usize>();
        if left == 0 {
            return;
        }
        let newest = self.sent.iter();
        let mut tables: Vec<Vec<f32>> = newest
            .map(|sent| sent.lesson.answers.values().to_vec())
            .collect();
        for earlier in &self.earlier {
            for (table, changed) in tables.iter_mut().zip(&earlier.changed) {
                put_back(table, &changed.lesson);
            }
            let held_by = holders(earlier);
            if held_by.is_empty() {
                continue;
            }
            let parts = self.sent.iter().zip(&earlier.changed).zip(&tables);
            let sent = parts.map(|((newest, changed), table)| newest.as_was(changed.blob, table));
            if let Some(sent) = sent.collect::<Option<Vec<Sent>>>() {
                each(&sent, &held_by);
            }
            left -= held_by.len();
            if left == 0 {
                return;
            }
        }
    }

    /// What each client holds of lessons, and their names.
    #[must_use]
    pub fn holdings(&self) -> BTreeMap<Name, Vec<(Digest, Arc<Answers>)>> {
        let held = |sent: &[Sent]| -> Vec<(Digest, Arc<Answers>)> {
            let sent = sent.iter();
            sent.map(|sent| (sent.blob, Arc::new(sent.lesson.answers.clone())))
                .collect()
        };
        let mut holdings = BTreeMap::new();
        let newest = held(&self.sent);
        let with = |held: &Vec<_>, client: &Name| (client.clone(), held.clone());
        holdings.extend(self.held_by.iter().map(|client| with(&newest, client)));
        self.bases(
            |_| true,
            |sent, held_by| {
                let earlier = held(sent);
                holdings.extend(held_by.iter().map(|client| with(&earlier, client)));
            },
        );
        holdings
    }
}

impl Sent {
    /// The same lesson when its blob had another name, and its table these values.
    fn as_was(&self, blob: Digest, table: &[f32]) -> Option<Self> {
        let Lesson { about, answers } = &self.lesson;
        let answers = Answers::new(answers.kind(), answers.classes(), table.to_vec()).ok()?;
        let about = about.clone();
        let lesson = Lesson { about, answers };
        Some(Self { blob, lesson })
    }
}

/// The names of lessons.
fn names(sent: &[Sent]) -> impl Iterator<Item = Digest> {
    sent.iter().map(|sent| sent.blob)
}

/// How many values lessons have.
fn values(sent: &[Sent]) -> usize {
    let lessons = sent.iter();
    lessons.map(|s| s.lesson.answers.values().len()).sum()
}

/// The rows of a lesson that are others in the one that came after it, by their places; `None` where that is another
/// table altogether.
fn difference(old: &Sent, new: &Sent) -> Option<Sent> {
    let shape = |answers: &Answers| (answers.kind(), answers.rows(), answers.classes());
    let (before, after) = (&old.lesson.answers, &new.lesson.answers);
    if old.lesson.about != new.lesson.about || shape(before) != shape(after) {
        return None;
    }
    let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let pairs = (0..).zip(before.iter().zip(after.iter()));
    let differing = pairs.filter(|(_, (old, new))| bits(old) != bits(new));
    let (places, rows): (Vec<u32>, Vec<&[f32]>) =
        differing.map(|(place, (old, _))| (place, old)).unzip();
    let answers = Answers::new(before.kind(), before.classes(), rows.concat()).ok()?;
    let about = About::Rows(Rows::of(places));
    let lesson = Lesson { about, answers };
    let blob = old.blob;
    Some(Sent { blob, lesson })
}

/// Makes a table what it was where these rows were others.
fn put_back(table: &mut [f32], changed: &Lesson) {
    let About::Rows(places) = &changed.about else {
        return;
    };
    let width = changed.answers.classes() as usize;
    for (place, row) in places.iter().zip(changed.answers.iter()) {
        let at = place as usize * width;
        if let Some(old) = table.get_mut(at..at + width) {
            old.copy_from_slice(row);
        }
    }
}

#[cfg(test)]
mod tests;
