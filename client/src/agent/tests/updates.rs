//! Knowledge that comes, and answers that go, as what has changed of those before.

use super::*;

/// Lessons that differ from [`knowledge`] in one row of three.
fn changed() -> Answers {
    Answers::new(AnswerKind::Logits, 2, vec![1.0, 1.0, 7.0, 1.0, 1.0, 1.0]).unwrap()
}

/// A plan whose lessons come as an update of those of [`plan`], too; and that update.
fn plan_with_update(round: u32) -> (RoundPlan, Vec<u8>) {
    let (old, new) = (
        knowledge().pack(Precision::F32),
        changed().pack(Precision::F32),
    );
    let bytes = changed().update(&knowledge(), Precision::F32).unwrap();
    let mut plan = plan(round);
    plan.knowledge[0].blob = Digest::of(&new);
    plan.knowledge[0].update = Some(Update {
        base: Digest::of(&old),
        blob: Digest::of(&bytes),
        bytes: bytes.len() as u64,
    });
    (plan, bytes)
}

#[test]
fn what_is_held_need_only_be_updated() {
    let mut agent = at_work();
    let (plan, update) = plan_with_update(1);
    let outputs = hear(&mut agent, plan.clone());
    let blob = Digest::of(&update);
    assert!(
        matches!(outputs[..], [Output::Cancel(_), Output::Fetch { blob: asked, .. }] if asked == blob),
        "{outputs:?}"
    );
    let outputs = step(&mut agent, Input::Fetched(blob, update));
    let [Output::Train(job)] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!(*job.knowledge[0], changed());
}

#[test]
fn an_update_that_leads_elsewhere_is_made_up_for_by_the_whole() {
    let mut agent = at_work();
    let (plan, _) = plan_with_update(1);
    let update = knowledge().update(&knowledge(), Precision::F32).unwrap();
    hear(&mut agent, plan.clone());
    let asked = plan.knowledge[0].update.unwrap().blob;
    let outputs = step(&mut agent, Input::Fetched(asked, update));
    let whole = plan.knowledge[0].blob;
    assert!(
        matches!(outputs[..], [Output::Fetch { blob, .. }] if blob == whole),
        "{outputs:?}"
    );
    let outputs = step(
        &mut agent,
        Input::Fetched(whole, changed().pack(Precision::F32)),
    );
    assert!(matches!(outputs[..], [Output::Train(_)]), "{outputs:?}");
}

#[test]
fn who_does_not_hold_the_base_fetches_the_whole() {
    let mut agent = agent();
    agent.hold(Digest::of(&set().pack()), Arc::new(set().into()));
    step(&mut agent, Input::Connected);
    hear(&mut agent, welcome());
    let (plan, _) = plan_with_update(0);
    let outputs = hear(&mut agent, plan.clone());
    assert!(
        matches!(outputs[..], [Output::Fetch { blob, .. }] if blob == plan.knowledge[0].blob),
        "{outputs:?}"
    );
}

/// What an agent says once it has trained for a plan that takes updates.
fn contributed(agent: &mut Agent, round: u32, answers: Answers) -> (Contribution, Vec<Blob>) {
    let mut plan = plan(round);
    plan.report.as_mut().unwrap().update = true;
    hear(agent, plan.clone());
    let outputs = step(agent, Input::Trained(plan.id, Ok(Some(answers))));
    let [
        Output::Offer(blobs),
        Output::Send(Message::Contribution(contribution)),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    (*contribution, blobs.clone())
}

#[test]
fn only_what_counted_is_updated() {
    let long = |first: f32| {
        let rows = (0..200).flat_map(|row| [first, row as f32]).collect();
        Answers::new(AnswerKind::Logits, 2, rows).unwrap()
    };
    let mut agent = at_work();
    let (first, blobs) = contributed(&mut agent, 1, long(1.0));
    assert_eq!((first.update, blobs.len()), (None, 1));
    // No receipt has come: who knows what the other side has.
    let (second, _) = contributed(&mut agent, 2, long(1.0));
    assert_eq!(second.update, None);
    let (id, blob) = (second.id, second.blob);
    hear(&mut agent, Receipt { id, blob });
    let (third, blobs) = contributed(&mut agent, 3, long(1.0));
    let update = third.update.unwrap();
    assert_eq!((update.base, blobs.len()), (second.blob, 2));
    assert_eq!(blobs[1].0, update.blob);
    assert_eq!(long(1.0).updated(&blobs[1].1).unwrap(), long(1.0));
}
