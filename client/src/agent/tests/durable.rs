//! What an agent owes to, and does with, what outlives its process.

use super::*;

/// One whose process is the first.
fn first() -> Agent {
    let mut agent = agent();
    agent.restore(0, None);
    agent
}

/// One that has answered round 0, and what it kept of that.
fn answered() -> (Agent, Finished) {
    let mut agent = first();
    let outputs = begin(&mut agent);
    assert!(
        matches!(&outputs[..], [Output::Keep(Entry::Begun(kept)), Output::Train(_)] if **kept == plan(0)),
        "{outputs:?}"
    );
    let outputs = trained(&mut agent);
    // Kept before it can be fetched, and before it is said.
    let [
        Output::Keep(Entry::Finished(finished)),
        Output::Offer(_),
        Output::Send(Message::Contribution(_)),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    let finished = finished.clone();
    (agent, finished)
}

/// The contribution that is offered and announced, and nothing else.
fn again(outputs: &[Output]) -> Digest {
    let [
        Output::Offer(blobs),
        Output::Send(Message::Contribution(contribution)),
    ] = outputs
    else {
        panic!("{outputs:?}");
    };
    assert!(blobs.iter().any(|(blob, _)| *blob == contribution.blob));
    contribution.blob
}

#[test]
fn another_process_gives_the_same_answer_and_trains_no_more() {
    let (_, finished) = answered();
    let mut later = agent();
    later.restore(1, Some(finished.clone()));
    step(&mut later, Input::Connected);
    // At once, as it may count still where another round is open by now; and when it is asked for.
    let outputs = hear(&mut later, welcome());
    let [first @ .., _, _] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!(again(&outputs[first.len()..]), finished.blob);
    assert_eq!(again(&hear(&mut later, plan(0))), finished.blob);
    let receipt = Receipt {
        id: finished.id,
        blob: finished.blob,
    };
    let counted = Entry::Counted {
        id: finished.id,
        blob: finished.blob,
    };
    assert_eq!(
        hear(&mut later, receipt),
        [Output::Keep(counted), Output::Counted(finished.id)]
    );
    assert!(hear(&mut later, receipt).is_empty());
    // Nor is it announced any more of its own accord.
    assert!(back(&mut later, welcome()).is_empty());
    // A coordinator that has forgotten it gets it again; and one that asks something else does not.
    assert_eq!(again(&hear(&mut later, plan(0))), finished.blob);
    let outputs = hear(&mut later, plan(1));
    assert!(outputs.contains(&Output::Retract), "{outputs:?}");
    assert!(sent(&outputs).is_empty());
}

/// Another coordinator is there by the time that a training ends: whose answer it is outlives this process too.
#[test]
fn what_one_coordinator_asked_for_no_other_is_given_by_a_later_process() {
    let later = || Welcome {
        epoch: 2,
        ..welcome()
    };
    let mut agent = first();
    begin(&mut agent);
    back(&mut agent, later());
    let outputs = trained(&mut agent);
    let [Output::Keep(Entry::Finished(finished)), Output::Offer(_)] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!(finished.epoch, welcome().epoch);
    let mut again = self::agent();
    again.restore(2, Some(finished.clone()));
    step(&mut again, Input::Connected);
    assert_eq!(sent(&hear(&mut again, later())), Vec::<&Message>::new());
    // Until it asks for the same.
    assert_eq!(self::again(&hear(&mut again, plan(0))), finished.blob);
}

#[test]
fn another_plan_under_the_same_number_is_trained_for() {
    let (_, finished) = answered();
    let mut later = agent();
    later.restore(1, Some(finished));
    step(&mut later, Input::Connected);
    hear(&mut later, welcome());
    let mut other = plan(0);
    other.seed += 1;
    let outputs = given(&mut later, other);
    assert!(sent(&outputs).is_empty(), "{outputs:?}");
    assert!(matches!(outputs[..], [.., Output::Train(_)]), "{outputs:?}");
    assert!(later.offered().is_empty());
}

/// Hears a plan and is given all that it then asks for: only that shows whether a plan asks the same as another one of its
/// number.
fn given(agent: &mut Agent, plan: RoundPlan) -> Vec<Output> {
    let mut outputs = hear(agent, plan);
    for bytes in [set().pack(), knowledge().pack(Precision::F32)] {
        let blob = Digest::of(&bytes);
        if agent.wanted(blob).is_some() {
            outputs.extend(step(agent, Input::Fetched(blob, bytes)));
        }
    }
    outputs.retain(|output| !matches!(output, Output::Fetch { .. }));
    outputs
}

/// What one says that has answered round 1 under epoch 1, to a plan of round 0 under this welcome.
fn asked_again(counted: bool, welcome: Welcome, plan: RoundPlan) -> Vec<Output> {
    let (_, mut finished) = answered();
    finished.id = super::plan(1).id;
    finished.plan = super::plan(1).identity().unwrap();
    finished.counted = counted;
    finished.epoch = 1;
    let mut later = agent();
    later.restore(1, Some(finished));
    step(&mut later, Input::Connected);
    hear(&mut later, welcome);
    given(&mut later, plan)
}

fn is_left(outputs: &[Output]) -> bool {
    matches!(outputs, [Output::Leave { why, outdated: true, .. }] if why.contains("round 1.0 is answered") && why.contains("--epoch"))
}

#[test]
fn a_coordinator_that_has_forgotten_what_was_answered_is_left() {
    let of = |epoch, rolled_back| Welcome {
        epoch,
        rolled_back,
        ..welcome()
    };
    let mut other = plan(1);
    other.seed += 1;
    for counted in [false, true] {
        assert!(is_left(&asked_again(counted, of(2, 0), plan(0))));
        // One that was put back before the answer was given knows of it.
        assert!(is_left(&asked_again(counted, of(2, 1), plan(0))));
        // One that is put back on purpose may ask again, and so may an older version, which cannot say so.
        for welcome in [of(2, 2), of(0, 0)] {
            let outputs = asked_again(counted, welcome, plan(0));
            assert!(!is_left(&outputs), "{outputs:?}");
        }
        // What was acknowledged is not asked for in another way.
        assert_eq!(
            is_left(&asked_again(counted, of(2, 0), other.clone())),
            counted
        );
        assert!(!is_left(&asked_again(counted, of(2, 0), plan(2))));
    }
}

#[test]
fn one_without_a_journal_remembers_while_it_runs() {
    let mut agent = at_work();
    let outputs = trained(&mut agent);
    let [Output::Offer(_), Output::Send(Message::Contribution(made))] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    let (id, blob) = (made.id, made.blob);
    hear(&mut agent, Receipt { id, blob });
    let outputs = hear(&mut agent, plan(0));
    assert!(
        matches!(outputs[..], [Output::Leave { outdated: true, .. }]),
        "{outputs:?}"
    );
    // It has left: there is no coordinator to ask it for anything.
    assert!(matches!(hear(&mut agent, plan(1))[..], [Output::Note(_)]));
}

#[test]
fn a_shorter_way_makes_no_other_plan() {
    let (mut agent, finished) = answered();
    let mut short = plan(0);
    short.knowledge[0].update = Some(Update {
        base: Digest::of(b"base"),
        blob: Digest::of(b"update"),
        bytes: 1,
    });
    assert_eq!(again(&hear(&mut agent, short)), finished.blob);
}

#[test]
fn a_later_epoch_is_kept_and_an_earlier_one_left() {
    let epoch = |epoch| Welcome { epoch, ..welcome() };
    let mut agent = first();
    let outputs = step(&mut agent, Input::Connected);
    assert!(matches!(sent(&outputs)[..], [Message::Hello(hello)] if hello.epoch == 0));
    let outputs = hear(&mut agent, epoch(5));
    assert_eq!(outputs[0], Output::Keep(Entry::Epoch(5)));
    step(&mut agent, Input::Lost);
    let outputs = step(&mut agent, Input::Connected);
    assert!(matches!(sent(&outputs)[..], [Message::Hello(hello)] if hello.epoch == 5));
    let outputs = hear(&mut agent, epoch(4));
    assert!(
        matches!(&outputs[..], [Output::Leave { why, outdated: true, .. }] if why.contains("epoch 4")),
        "{outputs:?}"
    );
    // It takes no part there.
    assert!(matches!(hear(&mut agent, plan(0))[..], [Output::Note(_)]));
    assert!(!back(&mut agent, epoch(5)).contains(&Output::Keep(Entry::Epoch(5))));
    // An older version says none, and is let be.
    let outputs = back(&mut agent, epoch(0));
    assert!(
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Leave { .. })),
        "{outputs:?}"
    );
}

#[test]
fn a_coordinator_that_calls_itself_old_is_left() {
    let rejected = Rejected {
        reason: RejectReason::OldEpoch,
        detail: "epoch 1".to_owned(),
        after_ms: 2000,
        id: None,
    };
    let mut agent = first();
    step(&mut agent, Input::Connected);
    let outputs = hear(&mut agent, rejected);
    assert!(
        matches!(outputs[..], [Output::Leave { after, outdated: true, .. }] if after.as_secs() == 2),
        "{outputs:?}"
    );
}

#[test]
fn a_rejection_ends_the_work_that_it_is_about_and_no_other() {
    let late = |id: Option<RoundId>| Rejected {
        id,
        ..Rejected::new(RejectReason::TooLate, "round 0.0 is over".to_owned())
    };
    let other = RoundId {
        round: 7,
        attempt: 0,
    };
    for (about, ends) in [(Some(plan(0).id), true), (None, true), (Some(other), false)] {
        let outputs = hear(&mut at_work(), late(about));
        let cancelled = outputs.contains(&Output::Cancel(plan(0).id));
        assert_eq!(cancelled, ends, "{about:?}: {outputs:?}");
    }
    // What is answered stays the answer.
    let (mut agent, finished) = answered();
    hear(&mut agent, late(Some(other)));
    assert_eq!(again(&back(&mut agent, welcome())), finished.blob);
    assert!(matches!(
        hear(&mut agent, late(Some(plan(0).id)))[..],
        [Output::Note(_)]
    ));
    assert_eq!(again(&hear(&mut agent, plan(0))), finished.blob);
    // It is not announced of its own accord any more.
    assert!(sent(&back(&mut agent, welcome())).is_empty());
}

/// Whose words of another round, or of another answer, cannot make this one count.
#[test]
fn a_receipt_of_something_else_is_none() {
    let (mut agent, finished) = answered();
    let Finished { id, blob, .. } = finished;
    for other in [
        Receipt {
            id: plan(1).id,
            blob,
        },
        Receipt {
            id,
            blob: Digest::of(b"another"),
        },
    ] {
        assert!(hear(&mut agent, other).is_empty());
    }
    assert_eq!(again(&back(&mut agent, welcome())), blob);
    assert!(!hear(&mut agent, Receipt { id, blob }).is_empty());
}

#[test]
fn a_coordinator_of_an_older_version_gets_what_is_answered_unasked() {
    let (mut agent, finished) = answered();
    let older = Welcome {
        epoch: 0,
        ..welcome()
    };
    assert_eq!(again(&back(&mut agent, older)), finished.blob);
}

/// What it was asked for under an earlier epoch it may be asked for again by one that was put back since, though its
/// training has ended while that one was there.
#[test]
fn an_answer_is_of_the_epoch_in_which_it_was_asked_for() {
    let put_back = Welcome {
        epoch: 2,
        rolled_back: 2,
        ..welcome()
    };
    let mut agent = first();
    begin(&mut agent);
    // A later plan, so that there is an earlier one that may have been forgotten.
    hear(&mut agent, plan(1));
    back(&mut agent, put_back);
    let id = plan(1).id;
    step(&mut agent, Input::Trained(id, Ok(Some(answers()))));
    let outputs = hear(&mut agent, plan(0));
    assert!(matches!(outputs[..], [.., Output::Train(_)]), "{outputs:?}");
}

/// What cannot be done is refused; but who asks for what was acknowledged has forgotten it, whatever it asks.
#[test]
fn a_plan_under_the_number_of_what_counts_is_left_though_it_could_not_be_followed() {
    let (mut agent, finished) = answered();
    let Finished { id, blob, .. } = finished;
    hear(&mut agent, Receipt { id, blob });
    let mut other = plan(0);
    other.phases[0].epochs = 1000;
    let outputs = hear(&mut agent, other);
    assert!(
        matches!(outputs[..], [Output::Leave { outdated: true, .. }]),
        "{outputs:?}"
    );
}
