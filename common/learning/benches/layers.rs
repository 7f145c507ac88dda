//! Times each kind of layer, forward and backward, at sizes of the nets that come along; losses,
//! optimisers' updates, and the product of matrices that most of it comes down to.
//!
//! `cargo bench -p fedistill-learning --features bench [-- FILTER]`. What multiplies matrices is
//! shown in floating-point operations a second ("elem/s"), everything else in values.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that fails may say so by panicking"
)]

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fedistill_learning::bench::{LAYERS, product, random};
use fedistill_learning::{Objective, OptimiserState, Targets, softmax};
use fedistill_protocol::{AnswerKind, Loss, LossTerm, Optimiser, Toward};

const BATCH: usize = 64;

fn layers(criterion: &mut Criterion) {
    for (name, make) in LAYERS {
        let mut group = criterion.benchmark_group(name);
        let mut layer = make(BATCH);
        let (outputs, [forward, backward]) = (layer.outputs(), layer.operations());
        let work = |operations| match operations {
            0 => Throughput::Elements(outputs as u64),
            operations => Throughput::Elements(operations),
        };
        group.throughput(work(forward));
        group.bench_function("forward", |bench| bench.iter(|| layer.forward()));
        let dy = random(outputs);
        group.throughput(work(backward));
        group.bench_function("backward", |bench| {
            bench.iter_batched_ref(
                || dy.clone(),
                |dy| layer.backward(dy),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

fn losses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("loss");
    for (rows, classes) in [(BATCH, 10), (1024, 100)] {
        let logits = random(rows * classes);
        let target: Vec<f32> = logits.iter().rev().copied().collect();
        let labels: Vec<u32> = (0..rows).map(|row| (row % classes) as u32).collect();
        let soft = Targets::soft(AnswerKind::Logits, classes, &target);
        let shares = softmax(&target, classes);
        let likely = Targets::soft(AnswerKind::Probabilities, classes, &shares);
        let temperature = 4.0;
        let kinds = [
            (
                "cross-entropy",
                Loss::CrossEntropy { smoothing: 0.0 },
                Targets::hard(&labels),
            ),
            ("soft cross-entropy", Loss::SoftCrossEntropy, soft),
            (
                "soft cross-entropy (probabilities)",
                Loss::SoftCrossEntropy,
                likely,
            ),
            ("kd", Loss::Kl { temperature }, soft),
            ("kd (probabilities)", Loss::Kl { temperature }, likely),
            ("kl (probabilities)", Loss::Kl { temperature: 1.0 }, likely),
            ("reverse kl", Loss::ReverseKl { temperature }, soft),
            ("l1", Loss::L1, soft),
            ("mse", Loss::Mse, soft),
            (
                "decoupled",
                Loss::Decoupled {
                    temperature,
                    target: 1.0,
                    others: 8.0,
                },
                soft,
            ),
            ("not true", Loss::NotTrue { temperature: 1.0 }, soft),
        ];
        group.throughput(Throughput::Elements((rows * classes) as u64));
        for (name, loss, targets) in kinds {
            let toward = match loss.is_of_labels() {
                true => Toward::Labels,
                false => Toward::Knowledge,
            };
            let terms = [LossTerm::new(loss, toward)];
            let objective = Objective::new(&terms, targets);
            let mut gradient = Vec::new();
            group.bench_function(format!("{name}, {rows} x {classes}"), |bench| {
                bench.iter(|| objective.evaluate(&logits, classes, &mut gradient).unwrap());
            });
        }
    }
    group.finish();
}

fn optimisers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("optimiser");
    let sgd = |momentum| Optimiser::Sgd {
        learning_rate: 1e-6,
        momentum,
    };
    let adamw = Optimiser::AdamW {
        learning_rate: 1e-6,
        weight_decay: 0.01,
    };
    let kinds = [("sgd", sgd(0.0)), ("momentum", sgd(0.9)), ("adamw", adamw)];
    for (net, parameters) in [("mlp", 235_146), ("fedavg-cnn", 1_663_370)] {
        let gradients = random(parameters);
        group.throughput(Throughput::Elements(parameters as u64));
        for (name, optimiser) in kinds {
            let mut weights = random(parameters);
            let mut state = OptimiserState::new(optimiser, parameters);
            group.bench_function(format!("{name} ({net})"), |bench| {
                bench.iter(|| state.step(&mut weights, &gradients));
            });
        }
    }
    group.finish();
}

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("product");
    for side in [128, 512, 1024] {
        let (a, b) = (random(side * side), random(side * side));
        let mut out = vec![0.0; side * side];
        group.throughput(Throughput::Elements(2 * (side as u64).pow(3)));
        group.bench_function(format!("{side} x {side}"), |bench| {
            bench.iter(|| product(&mut out, &a, &b, side));
        });
    }
    group.finish();
}

criterion_group! {
    name = all;
    // Whole passes take milliseconds: a few samples say enough, and 70 benches end in minutes.
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = products, layers, losses, optimisers
}
criterion_main!(all);
