//! What is wrong, and what is not, where a coordinator's state was lost or put back.

use super::*;

/// A client that a first coordinator asked for these rounds, in epoch 40, and then a second one, in epoch 90, for others; plans and
/// answers of the second are other ones.
fn asked_by_two(first: &[u32], second: &[u32], coordinator: Option<CoordinatorRecord>) -> Records {
    let rounds = |rounds: &[u32], epoch| {
        let lines = rounds.iter().flat_map(move |round| {
            let lines = [What::Begun, What::Finished].map(|what| line(what, *round, 0, epoch));
            lines.map(|mut line| {
                line.plan = Some(format!("plan {round}.0 of {epoch}"));
                let own = blob("ward-1", *round + epoch as u32).to_string();
                line.blob = line.blob.map(|_| own);
                line
            })
        });
        lines.collect::<Vec<Line>>()
    };
    Records {
        coordinator,
        clients: vec![ClientRecord {
            name: "ward-1".to_owned(),
            lines: [rounds(first, 40), rounds(second, 90)].concat(),
        }],
    }
}

/// Begun in this epoch, and put back in that one, if ever.
fn state(first: u64, rolled_back: u64) -> Option<CoordinatorRecord> {
    Some(CoordinatorRecord {
        epoch: 91,
        first,
        rolled_back,
        ..CoordinatorRecord::default()
    })
}

#[test]
fn a_state_that_was_begun_anew_is_named_and_breaks_no_promise_of_clients() {
    let anew = asked_by_two(&[0, 1], &[0, 1], state(90, 0));
    let report = verify(&anew, None);
    assert_eq!(report.broken, []);
    let anew = "the coordinator's state was lost and begun anew in epoch 90";
    let noted = [
        format!("ward-1 was at round 1.0 in epoch 40, then at 0.0 in epoch 90: {anew}"),
        format!(
            "ward-1 was asked two plans of round 0.0, in epochs 40 and 90, and answered each: {anew}; 1 more rounds likewise"
        ),
    ];
    let mut found = report.noted.clone();
    found.sort_by_key(|line| !line.contains("was at round"));
    assert_eq!(found, noted);
    assert!(
        report
            .to_string()
            .contains("noted: ward-1 was asked two plans")
    );
    // Put back, or nobody knows what.
    for (coordinator, why) in [
        (state(30, 60), "was put back in epoch 60"),
        (state(30, 90), "was put back in epoch 90"),
        (state(0, 0), "begun anew between them, or put back"),
        (state(91, 0), "begun anew between them, or put back"),
        (state(30, 91), "begun anew between them, or put back"),
        (None, "begun anew between them, or put back"),
    ] {
        let report = verify(&asked_by_two(&[0], &[0], coordinator), None);
        assert_eq!(report.broken, [], "{why}");
        assert_eq!(report.noted.len(), 1, "{why}");
        assert!(report.noted[0].ends_with(why), "{:?}: {why}", report.noted);
    }
}

#[test]
fn under_one_state_a_number_is_one_plan_whoever_asks() {
    for coordinator in [state(40, 0), state(30, 40)] {
        let report = verify(&asked_by_two(&[0], &[0], coordinator), None);
        assert_eq!(report.noted, [""; 0]);
        let how: Vec<_> = report.broken.iter().map(|b| b.how.as_str()).collect();
        let expected = [
            "ward-1 trained for round 0.0 after it had answered",
            "ward-1 gave two answers to round 0.0",
        ];
        assert_eq!(how, expected);
    }
    let report = verify(&asked_by_two(&[3], &[1], state(40, 0)), None);
    assert_eq!(report.broken[0].invariant, Invariant::Forward);
}

/// What one coordinator asked for is mostly answered in its own epoch; where another one came meanwhile, the journal says so.
#[test]
fn an_answer_is_held_against_who_asked_for_it() {
    let mut records = asked_by_two(&[0], &[0], state(90, 0));
    let first = &mut records.clients[0].lines[1];
    (first.epoch, first.asked_in) = (90, Some(40));
    let report = verify(&records, None);
    assert_eq!((report.broken.len(), report.noted.len()), (0, 1));
    // One process asks one plan, be the state begun anew or not.
    records.clients[0].lines[1].asked_in = None;
    let report = verify(&records, None);
    assert_eq!((report.broken.len(), report.noted.len()), (2, 0));
}

#[test]
fn the_same_plan_may_be_answered_again_only_where_a_state_was_lost() {
    let again = |coordinator, epoch| {
        let mut records = asked_by_two(&[0], &[0], coordinator);
        for line in &mut records.clients[0].lines {
            line.plan = Some("plan".to_owned());
            line.epoch = line.epoch.max(epoch);
        }
        verify(&records, None)
    };
    let lost = again(state(90, 0), 0);
    assert_eq!(lost.broken, []);
    assert!(lost.noted[0].starts_with("ward-1 was asked for round 0.0 twice"));
    for kept in [
        again(state(30, 0), 0),
        again(state(90, 0), 90),
        again(None, 90),
    ] {
        assert_eq!((kept.broken.len(), kept.noted.len()), (2, 0), "{kept}");
    }
}

#[test]
fn a_receipt_that_a_lost_state_has_taken_along_says_so() {
    let mut records = asked_by_two(&[0], &[], state(90, 0));
    let lines = &mut records.clients[0].lines;
    let mut counted = lines[1].clone();
    counted.what = What::Counted;
    lines.push(counted);
    let report = verify(&records, None);
    assert_eq!(report.broken.len(), 1);
    let expected = "knows nothing: it was counted in epoch 40, the coordinator's state was lost and begun anew in epoch 90";
    assert!(report.broken[0].how.ends_with(expected), "{report}");
    records.coordinator = state(40, 0);
    let report = verify(&records, None);
    assert!(report.broken[0].how.ends_with("knows nothing"), "{report}");
}
