//! Probabilities as parts of a whole: the quantiser of compressed federated distillation (Sattler et
//! al. 2021).

/// Writes the row of `parts` whole parts that is closest to `row` in the sum of absolute differences:
/// part `i` of `n` stands for `i / n`. They add up to `whole`; of equal claims the first wins, so that
/// `whole` = 1 is the largest probability's class.
///
/// What `row` adds up to counts as 1, and what is below 0 as 0. A row of zeros stays one.
pub fn quantise(row: &[f32], whole: u32, parts: &mut Vec<u32>) {
    quantise_with(row, whole, parts, &mut Claims::default());
}

/// Up to this many classes, comparing all claims with all is faster than putting them into order.
const FEW: usize = 32;
/// Claims keep this many bits of a remainder, and as many of a class as they have left.
const REMAINDER_BITS: u32 = 32;

/// Adding it to a number from 0 to 2^51 leaves no places after the point.
const WHOLE: f64 = (1u64 << 52) as f64;

/// The next whole number down, of a number from 0 to 2^51. Rounding as the processor does it, many numbers at
/// a time, which `floor` is not on every one.
#[inline(always)]
fn down(value: f64) -> f64 {
    let nearest = (value + WHOLE) - WHOLE;
    nearest - if nearest > value { 1.0 } else { 0.0 }
}

/// What is below 0 counts as 0.
#[inline(always)]
fn positive(value: &f32) -> f64 {
    f64::from(if *value > 0.0 { *value } else { 0.0 })
}

/// Room for what is worked with, for who has many rows.
#[derive(Default)]
pub(crate) struct Claims {
    /// Each class's remainder, and among equal ones the earlier class more: no two are equal. Whole numbers.
    of: Vec<f64>,
    ordered: Vec<u64>,
}

/// The same, with room from an earlier row.
pub(crate) fn quantise_with(row: &[f32], whole: u32, parts: &mut Vec<u32>, claims: &mut Claims) {
    parts.clear();
    let sum: f64 = row.iter().map(positive).sum();
    if sum <= 0.0 || !sum.is_finite() {
        return parts.resize(row.len(), 0);
    }
    let scale = f64::from(whole) / sum;
    // The lowest bits of a double of this size are its whole number.
    parts.extend(
        row.iter()
            .map(|value| (down(positive(value) * scale) + WHOLE).to_bits() as u32),
    );
    // Rounding takes no sum of parts above the whole: what it adds to shares is far less than 1.
    let mut left = whole.saturating_sub(parts.iter().sum());
    // And may leave more than there are classes.
    while left as usize >= row.len() {
        parts.iter_mut().for_each(|part| *part += 1);
        left -= row.len() as u32;
    }
    if left == 0 {
        return;
    }
    // The largest remainders get what is left: no other choice is closer.
    claims.fill(row, scale, parts);
    match row.len() <= FEW {
        true => claims.settle_few(left, parts),
        false => claims.settle_many(left, parts),
    }
}

impl Claims {
    fn fill(&mut self, row: &[f32], scale: f64, parts: &[u32]) {
        const STEPS: f64 = (1u64 << REMAINDER_BITS) as f64;
        let classes = row.len() as f64;
        let claims = row.iter().zip(parts).enumerate();
        self.of.clear();
        self.of.extend(claims.map(|(at, (value, part))| {
            let remainder = positive(value) * scale - f64::from(*part);
            // Exact up to a million classes.
            down(remainder * STEPS) * classes + (classes - 1.0 - at as f64)
        }));
    }

    /// A class gets one more where fewer than `left` claim more.
    fn settle_few(&self, left: u32, parts: &mut [u32]) {
        let mut claims = [-1.0; FEW];
        claims[..self.of.len()].copy_from_slice(&self.of);
        let compared = self.of.len().next_multiple_of(4);
        for (part, own) in parts.iter_mut().zip(&self.of) {
            let more = claims[..compared]
                .iter()
                .map(|claim| u32::from(claim > own));
            *part += u32::from(more.sum::<u32>() < left);
        }
    }

    fn settle_many(&mut self, left: u32, parts: &mut [u32]) {
        let Self { of, ordered } = self;
        ordered.clear();
        // No number is negative, so their bits have their order.
        ordered.extend(of.iter().map(|claim| claim.to_bits()));
        let place = ordered.len() - left as usize;
        let least = f64::from_bits(*ordered.select_nth_unstable(place).1);
        for (part, claim) in parts.iter_mut().zip(of.iter()) {
            *part += u32::from(*claim >= least);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(row: &[f32], whole: u32) -> Vec<u32> {
        let mut parts = Vec::new();
        quantise(row, whole, &mut parts);
        parts
    }

    fn distance(row: &[f32], parts: &[u32], whole: u32) -> f64 {
        let pairs = row.iter().zip(parts);
        pairs
            .map(|(p, part)| (f64::from(*p) - f64::from(*part) / f64::from(whole)).abs())
            .sum()
    }

    /// All ways to share out `whole`.
    fn all(classes: usize, whole: u32) -> Vec<Vec<u32>> {
        if classes == 1 {
            return vec![vec![whole]];
        }
        let first = 0..=whole;
        first
            .flat_map(|part| {
                let rest = all(classes - 1, whole - part);
                rest.into_iter().map(move |mut rest| {
                    rest.insert(0, part);
                    rest
                })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn no_other_row_is_closer(row in prop::collection::vec(0.0f32..1.0, 2..5), whole in 1u32..8) {
            let sum: f32 = row.iter().sum();
            prop_assume!(sum > 1e-3);
            let row: Vec<f32> = row.iter().map(|p| p / sum).collect();
            let ours = parts(&row, whole);
            prop_assert_eq!(ours.iter().sum::<u32>(), whole);
            let least = all(row.len(), whole)
                .iter()
                .map(|other| distance(&row, other, whole))
                .fold(f64::INFINITY, f64::min);
            prop_assert!(distance(&row, &ours, whole) < least + 1e-6);
        }
    }

    /// The definition, without regard to time.
    fn by_order(row: &[f32], whole: u32) -> Vec<u32> {
        let sum: f64 = row.iter().map(|value| f64::from(*value)).sum();
        let scale = f64::from(whole) / sum;
        let shares: Vec<f64> = row.iter().map(|value| f64::from(*value) * scale).collect();
        let mut parts: Vec<u32> = shares.iter().map(|share| share.floor() as u32).collect();
        let mut order: Vec<usize> = (0..row.len()).collect();
        // Closer than this counts as equal.
        let remainder = |at: &usize| (shares[*at].fract() * (1u64 << REMAINDER_BITS) as f64) as u64;
        order.sort_by_key(|at| (std::cmp::Reverse(remainder(at)), *at));
        let left = whole - parts.iter().sum::<u32>();
        order
            .into_iter()
            .take(left as usize)
            .for_each(|at| parts[at] += 1);
        parts
    }

    proptest! {
        #[test]
        fn few_and_many_classes_are_settled_alike(
            row in prop::collection::vec(0u32..40, 2..120), which in 0usize..4,
        ) {
            prop_assume!(row.iter().any(|value| *value > 0));
            let row: Vec<f32> = row.into_iter().map(|value| value as f32).collect();
            let whole = [255, 15, 3, 1][which];
            prop_assert_eq!(parts(&row, whole), by_order(&row, whole));
        }
    }

    #[test]
    fn one_part_is_a_vote() {
        assert_eq!(parts(&[0.2, 0.5, 0.3], 1), [0, 1, 0]);
        assert_eq!(parts(&[0.5, 0.5], 1), [1, 0]);
        assert_eq!(parts(&[0.0, 0.0], 1), [0, 0]);
        assert_eq!(parts(&[0.25, 0.75], 15), [4, 11]);
        assert_eq!(parts(&[f32::NAN, 1.0, -7.0], 3), [0, 3, 0]);
        assert_eq!(parts(&[f32::INFINITY, 1.0], 3), [0, 0]);
        assert_eq!(parts(&[f32::MAX; 3], u32::MAX), [u32::MAX / 3; 3]);
    }
}
