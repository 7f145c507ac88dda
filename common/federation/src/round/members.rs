use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use fedistill_protocol::{Digest, Name};

#[derive(Clone, Debug)]
pub(super) enum Member {
    /// Awaited, last heard of then.
    Working(Instant),
    /// Silent or disconnected: not waited for, but welcome back.
    Gone,
    /// It has refused the plan, and will again unless it comes back changed.
    Unwilling,
    /// Its contribution counts; a receipt may be given once it is durable.
    Taken { blob: Digest, durable: bool },
}

/// Where each client of the cohort stands, with counts, so that what happens to one of them costs
/// the same however many they are.
#[derive(Debug)]
pub(super) struct Members {
    all: BTreeMap<Name, Member>,
    /// Those at work, the longest silent first.
    working: BTreeSet<(Instant, Name)>,
    taken: usize,
    unwilling: usize,
}

impl Members {
    /// All at work, heard of at `now`.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a Name>, now: Instant) -> Self {
        let mut members = Self {
            all: BTreeMap::new(),
            working: BTreeSet::new(),
            taken: 0,
            unwilling: 0,
        };
        names.for_each(|name| members.set(name, Member::Working(now)));
        members
    }

    pub(super) fn get(&self, client: &Name) -> Option<&Member> {
        self.all.get(client)
    }

    pub(super) fn set(&mut self, client: &Name, to: Member) {
        match &to {
            Member::Working(last) => {
                self.working.insert((*last, client.clone()));
            }
            Member::Taken { .. } => self.taken += 1,
            Member::Unwilling => self.unwilling += 1,
            Member::Gone => {}
        }
        let from = match self.all.get_mut(client) {
            Some(member) => Some(std::mem::replace(member, to)),
            None => self.all.insert(client.clone(), to),
        };
        match from {
            Some(Member::Working(last)) => {
                // The same instant again is the same entry.
                let again =
                    matches!(self.all.get(client), Some(Member::Working(now)) if *now == last);
                if !again {
                    self.working.remove(&(last, client.clone()));
                }
            }
            Some(Member::Taken { .. }) => self.taken -= 1,
            Some(Member::Unwilling) => self.unwilling -= 1,
            Some(Member::Gone) | None => {}
        }
    }

    /// Who at work was last heard of longest ago, and when.
    pub(super) fn most_silent(&self) -> Option<(Instant, &Name)> {
        self.working.first().map(|(last, name)| (*last, name))
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn working(&self) -> usize {
        self.working.len()
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn unwilling(&self) -> usize {
        self.unwilling
    }

    /// Who may still contribute, in the order of names.
    pub(super) fn awaited(&self) -> Vec<Name> {
        let awaited = self.all.iter();
        let awaited =
            awaited.filter(|(_, member)| matches!(member, Member::Working(_) | Member::Gone));
        awaited.map(|(name, _)| name.clone()).collect()
    }

    /// Which contributions count, in the order of names.
    pub(super) fn contributions(&self) -> impl Iterator<Item = (&Name, Digest)> {
        self.all.iter().filter_map(|(name, member)| match member {
            Member::Taken { blob, .. } => Some((name, *blob)),
            _ => None,
        })
    }

    /// Whose contributions count, in the order of names.
    pub(super) fn contributors(&self) -> Vec<Name> {
        let taken = self.contributions();
        taken.map(|(name, _)| name.clone()).collect()
    }
}
