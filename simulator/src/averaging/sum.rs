//! The sum of what clients have learnt.

use fedistill_learning::LearnError;

use crate::SimulationError;

/// A weighted sum in fixed point, so that it does not depend on who comes first.
pub(super) struct Sum {
    weight: i64,
    values: Vec<i128>,
}

impl Sum {
    /// A step of fixed point is 2^-44, finer than an f32 above 2^-20.
    const SCALE: f64 = (1u64 << 44) as f64;
    /// Values below this (2^60), times weights that add up to 2^20, stay within 124 bits.
    const BOUND: f32 = (1u64 << 60) as f32;
    const MOST_WEIGHT: i64 = 1 << 20;

    pub(super) fn new(values: usize) -> Self {
        Self {
            weight: 0,
            values: vec![0; values],
        }
    }

    pub(super) fn add(&mut self, weight: i64, values: &[f32]) -> Result<(), SimulationError> {
        self.weight += weight;
        if self.weight > Self::MOST_WEIGHT {
            let most = Self::MOST_WEIGHT;
            let why = format!("a cohort of more than {most} samples cannot be averaged");
            return Err(SimulationError::Settings(why));
        }
        if !values.iter().all(|value| value.abs() < Self::BOUND) {
            return Err(LearnError::Diverged.into());
        }
        for (sum, &value) in self.values.iter_mut().zip(values) {
            *sum += i128::from(weight) * (f64::from(value) * Self::SCALE).round() as i128;
        }
        Ok(())
    }

    pub(super) fn mean(&self) -> Vec<f32> {
        let divisor = self.weight.max(1) as f64 * Self::SCALE;
        let values = self.values.iter();
        values.map(|&sum| (sum as f64 / divisor) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_weighted_and_bounded() {
        let mut sum = Sum::new(2);
        sum.add(3, &[1.0, -0.5]).unwrap();
        sum.add(1, &[5.0, 0.5]).unwrap();
        assert_eq!(sum.mean(), [2.0, -0.25]);
        // Variances that a batch normalisation gathers may well be large.
        sum.add(4, &[6.0e6, -0.25]).unwrap();
        assert_eq!(sum.mean(), [3_000_001.0, -0.25]);
        assert!(sum.add(1, &[f32::NAN, 0.0]).is_err());
        // Of one client, a mean is what it is.
        let mut one = Sum::new(2);
        one.add(7, &[1.0e-3, -123.456]).unwrap();
        assert_eq!(one.mean(), [1.0e-3, -123.456]);
        assert!(sum.add(i64::from(u32::MAX), &[0.0, 0.0]).is_err());
    }
}
