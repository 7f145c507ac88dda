//! A coordinator that has begun anew means something else by a number that was there before.

use super::*;

#[test]
fn another_plan_of_the_same_number_takes_the_place_of_the_one_at_work() {
    let mut agent = at_work();
    back(&mut agent, welcome());
    assert_eq!(hear(&mut agent, plan(0)), []);
    // As of a coordinator that has lost its state and began anew.
    let mut other = plan(0);
    other.seed += 1;
    let outputs = hear(&mut agent, other.clone());
    assert!(
        matches!(&outputs[..], [Output::Cancel(_), Output::Train(job)] if *job.plan == other),
        "{outputs:?}"
    );
    let outputs = step(&mut agent, Input::Trained(other.id, Ok(Some(answers()))));
    assert_eq!(sent(&outputs).len(), 1, "{outputs:?}");
}

#[test]
fn who_begins_anew_gets_no_answer_that_another_has_asked_for() {
    let later = || Welcome {
        epoch: 2,
        ..welcome()
    };
    // Its training ends before, or after the other one is there: nothing is said until that has asked.
    for early in [true, false] {
        let mut agent = at_work();
        step(&mut agent, Input::Lost);
        let trained = Input::Trained(plan(0).id, Ok(Some(answers())));
        if early {
            step(&mut agent, trained.clone());
        }
        step(&mut agent, Input::Connected);
        assert_eq!(sent(&hear(&mut agent, later())), Vec::<&Message>::new());
        if !early {
            let outputs = step(&mut agent, trained);
            assert_eq!(sent(&outputs), Vec::<&Message>::new());
        }
        let outputs = hear(&mut agent, plan(0));
        assert!(
            matches!(sent(&outputs)[..], [Message::Contribution(_)]),
            "{outputs:?}"
        );
        // From then on it is known to be asked.
        assert_eq!(sent(&back(&mut agent, later())).len(), 1);
    }
}

/// It asks for the same while that is at work: then it is its answer too.
#[test]
fn who_asks_for_what_is_at_work_gets_the_answer_when_it_is_done() {
    let later = Welcome {
        epoch: 2,
        ..welcome()
    };
    let mut agent = at_work();
    back(&mut agent, later);
    assert_eq!(hear(&mut agent, plan(0)), []);
    let outputs = trained(&mut agent);
    assert!(
        matches!(sent(&outputs)[..], [Message::Contribution(_)]),
        "{outputs:?}"
    );
}
