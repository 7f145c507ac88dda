//! Losses against what PyTorch gave; see `goldens/README.md`.

use fedistill_protocol::{AnswerKind, Loss, LossTerm, Toward};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::{Adaptor, Gradients, Objective, Outputs, Soft, Targets};
use crate::goldens::Golden;
use crate::kernels::{available, with_kernels};

use AnswerKind::{Logits, Probabilities};

/// Holds a loss and its gradients against the golden's, on every set of instructions, which give the
/// same bits. `x` of a loss of features is them.
fn check(golden: &Golden, loss: Loss, toward: Toward, targets: Targets<'_>) {
    // Terms' weights are there too, and that terms add up: results are for 1.
    let terms = [0.125, 0.375].map(|weight| LossTerm::new(loss, toward).times(weight));
    let x = golden.values("x");
    let width = golden.tensors["x"].0[1];
    let rows = x.len() / width;
    let silent = vec![0.0; rows * 10];
    let outputs = match loss.is_of_features() {
        true => Outputs {
            logits: &silent,
            classes: 10,
            features: Some((x, width)),
        },
        false => Outputs {
            logits: x,
            classes: width,
            features: None,
        },
    };
    let weights = golden.has("weights").then(|| golden.values("weights"));
    let run = |set| {
        with_kernels(set, || {
            let mut gradients = Gradients::default();
            let mut adaptor = weights.map(|weights| {
                let mut rng = ChaCha20Rng::seed_from_u64(0);
                let mut adaptor = Adaptor::new(width, weights.len() / width, &mut rng);
                adaptor.weights = weights.to_vec();
                adaptor
            });
            let objective = Objective::new(&terms, targets);
            let value = objective.evaluate_with(outputs, adaptor.as_mut(), &mut gradients);
            let own = adaptor.map(|adaptor| adaptor.gradients);
            (value.unwrap(), gradients.logits, gradients.features, own)
        })
    };
    let results: Vec<_> = available().into_iter().map(run).collect();
    for result in &results[1..] {
        assert!(*result == results[0], "{}: bits differ", golden.name);
    }
    let (value, of_logits, of_features, own) = &results[0];
    let twice = |slopes: &[f32]| -> Vec<f32> { slopes.iter().map(|slope| 2.0 * slope).collect() };
    golden.close("loss", &[2.0 * value], golden.values("loss"));
    match loss.is_of_features() {
        true => {
            golden.close("dx", &twice(of_features), golden.values("dx"));
            assert!(of_logits.iter().all(|slope| *slope == 0.0));
        }
        false => golden.close("dx", &twice(of_logits), golden.values("dx")),
    }
    if let Some(own) = own {
        golden.close("dweights", &twice(own), golden.values("dweights"));
    }
}

#[test]
fn losses_of_labels_agree_with_pytorch() {
    for (name, loss) in [
        ("cross_entropy", Loss::CrossEntropy { smoothing: 0.0 }),
        (
            "cross_entropy_smoothed",
            Loss::CrossEntropy { smoothing: 0.1 },
        ),
        (
            "held_cross_entropy_0",
            Loss::HeldCrossEntropy { adjust: 0.0 },
        ),
        (
            "held_cross_entropy_05",
            Loss::HeldCrossEntropy { adjust: 0.5 },
        ),
        (
            "held_cross_entropy_1",
            Loss::HeldCrossEntropy { adjust: 1.0 },
        ),
    ] {
        let golden = Golden::read(name);
        let labels = golden.labels();
        let mut targets = Targets::hard(&labels);
        if golden.has("frequencies") {
            targets = targets.held(golden.values("frequencies"));
        }
        check(&golden, loss, Toward::Labels, targets);
    }
}

#[test]
fn losses_of_outputs_agree_with_pytorch() {
    let kl = |temperature| Loss::Kl { temperature };
    let reverse = |temperature| Loss::ReverseKl { temperature };
    let not_true = |temperature| Loss::NotTrue { temperature };
    let decoupled = |temperature, target, others| Loss::Decoupled {
        temperature,
        target,
        others,
    };
    for (name, loss, kind) in [
        ("soft_cross_entropy", Loss::SoftCrossEntropy, Probabilities),
        ("soft_cross_entropy_logits", Loss::SoftCrossEntropy, Logits),
        ("kd_t1", kl(1.0), Logits),
        ("kd_t4", kl(4.0), Logits),
        ("kd_t40", kl(40.0), Logits),
        ("kd_probabilities_t1", kl(1.0), Probabilities),
        ("kd_probabilities_t3", kl(3.0), Probabilities),
        ("reverse_kl_t1", reverse(1.0), Logits),
        ("reverse_kl_t3", reverse(3.0), Logits),
        ("reverse_kl_probabilities_t1", reverse(1.0), Probabilities),
        ("reverse_kl_probabilities_t3", reverse(3.0), Probabilities),
        ("l1", Loss::L1, Logits),
        ("mse", Loss::Mse, Logits),
        ("not_true_t1", not_true(1.0), Logits),
        ("not_true_t3", not_true(3.0), Logits),
        ("decoupled", decoupled(4.0, 1.0, 8.0), Logits),
        ("decoupled_target", decoupled(2.0, 1.5, 0.0), Logits),
        ("decoupled_unlabelled", decoupled(4.0, 1.0, 8.0), Logits),
    ] {
        let golden = Golden::read(name);
        let labels = golden.has("labels").then(|| golden.labels());
        let mut targets = Targets::soft(kind, 10, golden.values("target"));
        if let Some(labels) = &labels {
            targets = targets.labels(labels);
        }
        check(&golden, loss, Toward::Knowledge, targets);
    }
}

#[test]
fn losses_of_features_agree_with_pytorch() {
    let relational = |distance, angle| Loss::Relational { distance, angle };
    for (name, loss) in [
        ("hint", Loss::Features),
        ("hint_adapted", Loss::Features),
        ("attention_transfer", Loss::Attention),
        ("similarity", Loss::Similarity),
        ("relational_distance", relational(1.0, 0.0)),
        ("relational_angle", relational(0.0, 1.0)),
        ("relational", relational(25.0, 50.0)),
    ] {
        let golden = Golden::read(name);
        let width = golden.tensors["target"].0[1];
        let target = Soft::new(AnswerKind::Features, width, golden.values("target"));
        let targets = Targets::default().toward(Toward::Knowledge, target);
        check(&golden, loss, Toward::Knowledge, targets);
    }
}

#[test]
fn prototypes_agree_with_pytorch() {
    let golden = Golden::read("prototypes");
    let (labels, table) = (golden.labels(), golden.values("prototypes"));
    let width = golden.tensors["prototypes"].0[1];
    let rows = labels
        .iter()
        .flat_map(|label| &table[*label as usize * width..][..width]);
    let rows: Vec<f32> = rows.copied().collect();
    let target = Soft::new(AnswerKind::Features, width, &rows);
    let targets = Targets::hard(&labels).toward(Toward::Classes, target);
    check(&golden, Loss::Features, Toward::Classes, targets);
}
