use proptest::prelude::*;

use super::*;
use fedistill_protocol::Ramp;

fn term(loss: Loss) -> LossTerm {
    let toward = match loss.is_of_labels() {
        true => Toward::Labels,
        false => Toward::Knowledge,
    };
    LossTerm::new(loss, toward)
}

const HARD: Loss = Loss::CrossEntropy { smoothing: 0.0 };

fn value(objective: &Objective<'_>, logits: &[f32]) -> f32 {
    objective.evaluate(logits, 3, &mut Vec::new()).unwrap()
}

const SOFT: [Loss; 10] = [
    Loss::SoftCrossEntropy,
    Loss::Kl { temperature: 1.0 },
    Loss::Kl { temperature: 4.0 },
    Loss::L1,
    Loss::Mse,
    Loss::ReverseKl { temperature: 1.0 },
    Loss::ReverseKl { temperature: 3.0 },
    Loss::Decoupled {
        temperature: 4.0,
        target: 1.0,
        others: 8.0,
    },
    Loss::NotTrue { temperature: 1.0 },
    Loss::NotTrue { temperature: 2.0 },
];

#[test]
fn losses_have_the_values_of_their_formulas() {
    let logits = [1.0, 2.0, 3.0];
    let hard = [term(HARD).times(2.0)];
    let objective = Objective::new(&hard, Targets::hard(&[2]));
    assert!((value(&objective, &logits) - 2.0 * 0.407_606).abs() < 1e-5);
    let target = [3.0, 2.0, 0.0];
    for (loss, expected) in [
        (Loss::L1, 5.0 / 3.0),
        (Loss::Mse, 13.0 / 3.0),
        (Loss::SoftCrossEntropy, 2.077_871),
    ] {
        let terms = [term(loss)];
        let targets = Targets::soft(AnswerKind::Logits, 3, &target);
        let actual = value(&Objective::new(&terms, targets), &logits);
        assert!((actual - expected).abs() < 1e-4, "{loss:?}: {actual}");
    }
}

#[test]
fn high_temperatures_leave_the_gradient_of_a_matched_mean_square() {
    // Hinton et al. 2015, section 2.1: T^2 KL at high T is half the square of centred logits / n.
    let (logits, target) = ([0.5f32, -0.5, 0.0], [1.0f32, -1.5, 0.5]);
    let terms = [term(Loss::Kl {
        temperature: 1000.0,
    })];
    let targets = Targets::soft(AnswerKind::Logits, 3, &target);
    let mut gradient = Vec::new();
    let loss = Objective::new(&terms, targets)
        .evaluate(&logits, 3, &mut gradient)
        .unwrap();
    let square: f32 = logits
        .iter()
        .zip(&target)
        .map(|(z, t)| (z - t).powi(2))
        .sum();
    assert!((loss - square / 6.0).abs() < 1e-3, "{loss}");
    assert!((gradient[0] - (logits[0] - target[0]) / 3.0).abs() < 1e-3);
}

#[test]
fn what_does_not_fit_is_refused() {
    let probabilities = Targets::soft(AnswerKind::Probabilities, 3, &[0.2, 0.3, 0.5]);
    let cases: [(Loss, Targets<'_>); 5] = [
        (Loss::Mse, probabilities),
        (HARD, probabilities),
        (Loss::L1, Targets::hard(&[1])),
        (HARD, Targets::hard(&[3])),
        (HARD, Targets::hard(&[1, 1])),
    ];
    for (loss, targets) in cases {
        let terms = [term(loss)];
        let objective = Objective::new(&terms, targets);
        assert!(
            objective.evaluate(&[0.0; 3], 3, &mut Vec::new()).is_err(),
            "{loss:?}"
        );
    }
}

proptest! {
    #[test]
    fn gradients_are_the_slopes_of_losses(
        logits in prop::collection::vec(-3.0f32..3.0, 6),
        target in prop::collection::vec(-3.0f32..3.0, 6),
        which in 0usize..14, probabilities: bool,
    ) {
        let (loss, hard) = match which {
            10 => (HARD, true),
            11 => (Loss::CrossEntropy { smoothing: 0.2 }, true),
            12 => (Loss::HeldCrossEntropy { adjust: 1.0 }, true),
            13 => (Loss::HeldCrossEntropy { adjust: 0.0 }, true),
            other => (SOFT[other], false),
        };
        let plain = matches!(loss, Loss::L1 | Loss::Mse);
        let soft = softmax(&target, 3);
        let targets = match (hard, probabilities && !plain) {
            (true, _) => Targets::hard(&[2, 0]).held(&[0.25, 0.0, 0.75]),
            (_, true) => Targets::soft(AnswerKind::Probabilities, 3, &soft),
            _ => Targets::soft(AnswerKind::Logits, 3, &target),
        };
        let terms = [term(loss).times(0.7)];
        let objective = Objective::new(&terms, targets);
        let mut gradient = Vec::new();
        let base = objective.evaluate(&logits, 3, &mut gradient).unwrap();
        prop_assert!(base >= -1e-6);
        let h = 1e-2;
        for index in 0..6 {
            // The kink of L1.
            if loss == Loss::L1 && (logits[index] - target[index]).abs() < 2.0 * h { continue }
            let mut at = logits.clone();
            at[index] += h;
            let above = value(&objective, &at);
            at[index] -= 2.0 * h;
            let slope = (above - value(&objective, &at)) / (2.0 * h);
            prop_assert!((slope - gradient[index]).abs() < 2e-3 * (1.0 + slope.abs()), "{:?} {} {}", loss, slope, gradient[index]);
        }
    }

    #[test]
    fn fast_paths_toward_probabilities_go_where_exact_ones_do(
        logits in prop::collection::vec(-20.0f32..20.0, 40),
        raw in prop::collection::vec(-25.0f32..5.0, 40),
        temperature in 0.2f32..32.0, plain: bool, silent in 0usize..4, below: bool,
    ) {
        let temperature = if plain { 1.0 } else { temperature };
        let mut target: Vec<f32> = softmax(&raw, 20);
        target[..20 - silent].iter_mut().step_by(2).for_each(|share| *share = 0.0);
        if below {
            target[3] = -0.1;
        }
        if silent == 0 {
            target[20..].fill(0.0);
        }
        let target = Soft::new(AnswerKind::Probabilities, 20, &target);
        for loss in [Loss::Kl { temperature }, Loss::SoftCrossEntropy] {
            let terms = [term(loss)];
            let objective = Objective::new(&terms, Targets::default());
            let (mut fast, mut exact) = (vec![0.5; 40], vec![0.5; 40]);
            let sum = objective.fast(loss, target, 0.7, 20, &logits, &mut fast).unwrap();
            let rows = logits.chunks(20).zip(exact.chunks_mut(20)).enumerate();
            let expected: f64 = rows
                .map(|(at, (logits, gradient))| {
                    let row = target.row(at);
                    let of = outputs::Row { logits, kind: target.kind, target: row, label: None };
                    of.evaluate(loss, 0.7, gradient)
                })
                .sum();
            let scale = loss.temperature().unwrap_or(1.0);
            // Logits over a temperature below 1 are rounded more coarsely than the loss shrinks.
            let most = 4e-6 * f64::from(scale * scale.max(1.0)) * (1.0 + expected.abs());
            prop_assert!((sum - expected).abs() < most, "{loss:?} {sum} {expected}");
            for (a, e) in fast.iter().zip(&exact) {
                prop_assert!((a - e).abs() < 1e-6 * scale.max(1.0), "{loss:?} {a} {e}");
            }
        }
    }

    #[test]
    fn a_student_that_agrees_has_nothing_to_learn(logits in prop::collection::vec(-5.0f32..5.0, 6)) {
        for loss in SOFT {
            let terms = [term(loss)];
            let targets = Targets::soft(AnswerKind::Logits, 3, &logits);
            let mut gradient = Vec::new();
            let objective = Objective::new(&terms, targets);
            let value = objective.evaluate(&logits, 3, &mut gradient).unwrap();
            prop_assert!(gradient.iter().all(|slope| slope.abs() < 1e-6));
            prop_assert!(loss == Loss::SoftCrossEntropy || value.abs() < 1e-5);
        }
    }
}

fn batch(values: &[f32], targets: &[f32], loss: Loss, gradients: &mut Gradients) -> f32 {
    let terms = [term(loss)];
    let targets = Targets::default().toward(
        Toward::Knowledge,
        Soft::new(AnswerKind::Features, 4, targets),
    );
    let outputs = Outputs {
        logits: &[0.0; 6],
        classes: 2,
        features: Some((values, 4)),
    };
    Objective::new(&terms, targets)
        .evaluate_all(outputs, gradients)
        .unwrap()
}

/// In whatever order they come: what a student was before has features as wide as its own, which need none.
#[test]
fn a_map_is_to_the_first_features_of_another_width() {
    let soft = |width, values| Soft::new(AnswerKind::Features, width, values);
    let targets = Targets::default()
        .toward(Toward::Before, soft(4, &[0.0; 4]))
        .toward(Toward::Knowledge, soft(7, &[0.0; 7]));
    let term = |toward| LossTerm::new(Loss::Features, toward);
    let mut terms = [term(Toward::Before), term(Toward::Knowledge)];
    for _ in 0..2 {
        let objective = Objective::new(&terms, targets);
        assert_eq!([4, 7].map(|own| objective.hint(own)), [Some(7), Some(4)]);
        terms.reverse();
    }
    assert_eq!(Objective::new(&terms[..1], targets).hint(4), None);
}

const OF_FEATURES: [Loss; 6] = [
    Loss::Features,
    Loss::Attention,
    Loss::Similarity,
    Loss::Relational {
        distance: 25.0,
        angle: 0.0,
    },
    Loss::Relational {
        distance: 0.0,
        angle: 50.0,
    },
    Loss::Relational {
        distance: 1.0,
        angle: 2.0,
    },
];

proptest! {
    #[test]
    fn gradients_of_features_are_the_slopes_of_losses(
        values in prop::collection::vec(-2.0f32..2.0, 12),
        targets in prop::collection::vec(0.1f32..2.0, 12),
        which in 0usize..6,
    ) {
        let loss = OF_FEATURES[which];
        let mut gradients = Gradients::default();
        batch(&values, &targets, loss, &mut gradients);
        let found = std::mem::take(&mut gradients.features);
        prop_assert_eq!(found.len(), 12);
        // Where samples all but coincide, directions turn too fast to be followed.
        let apart = |a: usize, b: usize| {
            (0..4).map(|at| (values[a * 4 + at] - values[b * 4 + at]).powi(2)).sum::<f32>() > 0.5
        };
        prop_assume!(apart(0, 1) && apart(0, 2) && apart(1, 2));
        let long = |a: usize| (0..4).map(|at| values[a * 4 + at].powi(2)).sum::<f32>() > 0.2;
        prop_assume!((0..3).all(long));
        let h = 2e-3;
        for index in 0..12 {
            let mut at = values.clone();
            at[index] += h;
            let above = batch(&at, &targets, loss, &mut gradients);
            at[index] -= 2.0 * h;
            let slope = (above - batch(&at, &targets, loss, &mut gradients)) / (2.0 * h);
            prop_assert!(
                (slope - found[index]).abs() < 2e-2 * (1.0 + slope.abs()),
                "{:?} {} {}", loss, slope, found[index]
            );
        }
    }

    #[test]
    fn features_that_agree_have_nothing_to_learn(values in prop::collection::vec(0.1f32..2.0, 12)) {
        for loss in OF_FEATURES {
            let mut gradients = Gradients::default();
            let value = batch(&values, &values, loss, &mut gradients);
            prop_assert!(value.abs() < 1e-9, "{loss:?} {value}");
            prop_assert!(gradients.features.iter().all(|slope| slope.abs() < 1e-6), "{loss:?}");
        }
    }

    #[test]
    fn a_silent_target_is_not_one_of_zeros(values in prop::collection::vec(0.1f32..2.0, 12)) {
        let mut targets = values.clone();
        targets[4..8].fill(0.0);
        for loss in OF_FEATURES {
            let mut gradients = Gradients::default();
            let value = batch(&values, &targets, loss, &mut gradients);
            prop_assert!(value.abs() < 1e-9, "{loss:?} {value}");
            prop_assert!(gradients.features.iter().all(|slope| slope.abs() < 1e-6), "{loss:?}");
        }
    }

    #[test]
    fn renaming_classes_changes_no_loss(
        logits in prop::collection::vec(-3.0f32..3.0, 3),
        target in prop::collection::vec(-3.0f32..3.0, 3),
    ) {
        let turn = |row: &[f32]| vec![row[2], row[0], row[1]];
        for loss in SOFT {
            let terms = [term(loss)];
            let of = |logits: &[f32], target: &[f32]| {
                value(&Objective::new(&terms, Targets::soft(AnswerKind::Logits, 3, target)), logits)
            };
            let (plain, turned) = (of(&logits, &target), of(&turn(&logits), &turn(&target)));
            prop_assert!((plain - turned).abs() < 1e-4 * (1.0 + plain.abs()), "{:?}", loss);
        }
    }
}

#[test]
fn classes_that_are_not_held_are_not_pushed_down() {
    let terms = [term(Loss::HeldCrossEntropy { adjust: 0.5 })];
    let targets = Targets::hard(&[0]).held(&[0.5, 0.5, 0.0]);
    let mut gradient = Vec::new();
    let objective = Objective::new(&terms, targets);
    objective
        .evaluate(&[0.0, 1.0, 9.0], 3, &mut gradient)
        .unwrap();
    assert_eq!(gradient[2], 0.0);
    assert!((gradient[0] + gradient[1]).abs() < 1e-6 && gradient[0] < 0.0);
    let absent = Objective::new(&terms, Targets::hard(&[2]).held(&[0.5, 0.5, 0.0]));
    let error = absent.evaluate(&[0.0; 3], 3, &mut gradient).unwrap_err();
    assert_eq!(
        error,
        ObjectiveError::NotHeld {
            label: 2,
            sample: 0
        }
    );
}

#[test]
fn what_nobody_said_of_a_class_is_not_learnt() {
    let terms = [LossTerm::new(Loss::SoftCrossEntropy, Toward::Classes)];
    let known = [0.0, 0.0, 0.0, 0.2, 0.3, 0.5];
    let targets = Targets::default().toward(
        Toward::Classes,
        Soft::new(AnswerKind::Probabilities, 3, &known),
    );
    let mut gradient = Vec::new();
    let objective = Objective::new(&terms, targets);
    objective
        .evaluate(&[1.0, 2.0, 3.0, 1.0, 2.0, 3.0], 3, &mut gradient)
        .unwrap();
    assert_eq!(gradient[..3], [0.0; 3]);
    assert!(gradient[3..].iter().any(|slope| *slope != 0.0));
}

#[test]
fn weights_change_with_epochs_as_they_are_told() {
    let at = |ramp, epoch| {
        let terms = [LossTerm {
            ramp,
            ..term(HARD).times(2.0)
        }];
        let objective = Objective::new(&terms, Targets::hard(&[0])).at_epoch(epoch);
        value(&objective, &[0.0; 3]) / 3f32.ln()
    };
    for (ramp, epoch, expected) in [
        (Ramp::Constant, 9, 2.0),
        (Ramp::Rise { epochs: 4 }, 0, 0.5),
        (Ramp::Rise { epochs: 4 }, 9, 2.0),
        (Ramp::Fall { factor: 0.5 }, 0, 2.0),
        (Ramp::Fall { factor: 0.5 }, 3, 0.25),
    ] {
        assert!(
            (at(ramp, epoch) - expected).abs() < 1e-5,
            "{ramp:?} {epoch}"
        );
    }
}
