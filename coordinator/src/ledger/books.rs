//! What is known of bytes while a coordinator runs: by connection, and by what a round's plan brings and asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fedistill_protocol::{Knowledge, Name, RoundId, RoundPlan};
use fedistill_transport::{Direction, Meter, Metered, Traffic};

use super::traffic;
use crate::plan::Planned;

/// Bytes that the lessons of a round take, whole and uncoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lessons {
    common: u64,
    /// Of those that get others.
    personal: BTreeMap<Name, u64>,
}

impl Lessons {
    pub(crate) fn of(planned: &Planned, classes: u32) -> Self {
        let sum =
            |lessons: &[Knowledge]| lessons.iter().map(|lesson| lesson.raw_bytes(classes)).sum();
        let others: Vec<u64> = planned.others.iter().map(|lessons| sum(lessons)).collect();
        let personal = planned.personal.iter();
        Self {
            common: sum(&planned.plan.knowledge),
            personal: personal
                .filter_map(|(name, which)| Some((name.clone(), *others.get(*which)?)))
                .collect(),
        }
    }

    fn to(&self, client: &Name) -> u64 {
        *self.personal.get(client).unwrap_or(&self.common)
    }
}

/// What is booked of one round; by default of one that another process has taught.
#[derive(Debug, Default)]
struct Page {
    lessons: Lessons,
    /// Whether this process has opened the round. Of one that goes on it is not known who was booked before: an answer
    /// does not tell, and the beginning of a transfer does.
    is_whole: bool,
    /// Whose lessons are booked.
    down: BTreeSet<Name>,
    /// Whose answers are.
    up: BTreeSet<Name>,
}

impl Page {
    /// A client has its lessons: they count once.
    fn teach(&mut self, client: &Name, meter: &Meter) {
        if self.down.insert(client.clone()) {
            meter.uncoded(Direction::Sent, self.lessons.to(client));
        }
    }
}

/// The books of all clients that have been here.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Of rounds to which contributions may come.
    pages: BTreeMap<RoundId, Page>,
    /// The round whose lessons are offered.
    open: Option<RoundId>,
    /// What crossed on connections that are over.
    over: BTreeMap<Name, Traffic>,
    /// Connections of clients that have opened a newer one, until they are over.
    superseded: BTreeMap<u64, (Name, Arc<Metered>)>,
}

impl Books {
    /// A round opens with these lessons, or `goes_on` from what another process has left of it.
    pub(crate) fn open(&mut self, id: RoundId, lessons: Lessons, goes_on: bool) {
        let page = self.pages.entry(id).or_default();
        (page.lessons, page.is_whole) = (lessons, !goes_on);
        self.open = Some(id);
    }

    /// Another process has booked a client's answer to this round.
    pub(crate) fn is_booked(&mut self, client: &Name, id: RoundId) {
        let page = self.pages.entry(id).or_default();
        page.down.insert(client.clone());
        page.up.insert(client.clone());
    }

    /// Contributions to other rounds do not come any more.
    pub(crate) fn keep_only(&mut self, rounds: &[RoundId]) {
        self.pages.retain(|id, _| rounds.contains(id));
    }

    /// A client fetches one of the open round's lessons from this offset on: what they take uncoded counts, whatever
    /// becomes of its answer.
    pub(crate) fn fetched(&mut self, client: &Name, offset: u64, meter: &Meter) {
        let page = self.open.and_then(|id| self.pages.get_mut(&id));
        if let Some(page) = page.filter(|page| page.is_whole || offset == 0) {
            page.teach(client, meter);
        }
    }

    /// A client has answered a plan: what that would have taken uncoded counts once, however often it
    /// is announced. Its lessons count too where it held them already.
    pub(crate) fn answered(
        &mut self,
        client: &Name,
        plan: &RoundPlan,
        classes: u32,
        meter: &Meter,
    ) {
        let page = self.pages.entry(plan.id).or_default();
        if page.is_whole {
            page.teach(client, meter);
        }
        if page.up.insert(client.clone()) {
            let report = plan.report.as_ref();
            let up = report.map_or(0, |report| report.raw_bytes(classes));
            meter.uncoded(Direction::Received, up);
        }
    }

    /// A client has opened a newer connection: what crosses on this one counts until it is over, and after.
    pub(crate) fn supersede(&mut self, client: &Name, serial: u64, connection: Arc<Metered>) {
        self.superseded.insert(serial, (client.clone(), connection));
    }

    /// A connection that was superseded is over.
    pub(crate) fn let_go(&mut self, serial: u64) {
        if let Some((client, connection)) = self.superseded.remove(&serial) {
            self.close(&client, &connection);
        }
    }

    /// A client's connection is over.
    pub(crate) fn close(&mut self, client: &Name, connection: &Metered) {
        *self.over.entry(client.clone()).or_default() += traffic(connection);
    }

    /// What has crossed for each client: on connections that are over or superseded, and on these.
    pub(crate) fn sum<'a>(
        &'a self,
        open: impl Iterator<Item = (&'a Name, Traffic)>,
    ) -> BTreeMap<Name, Traffic> {
        let mut sums = self.over.clone();
        let superseded = self.superseded.values();
        let superseded = superseded.map(|(name, connection)| (name, traffic(connection)));
        for (name, crossed) in open.chain(superseded) {
            *sums.entry(name.clone()).or_default() += crossed;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedistill_protocol::{About, AnswerKind, Digest, Precision, Report, Rounding, Silence};

    const fn id(round: u32) -> RoundId {
        RoundId { round, attempt: 0 }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// One that asks for 400 bytes.
    fn plan(round: u32) -> RoundPlan {
        RoundPlan {
            federation: name("clinic"),
            id: id(round),
            transfer: Digest::of(b"none"),
            seed: 0,
            knowledge: Vec::new(),
            phases: Vec::new(),
            report: Some(Report {
                kind: AnswerKind::Features,
                about: About::Classes,
                width: 50,
                precision: Precision::F32,
                rounding: Rounding::Nearest,
                adjust: 0.0,
                silence: Silence::Never,
                update: false,
            }),
            deadline_ms: 0,
            cohort: 2,
        }
    }

    fn lessons(common: u64) -> Lessons {
        Lessons {
            common,
            personal: BTreeMap::from([(name("c"), 7)]),
        }
    }

    /// Uncoded bytes on a meter, up and down.
    fn raw(meter: &Meter) -> (u64, u64) {
        let way = |direction| meter.flow(direction, 0, None).raw;
        (way(Direction::Received), way(Direction::Sent))
    }

    #[test]
    fn lessons_count_once_they_are_fetched_and_an_answer_when_it_comes() {
        let (mut books, meter) = (Books::default(), Meter::default());
        books.open(id(0), lessons(1000), false);
        for offset in [0, 0, 500] {
            books.fetched(&name("a"), offset, &meter);
        }
        assert_eq!(raw(&meter), (0, 1000), "it may never answer");
        for _ in 0..2 {
            books.answered(&name("a"), &plan(0), 2, &meter);
        }
        assert_eq!(raw(&meter), (400, 1000));
        // Who has lessons of its own; and who holds them already, and fetches nothing.
        let meter = Meter::default();
        books.fetched(&name("c"), 0, &meter);
        assert_eq!(raw(&meter), (0, 7));
        books.answered(&name("b"), &plan(0), 2, &meter);
        assert_eq!(raw(&meter), (400, 1007));
    }

    #[test]
    fn who_is_late_is_booked_with_the_lessons_of_its_own_plan() {
        let (mut books, meter) = (Books::default(), Meter::default());
        books.open(id(0), lessons(1000), false);
        books.open(id(1), lessons(30), false);
        books.keep_only(&[id(0), id(1)]);
        books.fetched(&name("a"), 0, &meter);
        for _ in 0..2 {
            books.answered(&name("a"), &plan(0), 2, &meter);
            books.answered(&name("a"), &plan(1), 2, &meter);
        }
        assert_eq!(raw(&meter), (800, 1030));
        books.keep_only(&[id(1)]);
        books.answered(&name("a"), &plan(1), 2, &meter);
        assert_eq!(raw(&meter), (800, 1030));
    }

    #[test]
    fn what_another_process_has_booked_of_a_round_does_not_count_twice() {
        let (mut books, meter) = (Books::default(), Meter::default());
        books.open(id(0), lessons(1000), true);
        books.is_booked(&name("a"), id(0));
        books.fetched(&name("a"), 0, &meter);
        books.answered(&name("a"), &plan(0), 2, &meter);
        assert_eq!(raw(&meter), (0, 0));
        // It had its lessons, or began to have them, and answers now.
        books.fetched(&name("b"), 500, &meter);
        books.answered(&name("b"), &plan(0), 2, &meter);
        assert_eq!(raw(&meter), (400, 0));
        // It begins now.
        books.fetched(&name("d"), 0, &meter);
        assert_eq!(raw(&meter), (400, 1000));
        // Of a round that was over before this process began.
        books.answered(&name("d"), &plan(7), 2, &meter);
        assert_eq!(raw(&meter), (800, 1000));
    }
}
