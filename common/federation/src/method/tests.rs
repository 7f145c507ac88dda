use proptest::prelude::*;

use super::*;

fn answers(kind: AnswerKind, values: &[f32]) -> Answers {
    Answers::new(kind, 3, values.to_vec()).unwrap()
}

fn aggregate(method: &dyn Method, all: &[Answers], teacher: Option<&Answers>) -> Vec<f32> {
    let mut sum = Partial::new(all[0].values().len());
    all.iter()
        .for_each(|one| method.take(&mut sum, 1, one).unwrap());
    method
        .aggregate(&sum, teacher, 3)
        .unwrap()
        .unwrap()
        .values()
        .to_vec()
}

fn entropy(row: &[f32]) -> f64 {
    row.iter()
        .map(|&p| f64::from(p))
        .filter(|p| *p > 0.0)
        .map(|p| -p * p.ln())
        .sum()
}

#[test]
fn names_lead_back_to_their_methods() {
    for name in [
        "local",
        "teacher-only",
        "logit-mean",
        "ds-fl:sa",
        "ds-fl:era",
    ] {
        assert_eq!(by_name(name).unwrap().name(), name);
    }
    let error = by_name("fedavg").unwrap_err().to_string();
    assert!(
        error.contains("fedavg") && error.contains("logit-mean"),
        "{error}"
    );
}

#[test]
fn logit_mean_hears_a_client_that_knows_a_class_apart() {
    // Two clients know nothing of class 2 and are mildly wrong; one is sure of it.
    let all = [[1.0, 0.0, -1.0], [0.5, 0.5, -1.0], [-3.0, -3.0, 6.0]]
        .map(|row| answers(AnswerKind::Logits, &row));
    let mean = aggregate(&LogitMean::default(), &all, None);
    for (value, expected) in mean.iter().zip([-0.5, -5.0 / 6.0, 4.0 / 3.0]) {
        assert!((value - expected).abs() < 1e-6, "{mean:?}");
    }
}

#[test]
fn logit_mean_does_not_notice_a_shift_and_bounds_every_vote() {
    let plain = answers(AnswerKind::Logits, &[1.0, 2.0, -3.0]);
    let shifted = answers(AnswerKind::Logits, &[101.0, 102.0, 97.0]);
    let method = LogitMean::default();
    assert_eq!(
        aggregate(&method, &[plain], None),
        aggregate(&method, &[shifted], None)
    );
    let wild = answers(AnswerKind::Logits, &[3e38, -3e38, 0.0]);
    assert_eq!(aggregate(&method, &[wild], None), [20.0, -20.0, 0.0]);
}

#[test]
fn the_teacher_votes_as_heavily_as_it_is_told() {
    let client = answers(AnswerKind::Logits, &[3.0, -3.0, 0.0]);
    let teacher = answers(AnswerKind::Logits, &[-3.0, 3.0, 0.0]);
    for (teacher_weight, first) in [(0, 3.0), (1, 0.0), (2, -1.0)] {
        let method = LogitMean {
            teacher_weight,
            ..LogitMean::default()
        };
        let mean = aggregate(&method, std::slice::from_ref(&client), Some(&teacher));
        assert!((mean[0] - first).abs() < 1e-6, "{mean:?}");
    }
}

#[test]
fn probabilities_are_put_back_on_the_simplex() {
    let cheat = answers(AnswerKind::Probabilities, &[8.0, -4.0, 0.0]);
    let honest = answers(AnswerKind::Probabilities, &[0.0, 0.5, 0.5]);
    let mean = aggregate(&DsFl::simple(), &[cheat, honest], None);
    assert_eq!(mean, [0.5, 0.25, 0.25]);
    let nothing = answers(AnswerKind::Probabilities, &[0.0, 0.0, -1.0]);
    assert!((aggregate(&DsFl::simple(), &[nothing], None)[2] - 1.0 / 3.0).abs() < 1e-6);
}

#[test]
fn answers_of_the_wrong_kind_are_refused() {
    let logits = answers(AnswerKind::Logits, &[0.0; 3]);
    let probabilities = answers(AnswerKind::Probabilities, &[0.2, 0.3, 0.5]);
    let mut sum = Partial::new(3);
    assert!(DsFl::era().take(&mut sum, 1, &logits).is_err());
    assert!(
        LogitMean::default()
            .take(&mut sum, 1, &probabilities)
            .is_err()
    );
    assert!(Local.take(&mut sum, 1, &logits).is_err());
    assert!(TeacherOnly.take(&mut sum, 1, &logits).is_err());
    assert_eq!(sum, Partial::new(3));
}

#[test]
fn a_method_asks_for_no_distillation_before_there_are_labels() {
    use fedistill_protocol::{Optimiser, PhaseData};
    let optimiser = Optimiser::Sgd {
        learning_rate: 0.1,
        momentum: 0.0,
    };
    let training = Training {
        private_epochs: 3,
        distillation_epochs: 2,
        batch: 50,
        optimiser,
    };
    for name in ["teacher-only", "logit-mean", "ds-fl:sa", "ds-fl:era"] {
        let method = by_name(name).unwrap();
        let data = |labels| -> Vec<_> {
            method
                .ask(&training, labels)
                .phases
                .iter()
                .map(|phase| phase.data)
                .collect()
        };
        assert_eq!(
            data(true),
            [PhaseData::Transfer, PhaseData::Private],
            "{name}"
        );
        assert_eq!(data(false), [PhaseData::Private], "{name}");
        assert_eq!(method.ask(&training, false).knowledge, None);
    }
    let local = Local.ask(&training, true);
    assert_eq!(
        (local.knowledge, local.report, local.phases.len()),
        (None, None, 1)
    );
}

proptest! {
    #[test]
    fn era_sharpens_without_changing_the_order(raw in prop::collection::vec(0.001f32..1.0, 30)) {
        let all: Vec<Answers> =
            raw.chunks(15).map(|values| answers(AnswerKind::Probabilities, values)).collect();
        let mean = aggregate(&DsFl::simple(), &all, None);
        let sharp = aggregate(&DsFl::era(), &all, None);
        for (mean, sharp) in mean.chunks(3).zip(sharp.chunks(3)) {
            prop_assert!((sharp.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            prop_assert!(entropy(sharp) <= entropy(mean) + 1e-5);
            for a in 0..3 {
                for b in 0..3 {
                    prop_assert!(mean[a] <= mean[b] || sharp[a] >= sharp[b]);
                }
            }
        }
    }
}
