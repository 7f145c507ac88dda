use fedistill_protocol::Digest;
use thiserror::Error;

/// Weighted sums of contributions in fixed point, `rows x width`. A row of zeros says nothing, and
/// does not count in its row's mean.
///
/// Integer addition is associative and commutative, so the same contributions give the same bits
/// in whatever order and groups they were taken in; memory does not grow with their number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Partial {
    contributions: u32,
    weight: u64,
    width: usize,
    /// What a weight of 1 counts as.
    parts: u32,
    sums: Vec<i64>,
    /// Weight of those that said something, row by row.
    spoken: Vec<u64>,
    /// The same over all rows, and weight times rows, of those that were asked about these rows.
    asked: Asked,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Asked {
    contributions: u32,
    spoken: u64,
    rows: u64,
}

/// A value or weight that would leave the range of fixed point.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PartialError {
    /// Another number of values than the rest.
    #[error("{actual} values do not add to {expected}")]
    Length {
        /// Values that came.
        actual: usize,
        /// Values of this aggregate.
        expected: usize,
    },
    /// NaN, or beyond [`Partial::BOUND`] either way.
    #[error("value {index} is not finite or beyond {bound} either way", bound = Partial::BOUND)]
    Value {
        /// Its index.
        index: usize,
    },
    /// Sums whose weights are in other parts.
    #[error("weights in parts of {actual} do not add to those in parts of {expected}")]
    Parts {
        /// Parts of what came.
        actual: u32,
        /// Parts of this aggregate.
        expected: u32,
    },
    /// Weights so far add up to more than [`Partial::MOST_WEIGHT`], in parts.
    #[error("weights add up to more than {most}", most = Partial::MOST_WEIGHT)]
    Weight,
}

impl Partial {
    /// Largest magnitude of a value.
    pub const BOUND: f32 = 64.0;
    /// Largest sum of weights: with [`Self::BOUND`] it keeps every sum within 63 bits.
    pub const MOST_WEIGHT: u64 = 1 << 32;
    /// A step of fixed point is 2^-24: finer than an f32 above 1.
    const SCALE: f64 = (1 << 24) as f64;

    /// The empty sum of `rows` rows of `width` values.
    pub fn new(rows: usize, width: usize) -> Self {
        Self::in_parts(rows, width, 1)
    }

    /// The same, where a weight of 1 counts as so many parts, so that others may count for some of
    /// them. Means are the same to the bit, whatever the parts, if those are a power of two.
    pub fn in_parts(rows: usize, width: usize, parts: u32) -> Self {
        Self {
            parts,
            contributions: 0,
            weight: 0,
            width,
            sums: vec![0; rows * width],
            spoken: vec![0; rows],
            asked: Asked::default(),
        }
    }

    /// Contributions so far.
    pub fn contributions(&self) -> u32 {
        self.contributions
    }

    /// Lets `take` add with weights that are parts what was said of other rows, of which some are among these.
    pub(crate) fn by_parts<T>(&mut self, take: impl FnOnce(&mut Self) -> T) -> T {
        let (parts, asked) = (std::mem::replace(&mut self.parts, 1), self.asked);
        let taken = take(self);
        (self.parts, self.asked) = (parts, asked);
        taken
    }

    /// Sum of weights so far, in parts.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Adds a contribution of weight `weight`; leaves the sum as it is on an error.
    ///
    /// # Errors
    /// Another length, a value out of range, or too much weight.
    pub fn add(&mut self, weight: u32, values: &[f32]) -> Result<(), PartialError> {
        if values.len() != self.sums.len() {
            return Err(PartialError::Length {
                actual: values.len(),
                expected: self.sums.len(),
            });
        }
        // NaN is not within the bound either. Without the sign, bits are in the order of values.
        let bits = |value: &f32| value.to_bits() & !(1 << 31);
        let fits = |bits: u32| bits <= Self::BOUND.to_bits();
        if !fits(values.iter().map(bits).fold(0, u32::max))
            && let Some(index) = values.iter().position(|value| !fits(bits(value)))
        {
            return Err(PartialError::Value { index });
        }
        let weight = weight.checked_mul(self.parts).ok_or(PartialError::Weight)?;
        self.grow(1, weight.into())?;
        for (sum, &value) in self.sums.iter_mut().zip(values) {
            *sum += i64::from(weight) * i64::from(steps(value));
        }
        let rows = values.chunks_exact(self.width.max(1));
        for (spoken, row) in self.spoken.iter_mut().zip(rows) {
            if row.iter().any(|value| *value != 0.0) {
                *spoken += u64::from(weight);
                self.asked.spoken += u64::from(weight);
            }
        }
        self.asked.rows += u64::from(weight) * self.spoken.len() as u64;
        self.asked.contributions += 1;
        Ok(())
    }

    /// Adds what another gateway took in.
    ///
    /// # Errors
    /// Another length, other parts, or too much weight.
    pub fn merge(&mut self, other: &Self) -> Result<(), PartialError> {
        if (other.sums.len(), other.width) != (self.sums.len(), self.width) {
            return Err(PartialError::Length {
                actual: other.sums.len(),
                expected: self.sums.len(),
            });
        }
        if other.parts != self.parts {
            return Err(PartialError::Parts {
                actual: other.parts,
                expected: self.parts,
            });
        }
        self.grow(other.contributions, other.weight)?;
        self.sums
            .iter_mut()
            .zip(&other.sums)
            .for_each(|(sum, add)| *sum += add);
        self.spoken
            .iter_mut()
            .zip(&other.spoken)
            .for_each(|(spoken, add)| *spoken += add);
        self.asked.spoken += other.asked.spoken;
        self.asked.rows += other.asked.rows;
        self.asked.contributions += other.asked.contributions;
        Ok(())
    }

    /// Row by row, the weighted mean of those that said something there; zeros where nobody did.
    /// `None` before anything of weight was added.
    pub fn mean(&self) -> Option<Vec<f32>> {
        let mean = |(sums, spoken): (&[i64], &u64)| {
            let divisor = (*spoken).max(1) as f64 * Self::SCALE;
            let values = sums.iter().map(|&sum| (sum as f64 / divisor) as f32);
            values.collect::<Vec<f32>>()
        };
        let rows = self.sums.chunks_exact(self.width.max(1)).zip(&self.spoken);
        (self.weight > 0).then(|| rows.flat_map(mean).collect())
    }

    /// Tells this sum from any other, to the bit.
    pub fn digest(&self) -> Digest {
        let head = [self.contributions.into(), self.weight, self.width as u64];
        let sums = self.sums.iter().map(|sum| sum.to_le_bytes());
        // Sums of whole weights are told as they were before there were parts.
        let parts = (self.parts != 1).then_some(self.parts.into());
        let head = head.into_iter().chain(parts);
        let others = head.chain(self.spoken.iter().copied());
        let bytes: Vec<u8> = others.map(u64::to_le_bytes).chain(sums).flatten().collect();
        Digest::of(&bytes)
    }

    /// Weight of those that said something, row by row, in parts.
    pub fn spoken(&self) -> &[u64] {
        &self.spoken
    }

    /// Share of what they were asked about that contributors said something of, by weight; `None` where nobody was asked.
    /// Those that are late do not count: they were asked about other rows.
    pub fn spoken_share(&self) -> Option<f64> {
        let Asked { spoken, rows, .. } = self.asked;
        (rows > 0).then(|| spoken as f64 / rows as f64)
    }

    /// Contributions of those that were asked about these rows, which who is late was not.
    pub fn in_time(&self) -> u32 {
        self.asked.contributions
    }

    fn grow(&mut self, contributions: u32, weight: u64) -> Result<(), PartialError> {
        let weight = self.weight.saturating_add(weight);
        if weight > Self::MOST_WEIGHT {
            return Err(PartialError::Weight);
        }
        self.weight = weight;
        self.contributions += contributions;
        Ok(())
    }
}

/// A value within [`Partial::BOUND`] in fixed point, the nearest step, halves away from zero.
///
/// As `round` does it, without its call: a value has 24 bits, so adding a half to it is exact
/// wherever that matters.
fn steps(value: f32) -> i32 {
    let steps = f64::from(value) * Partial::SCALE;
    (steps + 0.5f64.copysign(steps)) as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contributions() -> impl Strategy<Value = Vec<(u32, Vec<f32>)>> {
        prop::collection::vec(
            (0u32..100, prop::collection::vec(-64.0f32..=64.0, 6)),
            1..12,
        )
    }

    proptest! {
        #[test]
        fn steps_are_rounded(value in -64.0f32..=64.0, small in -1e-6f32..1e-6) {
            for value in [value, small, value.round() / 16_777_216.0 * 0.5] {
                let rounded = (f64::from(value) * Partial::SCALE).round();
                prop_assert_eq!(f64::from(steps(value)), rounded);
            }
        }

        #[test]
        fn order_and_grouping_do_not_change_a_bit(
            all in contributions(), cut in 0usize..12, turn in 0usize..12,
        ) {
            let mut whole = Partial::new(2, 3);
            all.iter().for_each(|(w, v)| whole.add(*w, v).unwrap());
            let mut turned = all.clone();
            turned.rotate_left(turn % all.len());
            let (left, right) = turned.split_at(cut.min(all.len()));
            let mut groups = [Partial::new(2, 3), Partial::new(2, 3)];
            left.iter().for_each(|(w, v)| groups[0].add(*w, v).unwrap());
            right.iter().for_each(|(w, v)| groups[1].add(*w, v).unwrap());
            let [mut first, second] = groups;
            first.merge(&second).unwrap();
            prop_assert_eq!(first, whole);
        }

        #[test]
        fn the_mean_is_the_weighted_mean(all in contributions()) {
            let mut sum = Partial::new(2, 3);
            all.iter().for_each(|(w, v)| sum.add(*w, v).unwrap());
            let weight: f64 = all.iter().map(|(w, _)| f64::from(*w)).sum();
            prop_assert_eq!(sum.mean().is_some(), weight > 0.0);
            let Some(mean) = sum.mean() else { return Ok(()) };
            for (index, value) in mean.into_iter().enumerate() {
                let exact: f64 = all.iter().map(|(w, v)| f64::from(*w) * f64::from(v[index])).sum();
                prop_assert!((f64::from(value) - exact / weight).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn who_says_nothing_of_a_row_does_not_count_there() {
        let mut sum = Partial::new(3, 2);
        sum.add(1, &[1.0, 3.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
        sum.add(3, &[5.0, -1.0, 0.5, 0.0, 0.0, 0.0]).unwrap();
        assert_eq!(sum.mean(), Some(vec![4.0, 0.0, 0.5, 0.0, 0.0, 0.0]));
        assert_eq!(sum.spoken(), [4, 3, 0]);
        assert_eq!(sum.spoken_share(), Some(7.0 / 12.0));
    }

    #[test]
    fn who_is_late_was_not_asked_about_the_rest() {
        let mut sum = Partial::in_parts(4, 1, 256);
        assert_eq!(sum.spoken_share(), None);
        sum.by_parts(|sum| sum.add(128, &[1.0, 0.0, 0.0, 0.0]))
            .unwrap();
        assert_eq!(sum.spoken_share(), None);
        sum.add(1, &[0.0, 1.0, 1.0, 1.0]).unwrap();
        sum.by_parts(|sum| sum.add(128, &[1.0, 0.0, 0.0, 0.0]))
            .unwrap();
        assert_eq!(sum.spoken(), [256, 256, 256, 256]);
        assert_eq!(sum.spoken_share(), Some(0.75));
        assert_eq!((sum.contributions(), sum.in_time()), (3, 1));
        let mut other = Partial::in_parts(4, 1, 256);
        other.add(3, &[0.0, 0.0, 0.0, 1.0]).unwrap();
        sum.merge(&other).unwrap();
        assert_eq!(sum.spoken_share(), Some(6.0 / 16.0));
    }

    #[test]
    fn parts_change_no_mean_and_let_some_count_less() {
        let said = [(3, [1.0, -0.3]), (7, [0.1, 63.9]), (1, [5.5, 0.0])];
        let (mut whole, mut parts) = (Partial::new(1, 2), Partial::in_parts(1, 2, 256));
        for (weight, values) in said {
            whole.add(weight, &values).unwrap();
            parts.add(weight, &values).unwrap();
        }
        assert_eq!(whole.mean(), parts.mean());
        assert_eq!((whole.weight(), parts.weight()), (11, 11 * 256));
        assert_ne!(whole.digest(), parts.digest());
        assert!(matches!(
            whole.merge(&parts),
            Err(PartialError::Parts { .. })
        ));
        let mut sum = Partial::in_parts(1, 1, 256);
        sum.add(1, &[1.0]).unwrap();
        sum.by_parts(|sum| sum.add(128, &[-1.0])).unwrap();
        sum.add(1, &[1.0]).unwrap();
        assert_eq!(sum.mean(), Some(vec![(2.0 - 0.5) / 2.5]));
        assert_eq!(sum.add(1 << 24, &[0.0]), Err(PartialError::Weight));
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut sum = Partial::new(1, 2);
        sum.add(1, &[1.0, 2.0]).unwrap();
        let before = sum.clone();
        assert!(matches!(
            sum.add(1, &[1.0]),
            Err(PartialError::Length { .. })
        ));
        assert_eq!(
            sum.add(1, &[0.0, f32::NAN]),
            Err(PartialError::Value { index: 1 })
        );
        assert_eq!(
            sum.add(1, &[65.0, 0.0]),
            Err(PartialError::Value { index: 0 })
        );
        assert_eq!(sum.add(u32::MAX, &[0.0, 0.0]), Ok(()));
        assert_eq!(sum.add(u32::MAX, &[0.0, 0.0]), Err(PartialError::Weight));
        assert_eq!(before.mean(), Some(vec![1.0, 2.0]));
    }

    #[test]
    fn the_largest_sum_does_not_overflow() {
        let mut sum = Partial::new(1, 1);
        sum.add(u32::MAX, &[Partial::BOUND]).unwrap();
        sum.add(1, &[Partial::BOUND]).unwrap();
        assert_eq!(sum.mean(), Some(vec![Partial::BOUND]));
    }
}
