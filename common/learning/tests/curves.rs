//! Two nets learn as they do in PyTorch, from the same weights in the same order; see
//! `goldens/README.md` for how both are drawn.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use fedistill_learning::{
    Architecture, Dataset, Evaluation, Learner, Model, Net, Objective, Targets, seed,
};
use fedistill_protocol::{Loss, LossTerm, Optimiser, Toward};
use serde_json::Value;

/// Number `i` of stream `n` under seed 1.
fn stream(n: u64, i: u64) -> u64 {
    let x = (1u64 << 40) + (n << 32) + i;
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Weights as PyTorch began with, in our order.
fn begin(net: &mut Net) {
    let mut weights = Vec::new();
    let mut fan_in = 1;
    for (t, parameter) in net.parameters().iter().enumerate() {
        if parameter.shape.len() > 1 {
            fan_in = parameter.shape[1..].iter().product();
        }
        let bound = 1.0 / (fan_in as f64).sqrt();
        let value = |i| (stream(t as u64, i) >> 40) as f64 / f64::from(1 << 23) - 1.0;
        let file: Vec<f32> = (0..parameter.len() as u64)
            .map(|i| (value(i) * bound) as f32)
            .collect();
        weights.extend(parameter.from_file(&file));
    }
    net.set_weights(&weights).unwrap();
}

fn order(epoch: u64, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, (stream(128 + epoch, i as u64) % (i as u64 + 1)) as usize);
    }
    order
}

fn learns_as_in_pytorch(name: &str, mut net: Net, learning_rate: f32) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(folder.join("goldens/curves.json")).unwrap();
    let curves: Value = serde_json::from_slice(&text).unwrap();
    let expected = &curves["nets"][name]["float32"];
    let numbers = |key: &str| -> Vec<f64> {
        let values = expected[key].as_array().unwrap().iter();
        values.map(|value| value.as_f64().unwrap()).collect()
    };
    let (train, test) = Dataset::mnist(&folder.join("../../fixtures/fashion-mnist-mini")).unwrap();
    begin(&mut net);
    let mut learner = Learner::new(net);
    learner.begin(Optimiser::Sgd {
        learning_rate,
        momentum: 0.0,
    });
    let terms = [LossTerm::new(
        Loss::CrossEntropy { smoothing: 0.0 },
        Toward::Labels,
    )];
    let mut rng = seed::stream(0, "dropout");
    let (mut samples, mut losses) = (Vec::new(), Vec::new());
    for (epoch, expected) in numbers("accuracy").into_iter().enumerate() {
        for batch in order(epoch as u64, train.len()).chunks(50) {
            samples.clear();
            train.samples().gather(batch, &mut samples);
            let labels: Vec<u32> = batch.iter().map(|&index| train.labels()[index]).collect();
            let objective = Objective::new(&terms, Targets::hard(&labels));
            losses.push(learner.step(&samples, &objective, &mut rng).unwrap());
        }
        let logits = learner.logits(test.samples()).unwrap();
        let accuracy = Evaluation::of(&logits, test.labels(), 10).accuracy;
        println!("{name}, epoch {epoch}: {accuracy:.4}, PyTorch {expected:.4}");
        assert!((accuracy - expected).abs() <= 0.005);
    }
    for (step, (ours, theirs)) in losses.iter().zip(numbers("first_losses")).enumerate() {
        assert!(
            (f64::from(*ours) - theirs).abs() < 1e-4,
            "step {step}: {ours}, PyTorch {theirs}"
        );
    }
}

#[test]
fn an_mlp_learns_as_in_pytorch() {
    learns_as_in_pytorch("mlp", Net::mlp(&[1, 28, 28], &[64], 10, 0).unwrap(), 0.1);
}

#[test]
fn a_cnn_learns_as_in_pytorch() {
    let net = Architecture::FedavgCnn.build(&[1, 28, 28], 10, 0).unwrap();
    learns_as_in_pytorch("fedavg-cnn", net, 0.05);
}
