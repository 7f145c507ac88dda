//! Methods that speak about transfer samples, the same to all clients.

use super::*;

#[test]
fn logit_mean_hears_a_client_that_knows_a_class_apart() {
    // Two clients know nothing of class 2 and are mildly wrong; one is sure of it.
    let all = [[1.0, 0.0, -1.0], [0.5, 0.5, -1.0], [-3.0, -3.0, 6.0]]
        .map(|row| answers(AnswerKind::Logits, &row));
    let mean = aggregate(&*named("logit-mean"), &all, None);
    for (value, expected) in mean.iter().zip([-0.5, -5.0 / 6.0, 4.0 / 3.0]) {
        assert!((value - expected).abs() < 1e-6, "{mean:?}");
    }
}

#[test]
fn logit_mean_does_not_notice_a_shift_and_bounds_every_vote() {
    let plain = answers(AnswerKind::Logits, &[1.0, 2.0, -3.0]);
    let shifted = answers(AnswerKind::Logits, &[101.0, 102.0, 97.0]);
    let method = named("logit-mean");
    assert_eq!(
        aggregate(&*method, &[plain], None),
        aggregate(&*method, &[shifted], None)
    );
    let wild = answers(AnswerKind::Logits, &[3e38, -3e38, 0.0]);
    assert_eq!(aggregate(&*method, &[wild], None), [20.0, -20.0, 0.0]);
}

#[test]
fn a_teacher_votes_as_heavily_as_it_is_told_if_it_knows_something() {
    let client = answers(AnswerKind::Logits, &[3.0, -3.0, 0.0]);
    let says = Some(vec![-3.0, 3.0, 0.0]);
    for (says, weight, first) in [
        (says.clone(), 0, 3.0),
        (says.clone(), 1, 0.0),
        (says, 2, -1.0),
        (None, 2, 3.0),
    ] {
        let method = named(&format!("logit-mean,teacher-weight={weight}"));
        let mut sage = Sage {
            says,
            learnt: Vec::new(),
        };
        let mean = aggregate(&*method, std::slice::from_ref(&client), Some(&mut sage));
        assert!((mean[0] - first).abs() < 1e-6, "{mean:?}");
        assert_eq!(sage.learnt[0].values(), mean);
    }
}

#[test]
fn probabilities_are_put_back_on_the_simplex() {
    let cheat = answers(AnswerKind::Probabilities, &[8.0, 0.0, 0.0]);
    let honest = answers(AnswerKind::Probabilities, &[0.0, 0.5, 0.5]);
    let mean = aggregate(&*named("ds-fl:sa"), &[cheat, honest.clone()], None);
    assert_eq!(mean, [0.5, 0.25, 0.25]);
    // Who says nothing does not count.
    let nothing = answers(AnswerKind::Probabilities, &[0.0, 0.0, 0.0]);
    assert_eq!(
        aggregate(&*named("ds-fl:sa"), &[nothing, honest], None),
        [0.0, 0.5, 0.5]
    );
}

/// DS-FL (Itahara et al. 2020) and SCARLET (Azuma et al. 2025): softmax(mean / T) of probabilities, and mean^beta scaled
/// to sum to 1.
#[test]
fn ds_fl_sharpens_a_mean_of_probabilities() {
    let all = said(
        AnswerKind::Probabilities,
        &[[0.1, 0.2, 0.7], [0.3, 0.4, 0.3]],
    );
    let mean = [0.2, 0.3, 0.5];
    // At T = 0.1 exponents are 2, 3 and 5: e^-3, e^-2 and 1 over their sum, 1.185122.
    let era = [0.042_010, 0.114_195, 0.843_795];
    // 0.04, 0.09 and 0.25 over their sum.
    let enhanced = [0.04 / 0.38, 0.09 / 0.38, 0.25 / 0.38];
    for (name, expected) in [
        ("ds-fl:sa", mean),
        ("ds-fl:era", era),
        ("ds-fl:enhanced-era", enhanced),
        ("ds-fl:enhanced-era,beta=1", mean),
    ] {
        let mut sage = blank();
        let state = round(&*named(name), &all, Some(&mut sage));
        close(&common(&state), &expected);
        assert_eq!(sage.learnt[0].values(), common(&state));
    }
}

proptest! {
    #[test]
    fn enhanced_aggregation_at_one_is_simple_aggregation_to_the_bit(
        raw in prop::collection::vec(0.001f32..1.0, 90),
    ) {
        let all: Vec<Answers> =
            raw.chunks(30).map(|values| answers(AnswerKind::Probabilities, values)).collect();
        let simple = aggregate(&*named("ds-fl:sa"), &all, None);
        let at_one = aggregate(&*named("ds-fl:enhanced-era,beta=1"), &all, None);
        prop_assert_eq!(at_one, simple);
    }
}

#[test]
fn the_majority_of_those_that_vote_decides() {
    let vote = |row: [f32; 6]| answers(AnswerKind::Probabilities, &row);
    let all = [
        vote([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        vote([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
        vote([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
    ];
    // Nobody speaks of the second sample, so nothing is said of it.
    let voted = aggregate(&*named("vote"), &all, None);
    assert_eq!(voted, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
}

/// FedMD (Li and Wang 2019): the mean of logits as they are.
#[test]
fn fedmd_takes_the_mean_of_logits_up_to_64() {
    let all = said(
        AnswerKind::Logits,
        &[[30.0, -100.0, 0.5], [10.0, 0.0, -2.5]],
    );
    let mut sage = blank();
    let mean = aggregate(&*named("fedmd"), &all, Some(&mut sage));
    // (30 + 10) / 2, (-64 + 0) / 2, (0.5 - 2.5) / 2.
    assert_eq!(mean, [20.0, -32.0, -1.0]);
    assert_eq!(sage.learnt[0].values(), mean);
}

/// A teacher that has logits of 2 ln 2 times what it has learnt last.
#[derive(Default)]
struct Pupil {
    learnt: Vec<Answers>,
}

impl Centre for Pupil {
    fn answer(&mut self, rows: &Rows) -> Result<Answers, CentreError> {
        let logits = match self.learnt.last() {
            Some(labels) => labels.values().iter().map(|p| p * 4.0f32.ln()).collect(),
            None => vec![0.0; 3 * rows.count() as usize],
        };
        Ok(Answers::new(AnswerKind::Logits, 3, logits)?)
    }

    fn learn(&mut self, _: &Rows, labels: &Answers) -> Result<(), CentreError> {
        self.learnt.push(labels.clone());
        Ok(())
    }

    fn is_trained(&self) -> bool {
        false
    }
}

/// CFD (Sattler et al. 2022): the server's model learns the mean, and what it says then comes down.
#[test]
fn cfd_teaches_what_its_model_has_learnt() {
    let all = said(
        AnswerKind::Probabilities,
        &[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    );
    let mean = [0.5, 0.5, 0.0];
    // Logits of ln 2, ln 2 and 0: 2, 2 and 1 over 5.
    for (name, expected) in [("cfd", [0.4, 0.4, 0.2]), ("cfd,dual=0", mean)] {
        let method = named(name);
        let (mut pupil, mut state) = (Pupil::default(), State::default());
        let rows = Rows::Range { start: 0, count: 1 };
        go_on(
            &*method,
            &outlook(&rows),
            &all,
            Some(&mut pupil),
            &mut state,
        );
        close(&common(&state), &expected);
        assert_eq!(pupil.learnt.len(), 1);
        close(pupil.learnt[0].values(), &mean);
        // Without a teacher there is the mean alone.
        close(&aggregate(&*method, &all, None), &mean);
    }
}

/// Selective-FD (Shao et al. 2023): a sample is left out where the L1 distance of the mean, over those that speak, from
/// its most likely class is above tau.
#[test]
fn selective_leaves_out_what_is_ambiguous() {
    let all = said(
        AnswerKind::Probabilities,
        &[
            [0.6, 0.4, 0.0, 0.9, 0.1, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.6, 0.2, 0.2, 0.0, 0.5, 0.5, 0.0, 1.0, 0.0, 0.0, 0.25, 0.75],
        ],
    );
    // Distances are 0.4 + 0.3 + 0.1 = 0.8, 0.55 + 0.3 + 0.25 = 1.1, 0.5 + 0.5 = 1 and 0.25 + 0.25 = 0.5.
    let means = [
        [0.6, 0.3, 0.1],
        [0.45, 0.3, 0.25],
        [0.5, 0.5, 0.0],
        [0.0, 0.25, 0.75],
    ];
    for (name, kept) in [
        ("selective,ambiguity=0.7", [false, false, false, true]),
        ("selective,ambiguity=0.9", [true, false, false, true]),
        ("selective", [true, false, true, true]),
        ("selective,ambiguity=1.2", [true; 4]),
    ] {
        let mut sage = blank();
        let labels = aggregate(&*named(name), &all, Some(&mut sage));
        let kept = means.iter().zip(kept);
        let expected: Vec<[f32; 3]> = kept
            .map(|(row, kept)| if kept { *row } else { [0.0; 3] })
            .collect();
        close(&labels, &expected.concat());
        assert_eq!(sage.learnt[0].values(), labels);
    }
}

/// SCARLET (Azuma et al. 2025): a label is kept until a newer one takes its place, and silence is none.
#[test]
fn scarlet_keeps_a_label_that_nobody_has_a_newer_one_for() {
    let method = named("scarlet,duration=1,beta=2");
    let rows = Rows::Range { start: 0, count: 2 };
    let (mut sage, mut state) = (blank(), State::default());
    // The mean of the first sample is 0.6, 0.4, 0; of the second client 1 alone speaks. Squares are 0.36 and 0.16 over
    // 0.52, 0.0625 and 0.5625 over 0.625. Then both are too old; the first is spoken of by nobody.
    let first = [0.36 / 0.52, 0.16 / 0.52, 0.0];
    for (round, clients, second) in [
        (
            0,
            [
                [0.8, 0.2, 0.0, 0.0, 0.0, 0.0],
                [0.4, 0.6, 0.0, 0.0, 0.25, 0.75],
            ],
            [0.0, 0.1, 0.9],
        ),
        (
            1,
            [
                [0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
                [0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
            ],
            [1.0, 0.0, 0.0],
        ),
    ] {
        let outlook = Outlook {
            round,
            ..outlook(&rows)
        };
        let asked = method.ask(&outlook, &state).report.unwrap().about;
        assert_eq!(asked, About::Rows(rows.clone()));
        let all = said(AnswerKind::Probabilities, &clients);
        go_on(&*method, &outlook, &all, Some(&mut sage), &mut state);
        let kept = [first, second].concat();
        // Of all 100 samples of the transfer set, the others are silent.
        let all = common(&state);
        let (labels, others) = all.split_at(6);
        close(labels, &kept);
        assert!(others.iter().all(|p| *p == 0.0));
        close(sage.learnt[round as usize].values(), &kept);
    }
}
