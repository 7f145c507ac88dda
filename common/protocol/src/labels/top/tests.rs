use proptest::prelude::*;

use super::*;
use crate::{Answers, Precision};

const KINDS: [AnswerKind; 3] = [
    AnswerKind::Logits,
    AnswerKind::Probabilities,
    AnswerKind::Features,
];

proptest! {
    #[test]
    fn the_largest_come_back_and_the_others_are_even(
        raw in prop::collection::vec(-6.0f32..6.0, 1..400), classes in 1u32..40,
        count in 1u8..12, which in 0usize..3, silent in 1usize..9,
    ) {
        let kind = KINDS[which];
        let width = classes as usize;
        let mut values = Vec::new();
        for (at, row) in raw.chunks_exact(width).enumerate() {
            let sum: f32 = row.iter().map(|z| z.exp()).sum();
            values.extend(row.iter().map(|z| match (at % silent, kind) {
                (0, _) => 0.0,
                (_, AnswerKind::Probabilities) => z.exp() / sum,
                _ => *z,
            }));
        }
        let answers = Answers::new(kind, classes, values).unwrap();
        let precision = Precision::Top(count);
        let bytes = answers.pack(precision);
        let rows = answers.rows();
        prop_assert!(bytes.len() as u64 <= Answers::most_bytes(kind, rows, classes, precision));
        let back = Answers::unpack(&bytes, kind, rows, classes).unwrap();
        prop_assert!(back.speaks().eq(answers.speaks()));
        for (row, back) in answers.iter().zip(back.iter()) {
            let mut order: Vec<usize> = (0..width).collect();
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
            let (kept, others) = order.split_at(usize::from(count).min(width));
            for at in kept {
                prop_assert!((row[*at] - back[*at]).abs() <= row[*at].abs() / 2048.0 + 1e-7);
            }
            let mean = others.iter().map(|at| row[*at]).sum::<f32>() / others.len().max(1) as f32;
            for at in others {
                prop_assert_eq!(back[*at], back[others[0]]);
                prop_assert!((back[*at] - mean).abs() < 6e-3, "{} {mean}", back[*at]);
            }
        }
        prop_assert_eq!(Answers::read(&bytes).unwrap(), back);
    }

    #[test]
    fn any_bytes_are_rows_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..80), classes in 0u32..30, count in 1u8..9,
        which in 0usize..3, rows in 0usize..6,
    ) {
        let top = Top::new(KINDS[which], classes, count);
        let length = top.bytes(rows as u64) as usize;
        let exact: Vec<u8> = bytes.iter().copied().cycle().take(if bytes.is_empty() { 0 } else { length }).collect();
        for bytes in [&bytes, &exact] {
            if let Ok(values) = top.unpack(bytes, rows, Coding::Plain) {
                prop_assert_eq!(values.len(), rows * classes as usize);
                // All bits and all values are there again, as no two blobs say the same.
                let mut again = Vec::new();
                if values.iter().all(|value| value.is_finite()) {
                    top.pack(&values, Version::OLDEST, &mut again);
                    prop_assert_eq!(again.len(), bytes.len());
                }
            }
        }
    }
}

#[test]
fn to_keep_nothing_is_refused() {
    let mut bytes = Answers::new(AnswerKind::Logits, 2, vec![1.0; 4])
        .unwrap()
        .pack(Precision::Top(1));
    assert!(Answers::read(&bytes).is_ok());
    bytes[Answers::HEADER_BYTES] = 0;
    let error = Answers::read(&bytes).unwrap_err().to_string();
    assert!(error.contains("keeps no value"), "{error}");
    assert!(Answers::read(&bytes[..Answers::HEADER_BYTES]).is_err());
}

#[test]
fn a_hundred_classes_take_a_tenth_of_their_halves() {
    let row = (0..100).map(|class| 0.5f32.powi(class % 50 + 1) / 2.0);
    let values: Vec<f32> = std::iter::repeat_n(row, 200).flatten().collect();
    let answers = Answers::new(AnswerKind::Probabilities, 100, values).unwrap();
    // Five classes, each a number of 7 bits and a value of 16.
    assert_eq!(
        answers.pack(Precision::Top(5)).len(),
        13 + 200 * 5 * 7 / 8 + 200 * 10
    );
    assert_eq!(answers.pack(Precision::F16).len(), 12 + 40_000);
}
