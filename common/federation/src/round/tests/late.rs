//! Late contributions to the round before. It asked all five clients and has none of 3 and 4.

use fedistill_protocol::{About, Precision, Report, RoundPlan, Rounding, Rows, Silence};

use super::*;
use crate::{Before, Folding};

const BEFORE: RoundId = RoundId {
    round: 2,
    attempt: 1,
};

/// Asks about two samples, of which the open round asks about the latter.
fn report(rows: &[u32]) -> Report {
    Report {
        kind: AnswerKind::Logits,
        about: About::Rows(Rows::of(rows.to_vec())),
        width: CLIENTS,
        precision: Precision::F32,
        rounding: Rounding::Nearest,
        adjust: 0.0,
        silence: Silence::Never,
        update: false,
    }
}

fn folding(before: bool) -> Folding {
    let plan = RoundPlan {
        federation: name(0),
        id: BEFORE,
        transfer: Digest::of(b"set"),
        seed: 0,
        knowledge: Vec::new(),
        phases: Vec::new(),
        report: Some(report(&[3, 8])),
        deadline_ms: 1,
        cohort: CLIENTS,
    };
    let missing = [(name(3), 1), (name(4), 2)].into();
    Folding {
        exponent: 1.0,
        report: Some(report(&[8])),
        before: before.then_some(Before { plan, missing }),
    }
}

fn driver() -> Driver {
    Driver::of(RoundConfig {
        folding: Some(folding(true)),
        ..config()
    })
}

/// What it says of the sample that both rounds ask about is a one of its own.
fn late_of(client: u32, id: RoundId, blob: &[u8]) -> Input {
    let other = vec![9.0; CLIENTS as usize];
    let values = [other, one_hot(client).values().to_vec()].concat();
    Input::Contributed {
        client: name(client),
        id,
        blob: Digest::of(blob),
        answers: Some(Answers::new(AnswerKind::Logits, CLIENTS, values).unwrap()),
    }
}

fn late(client: u32) -> Input {
    late_of(client, BEFORE, b"late")
}

fn receipts_of(driver: &Driver) -> Vec<(Name, RoundId)> {
    let receipt = |(to, message): &(Name, Message)| match message {
        Message::Receipt(receipt) => Some((to.clone(), receipt.id)),
        _ => None,
    };
    driver.sent.iter().filter_map(receipt).collect()
}

#[test]
fn a_late_contribution_counts_once_for_less_and_not_for_the_quorum() {
    let mut driver = driver();
    driver.give(late(4));
    driver.give(late(4));
    assert!(receipts_of(&driver).is_empty(), "it is not on disk yet");
    driver.store();
    driver.give(late(4));
    assert_eq!(receipts_of(&driver), [(name(4), BEFORE), (name(4), BEFORE)]);
    // One is less than the quorum's two, with or without the late one.
    driver.give(contribution(0));
    driver.wait(15);
    driver.store();
    assert!(driver.outcomes.is_empty());
    driver.give(contribution(1));
    driver.store();
    let committed = driver.committed().unwrap();
    assert_eq!(committed.contributors, [name(0), name(1)]);
    let folded = Folded {
        of: BEFORE,
        blob: Digest::of(b"late"),
    };
    assert_eq!(committed.late, [(name(4), folded)].into());
    // A weight of 2, halved, beside two of 1.
    let third = 1.0 / 3.0;
    assert_eq!(
        committed.sum.mean().unwrap(),
        [third, third, 0.0, 0.0, third]
    );
}

#[test]
fn who_was_late_may_contribute_to_the_open_round_too() {
    let mut driver = driver();
    driver.give(late(3));
    driver.give(contribution(3));
    driver.give(contribution(0));
    driver.wait(10);
    driver.store();
    let receipts = [(name(3), BEFORE), (name(3), ID), (name(0), ID)];
    assert_eq!(receipts_of(&driver), receipts);
    let committed = driver.committed().unwrap();
    assert_eq!(committed.contributors, [name(0), name(3)]);
    assert_eq!(
        committed.sum.mean().unwrap(),
        [0.4, 0.0, 0.0, 0.6, 0.0].map(|share: f32| share)
    );
}

#[test]
fn only_who_is_missing_is_awaited_and_only_in_the_round_before() {
    let mut driver = driver();
    driver.give(late(0));
    let earlier = RoundId {
        round: 2,
        attempt: 0,
    };
    driver.give(late_of(3, earlier, b"late"));
    driver.give(late_of(3, BEFORE, b"late"));
    driver.give(late_of(3, BEFORE, b"another"));
    use RejectReason::{Conflict, WrongRound};
    assert_eq!(driver.rejections(), [WrongRound, WrongRound, Conflict]);
    driver.store();
    assert_eq!(receipts_of(&driver), [(name(3), BEFORE)]);
}

#[test]
fn what_cannot_be_folded_is_refused_and_changes_nothing() {
    let elsewhere = Folding {
        report: Some(report(&[9])),
        ..folding(true)
    };
    let mut driver = Driver::of(RoundConfig {
        folding: Some(elsewhere),
        ..config()
    });
    driver.give(late(3));
    // A row too few, which the transport would not let through.
    let Input::Contributed {
        client, id, blob, ..
    } = late(4)
    else {
        unreachable!()
    };
    let answers = Some(one_hot(4));
    driver.give(Input::Contributed {
        client,
        id,
        blob,
        answers,
    });
    let silent = Folding {
        report: None,
        ..folding(true)
    };
    use RejectReason::{Malformed, TooLate};
    assert_eq!(driver.rejections(), [TooLate, Malformed]);
    let mut driver = Driver::of(RoundConfig {
        folding: Some(silent),
        ..config()
    });
    driver.give(late(3));
    assert_eq!(driver.rejections(), [TooLate]);
    driver.give(contribution(0));
    driver.give(contribution(1));
    driver.wait(10);
    driver.store();
    assert_eq!(driver.committed().unwrap().late, BTreeMap::new());
    driver.give(late(4));
    assert_eq!(driver.rejections(), [TooLate, TooLate]);
}

#[test]
fn late_contributions_survive_a_crash() {
    let mut driver = driver();
    driver.give(late(3));
    driver.store();
    driver.give(late(4));
    // The log says what is awaited; nobody else remembers.
    driver.config.folding = Some(folding(false));
    driver.crash();
    driver.give(late(3));
    assert_eq!(receipts_of(&driver), [(name(3), BEFORE), (name(3), BEFORE)]);
    driver.give(late(4));
    driver.give(contribution(0));
    driver.give(contribution(1));
    driver.wait(10);
    driver.store();
    let committed = driver.committed().unwrap();
    assert_eq!(committed.late.len(), 2);
    driver.crash();
    assert_eq!(driver.committed(), Some(committed.clone()));
    // By then late ones are refused: those that count do so as before.
    driver.config.folding = None;
    driver.crash();
    assert_eq!(driver.committed(), Some(committed));
}

#[test]
fn a_late_one_that_waits_for_the_disk_as_its_round_closes_is_in_it() {
    let mut driver = driver();
    driver.give(contribution(0));
    driver.give(contribution(1));
    driver.give(contribution(2));
    driver.give(late(3));
    driver.give(contribution(4));
    driver.give(late(4));
    assert_eq!(driver.rejections(), [RejectReason::TooLate]);
    driver.store();
    let late = driver.committed().unwrap().late;
    assert_eq!(late.into_keys().collect::<Vec<_>>(), [name(3)]);
    let receipts = receipts_of(&driver);
    assert!(receipts.contains(&(name(3), BEFORE)), "{receipts:?}");
}
