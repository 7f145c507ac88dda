//! The machine on a virtual clock. Each client's answers are a one-hot row of its own, so that a
//! contribution counted twice shows as a two.

#![allow(
    clippy::disallowed_methods,
    reason = "a test needs some instant to begin with"
)]

use std::sync::Arc;

use fedistill_protocol::AnswerKind;
use proptest::prelude::*;

use super::*;
use crate::{Method, Quorum};

const CLIENTS: u32 = 5;
const ID: RoundId = RoundId {
    round: 3,
    attempt: 0,
};

/// Adds up answers as they are, so that sums can be read off.
#[derive(Debug)]
struct Plain;

impl Method for Plain {
    fn name(&self) -> String {
        "plain".to_owned()
    }
    fn teaches(&self) -> Option<AnswerKind> {
        None
    }
    fn ask(&self, outlook: &crate::Outlook<'_>, state: &crate::State) -> crate::Ask {
        crate::method::by_name("logit-mean")
            .unwrap()
            .ask(outlook, state)
    }
    fn take(&self, sum: &mut Partial, weight: u32, a: &Answers) -> Result<(), crate::MethodError> {
        Ok(sum.add(weight, a.values())?)
    }
    fn conclude(
        &self,
        _: &crate::Outlook<'_>,
        _: crate::Taken<'_>,
        _: Option<&mut dyn crate::Centre>,
        _: &mut crate::State,
    ) -> Result<(), crate::MethodError> {
        Ok(())
    }
}

fn name(client: u32) -> Name {
    format!("client-{client}").parse().unwrap()
}

fn config() -> RoundConfig {
    let seconds = Duration::from_secs;
    RoundConfig {
        id: ID,
        cohort: (0..CLIENTS).map(|client| (name(client), 1)).collect(),
        quorum: Quorum::new(2, 4, seconds(10), seconds(60)).unwrap(),
        missed: Missed::Reopen,
        folding: None,
        silence: seconds(20),
        answers: Some((1, CLIENTS)),
        method: Arc::new(Plain),
    }
}

fn one_hot(client: u32) -> Answers {
    let values = (0..CLIENTS)
        .map(|at| f32::from(u8::from(at == client)))
        .collect();
    Answers::new(AnswerKind::Logits, CLIENTS, values).unwrap()
}

fn contribution(client: u32) -> Input {
    let answers = Some(one_hot(client));
    Input::Contributed {
        client: name(client),
        id: ID,
        blob: Digest::of(&[client as u8]),
        answers,
    }
}

/// A driver with a log, some of whose last writes may not be durable yet.
struct Driver {
    config: RoundConfig,
    round: Round,
    now: Instant,
    log: Vec<Event>,
    pending: VecDeque<(Ticket, Event)>,
    sent: Vec<(Name, Message)>,
    outcomes: Vec<Output>,
}

impl Driver {
    fn new() -> Self {
        Self::missing(Missed::Reopen)
    }

    fn missing(missed: Missed) -> Self {
        Self::of(RoundConfig { missed, ..config() })
    }

    fn of(config: RoundConfig) -> Self {
        let now = Instant::now();
        let round = Round::open(config.clone(), now);
        let (log, pending) = (Vec::new(), VecDeque::new());
        let mut driver = Self {
            config,
            round,
            now,
            log,
            pending,
            sent: Vec::new(),
            outcomes: Vec::new(),
        };
        driver.pull();
        driver.store();
        driver
    }

    fn pull(&mut self) {
        while let Some(output) = self.round.poll_output() {
            match output {
                Output::Persist(ticket, event) => self.pending.push_back((ticket, event)),
                Output::Send { to, message } => self.sent.push((to, message)),
                outcome => self.outcomes.push(outcome),
            }
        }
    }

    fn give(&mut self, input: Input) {
        self.round.handle(self.now, input).unwrap();
        self.pull();
    }

    fn store(&mut self) {
        while let Some((ticket, event)) = self.pending.pop_front() {
            self.log.push(event);
            self.give(Input::Stored(ticket));
        }
    }

    fn wait(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.round.poll_timeout().filter(|due| *due <= end) {
            self.now = due;
            self.round.handle_timeout(due);
            self.pull();
        }
        self.now = end;
    }

    /// The process dies: what was not durable is lost.
    fn crash(&mut self) {
        self.pending.clear();
        self.outcomes.clear();
        self.round = Round::restore(self.config.clone(), self.now, self.log.clone()).unwrap();
        self.pull();
    }

    fn receipts(&self) -> Vec<&Name> {
        let given = self
            .sent
            .iter()
            .filter(|(_, m)| matches!(m, Message::Receipt(_)));
        given.map(|(to, _)| to).collect()
    }

    fn rejections(&self) -> Vec<RejectReason> {
        let reason = |message: &Message| match message {
            Message::Rejected(rejected) => Some(rejected.reason),
            _ => None,
        };
        self.sent
            .iter()
            .filter_map(|(_, message)| reason(message))
            .collect()
    }

    fn committed(&self) -> Option<Committed> {
        match self.outcomes.as_slice() {
            [Output::Committed(committed)] => Some(committed.clone()),
            _ => None,
        }
    }
}

#[test]
fn a_receipt_waits_for_the_disk() {
    let mut driver = Driver::new();
    driver.give(contribution(0));
    assert!(driver.receipts().is_empty());
    driver.give(contribution(0));
    assert!(
        driver.receipts().is_empty(),
        "a second copy must not be acknowledged earlier"
    );
    driver.store();
    driver.give(contribution(0));
    assert_eq!(driver.receipts(), [&name(0), &name(0)]);
}

#[test]
fn the_outcome_waits_for_the_disk_and_has_everyone_once() {
    let mut driver = Driver::new();
    for client in [3, 0, 4, 1] {
        driver.give(contribution(client));
    }
    assert_eq!(driver.committed(), None);
    driver.store();
    let committed = driver.committed().unwrap();
    assert_eq!(committed.contributors, [name(0), name(1), name(3), name(4)]);
    assert_eq!(committed.sum.mean().unwrap(), [0.25, 0.25, 0.0, 0.25, 0.25]);
    assert_eq!(driver.round.poll_timeout(), None);
}

/// Its contribution is acknowledged, and nothing is made of it: not by methods that look at each either.
#[test]
fn a_client_without_weight_is_kept_out() {
    let mut config = config();
    config.cohort.insert(name(3), 0);
    config.method = crate::method::by_name("comet").unwrap().into();
    let mut driver = Driver::of(config);
    for client in [3, 0, 4, 1] {
        let mut given = contribution(client);
        if let Input::Contributed { answers, .. } = &mut given {
            let values = one_hot(client).values().to_vec();
            *answers = Answers::new(AnswerKind::Probabilities, CLIENTS, values).ok();
        }
        driver.give(given);
    }
    driver.store();
    let committed = driver.committed().unwrap();
    assert!(committed.each.keys().eq(&[name(0), name(1), name(4)]));
    assert_eq!(committed.sum.contributions(), 4);
}

#[test]
fn a_killed_client_does_not_hold_up_the_rest() {
    let mut driver = Driver::new();
    driver.give(contribution(0));
    driver.give(contribution(1));
    [2, 3, 4]
        .into_iter()
        .for_each(|client| driver.give(Input::Left(name(client))));
    driver.store();
    assert_eq!(driver.committed().unwrap().contributors, [name(0), name(1)]);
}

#[test]
fn silence_counts_as_absence_and_heartbeats_do_not() {
    let mut driver = Driver::new();
    driver.give(contribution(0));
    driver.wait(15);
    driver.give(Input::Heartbeat(name(1)));
    driver.wait(10);
    driver.store();
    // Clients 2 to 4 are gone; client 1 is still awaited, and one contribution is too few.
    assert_eq!(driver.committed(), None);
    driver.give(contribution(1));
    driver.store();
    assert_eq!(driver.committed().unwrap().contributors, [name(0), name(1)]);
}

#[test]
fn too_few_by_the_deadline_abort_the_round() {
    let mut driver = Driver::new();
    driver.give(contribution(0));
    (1..CLIENTS).for_each(|client| driver.give(Input::Left(name(client))));
    driver.store();
    assert!(
        driver.outcomes.is_empty(),
        "those who left may come back until the deadline"
    );
    driver.wait(60);
    driver.store();
    assert_eq!(driver.outcomes, [Output::Aborted]);
    driver.give(contribution(1));
    assert_eq!(driver.rejections(), [RejectReason::TooLate]);
}

#[test]
fn too_many_refusals_abort_the_round_at_once() {
    let mut driver = Driver::new();
    driver.give(contribution(0));
    (1..4).for_each(|client| driver.give(Input::Refused(name(client))));
    driver.give(Input::Left(name(4)));
    driver.store();
    assert!(driver.outcomes.is_empty(), "client 4 may come back");
    driver.give(Input::Joined(name(4)));
    driver.give(Input::Refused(name(4)));
    driver.store();
    assert_eq!(driver.outcomes, [Output::Aborted]);
}

#[test]
fn an_extended_round_keeps_what_it_has_and_ends_with_the_least() {
    let mut driver = Driver::missing(Missed::Extend { most: 2 });
    driver.give(contribution(0));
    driver.store();
    driver.wait(60);
    assert!(
        driver.outcomes.is_empty(),
        "nothing is told before the disk has it"
    );
    driver.store();
    assert_eq!(driver.outcomes, [Output::Extended(1)]);
    // Of the next time it has used 30 seconds when it crashes; it begins that anew.
    driver.wait(30);
    driver.crash();
    driver.wait(59);
    driver.store();
    assert!(driver.outcomes.is_empty());
    driver.give(contribution(1));
    driver.store();
    assert_eq!(driver.committed().unwrap().contributors, [name(0), name(1)]);
}

#[test]
fn extensions_come_to_an_end() {
    let mut driver = Driver::missing(Missed::Extend { most: 2 });
    driver.give(contribution(0));
    for _ in 0..3 {
        driver.wait(60);
        driver.store();
    }
    let outcomes = [Output::Extended(1), Output::Extended(2), Output::Aborted];
    assert_eq!(driver.outcomes, outcomes);
    assert_eq!(driver.round.poll_timeout(), None);
}

#[test]
fn a_round_that_too_many_refuse_is_not_extended() {
    let mut driver = Driver::missing(Missed::Extend { most: 2 });
    driver.give(contribution(0));
    (1..CLIENTS).for_each(|client| driver.give(Input::Refused(name(client))));
    driver.store();
    assert_eq!(driver.outcomes, [Output::Aborted]);
}

#[test]
fn a_round_that_settles_takes_one() {
    let mut driver = Driver::missing(Missed::Settle);
    driver.give(contribution(3));
    driver.wait(59);
    driver.store();
    assert!(driver.outcomes.is_empty());
    driver.wait(1);
    driver.store();
    assert_eq!(driver.committed().unwrap().contributors, [name(3)]);
}

#[test]
fn a_round_that_settles_waits_for_those_at_work_and_not_for_none() {
    let mut driver = Driver::missing(Missed::Settle);
    driver.give(contribution(3));
    [0, 1, 2]
        .into_iter()
        .for_each(|client| driver.give(Input::Refused(name(client))));
    driver.give(Input::Heartbeat(name(4)));
    driver.store();
    assert!(driver.outcomes.is_empty(), "client 4 is at work");
    driver.give(Input::Refused(name(4)));
    driver.store();
    assert_eq!(driver.committed().unwrap().contributors, [name(3)]);
}

#[test]
fn nothing_cannot_be_settled_for() {
    let mut driver = Driver::missing(Missed::Settle);
    driver.wait(60);
    driver.store();
    assert_eq!(driver.outcomes, [Output::Aborted]);
}

#[test]
fn one_who_refused_may_come_back_with_another_mind() {
    let mut driver = Driver::new();
    driver.give(contribution(0));
    (1..4).for_each(|client| driver.give(Input::Refused(name(client))));
    driver.give(Input::Left(name(4)));
    driver.give(Input::Joined(name(1)));
    driver.give(contribution(1));
    driver.store();
    assert_eq!(driver.committed().unwrap().contributors, [name(0), name(1)]);
}

#[test]
fn one_who_was_lost_may_come_back() {
    let mut driver = Driver::new();
    (0..CLIENTS).for_each(|client| driver.give(Input::Left(name(client))));
    driver.give(Input::Joined(name(2)));
    driver.give(contribution(2));
    driver.give(contribution(4));
    driver.store();
    assert_eq!(driver.committed().unwrap().contributors, [name(2), name(4)]);
}

#[test]
fn wrong_contributions_are_answered_and_change_nothing() {
    let mut driver = Driver::new();
    driver.give(contribution(0));
    let blob = Digest::of(b"x");
    let other = |client, id, answers| Input::Contributed {
        client,
        id,
        blob,
        answers,
    };
    let narrow = Answers::new(AnswerKind::Logits, 2, vec![0.0; 2]).unwrap();
    let wild = Answers::new(AnswerKind::Logits, CLIENTS, vec![1e9; CLIENTS as usize]).unwrap();
    let late = RoundId {
        round: 3,
        attempt: 1,
    };
    let stranger: Name = "stranger".parse().unwrap();
    driver.give(other(name(0), ID, Some(one_hot(0))));
    driver.give(other(name(1), late, Some(one_hot(1))));
    driver.give(other(stranger, ID, Some(one_hot(1))));
    driver.give(other(name(1), ID, Some(narrow)));
    driver.give(other(name(1), ID, Some(wild)));
    driver.give(other(name(1), ID, None));
    use RejectReason::{Conflict, Malformed, NotSelected, WrongRound};
    let expected = [
        Conflict,
        WrongRound,
        NotSelected,
        Malformed,
        Malformed,
        Malformed,
    ];
    assert_eq!(driver.rejections(), expected);
    driver.give(contribution(1));
    driver.wait(10);
    driver.store();
    assert_eq!(
        driver.committed().unwrap().sum.mean().unwrap(),
        [0.5, 0.5, 0.0, 0.0, 0.0]
    );
}

#[test]
fn a_driver_that_invents_a_ticket_poisons_the_machine() {
    let mut driver = Driver::new();
    let fault = Fault::UnknownTicket(Ticket(99));
    assert_eq!(
        driver.round.handle(driver.now, Input::Stored(Ticket(99))),
        Err(fault)
    );
    assert_eq!(driver.round.handle(driver.now, contribution(0)), Err(fault));
}

#[test]
fn logs_that_no_round_wrote_are_refused() {
    let now = Instant::now();
    let taken = |client| Event::Taken {
        client: name(client),
        blob: Digest::of(b"x"),
        answers: Some(one_hot(0)),
    };
    let logs = [
        vec![],
        vec![Event::Opened(RoundId {
            round: 4,
            attempt: 0,
        })],
        vec![Event::Opened(ID), Event::Opened(ID)],
        vec![Event::Opened(ID), taken(0), taken(0)],
        vec![Event::Opened(ID), taken(CLIENTS)],
        vec![Event::Opened(ID), taken(0), Event::Committed(vec![name(1)])],
        vec![Event::Opened(ID), Event::Aborted, taken(0)],
        vec![Event::Opened(ID), Event::Extended(2)],
        vec![Event::Opened(ID), Event::Extended(1), Event::Extended(1)],
    ];
    for log in logs {
        assert!(
            Round::restore(config(), now, log.clone()).is_err(),
            "{log:?}"
        );
    }
}

mod late;

#[derive(Clone, Copy, Debug)]
enum Op {
    Contribute(u32),
    Join(u32),
    Leave(u32),
    Refuse(u32),
    Store,
    Wait(u64),
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..CLIENTS).prop_map(Op::Contribute),
        1 => (0..CLIENTS).prop_map(Op::Join),
        1 => (0..CLIENTS).prop_map(Op::Leave),
        1 => (0..CLIENTS).prop_map(Op::Refuse),
        3 => Just(Op::Store),
        1 => (1u64..40).prop_map(Op::Wait),
        1 => Just(Op::Crash),
    ]
}

fn missed() -> impl Strategy<Value = Missed> {
    prop_oneof![
        Just(Missed::Reopen),
        (0u32..3).prop_map(|most| Missed::Extend { most }),
        Just(Missed::Settle),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_each_acknowledged_contribution_counts_once(
        missed in missed(), ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut driver = Driver::missing(missed);
        for op in ops {
            match op {
                Op::Contribute(client) => driver.give(contribution(client)),
                Op::Join(client) => driver.give(Input::Joined(name(client))),
                Op::Leave(client) => driver.give(Input::Left(name(client))),
                Op::Refuse(client) => driver.give(Input::Refused(name(client))),
                Op::Store => driver.store(),
                Op::Wait(seconds) => driver.wait(seconds),
                Op::Crash => driver.crash(),
            }
        }
        // Faults end; within one deadline more, and as many as it may be extended by, it is over.
        driver.store();
        let extensions = match missed {
            Missed::Extend { most } => most,
            Missed::Reopen | Missed::Settle => 0,
        };
        for _ in 0..=extensions {
            driver.wait(61);
            driver.store();
        }
        driver.outcomes.retain(|outcome| !matches!(outcome, Output::Extended(_)));
        prop_assert_eq!(driver.outcomes.len(), 1, "the round must end, once");
        let Some(committed) = driver.committed() else { return Ok(()) };
        let least = if missed == Missed::Settle { 1 } else { 2 };
        prop_assert!((least..=4).contains(&committed.contributors.len()));
        for receipt in driver.receipts() {
            prop_assert!(committed.contributors.contains(receipt), "{receipt} was acknowledged");
        }
        let count = committed.contributors.len() as f32;
        let mean = committed.sum.mean().unwrap();
        for client in 0..CLIENTS {
            let counted = committed.contributors.contains(&name(client));
            let expected = f32::from(u8::from(counted)) / count;
            prop_assert!((mean[client as usize] - expected).abs() < 1e-6);
        }
    }
}
