use std::time::{Duration, Instant};

use fedistill_federation::{Input, Missed, Output, Quorum, RoundConfig, State};
use fedistill_protocol::{Answers, Digest, Version};

use super::super::pause::tests::{contributed, coordinator, first, heard, is_too_late, settings};
use super::*;
use crate::hub::tests::{hub, name};
use crate::{Exchange, Settings};

const FOLD: Late = Late::Fold { exponent: 0.5 };

/// A coordinator for rounds of three clients, one of which is enough.
fn centre(late: Late) -> Coordinator {
    coordinator(Settings {
        late,
        rounds: 3,
        asked: 3,
        ..settings()
    })
}

fn cohort(clients: &[&str]) -> BTreeMap<Name, u32> {
    clients.iter().map(|client| (name(client), 1)).collect()
}

/// What a round asks.
fn plan(centre: &Coordinator, round: u32) -> RoundPlan {
    let state = State::default();
    let ask = centre.ask(round, &state).unwrap();
    let all = cohort(&["a", "b", "c"]);
    centre
        .planner
        .plan(
            first(round),
            ask,
            &state,
            &all,
            &Exchange::default(),
            Version::LATEST,
        )
        .plan
}

/// A round that is open and waits for these.
fn machine(centre: &Coordinator, round: u32, clients: &[&str]) -> Round {
    let plan = plan(centre, round);
    let report = plan.report.as_ref().unwrap();
    let config = RoundConfig {
        id: plan.id,
        cohort: cohort(clients),
        quorum: Quorum::new(1, 3, Duration::ZERO, Duration::from_secs(60)).unwrap(),
        missed: Missed::Reopen,
        folding: centre.folding(&plan),
        silence: Duration::from_secs(60),
        answers: Some((report.about.count(2), report.width)),
        method: Arc::clone(&centre.settings.method),
    };
    Round::open(config, Instant::now())
}

/// Has round 0 closed without client `a`.
fn leave_a_behind(centre: &mut Coordinator, hub: &Hub) {
    let machine = machine(centre, 0, &["a"]);
    let plan = plan(centre, 0);
    centre.leave_behind(hub, &plan, &cohort(&["a", "b"]), &machine);
}

#[tokio::test]
async fn who_is_at_work_for_the_round_before_is_asked_only_where_too_few_are_free() {
    let (hub, _mailboxes, mut incoming) = hub(&["a", "b"]).await;
    let mut centre = centre(FOLD);
    let both = [name("a"), name("b")];
    assert_eq!(centre.candidates(&hub), both);
    leave_a_behind(&mut centre, &hub);
    assert_eq!(centre.candidates(&hub), [name("b")]);
    // Two are needed, and are there.
    let enough = centre.settings.quorum;
    centre.settings.quorum = Quorum::new(2, 3, Duration::ZERO, Duration::from_secs(60)).unwrap();
    assert_eq!(centre.candidates(&hub), both);
    centre.settings.quorum = enough;
    // It is done by the time that the next round opens.
    hub.arrivals.send(contributed("a", first(0))).await.unwrap();
    centre.catch_up(&hub, &mut incoming);
    assert_eq!(centre.candidates(&hub), both);
}

#[tokio::test]
async fn what_comes_between_two_rounds_waits_where_it_is_awaited_and_is_refused_otherwise() {
    let (hub, mut mailboxes, mut incoming) = hub(&["a", "b"]).await;
    let mut centre = centre(FOLD);
    // Nothing is awaited: it is left to whoever reads next.
    hub.arrivals.send(contributed("a", first(0))).await.unwrap();
    centre.catch_up(&hub, &mut incoming);
    assert!(incoming.try_recv().is_ok());
    leave_a_behind(&mut centre, &hub);
    centre.wait_or_refuse(&hub, contributed("a", first(0)));
    assert!(heard(&mut mailboxes[0]).is_empty());
    for (client, id, mailbox) in [("a", first(1), 0), ("b", first(0), 1)] {
        centre.wait_or_refuse(&hub, contributed(client, id));
        let told = heard(&mut mailboxes[mailbox]);
        assert!(is_too_late(&told, id), "{client}: {told:?}");
    }
    let early = centre.early();
    assert!(
        matches!(&early[..], [Arrival::Contributed { client, id, .. }] if *client == name("a") && *id == first(0)),
        "{early:?}"
    );
    assert!(centre.early().is_empty());
}

#[tokio::test]
async fn who_is_late_is_awaited_for_as_long_as_one_round() {
    let (hub, ..) = hub(&["a", "b"]).await;
    let mut centre = centre(FOLD);
    leave_a_behind(&mut centre, &hub);
    let before = centre.folding(&plan(&centre, 1)).unwrap().before.unwrap();
    assert_eq!((before.plan.id, before.missing), (first(0), cohort(&["a"])));
    assert!(hub.plan(first(0)).is_some());
    centre.wait_or_refuse(&hub, contributed("a", first(0)));
    // The next one closes with all whom it asked.
    let (machine, plan) = (machine(&centre, 1, &[]), plan(&centre, 1));
    centre.leave_behind(&hub, &plan, &cohort(&["b"]), &machine);
    assert!(centre.folding(&plan).unwrap().before.is_none());
    assert!(hub.plan(first(0)).is_none() && hub.plan(first(1)).is_none());
    assert!(
        centre.early().is_empty(),
        "it was for the round before that one"
    );
}

#[tokio::test]
async fn nobody_is_awaited_where_nothing_could_be_folded() {
    let (hub, ..) = hub(&["a", "b"]).await;
    let mut refusing = centre(Late::Refuse);
    leave_a_behind(&mut refusing, &hub);
    assert!(hub.plan(first(0)).is_none());
    assert_eq!(refusing.candidates(&hub).len(), 2);
    // Nor where nothing goes up.
    let mut folding = centre(FOLD);
    let machine = machine(&folding, 0, &["a"]);
    let mut plan = plan(&folding, 0);
    plan.report = None;
    folding.leave_behind(&hub, &plan, &cohort(&["a", "b"]), &machine);
    assert!(hub.plan(first(0)).is_none());
    assert_eq!(folding.candidates(&hub).len(), 2);
}

/// Settings may have changed since a log was written.
#[tokio::test]
async fn a_log_says_who_is_awaited_where_late_ones_are_still_taken() {
    let (hub, ..) = hub(&["a", "b"]).await;
    for (late, awaited) in [(FOLD, true), (Late::Refuse, false)] {
        let mut centre = centre(late);
        let before = Before {
            plan: plan(&centre, 0),
            missing: cohort(&["a"]),
        };
        let log = [Event::Opened(first(1)), Event::Awaits(Box::new(before))];
        centre.recall(&hub, &log);
        assert_eq!(hub.plan(first(0)).is_some(), awaited);
        assert_eq!(centre.awaits(&name("a"), first(0)), awaited);
        centre.recall(&hub, &log[..1]);
        assert!(hub.plan(first(0)).is_none());
    }
}

#[tokio::test]
async fn who_had_its_receipt_in_a_try_that_was_given_up_gives_nothing_else() {
    let (hub, ..) = hub(&["a", "b"]).await;
    let mut centre = centre(FOLD);
    leave_a_behind(&mut centre, &hub);
    let mut machine = machine(&centre, 1, &["b"]);
    centre.give_up_on(&machine, &BTreeMap::new());
    assert!(centre.awaits(&name("a"), first(0)));
    let report = plan(&centre, 0).report.unwrap();
    let rows = report.about.count(2);
    let values = vec![0.5; (rows * report.width) as usize];
    let answers = Answers::new(report.kind, report.width, values).unwrap();
    let late = Input::Contributed {
        client: name("a"),
        id: first(0),
        blob: Digest::of(b"late"),
        answers: Some(answers),
    };
    machine.handle(Instant::now(), late).unwrap();
    let mut receipts = 0;
    while let Some(output) = machine.poll_output() {
        match output {
            Output::Persist(ticket, _) => {
                machine
                    .handle(Instant::now(), Input::Stored(ticket))
                    .unwrap();
            }
            Output::Send { .. } => receipts += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(receipts, 1);
    centre.give_up_on(&machine, &BTreeMap::new());
    assert!(!centre.awaits(&name("a"), first(0)));
}

/// Who has answered it would take the plan of the round before for that of a coordinator whose state was lost.
#[tokio::test]
async fn whom_a_try_that_was_given_up_has_asked_is_not_asked_again_for_the_round_before() {
    let (hub, mut mailboxes, _incoming) = hub(&["a"]).await;
    let mut centre = centre(FOLD);
    leave_a_behind(&mut centre, &hub);
    let machine = machine(&centre, 1, &["b"]);
    centre.ask_again(&hub, &name("a"), &cohort(&["b"]), &machine);
    let told = heard(&mut mailboxes[0]);
    assert!(
        matches!(&told[..], [Message::Plan(plan)] if plan.id == first(0)),
        "{told:?}"
    );
    hub.greet(&name("a"), first(1), |_| {
        encode(&Message::Plan(plan(&centre, 1))).unwrap()
    });
    heard(&mut mailboxes[0]);
    centre.give_up_on(&machine, &cohort(&["a", "b"]));
    centre.ask_again(&hub, &name("a"), &cohort(&["b"]), &machine);
    assert!(heard(&mut mailboxes[0]).is_empty());
}
