//! One plan in the words of two versions: whoever is updated within a round hears it packed otherwise.

use super::*;
use crate::journal::Begun;

const CLASSES: u32 = 100;

/// What versions pack differently: each row names one class.
fn lesson() -> Answers {
    let rows =
        (0..3).flat_map(|row| (0..CLASSES).map(move |at| f32::from(u8::from(at == row * 7))));
    Answers::new(AnswerKind::Probabilities, CLASSES, rows.collect()).unwrap()
}

fn bytes_for(version: Version) -> Vec<u8> {
    lesson().pack_for(version, Precision::U8)
}

/// The plan as peers of a version are sent it.
fn plan_for(version: Version) -> RoundPlan {
    let bytes = bytes_for(version);
    let mut asked = plan(0);
    let knowledge = &mut asked.knowledge[0];
    (knowledge.blob, knowledge.bytes) = (Digest::of(&bytes), bytes.len() as u64);
    (knowledge.kind, knowledge.width) = (AnswerKind::Probabilities, CLASSES);
    knowledge.precision = Precision::U8;
    asked.report.as_mut().unwrap().width = CLASSES;
    asked
}

fn classes() -> Vec<String> {
    (0..CLASSES).map(|class| format!("class {class}")).collect()
}

fn welcome_in(epoch: u64, rolled_back: u64) -> Welcome {
    let mut welcome = welcome();
    welcome.transfer.classes = classes();
    (welcome.epoch, welcome.rolled_back) = (epoch, rolled_back);
    welcome
}

fn answers() -> Answers {
    let values = vec![0.25; 2 * CLASSES as usize];
    Answers::new(AnswerKind::Logits, CLASSES, values).unwrap()
}

/// One with the transfer set in hand, and what a process before has kept.
fn agent(finished: Option<Finished>) -> Agent {
    let mut agent = super::agent();
    agent.config.classes = classes();
    let set = set();
    let digest = Digest::of(&set.pack());
    agent.restore(0, finished);
    agent.hold(digest, Arc::new(Samples::from(set)));
    agent
}

/// Hears a plan and is given what comes with it, if it asks for that; what comes of it.
fn asked(agent: &mut Agent, plan: RoundPlan, bytes: &[u8]) -> Vec<Output> {
    let outputs = hear(agent, plan);
    match outputs[..] {
        [Output::Fetch { blob, .. }] => {
            assert_eq!(blob, Digest::of(bytes));
            // Whoever is asked twice fetches once.
            step(agent, Input::Fetched(blob, bytes.to_vec()))
        }
        _ => outputs,
    }
}

/// What one keeps that has answered the plan as peers of the oldest version are sent it; and itself.
fn answered() -> (Agent, Finished) {
    let mut agent = agent(None);
    step(&mut agent, Input::Connected);
    hear(&mut agent, welcome_in(0, 0));
    let version = Version::OLDEST;
    asked(&mut agent, plan_for(version), &bytes_for(version));
    let outputs = step(&mut agent, Input::Trained(plan(0).id, Ok(Some(answers()))));
    let [Output::Keep(Entry::Finished(finished)), ..] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    let finished = finished.clone();
    (agent, finished)
}

fn is_again(outputs: &[Output], finished: &Finished) -> bool {
    matches!(
        outputs,
        [Output::Offer(_), Output::Send(Message::Contribution(again))] if again.blob == finished.blob
    )
}

fn trains(outputs: &[Output]) -> bool {
    matches!(outputs, [.., Output::Train(_)])
}

#[test]
fn the_plan_that_is_answered_is_known_however_it_is_packed() {
    let [latest, oldest] = [Version::LATEST, Version::OLDEST].map(plan_for);
    assert_ne!(latest.knowledge, oldest.knowledge);
    let (here, finished) = answered();
    for counted in [false, true] {
        let finished = Finished {
            counted,
            ..finished.clone()
        };
        let mut later = agent(Some(finished.clone()));
        step(&mut later, Input::Connected);
        hear(&mut later, welcome_in(1, 0));
        for version in [Version::LATEST, Version::OLDEST, Version::LATEST] {
            let outputs = asked(&mut later, plan_for(version), &bytes_for(version));
            assert!(is_again(&outputs, &finished), "{version}: {outputs:?}");
            assert!(!later.offered().is_empty());
            // It is known to be asked from then on.
            assert_eq!(
                is_again(&back(&mut later, welcome_in(1, 0)), &finished),
                !counted
            );
        }
    }
    // The coordinator was updated, not this side.
    let mut here = here;
    back(&mut here, welcome_in(1, 0));
    let bytes = bytes_for(Version::LATEST);
    let outputs = asked(&mut here, plan_for(Version::LATEST), &bytes);
    assert!(is_again(&outputs, &finished), "{outputs:?}");
}

#[test]
fn another_plan_under_the_number_is_told_apart_however_it_is_packed() {
    let (_, finished) = answered();
    let bytes = bytes_for(Version::LATEST);
    for (counted, rolled_back) in [(false, 0), (true, 0), (true, 1)] {
        let mut later = agent(Some(Finished {
            counted,
            ..finished.clone()
        }));
        step(&mut later, Input::Connected);
        hear(&mut later, welcome_in(1, rolled_back));
        let mut other = plan_for(Version::LATEST);
        other.seed += 1;
        let outputs = asked(&mut later, other, &bytes);
        match counted && rolled_back == 0 {
            true => assert!(
                matches!(outputs[..], [Output::Leave { outdated: true, .. }]),
                "{outputs:?}"
            ),
            false => {
                assert!(
                    outputs.contains(&Output::Retract) && trains(&outputs),
                    "{outputs:?}"
                );
                assert!(later.offered().is_empty());
            }
        }
    }
}

#[test]
fn what_waits_to_be_told_apart_goes_with_its_connection_and_the_answer_stays() {
    let (_, finished) = answered();
    let mut later = agent(Some(finished.clone()));
    step(&mut later, Input::Connected);
    hear(&mut later, welcome_in(1, 0));
    let asks = plan_for(Version::LATEST);
    let blob = asks.knowledge[0].blob;
    assert!(matches!(
        hear(&mut later, asks.clone())[..],
        [Output::Fetch { .. }]
    ));
    assert!(
        hear(&mut later, asks.clone()).is_empty(),
        "it is fetched once"
    );
    assert_eq!(later.offered().len(), 1);
    step(&mut later, Input::Lost);
    assert!(later.wanted(blob).is_none());
    step(&mut later, Input::Connected);
    // One of another epoch than that which it answered gets nothing before it has asked the same.
    assert_eq!(hear(&mut later, welcome_in(1, 0)), []);
    hear(&mut later, asks);
    // The coordinator has it: it was what it asked for.
    let Finished {
        id, blob: given, ..
    } = finished;
    assert!(hear(&mut later, Receipt { id, blob: given }).contains(&Output::Counted(id)));
    assert!(later.wanted(blob).is_none());
    assert!(step(&mut later, Input::Fetched(blob, bytes_for(Version::LATEST))).is_empty());
}

#[test]
fn what_is_begun_goes_on_under_the_identity_that_it_was_begun_with() {
    let oldest = plan_for(Version::OLDEST);
    let begun = Begun {
        id: oldest.id,
        plan: oldest.identity().unwrap(),
    };
    let bytes = bytes_for(Version::LATEST);
    let goes_on = |change: fn(&mut RoundPlan)| {
        let mut later = agent(None);
        later.go_on(begun);
        step(&mut later, Input::Connected);
        hear(&mut later, welcome_in(1, 0));
        let mut asks = plan_for(Version::LATEST);
        change(&mut asks);
        let outputs = asked(&mut later, asks, &bytes);
        let [Output::Keep(Entry::Begun(kept)), Output::Train(job)] = &outputs[..] else {
            panic!("{outputs:?}");
        };
        assert_eq!(*kept, job.plan);
        // What came is known by the name that it came under.
        assert_eq!(later.known[0].0, Digest::of(&bytes));
        kept.identity().unwrap() == begun.plan
    };
    assert!(goes_on(|_| {}));
    assert!(!goes_on(|plan| plan.seed += 1));
    assert!(!goes_on(|plan| plan.id.attempt += 1));
}

#[test]
fn a_coordinator_gets_what_it_can_read() {
    let wide = || {
        let rows = (0..200usize).flat_map(|row| {
            let class = row * 7919 % 1009 % 100;
            (0..100).map(move |at| f32::from(u8::from(at == class)))
        });
        Answers::new(AnswerKind::Probabilities, 100, rows.collect()).unwrap()
    };
    for version in Version::ALL {
        let mut agent = super::agent();
        agent.speak(version);
        begin(&mut agent);
        let mut plan = plan(1);
        let report = plan.report.as_mut().unwrap();
        (report.kind, report.precision) = (AnswerKind::Probabilities, Precision::U8);
        hear(&mut agent, plan.clone());
        let outputs = step(&mut agent, Input::Trained(plan.id, Ok(Some(wide()))));
        let [Output::Offer(blobs), Output::Send(_)] = &outputs[..] else {
            panic!("{outputs:?}");
        };
        assert_eq!(blobs[0].1[..], wide().pack_for(version, Precision::U8)[..]);
        assert!(Answers::is_known_to(version, &blobs[0].1));
    }
}
