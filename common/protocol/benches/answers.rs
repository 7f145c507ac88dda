//! Times packing and unpacking of answers, at each precision, as logits and as probabilities.
//!
//! `cargo bench -p fedistill-protocol [-- FILTER]`. Throughput is of the f32 values that go in or come out.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that fails may say so by panicking"
)]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fedistill_protocol::{AnswerKind, Answers, Precision, Version};

/// Rows and classes: some hundred transfer samples, which another coder packs, and some thousand, of few classes and of many.
const SHAPES: [(u32, u32); 5] = [(500, 10), (1000, 10), (4000, 10), (1000, 100), (4000, 100)];

/// Logits that are close to normal, of standard deviation 2.
fn logits(count: u32) -> Vec<f32> {
    let mut state = 1u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    // A sum of twelve has variance 1.
    let mut normal = || (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
    (0..count).map(|_| 2.0 * normal()).collect()
}

fn softmax(logits: &[f32], classes: u32) -> Vec<f32> {
    let rows = logits.chunks_exact(classes as usize);
    let row = |row: &[f32]| {
        let sum: f32 = row.iter().map(|z| z.exp()).sum();
        row.iter().map(move |z| z.exp() / sum).collect::<Vec<_>>()
    };
    rows.flat_map(row).collect()
}

fn packing(criterion: &mut Criterion) {
    for (rows, classes) in SHAPES {
        let raw = logits(rows * classes);
        let likely = softmax(&raw, classes);
        for (kind, values) in [
            (AnswerKind::Logits, raw),
            (AnswerKind::Probabilities, likely),
        ] {
            let answers = Answers::new(kind, classes, values).unwrap();
            let mut group = criterion.benchmark_group(format!("{rows} x {classes}, {kind:?}"));
            group.throughput(Throughput::Bytes(u64::from(rows * classes) * 4));
            for precision in Precision::ALL
                .into_iter()
                .chain([Precision::Top(5), Precision::Peak])
            {
                group.bench_function(format!("pack {precision:?}"), |bench| {
                    bench.iter(|| answers.pack_for(Version::LATEST, precision));
                });
                let packed = answers.pack_for(Version::LATEST, precision);
                group.bench_function(format!("unpack {precision:?}"), |bench| {
                    bench.iter(|| Answers::unpack(&packed, kind, rows, classes).unwrap());
                });
            }
            group.finish();
        }
    }
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500));
    targets = packing
}
criterion_main!(all);
