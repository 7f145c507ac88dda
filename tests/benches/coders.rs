//! Our entropy coder beside zstd, on what trained students say: bytes, and megabytes of f32 a second.
//!
//! `cargo bench -p fedistill-tests --bench coders`, a minute on one core; prints a table in Markdown. zstd is given symbols
//! side by side and one a byte, and the shorter counts. Our times have the rounding of values in them, zstd's have not.
//! It fails where 8 bits take longer than they may.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that fails may say so by panicking"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use fedistill_protocol::{AnswerKind, Answers, Precision, Version};
use fedistill_simulator::Partition;
use fedistill_tests::{entropy_bytes, heard, likely};

const ROUNDS: u32 = 15;
const LEVELS: [i32; 3] = [1, 3, 19];
const PRECISIONS: [Precision; 8] = [
    Precision::F32,
    Precision::F16,
    Precision::Top(1),
    Precision::Top(3),
    Precision::U8,
    Precision::U4,
    Precision::U2,
    Precision::U1,
];

/// The least megabytes of f32 a second and core, in and out, at 8 bits.
const LEAST: f64 = 200.0;

/// What a coder makes of a table of answers.
struct Coded {
    bytes: usize,
    /// Megabytes of f32 a second, in and out.
    speed: [f64; 2],
}

fn main() {
    println!("Bytes of 1,000 rows of 10 classes (MB/s in, out).\n");
    println!("| said | precision | side by side | entropy | ours | zstd 1 | zstd 3 | zstd 19 |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for partition in [Partition::Iid, Partition::Shards(2)] {
        let said = heard(partition, ROUNDS);
        for (round, logits) in [(1, &said[0]), (ROUNDS, said.last().unwrap())] {
            for answers in [logits.clone(), likely(logits)] {
                for precision in PRECISIONS.map(|precision| precision.of(answers.kind())) {
                    let what = format!("{:?}, {partition}, round {round}", answers.kind());
                    row(&what.to_lowercase(), &answers, precision);
                }
            }
        }
    }
}

fn row(what: &str, answers: &Answers, precision: Precision) {
    let (kind, rows, classes) = (answers.kind(), answers.rows(), answers.classes());
    let raw = answers.values().len() * 4;
    let plain = plain(answers, precision);
    let packed = answers.pack_for(Version::LATEST, precision);
    let ours = Coded {
        bytes: packed.len() - Answers::HEADER_BYTES,
        speed: [
            speed(raw, || answers.pack_for(Version::LATEST, precision)),
            speed(raw, || {
                Answers::unpack(&packed, kind, rows, classes).unwrap()
            }),
        ],
    };
    let is_fast = ours.speed.iter().all(|speed| *speed >= LEAST);
    assert!(
        is_fast || precision != Precision::U8,
        "{what}: {:?} MB/s at 8 bits, at least {LEAST} are wanted",
        ours.speed
    );
    let mut cells = vec![
        (plain[0].len()).to_string(),
        format!("{:.0}", entropy(answers, precision)),
        cell(&ours),
    ];
    for level in LEVELS {
        let each = plain.iter().map(|plain| by_zstd(plain, level, raw));
        let best = each.min_by_key(|coded| coded.bytes).unwrap();
        cells.push(cell(&best));
    }
    println!("| {what} | {precision:?} | {} |", cells.join(" | "));
}

fn cell(coded: &Coded) -> String {
    let [into, out] = coded.speed;
    format!("{} ({into:.0}, {out:.0})", coded.bytes)
}

fn by_zstd(plain: &[u8], level: i32, raw: usize) -> Coded {
    let coded = zstd::bulk::compress(plain, level).unwrap();
    let mut coder = zstd::bulk::Compressor::new(level).unwrap();
    let mut reader = zstd::bulk::Decompressor::new().unwrap();
    Coded {
        bytes: coded.len(),
        speed: [
            speed(raw, || coder.compress(plain).unwrap()),
            speed(raw, || reader.decompress(&coded, plain.len()).unwrap()),
        ],
    }
}

/// The best of many times.
fn speed<T>(bytes: usize, mut work: impl FnMut() -> T) -> f64 {
    let begun = Instant::now();
    let mut best = Duration::MAX;
    while begun.elapsed() < Duration::from_millis(60) {
        let one = Instant::now();
        black_box(work());
        best = best.min(one.elapsed());
    }
    bytes as f64 / best.as_secs_f64() / 1e6
}

/// Symbols, and scales where there are some, side by side; and with a byte a symbol. Numbers as they are, and their bytes
/// plane by plane.
fn plain(answers: &Answers, precision: Precision) -> Vec<Vec<u8>> {
    let lists = answers.symbols(precision);
    let bits = match precision {
        Precision::U8 | Precision::F16 | Precision::F32 => 8,
        Precision::U2 => 2,
        Precision::U1 => 1,
        // Version 3 codes nothing of them.
        Precision::Top(_) => {
            let packed = answers.pack_for(Version::OLDEST, precision);
            return vec![packed[Answers::HEADER_BYTES..].to_vec()];
        }
        // Numbers of ten classes, and steps of levels, too.
        Precision::U4 | Precision::Peak => 4,
    };
    // Packed, they come after as many bytes of scales.
    let whole = answers.pack_for(Version::OLDEST, precision);
    let scales = &whole[Answers::HEADER_BYTES..][..scales(answers, precision)];
    let (mut tight, mut wide) = (scales.to_vec(), scales.to_vec());
    for list in &lists {
        let (mut byte, mut used) = (0u32, 0);
        for symbol in list {
            byte |= symbol << used;
            used += bits;
            if used == 8 {
                tight.push(byte as u8);
                (byte, used) = (0, 0);
            }
            wide.push(*symbol as u8);
        }
        if used > 0 {
            tight.push(byte as u8);
        }
    }
    match precision {
        Precision::F32 | Precision::F16 => vec![whole[Answers::HEADER_BYTES..].to_vec(), wide],
        _ => vec![tight, wide],
    }
}

/// Bytes of scales, which are no symbols.
fn scales(answers: &Answers, precision: Precision) -> usize {
    match (answers.kind(), precision) {
        (_, Precision::Peak) => 8 * (answers.rows() as usize).div_ceil(256),
        (AnswerKind::Probabilities, _)
        | (_, Precision::F32 | Precision::F16 | Precision::Top(_)) => 0,
        _ => 8 * answers.values().len().div_ceil(Answers::BLOCK),
    }
}

/// Bytes at the empirical entropy of order zero of the symbols, and of scales as they are.
fn entropy(answers: &Answers, precision: Precision) -> f64 {
    let lists = answers.symbols(precision);
    let symbols: f64 = lists.iter().map(|list| entropy_bytes(list)).sum();
    symbols + scales(answers, precision) as f64
}
