//! Plans that no client could follow: each is one thing away from a fair one.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use fedistill_protocol::{
    About, AnswerKind, Answers, Digest, Knowledge, Loss, LossTerm, Optimiser, Phase, PhaseData,
    Precision, Ramp, Report, RoundId, RoundPlan, Rounding, Rows, Silence, Start, Toward, Update,
};

const SAMPLES: u32 = 1 << 26;
const CLASSES: u32 = 3;
const ROWS: Rows = Rows::Range { start: 8, count: 4 };

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

/// Distillation of four samples' logits, then private training.
fn fair() -> RoundPlan {
    let phase = |data, loss, toward| Phase {
        start: Start::Continue,
        data,
        only: None,
        epochs: 1,
        batch: 10,
        objective: vec![LossTerm::new(loss, toward)],
        optimiser: Optimiser::Sgd {
            learning_rate: 0.1,
            momentum: 0.0,
        },
    };
    let held = Loss::HeldCrossEntropy { adjust: 1.0 };
    RoundPlan {
        federation: "wards".parse().unwrap(),
        id: RoundId {
            round: 1,
            attempt: 0,
        },
        transfer: digest(1),
        seed: 1,
        knowledge: vec![Knowledge {
            blob: digest(2),
            bytes: 60,
            kind: AnswerKind::Logits,
            width: CLASSES,
            about: About::Rows(ROWS),
            precision: Precision::F32,
            update: Some(Update {
                base: digest(3),
                blob: digest(4),
                bytes: 60,
            }),
        }],
        phases: vec![
            phase(PhaseData::Transfer, Loss::L1, Toward::Knowledge),
            phase(PhaseData::Private, held, Toward::Labels),
        ],
        report: Some(Report {
            kind: AnswerKind::Logits,
            about: About::Rows(ROWS),
            width: CLASSES,
            precision: Precision::F32,
            rounding: Rounding::Nearest,
            adjust: 1.0,
            silence: Silence::Never,
            update: true,
        }),
        deadline_ms: 1000,
        cohort: 2,
    }
}

/// What is wrong with a plan once it is changed so; nothing where it is still fair.
fn fault(change: impl FnOnce(&mut RoundPlan)) -> Option<String> {
    let mut plan = fair();
    change(&mut plan);
    let checked = plan.check(digest(1), SAMPLES, CLASSES);
    checked.err().map(|error| error.to_string())
}

fn refused(change: impl FnOnce(&mut RoundPlan), why: &str) {
    let fault = fault(change);
    assert!(
        fault.as_ref().is_some_and(|fault| fault.contains(why)),
        "{fault:?}, expected {why}"
    );
}

#[test]
fn nothing_is_wrong_with_the_fair_one() {
    assert_eq!(fault(|_| {}), None);
}

/// Header, flags of four rows (4 bytes and 1), and 12 values of 4 bytes: 65 bytes at most.
#[test]
fn what_comes_down_is_no_longer_than_its_rows_may_take() {
    let update = |bytes| {
        move |plan: &mut RoundPlan| plan.knowledge[0].update.as_mut().unwrap().bytes = bytes
    };
    assert_eq!(fair().knowledge[0].most_bytes(CLASSES), 65);
    assert_eq!(fault(update(65)), None);
    refused(update(66), "knowledge of 66 bytes about 4 rows");
    refused(update(u64::MAX), "knowledge of 18446744073709551615 bytes");
    assert_eq!(fault(|plan| plan.knowledge[0].bytes = 65), None);
    refused(|plan| plan.knowledge[0].bytes = 66, "knowledge of 66 bytes");
}

/// 2^26 values: more could not be unpacked, whoever packed them.
#[test]
fn what_comes_down_or_goes_up_has_no_more_values_than_can_be_unpacked() {
    let most = (Answers::MOST_VALUES / u64::from(CLASSES)) as u32;
    let about = |count| About::Rows(Rows::Range { start: 0, count });
    let down = |count| move |plan: &mut RoundPlan| plan.knowledge[0].about = about(count);
    let up = |count| move |plan: &mut RoundPlan| plan.report.as_mut().unwrap().about = about(count);
    assert_eq!((fault(down(most)), fault(up(most))), (None, None));
    refused(down(most + 1), "knowledge of 60 bytes about 22369622 rows");
    refused(
        up(most + 1),
        "report asks for 67108866 values, more than 67108864",
    );
    // Of classes too, whose rows have as many values as a student has features, which have a bound of their own.
    let features = |width| {
        move |plan: &mut RoundPlan| {
            let report = plan.report.as_mut().unwrap();
            report.kind = AnswerKind::Features;
            report.about = About::Classes;
            report.width = width;
        }
    };
    let widest = Knowledge::MOST_FEATURES;
    assert_eq!(fault(features(widest)), None);
    refused(features(widest + 1), "report asks for features 8193 wide");
    refused(features(u32::MAX), "report asks for 12884901885 values");
}

#[test]
fn only_transfer_samples_are_chosen_among() {
    let only = |phase: usize| move |plan: &mut RoundPlan| plan.phases[phase].only = Some(ROWS);
    assert_eq!(fault(only(0)), None);
    refused(only(1), "phase 1 chooses among private samples");
}

#[test]
fn weights_and_adjustments_are_within_their_ranges() {
    let fall = |factor| {
        move |plan: &mut RoundPlan| plan.phases[0].objective[0].ramp = Ramp::Fall { factor }
    };
    for factor in [f32::MIN_POSITIVE, 0.5, 1.0] {
        assert_eq!(fault(fall(factor)), None);
    }
    for factor in [0.0, -0.5, 1.000_001, f32::INFINITY, f32::NAN] {
        refused(fall(factor), "phase 0 has Fall");
    }
    let rise = |epochs| {
        move |plan: &mut RoundPlan| plan.phases[0].objective[0].ramp = Ramp::Rise { epochs }
    };
    assert_eq!(fault(rise(1)), None);
    refused(rise(0), "phase 0 has Rise");
    let adjust = |adjust| {
        move |plan: &mut RoundPlan| {
            plan.phases[1].objective[0].loss = Loss::HeldCrossEntropy { adjust };
        }
    };
    let up = |adjust| move |plan: &mut RoundPlan| plan.report.as_mut().unwrap().adjust = adjust;
    for value in [0.0, 4.0] {
        assert_eq!((fault(adjust(value)), fault(up(value))), (None, None));
    }
    for value in [-0.1, 4.01, f32::INFINITY, f32::NAN] {
        refused(adjust(value), "phase 1 has HeldCrossEntropy");
        refused(up(value), "report is adjusted");
    }
}

/// A student whose features are of another width learns a map to these: of as many as an answer may have, 17 GB of it.
#[test]
fn features_that_students_are_taught_have_a_width_that_a_map_may_have() {
    let hint = |width, batch| {
        move |plan: &mut RoundPlan| {
            plan.knowledge[0].kind = AnswerKind::Features;
            plan.knowledge[0].about = About::Rows(ROWS);
            plan.knowledge[0].width = width;
            plan.phases[0].objective = vec![LossTerm::new(Loss::Features, Toward::Knowledge)];
            plan.phases[0].batch = batch;
        }
    };
    let widest = Knowledge::MOST_FEATURES;
    assert_eq!(fault(hint(widest, 8192)), None);
    refused(
        hint(widest + 1, 1),
        "of features 8193 wide, which may be at most 8192",
    );
    refused(
        hint(widest, 8193),
        "holds 67117056 values at a time, more than 67108864: it has a batch of 8193",
    );
}

/// A device holds all that comes down before it trains, and a blob of equal values is of a hundred bytes.
#[test]
fn all_knowledge_together_is_bounded() {
    let most = (Answers::MOST_VALUES / u64::from(CLASSES)) as u32;
    let split = |more: u32| {
        move |plan: &mut RoundPlan| {
            let mut second = plan.knowledge[0].clone();
            second.about = About::Rows(Rows::Range {
                start: 0,
                count: most / 2 + more,
            });
            plan.knowledge[0].about = About::Rows(Rows::Range {
                start: 0,
                count: most - most / 2,
            });
            plan.knowledge.push(second);
        }
    };
    assert_eq!(fault(split(0)), None);
    refused(
        split(1),
        "all its knowledge is of 67108866 values, more than 67108864",
    );
}

/// Memory grows with the square of such a batch: of as many samples as a number of 16 bits can name it takes 34 GB.
#[test]
fn batches_in_which_each_sample_is_held_against_all_others_are_small() {
    let toward_before = |loss, batch| {
        move |plan: &mut RoundPlan| {
            plan.phases[0].objective = vec![LossTerm::new(loss, Toward::Before)];
            plan.phases[0].batch = batch;
        }
    };
    let relational = Loss::Relational {
        distance: 1.0,
        angle: 2.0,
    };
    for loss in [Loss::Similarity, relational] {
        assert_eq!(fault(toward_before(loss, Phase::MOST_PAIRED)), None);
        refused(toward_before(loss, 513), "which may have at most 512");
    }
    assert_eq!(fault(toward_before(Loss::Features, u16::MAX)), None);
    // Angles are of three at a time.
    let taught = |loss, batch, width| {
        move |plan: &mut RoundPlan| {
            let knowledge = &mut plan.knowledge[0];
            (knowledge.kind, knowledge.width) = (AnswerKind::Features, width);
            plan.phases[0].objective = vec![LossTerm::new(loss, Toward::Knowledge)];
            plan.phases[0].batch = batch;
        }
    };
    assert_eq!(fault(taught(relational, 512, 512)), None);
    assert_eq!(fault(taught(relational, 128, 8192)), None);
    refused(
        taught(relational, 512, 513),
        "batches of 512 and features 513 wide",
    );
    assert_eq!(fault(taught(Loss::Similarity, 512, 8192)), None);
}

/// A plan of a megabyte has room for tens of thousands of each, and each is a look at all samples or a part of each step.
#[test]
fn phases_and_terms_have_a_number() {
    let phases =
        |count| move |plan: &mut RoundPlan| plan.phases = vec![plan.phases[1].clone(); count];
    assert_eq!(fault(phases(RoundPlan::MOST_PHASES)), None);
    refused(
        phases(RoundPlan::MOST_PHASES + 1),
        "it has 17 phases, more than 16",
    );
    let terms = |count| {
        move |plan: &mut RoundPlan| {
            let objective = &mut plan.phases[0].objective;
            *objective = vec![objective[0]; count];
        }
    };
    assert_eq!(fault(terms(Phase::MOST_TERMS)), None);
    refused(
        terms(Phase::MOST_TERMS + 1),
        "phase 0 has a loss of 17 terms, more than 16",
    );
}
