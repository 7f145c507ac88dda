//! The largest values of each row, and what the others are on average: soft labels of many classes, of which few are
//! likely (as in distillation of language models, where "top-k" is usual).

use half::f16;

use super::malformed;
use crate::{AnswerKind, ProtocolError};

/// Rows of `classes` values, of which `count` are kept; all are kept where there are no more.
#[derive(Clone, Copy)]
pub(super) struct Top {
    classes: usize,
    count: usize,
    /// Whether what the others are on average is there too, or follows from what is left of 1.
    told: bool,
}

impl Top {
    pub(super) fn new(kind: AnswerKind, classes: u32, count: u8) -> Self {
        let (classes, count) = (classes as usize, usize::from(count).min(classes as usize));
        let told = kind != AnswerKind::Probabilities && count < classes;
        Self {
            classes,
            count,
            told,
        }
    }

    /// Bits of a class's number.
    fn digits(self) -> u32 {
        self.classes.max(1).next_power_of_two().ilog2()
    }

    /// Whether a bit a class says which ones are kept; otherwise their numbers do, ascending.
    fn by_mask(self) -> bool {
        self.classes <= self.count * self.digits() as usize
    }

    /// Bits of a row that say which values are kept.
    fn places_bits(self) -> u64 {
        match (self.count == self.classes, self.by_mask()) {
            (true, _) => 0,
            (false, true) => self.classes as u64,
            (false, false) => self.count as u64 * u64::from(self.digits()),
        }
    }

    /// Length of so many rows.
    pub(super) fn bytes(self, rows: u64) -> u64 {
        let values = 2 * (self.count as u64 + u64::from(self.told));
        let places = rows.saturating_mul(self.places_bits()).div_ceil(8);
        rows.saturating_mul(values).saturating_add(places)
    }

    /// Appends which values of each row are kept, all rows side by side, then the values of each row as f16, in the
    /// order of classes, with the mean of the others after them where it is told.
    pub(super) fn pack(self, values: &[f32], bytes: &mut Vec<u8>) {
        let rows = || values.chunks_exact(self.classes.max(1));
        let kept: Vec<Vec<usize>> = rows().map(|row| self.largest(row)).collect();
        let mut bits = Bits::default();
        for kept in kept.iter().filter(|_| self.count < self.classes) {
            match self.by_mask() {
                true => {
                    let mut next = kept.iter().peekable();
                    for class in 0..self.classes {
                        bits.push(u32::from(next.next_if(|at| **at == class).is_some()), 1);
                    }
                }
                false => kept
                    .iter()
                    .for_each(|at| bits.push(*at as u32, self.digits())),
            }
        }
        bytes.extend(bits.bytes);
        let mut add = |value: f32| bytes.extend(half(value).to_le_bytes());
        for (row, kept) in rows().zip(&kept) {
            kept.iter().for_each(|at| add(row[*at]));
            if self.told {
                let mut next = kept.iter().peekable();
                let others = row.iter().enumerate();
                let others = others.filter(|(at, _)| next.next_if(|kept| *kept == at).is_none());
                let sum: f64 = others.map(|(_, value)| f64::from(*value)).sum();
                add((sum / (self.classes - self.count) as f64) as f32);
            }
        }
    }

    /// The places of the largest values, ascending; of equal ones the first.
    fn largest(self, row: &[f32]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..row.len()).collect();
        if self.count < row.len() && self.count > 0 {
            order.select_nth_unstable_by(self.count - 1, |a, b| {
                row[*b].total_cmp(&row[*a]).then(a.cmp(b))
            });
        }
        order.truncate(self.count);
        order.sort_unstable();
        order
    }

    /// The values of so many rows, from as many bytes as [`Self::bytes`] says.
    ///
    /// # Errors
    /// Places that nobody would have written.
    pub(super) fn unpack(self, bytes: &[u8], rows: usize) -> Result<Vec<f32>, ProtocolError> {
        let cut = || malformed("it is cut off");
        let places = (rows as u64 * self.places_bits()).div_ceil(8) as usize;
        let (places, halves) = bytes.split_at_checked(places).ok_or_else(cut)?;
        let (halves, odd) = halves.as_chunks::<2>();
        let each = self.count + usize::from(self.told);
        if halves.len() != rows * each || !odd.is_empty() {
            return Err(cut());
        }
        let mut bits = Reader::new(places);
        let mut all = vec![0.0; rows * self.classes];
        let mut kept = Vec::with_capacity(self.count);
        let lines = all.chunks_exact_mut(self.classes.max(1));
        for (row, halves) in lines.zip(halves.chunks_exact(each.max(1))) {
            self.read_places(&mut bits, &mut kept)?;
            let value = |half: &[u8; 2]| f16::from_le_bytes(*half).to_f32();
            let (own, rest) = halves.split_at(self.count);
            let rest = match rest.first() {
                Some(rest) => value(rest),
                None => self.spread(own.iter().map(value)),
            };
            // Below what is kept, so that the same values are kept if all are packed again.
            let least = own.iter().map(value).fold(f32::INFINITY, f32::min);
            row.fill(match least > 0.0 || self.told {
                true => rest.min(least.next_down()),
                false => rest,
            });
            for (at, own) in kept.iter().zip(own) {
                row[*at] = value(own);
            }
        }
        match bits.is_over() {
            true => Ok(all),
            false => Err(malformed("bits are left over")),
        }
    }

    /// What each of the others has of what kept probabilities leave of 1.
    fn spread(self, kept: impl Iterator<Item = f32>) -> f32 {
        let sum: f64 = kept.map(f64::from).sum();
        let others = self.classes - self.count;
        ((1.0 - sum).max(0.0) / others.max(1) as f64) as f32
    }

    fn read_places(
        self,
        bits: &mut Reader<'_>,
        kept: &mut Vec<usize>,
    ) -> Result<(), ProtocolError> {
        kept.clear();
        match (self.count == self.classes, self.by_mask()) {
            (true, _) => kept.extend(0..self.classes),
            (false, true) => kept.extend((0..self.classes).filter(|_| bits.take(1) == 1)),
            (false, false) => {
                kept.extend((0..self.count).map(|_| bits.take(self.digits()) as usize));
            }
        }
        let fits = kept.len() == self.count
            && kept.is_sorted_by(|a, b| a < b)
            && kept.last().is_none_or(|last| *last < self.classes);
        match fits {
            true => Ok(()),
            false => Err(malformed(
                "classes are repeated, unsorted, too many or unknown",
            )),
        }
    }
}

/// Rounded to nearest; what is beyond becomes the largest.
fn half(value: f32) -> f16 {
    let largest = f16::MAX.to_f32();
    f16::from_f32(value.clamp(-largest, largest))
}

/// Bits side by side, the first in a byte's lowest.
#[derive(Default)]
pub(super) struct Bits {
    pub(super) bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    pub(super) fn push(&mut self, value: u32, bits: u32) {
        for place in 0..bits {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> place & 1) as u8) << (self.used % 8);
            }
            self.used += 1;
        }
    }
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits; zeros after the end.
    pub(super) fn take(&mut self, bits: u32) -> u32 {
        (0..bits).fold(0, |value, place| {
            let byte = self.bytes.get(self.at / 8).copied().unwrap_or(0);
            let bit = byte >> (self.at % 8) & 1;
            self.at += 1;
            value | u32::from(bit) << place
        })
    }

    /// Whether nothing but zeros to the end of a byte is left.
    pub(super) fn is_over(&mut self) -> bool {
        let left = (8 * self.bytes.len()).saturating_sub(self.at);
        left < 8 && self.take(left as u32) == 0
    }
}

#[cfg(test)]
mod tests {
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
                if let Ok(values) = top.unpack(bytes, rows) {
                    prop_assert_eq!(values.len(), rows * classes as usize);
                    // All bits and all values are there again, as no two blobs say the same.
                    let mut again = Vec::new();
                    if values.iter().all(|value| value.is_finite()) {
                        top.pack(&values, &mut again);
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
}
