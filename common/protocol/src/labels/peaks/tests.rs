use proptest::prelude::*;

use super::*;
use crate::{AnswerKind, Answers, Precision};

const KIND: AnswerKind = AnswerKind::Logits;

fn logits(classes: u32, mut values: Vec<f32>) -> Answers {
    values.truncate(values.len() / classes as usize * classes as usize);
    Answers::new(KIND, classes, values).unwrap()
}

/// Packed and read again.
fn back(answers: &Answers) -> Answers {
    let bytes = answers.pack(Precision::Peak);
    let (rows, classes) = (answers.rows(), answers.classes());
    assert!(bytes.len() as u64 <= Answers::most_bytes(KIND, rows, classes, Precision::Peak));
    Answers::unpack(&bytes, KIND, rows, classes).unwrap()
}

fn largest(row: &[f32]) -> usize {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter().position(|value| *value == most).unwrap()
}

/// The mean of all but the largest.
fn others(row: &[f32]) -> f64 {
    let sum: f64 = row.iter().map(|value| f64::from(*value)).sum();
    (sum - f64::from(row[largest(row)])) / (row.len() - 1) as f64
}

proptest! {
    #[test]
    fn the_largest_stays_and_both_levels_are_within_half_a_step(
        values in prop::collection::vec(-50.0f32..50.0, 2..3000), classes in 2u32..12, whole: bool,
    ) {
        // Whole numbers, so that some are equal.
        let value = |value: f32| if whole { value.round() } else { value };
        let answers = logits(classes, values.into_iter().map(value).collect());
        let back = back(&answers);
        let pairs: Vec<(&[f32], &[f32])> = answers
            .iter()
            .zip(back.iter())
            .filter(|(row, _)| row.iter().any(|value| *value != 0.0))
            .collect();
        for block in pairs.chunks(ROWS) {
            // Half a step, and what f16 takes.
            let levels = |of: &dyn Fn(&[f32]) -> f64| {
                let found = || block.iter().map(|(row, _)| of(row));
                let span = found().fold(f64::NEG_INFINITY, f64::max) - found().fold(f64::INFINITY, f64::min);
                0.5 * span / f64::from(STEPS) + 0.05
            };
            let gap = |row: &[f32]| f64::from(row[largest(row)]) - others(row);
            let allowed = [levels(&others), levels(&gap)];
            for (row, back) in block {
                prop_assert_eq!(largest(row), largest(back));
                prop_assert!((others(row) - others(back)).abs() <= allowed[0]);
                // A step at most, where it would not be above the others.
                prop_assert!((gap(row) - gap(back)).abs() <= 2.0 * allowed[1]);
            }
        }
    }

    #[test]
    fn what_was_read_is_packed_as_it_was(
        values in prop::collection::vec(-50.0f32..50.0, 1..3000), classes in 1u32..12, silent in 1usize..9,
    ) {
        let mut answers = logits(classes, values);
        answers.values.chunks_exact_mut(classes as usize).step_by(silent).for_each(|row| row.fill(0.0));
        let bytes = answers.pack(Precision::Peak);
        let back = back(&answers);
        prop_assert_eq!(&back.pack(Precision::Peak), &bytes);
    }

    #[test]
    fn any_bytes_are_rows_or_an_error(
        scales in prop::array::uniform8(any::<u8>()), bytes in prop::collection::vec(any::<u8>(), 0..60),
        rows in 1usize..30, classes in 1usize..30, way in 0u8..5, likely: bool,
    ) {
        let coding = Coding::of(way, crate::labels::Form::Peaks).unwrap_or(Coding::Plain);
        let kind = if likely { AnswerKind::Probabilities } else { KIND };
        let exact = symbols_bytes(rows as u64, classes as u64) as usize;
        let exact: Vec<u8> = bytes.iter().copied().chain([0; 60]).take(exact).collect();
        for scales in [scales, [0, 0xc0, 0, 0x40, 0, 0, 0, 0x48]] {
            for symbols in [&bytes, &exact] {
                let bytes = [&scales[..], symbols].concat();
                if let Ok(read) = Peaks::unpack(&bytes, kind, [rows, classes], coding) {
                    let values = read.values(classes);
                    prop_assert_eq!(values.len(), rows * classes);
                    prop_assert!(values.iter().all(|value| value.is_finite()));
                }
            }
        }
    }
}

/// Of all pairs of levels and all classes none is closer, but for steps between levels.
#[test]
fn two_levels_are_the_closest_in_squares() {
    let row = [0.5, 3.0, -1.0, 3.0, 0.25];
    let back = back(&logits(5, row.to_vec()));
    let off = |levels: [f32; 2], class: usize| {
        let value = |at: usize| levels[usize::from(at == class)];
        (0..5).map(|at| (row[at] - value(at)).powi(2)).sum::<f32>()
    };
    let ours = off([back.values()[0], back.values()[1]], 1);
    for class in 0..5 {
        for low in -40..40 {
            for high in low..40 {
                assert!(ours <= off([low as f32 / 8.0, high as f32 / 8.0], class) + 1e-2);
            }
        }
    }
}

/// Rows that name one of so many classes, evenly but in no order.
fn named(kind: AnswerKind, rows: usize, classes: usize) -> Answers {
    let mut state = 1usize;
    let rows = (0..rows).flat_map(|_| {
        state = (state * 75 + 74) % 65_537;
        let class = state % classes;
        (0..classes).map(move |at| f32::from(u8::from(at == class)))
    });
    Answers::new(kind, classes as u32, rows.collect()).unwrap()
}

#[test]
fn classes_that_are_too_many_to_be_learnt_take_their_digits() {
    for kind in [KIND, AnswerKind::Probabilities] {
        for (rows, classes) in [(300, 1000), (1000, 100), (1000, 700)] {
            let answers = named(kind, rows, classes);
            let bytes = answers.pack(Precision::Peak);
            assert_eq!(bytes[3], Coding::Firm as u8);
            let least = rows as f64 * (classes as f64).log2() / 8.0;
            let beside = Answers::HEADER_BYTES + rows.div_ceil(ROWS) * scales::BYTES;
            let taken = (bytes.len() - beside) as f64;
            assert!(
                taken <= 1.01 * least + 8.0,
                "{rows} x {classes}: {taken} of {least:.0}"
            );
            assert_eq!(Answers::read(&bytes), Ok(answers));
        }
    }
}

#[test]
fn of_equal_values_the_first_is_the_largest() {
    let answers = logits(3, vec![1.0, 5.0, 5.0, 2.0, 2.0, 2.0, 7.0, 7.0, -1.0]);
    let read = back(&answers);
    let rows: Vec<&[f32]> = read.iter().collect();
    assert_eq!([largest(rows[0]), largest(rows[2])], [1, 0]);
    // All that is equal stays so.
    assert!(rows[1].iter().all(|value| *value == rows[1][0]), "{rows:?}");
}

#[test]
fn values_of_any_size_and_number_come_back_as_numbers() {
    let most = f32::MAX;
    let huge = back(&logits(2, vec![most, -most, -most, most, 1.0, 1.0]));
    assert!(huge.values().iter().all(|value| value.is_finite()));
    // More classes than are learnt by a coder: their numbers cross as they are.
    let classes = 70_000;
    let mut wide = vec![-1.0; 2 * classes as usize];
    wide[65_999] = 4.0;
    wide[classes as usize + 3] = 4.0;
    assert_eq!(back(&logits(classes, wide.clone())), logits(classes, wide));
    // Of one class there are no others, and a step is 10 / 15 here.
    let one = back(&logits(1, vec![3.0, -2.0, 8.0]));
    let pairs = one.values().iter().zip([3.0, -2.0, 8.0]);
    assert!(
        pairs
            .into_iter()
            .all(|(read, value)| (read - value).abs() < 0.34)
    );
}

#[test]
fn a_class_beyond_the_last_one_and_scales_out_of_order_are_refused() {
    let rows = 3;
    let bytes = logits(3, vec![0.0, 1.0, 2.0, 5.0, 4.0, 4.0, 1.0, 7.0, 2.0]).pack(Precision::Peak);
    assert!(Answers::read(&bytes).is_ok());
    let at = Answers::HEADER_BYTES;
    let changed = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        Answers::unpack(&bytes, KIND, rows, 3)
            .unwrap_err()
            .to_string()
    };
    let order = changed(&|bytes| bytes[at..at + 4].rotate_left(2));
    let below = changed(&|bytes| bytes[at + 5] |= 0x80);
    let endless = changed(&|bytes| bytes[at + 7] = 0x7c);
    for error in [order, below, endless] {
        assert!(error.contains("not in order"), "{error}");
    }
    assert_eq!(bytes[3], Coding::Plain as u8, "three rows are few");
    let beyond = changed(&|bytes| bytes[at + scales::BYTES] |= 3);
    assert!(beyond.contains("beyond the last"), "{beyond}");
    let systems = changed(&|bytes| bytes[3] = Coding::Systems as u8);
    assert!(systems.contains("unknown coding"), "{systems}");
    let newer = changed(&|bytes| bytes[2] = 8);
    assert!(newer.contains("unknown precision"), "{newer}");
}
