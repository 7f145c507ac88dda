use crate::codec::{Decode, Encode};
use crate::{Answers, Precision};

use super::{Form, Peaks, blocks, parts};

/// What becomes of a value between two that a [`Precision`] can say.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, Hash, PartialEq)]
pub enum Rounding {
    /// The nearer one: the least error of a single answer.
    #[default]
    Nearest,
    /// One of the two by chance, such that it is right on average: errors of many answers cancel in
    /// their mean (QSGD, Alistarh et al. 2017). One bit of probabilities is then a class drawn from them.
    /// Of 8 bits and fewer; 16 and more, and the largest values of [`Precision::Top`], are rounded to
    /// nearest.
    Stochastic,
}

impl Answers {
    /// The same answers, each value as one that `precision` can say: [`Self::pack`] takes nothing off
    /// them any more. `chance` gives independent numbers, even from 0 up to but not 1.
    #[must_use]
    pub fn rounded_by_chance(&self, precision: Precision, mut chance: impl FnMut() -> f64) -> Self {
        let form = self.kind.form(precision);
        if form == Form::Floats {
            return self.clone();
        }
        let steps = |bits| (u16::MAX >> (16 - bits)) as u8;
        let width = self.classes.max(1) as usize;
        let speaks: Vec<bool> = self.speaks().collect();
        let said = self.only(&speaks).values;
        let rounded = match form {
            Form::Floats => said,
            Form::Peaks => Peaks::drawn(&said, width, &mut chance).values(width),
            Form::Parts(bits) => parts::by_chance(&said, width, steps(bits), &mut chance),
            Form::Steps(bits) => blocks::by_chance(&said, steps(bits), &mut chance),
        };
        let mut values = self.values.clone();
        let rows = values.chunks_exact_mut(width).zip(&speaks);
        let rows = rows.filter(|(_, speaks)| **speaks);
        for ((row, _), rounded) in rows.zip(rounded.chunks_exact(width)) {
            // A row of zeros would say nothing.
            if rounded.iter().any(|value| *value != 0.0) {
                row.copy_from_slice(rounded);
            }
        }
        Self {
            values,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::AnswerKind;

    const FEW: [Precision; 5] = [
        Precision::U8,
        Precision::U4,
        Precision::U2,
        Precision::U1,
        Precision::Peak,
    ];

    /// Numbers from 0 up to 1, even enough, that follow from a seed.
    fn chances(seed: u64) -> impl FnMut() -> f64 {
        let mut at = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move || {
            at ^= at << 13;
            at ^= at >> 7;
            at ^= at << 17;
            (at >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    fn answers(kind: AnswerKind, values: &[f32]) -> Answers {
        let rows = values.len() / 3;
        let values = values[..3 * rows].iter().map(|value| match kind {
            AnswerKind::Probabilities => value.abs(),
            _ => *value,
        });
        let mut values: Vec<f32> = values.collect();
        if kind == AnswerKind::Probabilities {
            for row in values.chunks_exact_mut(3) {
                let sum: f32 = row.iter().sum();
                row.iter_mut()
                    .for_each(|value| *value /= sum.max(f32::MIN_POSITIVE));
            }
        }
        Answers::new(kind, 3, values).unwrap()
    }

    fn kind() -> impl Strategy<Value = AnswerKind> {
        prop_oneof![Just(AnswerKind::Logits), Just(AnswerKind::Probabilities)]
    }

    proptest! {
        #[test]
        fn packing_takes_nothing_off_what_was_rounded(
            kind in kind(), values in prop::collection::vec(-50.0f32..50.0, 3..700),
            silent in 1usize..9, seed in any::<u64>(),
        ) {
            let mut answers = answers(kind, &values);
            answers.values.chunks_exact_mut(3).step_by(silent).for_each(|row| row.fill(0.0));
            for precision in FEW {
                let rounded = answers.rounded_by_chance(precision, chances(seed));
                let back = Answers::read(&rounded.pack(precision)).unwrap();
                prop_assert!(back.speaks().eq(answers.speaks()));
                let spoken = rounded.iter().zip(rounded.speaks()).filter(|(_, speaks)| *speaks);
                for ((row, _), (back, _)) in spoken.zip(back.iter().zip(back.speaks()).filter(|(_, s)| *s)) {
                    for (value, back) in row.iter().zip(back) {
                        prop_assert!((value - back).abs() < 1e-4, "{precision:?} {row:?} {back:?}");
                    }
                }
            }
            for precision in [Precision::F32, Precision::F16, Precision::Top(2)] {
                prop_assert_eq!(&answers.rounded_by_chance(precision, chances(seed)), &answers);
            }
        }
    }

    /// What 1 bit of such rows is in the mean of many clients: by chance, and rounded to nearest.
    fn means(kind: AnswerKind, row: [f32; 3]) -> [[f32; 3]; 2] {
        let (clients, precision) = (4000, Precision::U1.of(kind));
        let answers = answers(kind, &row);
        let mut mean = [0.0; 3];
        for seed in 1..=clients {
            let rounded = answers.rounded_by_chance(precision, chances(seed));
            let back = Answers::read(&rounded.pack(precision)).unwrap();
            for (mean, value) in mean.iter_mut().zip(back.values()) {
                *mean += value / clients as f32;
            }
        }
        let nearest = Answers::read(&answers.pack(precision)).unwrap();
        [mean, nearest.values().try_into().unwrap()]
    }

    #[test]
    fn it_is_right_on_average_where_the_nearest_is_not() {
        for (kind, row) in [
            (AnswerKind::Logits, [-1.0, 0.5, 3.0]),
            (AnswerKind::Probabilities, [0.2, 0.5, 0.3]),
        ] {
            let far = |mean: [f32; 3]| {
                let pairs = mean.into_iter().zip(row);
                pairs
                    .map(|(mean, value)| (mean - value).abs())
                    .fold(0.0, f32::max)
            };
            let [by_chance, nearest] = means(kind, row).map(far);
            assert!(by_chance < 0.06, "{kind:?}: {by_chance}");
            assert!(nearest > 0.4, "{kind:?}: {nearest}");
        }
    }

    #[test]
    fn what_says_something_goes_on_saying_something() {
        // At 1 bit each of these is a zero, unless the last one is drawn.
        let answers = Answers::new(AnswerKind::Logits, 2, vec![0.0, 0.001, 1.0, 0.0]).unwrap();
        for seed in 0..50 {
            let rounded = answers.rounded_by_chance(Precision::U1, chances(seed));
            assert!(rounded.speaks().all(|speaks| speaks));
        }
    }
}
