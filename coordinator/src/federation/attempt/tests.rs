use fedistill_federation::{Before, Folded, Late, Quorum, method};
use fedistill_protocol::{Answers, Digest};
use tokio::time::Instant as Moment;

use super::super::pause::tests::{
    contributed, coordinator, coordinator_with, first, heard, is_too_late, settings,
};
use super::*;
use crate::hub::tests::{hub, name};
use crate::{Exchange, FileStore, Settings};

const SECOND: Duration = Duration::from_secs(1);

fn two_are_needed() -> Quorum {
    Quorum::new(2, 2, Duration::ZERO, 60 * SECOND).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_try_that_failed_is_followed_by_another_after_a_while_as_often_as_is_allowed() {
    let (hub, mut mailboxes, mut incoming) = hub(&["a"]).await;
    let mut centre = coordinator(Settings {
        attempts: Some(3),
        ..settings()
    });
    for (tries, seconds) in [(1, 2), (2, 4)] {
        centre.refusal = Some("a: it is asked too often".to_owned());
        let begun = Moment::now();
        hub.arrivals.send(contributed("a", first(0))).await.unwrap();
        let again = centre.again(&hub, &mut incoming, first(0), tries);
        again.await.unwrap();
        assert_eq!(begun.elapsed(), seconds * SECOND);
        let told = heard(&mut mailboxes[0]);
        assert!(is_too_late(&told, first(0)), "{told:?}");
    }
    // Why that was is no matter any more.
    for (why, said) in [(None, "too few answered"), (Some("a: no"), "a: no")] {
        centre.refusal = why.map(str::to_owned);
        let error = centre.again(&hub, &mut incoming, first(0), 3).await;
        let error = error.unwrap_err();
        assert!(
            matches!(&error, CoordinatorError::NoQuorum { id, tries: 3, why } if *id == first(0) && why.contains(said)),
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_round_opens_once_as_many_are_there_as_it_needs() {
    let (hub, mut mailboxes, mut incoming) = hub(&["a"]).await;
    // Whatever opens it, fewer than its least cannot close it.
    let mut centre = coordinator(Settings {
        quorum: two_are_needed(),
        patience: Some(60 * SECOND),
        ..settings()
    });
    assert_eq!(centre.needed(), 2);
    hub.arrivals.send(contributed("a", first(0))).await.unwrap();
    let gathering = centre.gather(&hub, &mut incoming);
    assert!(
        tokio::time::timeout(SECOND, gathering).await.is_err(),
        "one is not enough"
    );
    let told = heard(&mut mailboxes[0]);
    assert!(is_too_late(&told, first(0)), "{told:?}");
    centre.settings.quorum = settings().quorum;
    assert_eq!(centre.needed(), 1);
    centre.gather(&hub, &mut incoming).await.unwrap();
    centre.settings.open_with = 3;
    assert_eq!(centre.needed(), 3);
}

/// Written with the end of the round before, its deadline runs from then on.
#[tokio::test]
async fn a_round_is_opened_ahead_only_where_it_opens_at_once() {
    let (hub, _mailboxes, mut incoming) = hub(&["a"]).await;
    let settings = || Settings {
        rounds: 2,
        weights: BTreeMap::from([(name("a"), 7)]),
        ..settings()
    };
    let state = State::default();
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open_at(&folder.path().join("rounds.redb")).unwrap();
    let mut centre = coordinator_with(settings(), Box::new(store));
    let ask = centre.ask(1, &state).unwrap();
    let topic = Topic {
        id: first(1),
        ask: &ask,
        state: &state,
        before: &Exchange::default(),
    };
    let opened = centre.ahead(&hub, &mut incoming, topic).unwrap();
    let cohort = BTreeMap::from([(name("a"), 7)]);
    let record = opened.record();
    assert_eq!((record.plan.id, record.cohort), (first(1), cohort));
    assert_eq!(record.events, [Event::Opened(first(1))]);
    // There is a pause before it.
    centre.settings.pause = SECOND;
    assert!(centre.ahead(&hub, &mut incoming, topic).is_none());
    centre.settings.pause = Duration::ZERO;
    // Somebody is to come first.
    centre.settings.open_with = 2;
    assert!(centre.ahead(&hub, &mut incoming, topic).is_none());
    // Nothing would be saved.
    let mut forgetful = coordinator(settings());
    assert!(forgetful.ahead(&hub, &mut incoming, topic).is_none());
}

/// It was asked for another try, and may follow the one that is open.
#[test]
fn what_cannot_be_done_of_another_round_says_nothing_of_the_open_one() {
    let a = || name("a");
    let other = RoundId {
        attempt: 1,
        ..first(0)
    };
    for id in [first(0), other] {
        for arrival in [
            Arrival::Refused(a(), id, "policy".to_owned()),
            Arrival::Malformed(a(), id),
        ] {
            match input(arrival, first(0)) {
                Some(Input::Refused(client)) => assert_eq!((client, id), (a(), first(0))),
                None => assert_eq!(id, other),
                Some(another) => panic!("{another:?}"),
            }
        }
    }
    // What it is worth the round itself decides.
    let given = input(contributed("a", other), first(0));
    let digest = Digest::of(b"contribution");
    assert!(
        matches!(given, Some(Input::Contributed { id, blob, .. }) if (id, blob) == (other, digest))
    );
}

/// A round before, of which `a` is late.
fn before(centre: &Coordinator) -> Before {
    let state = State::default();
    let ask = centre.ask(0, &state).unwrap();
    let missing = BTreeMap::from([(name("a"), 1)]);
    let planned = centre.planner.plan(
        first(0),
        ask,
        &state,
        &missing,
        &Exchange::default(),
        Version::LATEST,
    );
    Before {
        plan: planned.plan,
        missing,
    }
}

#[tokio::test]
async fn who_is_late_is_known_to_a_process_that_goes_on_and_asked_again_once_it_is_done() {
    let (hub, _mailboxes, mut incoming) = hub(&["a", "b"]).await;
    let mut centre = coordinator(Settings {
        rounds: 2,
        late: Late::Fold { exponent: 0.5 },
        ..settings()
    });
    let state = State::default();
    let ask = centre.ask(1, &state).unwrap();
    let topic = Topic {
        id: first(1),
        ask: &ask,
        state: &state,
        before: &Exchange::default(),
    };
    let chosen = |opened: Opened| -> Vec<Name> { opened.cohort.into_keys().collect() };
    assert_eq!(
        chosen(centre.choose(&hub, &mut incoming, topic)),
        [name("a"), name("b")]
    );
    let log = vec![
        Event::Opened(first(1)),
        Event::Awaits(Box::new(before(&centre))),
    ];
    let saved = OpenRound {
        plan: before(&centre).plan,
        cohort: BTreeMap::from([(name("b"), 1)]),
        events: log.clone(),
    };
    let opened = centre.reopen(&hub, saved, topic, Version::LATEST);
    assert_eq!(opened.events, log);
    assert_eq!(chosen(opened), [name("b")]);
    // It is given up and opens again: who is late is at work still, and then is not.
    assert_eq!(
        chosen(centre.choose(&hub, &mut incoming, topic)),
        [name("b")]
    );
    hub.arrivals.send(contributed("a", first(0))).await.unwrap();
    assert_eq!(
        chosen(centre.choose(&hub, &mut incoming, topic)),
        [name("a"), name("b")]
    );
}

/// Whoever was told that it counts does not come back for that.
#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_before_a_crash_counts_though_its_client_is_gone() {
    let (hub, _mailboxes, mut incoming) = hub(&[]).await;
    let mut centre = coordinator(settings());
    let state = State::default();
    let ask = centre.ask(0, &state).unwrap();
    let topic = Topic {
        id: first(0),
        ask: &ask,
        state: &state,
        before: &Exchange::default(),
    };
    let plan = before(&centre).plan;
    let report = plan.report.as_ref().unwrap();
    let rows = report.about.count(2);
    let values = vec![0.5; (rows * report.width) as usize];
    let taken = Event::Taken {
        client: name("a"),
        blob: Digest::of(b"contribution"),
        answers: Some(Answers::new(report.kind, report.width, values).unwrap()),
    };
    let saved = OpenRound {
        plan,
        cohort: BTreeMap::from([(name("a"), 1)]),
        events: vec![Event::Opened(first(0)), taken],
    };
    let opened = centre.reopen(&hub, saved, topic, Version::LATEST);
    let attempt = centre.attempt(&hub, &mut incoming, opened);
    // No time passes but what it waits for.
    let outcome = tokio::time::timeout(SECOND, attempt).await.unwrap();
    let (_, committed) = outcome.unwrap();
    assert_eq!(committed.unwrap().contributors, [name("a")]);
}

/// A median has no place for them, and asks the same.
#[test]
fn a_round_that_has_late_contributions_goes_on_only_where_they_can_count() {
    for (method, folds) in [("logit-mean", true), ("logit-mean,robust=median", false)] {
        let centre = coordinator(Settings {
            method: method::by_name(method).unwrap().into(),
            rounds: 2,
            ..settings()
        });
        let state = State::default();
        let ask = centre.ask(1, &state).unwrap();
        let cohort = BTreeMap::from([(name("b"), 1)]);
        let planned = centre.planner.plan(
            first(1),
            ask.clone(),
            &state,
            &cohort,
            &Exchange::default(),
            Version::LATEST,
        );
        let report = planned.plan.report.clone().unwrap();
        let values = vec![0.5; (report.about.count(2) * report.width) as usize];
        let folded = Event::Folded {
            client: name("a"),
            folded: Folded {
                of: first(0),
                blob: Digest::of(b"contribution"),
            },
            parts: 1,
            answers: Answers::new(report.kind, report.width, values).unwrap(),
        };
        let opened = Event::Opened(first(1));
        for (events, goes_on) in [(vec![opened.clone()], true), (vec![opened, folded], folds)] {
            let saved = OpenRound {
                plan: planned.plan.clone(),
                cohort: cohort.clone(),
                events,
            };
            let words = centre.words_of(&saved, &ask, &state);
            assert_eq!(words.is_some(), goes_on, "{method}: {:?}", saved.events);
        }
    }
}
