//! Centres of what clients say that a few who lie cannot move far.

use std::cmp::Ordering;
use std::fmt;

/// What stands for all contributions in place of their mean. Each client counts once, whatever its
/// weight: a weight would be a lever.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Robust {
    /// The median of each value by itself (Yin et al. 2018): between the honest clients' least and
    /// largest as long as fewer than half lie.
    Median,
    /// The point with the least sum of distances to all rows (Weiszfeld 1937; of predictions: Roux et
    /// al. 2024): it stays near the honest rows as long as fewer than half lie.
    GeometricMedian,
}

impl Robust {
    /// All, with their names.
    pub const ALL: [(&str, Self); 2] = [
        ("median", Self::Median),
        ("geometric-median", Self::GeometricMedian),
    ];

    /// The one of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(of, _)| *of == name).map(|(_, robust)| robust)
    }

    /// The centre of rows of `width` finite values. To the bit the same, whatever their order; zeros where
    /// there are none.
    pub fn centre(self, rows: &[&[f32]], width: usize) -> Vec<f32> {
        if rows.is_empty() {
            return vec![0.0; width];
        }
        match self {
            Self::Median => medians(rows, width),
            Self::GeometricMedian => weiszfeld(rows, width),
        }
    }
}

impl fmt::Display for Robust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Median => "median",
            Self::GeometricMedian => "geometric-median",
        })
    }
}

/// The median of each column; between the middle two where there are as many below as above.
fn medians(rows: &[&[f32]], width: usize) -> Vec<f32> {
    let mut column = Vec::with_capacity(rows.len());
    let median = |at: usize| {
        column.clear();
        column.extend(rows.iter().map(|row| row[at]));
        column.sort_unstable_by(f32::total_cmp);
        let upper = column[rows.len() / 2];
        match rows.len() % 2 {
            1 => upper,
            _ => f32::midpoint(column[rows.len() / 2 - 1], upper),
        }
    };
    (0..width).map(median).collect()
}

/// Steps of Weiszfeld's iteration: it ends earlier where nothing moves any more.
const STEPS: usize = 64;
/// Distances count as at least this, so that a row under the centre does not weigh infinitely much.
const NEAR: f64 = 1e-6;

/// Weiszfeld's iteration from the medians of columns, rows in an order of their own.
fn weiszfeld(rows: &[&[f32]], width: usize) -> Vec<f32> {
    let mut sorted = rows.to_vec();
    let by_values = |a: &&[f32], b: &&[f32]| -> Ordering {
        let pairs = a.iter().zip(*b).map(|(a, b)| a.total_cmp(b));
        pairs.fold(Ordering::Equal, Ordering::then)
    };
    sorted.sort_unstable_by(by_values);
    let start = medians(rows, width);
    let mut centre: Vec<f64> = start.into_iter().map(f64::from).collect();
    for _ in 0..STEPS {
        let mut next = vec![0.0; width];
        let mut weights = 0.0;
        for row in &sorted {
            let squares = row.iter().zip(&centre);
            let square: f64 = squares.map(|(v, c)| (f64::from(*v) - c).powi(2)).sum();
            let weight = square.sqrt().max(NEAR).recip();
            weights += weight;
            let values = next.iter_mut().zip(*row);
            values.for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
        next.iter_mut().for_each(|sum| *sum /= weights);
        let moved = next.iter().zip(&centre).map(|(a, b)| (a - b).abs());
        let moved = moved.fold(0.0, f64::max);
        centre = next;
        if moved < NEAR {
            break;
        }
    }
    centre.into_iter().map(|value| value as f32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<f32>>> {
        prop::collection::vec(prop::collection::vec(-4.0f32..=4.0, 3), count)
    }

    fn centre(robust: Robust, rows: &[Vec<f32>]) -> Vec<f32> {
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        robust.centre(&rows, 3)
    }

    fn distance(a: &[f32], b: &[f32]) -> f64 {
        let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
        squares.sum::<f64>().sqrt()
    }

    proptest! {
        #[test]
        fn order_does_not_change_a_bit(mut all in rows(1..9), turn in 0usize..9) {
            for (_, robust) in Robust::ALL {
                let before = centre(robust, &all);
                let turn = turn % all.len();
                all.rotate_left(turn);
                all.reverse();
                prop_assert_eq!(&before, &centre(robust, &all));
            }
        }

        #[test]
        fn a_minority_moves_a_median_within_the_honest_alone(
            honest in rows(3..8), lies in rows(1..8), far in 1.0f32..1e4,
        ) {
            let mut all = honest.clone();
            let fewer = lies.into_iter().take(honest.len() - 1);
            all.extend(fewer.map(|lie| lie.into_iter().map(|v| v * far).collect()));
            for (at, value) in centre(Robust::Median, &all).into_iter().enumerate() {
                let of = || honest.iter().map(|row| row[at]);
                let least = of().fold(f32::INFINITY, f32::min);
                let most = of().fold(f32::NEG_INFINITY, f32::max);
                prop_assert!((least..=most).contains(&value), "{value} of {least} to {most}");
            }
        }

        /// Lopuhaa and Rousseeuw 1991: with a share a below a half that lie, at most
        /// 2 (1 - a) / (1 - 2 a) times the honest rows' largest distance from any point.
        #[test]
        fn a_minority_moves_a_geometric_median_so_far_and_no_further(
            honest in rows(5..9), lies in rows(1..3), far in 1.0f32..1e3,
        ) {
            let clean = centre(Robust::GeometricMedian, &honest);
            let radius = honest.iter().map(|row| distance(row, &clean)).fold(0.0, f64::max);
            let mut all = honest.clone();
            all.extend(lies.iter().map(|lie| lie.iter().map(|v| v * far).collect::<Vec<f32>>()));
            let share = lies.len() as f64 / all.len() as f64;
            let bound = 2.0 * (1.0 - share) / (1.0 - 2.0 * share) * radius;
            let moved = distance(&centre(Robust::GeometricMedian, &all), &clean);
            prop_assert!(moved <= bound + 1e-3, "{moved} of {bound}");
        }

        #[test]
        fn all_of_one_mind_are_heard(row in prop::collection::vec(-4.0f32..=4.0, 3), count in 1usize..6) {
            let all = vec![row.clone(); count];
            for (_, robust) in Robust::ALL {
                prop_assert!(distance(&centre(robust, &all), &row) < 1e-5);
            }
        }
    }

    #[test]
    fn a_geometric_median_has_the_least_sum_of_distances() {
        // An equilateral triangle: its centre.
        let third = 3f32.sqrt();
        let all = [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, third, 0.0]].map(Vec::from);
        let found = centre(Robust::GeometricMedian, &all);
        assert!(
            distance(&found, &[0.0, third / 3.0, 0.0]) < 1e-4,
            "{found:?}"
        );
        assert_eq!(centre(Robust::Median, &all), [0.0, 0.0, 0.0]);
    }

    #[test]
    fn nobody_says_nothing() {
        for (name, robust) in Robust::ALL {
            assert_eq!(robust.centre(&[], 3), [0.0; 3]);
            assert_eq!(Robust::by_name(name), Some(robust));
            assert_eq!(robust.to_string(), name);
        }
        assert_eq!(Robust::by_name("mean"), None);
    }
}
