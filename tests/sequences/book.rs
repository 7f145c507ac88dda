//! What has happened, and what must never have.

use std::collections::{BTreeMap, BTreeSet};

use fedistill_check::{CoordinatorRecord, Records, verify};
use fedistill_coordinator::{Closed, Outcome, Saved};
use fedistill_federation::{Committed, Event, Folded, Late, Partial};
use fedistill_protocol::{Answers, Digest, Name, Receipt, RoundId};

use crate::plan::ROWS;

/// Keeps evidence of a whole sequence, over all processes, and holds it against the invariants:
///
/// * I1: an acknowledged contribution counts once in the one round that it is for, or its attempt is
///   marked as aborted, or is still open and has it.
/// * I2: nothing counts twice, acknowledged or not.
/// * I3: rounds that are over have no gap, and one outcome each, whoever restores them.
/// * I4: no round is closed twice.
#[derive(Default)]
pub(crate) struct Book {
    classes: usize,
    folds: bool,
    /// What clients have said.
    said: BTreeMap<Digest, Answers>,
    /// What is on disk of contributions.
    durable: BTreeMap<(RoundId, Name), Digest>,
    acknowledged: BTreeMap<(RoundId, Name), Digest>,
    /// What is on disk of late contributions: in which round's try, and whose.
    late: BTreeMap<(RoundId, Name), (Folded, u32)>,
    /// What each round came to when it was over first.
    outcomes: BTreeMap<u32, Committed>,
    /// Which process closed which round.
    closed: BTreeMap<u32, u64>,
    pub(crate) tally: Tally,
}

/// How much has happened, so that a test can tell whether it has seen anything.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    pub(crate) committed: usize,
    pub(crate) aborted: usize,
    pub(crate) extended: usize,
    pub(crate) settled: usize,
    pub(crate) acknowledged: usize,
    pub(crate) restored: usize,
    pub(crate) conflicts: usize,
    pub(crate) late: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.extended += other.extended;
        self.settled += other.settled;
        self.acknowledged += other.acknowledged;
        self.restored += other.restored;
        self.conflicts += other.conflicts;
        self.late += other.late;
    }
}

impl Book {
    pub(crate) fn new(classes: usize, folds: bool) -> Self {
        Self {
            classes,
            folds,
            ..Self::default()
        }
    }

    pub(crate) fn said(&mut self, blob: Digest, answers: &Answers) {
        self.said.insert(blob, answers.clone());
    }

    /// An event is on disk.
    pub(crate) fn stored(&mut self, id: RoundId, event: &Event) -> Result<(), String> {
        if let Event::Taken { client, blob, .. } = event
            && let Some(before) = self.durable.insert((id, client.clone()), *blob)
        {
            return Err(format!(
                "I2: {client} is taken in twice for round {id}: {before:?}, {blob:?}"
            ));
        }
        if let Event::Folded {
            client,
            folded,
            parts,
            ..
        } = event
        {
            let key = (id, client.clone());
            if self.late.insert(key, (*folded, *parts)).is_some() {
                return Err(format!("I2: {client} is late twice in round {id}"));
            }
        }
        Ok(())
    }

    /// The coordinator sends a receipt.
    pub(crate) fn receipt(&mut self, client: &Name, receipt: &Receipt) -> Result<(), String> {
        let Receipt { id, blob } = *receipt;
        let key = (id, client.clone());
        let late = self
            .late
            .iter()
            .any(|((_, whose), (folded, _))| whose == client && *folded == Folded { of: id, blob });
        if self.durable.get(&key) != Some(&blob) && !late {
            return Err(format!(
                "I1: {client} has a receipt for round {id} and {blob:?}, which is not on disk"
            ));
        }
        match self.acknowledged.insert(key, blob) {
            Some(before) if before != blob => Err(format!(
                "I1: {client} has receipts for two contributions to round {id}"
            )),
            Some(_) => Ok(()),
            None => {
                self.tally.acknowledged += 1;
                Ok(())
            }
        }
    }

    /// The coordinator turns down what this client sent for round `id` while `open` is.
    pub(crate) fn rejected(
        &mut self,
        client: &Name,
        id: RoundId,
        blob: Digest,
        open: RoundId,
    ) -> Result<(), String> {
        let late = self.late.get(&(open, client.clone()));
        if id != open && late.is_none_or(|(folded, _)| folded.of != id) {
            return Ok(());
        }
        match self.acknowledged.get(&(id, client.clone())) {
            Some(acknowledged) if *acknowledged == blob => Err(format!(
                "I1: {client} was acknowledged in round {id}, and is turned down when it asks again"
            )),
            Some(_) => {
                self.tally.conflicts += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A round is over, for the first time or for a process that restored it.
    pub(crate) fn committed(&mut self, committed: &Committed) -> Result<(), String> {
        let Committed {
            id,
            contributors,
            late,
            sum,
            ..
        } = committed;
        let expected = self.sum(*id, contributors, late)?;
        let told = |sum: &Partial| {
            let (weight, spoken) = (sum.weight(), sum.spoken().to_vec());
            (sum.contributions(), weight, spoken, sum.mean())
        };
        if told(sum) != told(&expected) {
            let twice = self.counts(sum).into_iter().fold(0.0, f32::max);
            return Err(format!(
                "I2: round {id} of {contributors:?} does not add up; the most that one counts is {twice}"
            ));
        }
        match self.outcomes.get(&id.round) {
            Some(before) if before != committed => Err(format!(
                "I3: round {id} was over as {} of {:?}, and is again of {contributors:?}",
                before.id, before.contributors
            )),
            _ => {
                self.outcomes.insert(id.round, committed.clone());
                Ok(())
            }
        }
    }

    /// A round's outcome is on disk.
    pub(crate) fn closed(&mut self, round: u32, epoch: u64) -> Result<(), String> {
        if let Some(before) = self.closed.insert(round, epoch) {
            return Err(format!(
                "I4: round {round} is closed in epoch {before} and in epoch {epoch}"
            ));
        }
        let outcome = self.outcomes.get(&round);
        self.tally.late += outcome.map_or(0, |outcome| outcome.late.len());
        self.tally.committed += 1;
        Ok(())
    }

    pub(crate) fn rounds(&self) -> usize {
        self.closed.len()
    }

    /// Holds what the store has at the end against all that was promised.
    pub(crate) fn judge(&self, history: &[Closed], saved: &Saved) -> Result<(), String> {
        // So must do the checker, which knows of files alone.
        let records = Records {
            coordinator: Some(CoordinatorRecord {
                begins: 0,
                history: history.to_vec(),
                open: None,
                again: BTreeSet::new(),
                late: BTreeMap::new(),
                round: saved.round,
                over: saved.over,
                epoch: u64::MAX,
                first: 0,
                rolled_back: 0,
            }),
            clients: Vec::new(),
        };
        if let Some(broken) = verify(&records, None).broken.first() {
            return Err(format!("{}: {}", broken.invariant, broken.how));
        }
        let committed = history.iter().filter_map(|closed| {
            let outcome = closed.outcome.as_ref()?;
            Some((closed, outcome))
        });
        let mut next = 0;
        for (closed, outcome) in committed {
            let id = closed.id;
            if id.round != next {
                return Err(format!("I3: round {id} follows round {next} less one"));
            }
            next += 1;
            self.adds_up(closed, outcome)?;
        }
        if (next, next as usize) != (saved.round, self.closed.len()) {
            return Err(format!(
                "I3: {next} rounds are over, {} were closed, round {} is next",
                self.closed.len(),
                saved.round
            ));
        }
        for ((id, client), blob) in &self.acknowledged {
            let lost = |what: &str| {
                Err(format!(
                    "I1: {client} has a receipt for round {id} and {blob:?}; {what}"
                ))
            };
            if is_late(*id, client, *blob, history, saved) {
                continue;
            }
            if let Some(open) = saved.open.as_ref().filter(|open| open.plan.id == *id) {
                let held = open.events.iter().any(|event| {
                    matches!(event, Event::Taken { client: whose, blob: what, .. } if (whose, what) == (client, blob))
                });
                match held {
                    true => continue,
                    false => return lost("the open round does not have it"),
                }
            }
            let Some(closed) = history.iter().find(|closed| closed.id == *id) else {
                return lost("nothing is known of that attempt");
            };
            if closed.acknowledged.get(client) != Some(blob) {
                return lost("the history does not know of it");
            }
            if let Some(outcome) = &closed.outcome
                && !outcome.contributors.contains(client)
            {
                return lost("the round is over without it");
            }
        }
        Ok(())
    }

    fn adds_up(&self, closed: &Closed, outcome: &Outcome) -> Result<(), String> {
        let (id, Outcome { contributors, .. }) = (closed.id, outcome);
        let told = (id, contributors, &closed.late, outcome.aggregate);
        let said = self.outcomes.get(&id.round);
        let said = said.map(|said| (said.id, &said.contributors, &said.late, said.sum.digest()));
        match said == Some(told) {
            true => Ok(()),
            false => Err(format!("I3: the history has another outcome of round {id}")),
        }
    }

    /// What these contributors and latecomers come to, each counted once.
    fn sum(
        &self,
        id: RoundId,
        contributors: &[Name],
        late: &BTreeMap<Name, Folded>,
    ) -> Result<Partial, String> {
        let mut sum = Partial::new(ROWS, self.classes);
        let whole = if self.folds { Late::PARTS } else { 1 };
        for (client, folded) in late {
            let known = self.late.get(&(id, client.clone()));
            let known = known.filter(|(known, _)| known == folded);
            let answers = self.said.get(&folded.blob);
            let (Some((_, parts)), Some(answers)) = (known, answers) else {
                return Err(format!("I2: {client} is late in round {id}, unheard"));
            };
            sum.add(*parts, answers.values())
                .map_err(|error| error.to_string())?;
        }
        for client in contributors {
            let blob = self.durable.get(&(id, client.clone()));
            let answers = blob.and_then(|blob| self.said.get(blob));
            let answers =
                answers.ok_or_else(|| format!("I2: {client} counts in round {id}, unheard"))?;
            sum.add(whole, answers.values())
                .map_err(|error| error.to_string())?;
        }
        Ok(sum)
    }

    /// How often each value was said.
    fn counts(&self, sum: &Partial) -> Vec<f32> {
        let mean = sum.mean().unwrap_or_default();
        let whole = if self.folds { Late::PARTS } else { 1 };
        let rows = mean.chunks(self.classes).zip(sum.spoken());
        rows.flat_map(|(row, spoken)| {
            let times = *spoken as f32 / whole as f32;
            row.iter().map(move |value| value * times)
        })
        .collect()
    }
}

/// Whether a later round has it, or has had it and was given up.
fn is_late(id: RoundId, client: &Name, blob: Digest, history: &[Closed], saved: &Saved) -> bool {
    let wanted = Folded { of: id, blob };
    let closed = history
        .iter()
        .any(|closed| closed.late.get(client) == Some(&wanted));
    let open = saved.open.iter().flat_map(|open| &open.events);
    let mut open = open.filter_map(|event| match event {
        Event::Folded {
            client: whose,
            folded,
            ..
        } => Some((whose, folded)),
        _ => None,
    });
    closed || open.any(|late| late == (client, &wanted))
}
