//! Probabilities as parts of a whole: the quantiser of compressed federated distillation (Sattler et
//! al. 2021).

/// Writes the row of `parts` whole parts that is closest to `row` in the sum of absolute differences:
/// part `i` of `n` stands for `i / n`. They add up to `whole`; of equal claims the first wins, so that
/// `whole` = 1 is the largest probability's class.
///
/// `row` has no negative value; what it adds up to counts as 1. A row of zeros stays one.
pub fn quantise(row: &[f32], whole: u32, parts: &mut Vec<u32>) {
    parts.clear();
    let sum: f64 = row.iter().map(|value| f64::from(*value)).sum();
    if sum <= 0.0 || !sum.is_finite() {
        return parts.resize(row.len(), 0);
    }
    let scale = f64::from(whole) / sum;
    let mut left = whole;
    let mut claims = Vec::with_capacity(row.len());
    for (at, value) in row.iter().enumerate() {
        let share = f64::from(*value) * scale;
        let part = (share.floor() as u32).min(left);
        left -= part;
        parts.push(part);
        claims.push((share - f64::from(part), at));
    }
    // The largest remainders get what is left: no other choice is closer.
    claims.sort_by(|(a, i), (b, j)| b.total_cmp(a).then(i.cmp(j)));
    for (_, at) in claims.into_iter().cycle().take(left as usize) {
        parts[at] += 1;
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

    #[test]
    fn one_part_is_a_vote() {
        assert_eq!(parts(&[0.2, 0.5, 0.3], 1), [0, 1, 0]);
        assert_eq!(parts(&[0.5, 0.5], 1), [1, 0]);
        assert_eq!(parts(&[0.0, 0.0], 1), [0, 0]);
        assert_eq!(parts(&[0.25, 0.75], 15), [4, 11]);
        assert_eq!(parts(&[f32::NAN, 1.0], 3), [0, 0]);
    }
}
