//! The codec on what trained students really say: within a twentieth of the entropy of its symbols, and never more than
//! they take side by side.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fedistill_protocol::{AnswerKind, Answers, Precision, Version};
use fedistill_simulator::Partition;
use fedistill_tests::{entropy_bytes, heard, likely};

const ALL: [Precision; 8] = [
    Precision::F32,
    Precision::F16,
    Precision::Top(3),
    Precision::U8,
    Precision::U4,
    Precision::U2,
    Precision::U1,
    Precision::Peak,
];

/// Bytes of scales, which are no symbols.
fn scales(answers: &Answers, precision: Precision) -> usize {
    let (rows, values) = (answers.rows() as usize, answers.values().len());
    match (answers.kind(), precision) {
        (_, Precision::Peak) => 8 * rows.div_ceil(256),
        (AnswerKind::Probabilities, _)
        | (_, Precision::F32 | Precision::F16 | Precision::Top(_)) => 0,
        _ => 8 * values.div_ceil(Answers::BLOCK),
    }
}

#[test]
fn what_students_say_is_coded_within_a_twentieth_of_its_entropy() {
    for partition in [Partition::Iid, Partition::Shards(2)] {
        let said = heard(partition, 4);
        for (when, logits) in [("first", &said[0]), ("last", said.last().unwrap())] {
            for answers in [logits.clone(), likely(logits)] {
                assert_eq!((answers.rows(), answers.classes()), (1000, 10));
                for precision in ALL {
                    let packed = answers.pack_for(Version::LATEST, precision);
                    let beside = Answers::HEADER_BYTES + scales(&answers, precision);
                    let coded = (packed.len() - beside) as f64;
                    let symbols = answers.symbols(precision);
                    let least: f64 = symbols.iter().map(|s| entropy_bytes(s)).sum();
                    let kind = answers.kind();
                    let case = format!("{partition}, {when} round, {kind:?} {precision:?}");
                    println!("{case}: {coded} bytes, entropy {least:.0}");
                    assert!(coded <= 1.05 * least + 8.0, "{case}: {coded} of {least:.0}");
                    let (rows, classes) = (answers.rows(), answers.classes());
                    let most = Answers::most_bytes(kind, rows, classes, precision);
                    assert!(packed.len() as u64 <= most, "{case}");
                }
            }
        }
    }
}
