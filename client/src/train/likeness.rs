//! Whether a sample is like a client's own.

use std::collections::BTreeMap;

use fedistill_learning::{Samples, seed, squared_distances};
use fedistill_protocol::{Density, Digest, Name, Silence};
use rand::RngExt;

use crate::{PrivateData, StudentError};

/// What has been decided of transfer samples. A client's own samples do not change, so neither does
/// this: it is worked out once.
#[derive(Debug, Default)]
pub(crate) struct Likeness {
    of: Option<(Silence, Digest)>,
    decided: BTreeMap<usize, bool>,
}

impl Likeness {
    /// Whether each of these transfer samples is like the client's own, by `rule`.
    ///
    /// # Errors
    /// Samples that cannot be read, or a rule with which nothing can be told.
    pub(super) fn of(
        &mut self,
        rule: Silence,
        (set, transfer): (Digest, &Samples),
        rows: &[usize],
        private: &dyn PrivateData,
        name: &Name,
    ) -> Result<Vec<bool>, StudentError> {
        if self.of != Some((rule, set)) {
            self.of = Some((rule, set));
            self.decided.clear();
        }
        let open = rows.iter().filter(|row| !self.decided.contains_key(row));
        let open: Vec<usize> = open.copied().collect();
        if !open.is_empty() {
            let own = |most: u16| Own::of(private, name, most.into());
            let mut samples = Vec::new();
            let judge: Judge = match rule {
                Silence::Far { quantile } => {
                    let far = Far::new(own(MOST_OWN)?, quantile);
                    Box::new(move |samples| far.are_near(samples))
                }
                Silence::Unlike { width, quantile }
                | Silence::UnlikeBy {
                    width, quantile, ..
                } => {
                    let density = match rule {
                        Silence::UnlikeBy { density, .. } => density,
                        _ => Density::default(),
                    };
                    let own = own(density.own)?;
                    let unlike = Unlike::new(own, width, quantile, &density, name)?;
                    Box::new(move |samples| unlike.are_like(samples))
                }
                Silence::Never | Silence::Foreign | Silence::Unsure { .. } => {
                    Box::new(|samples| vec![true; samples.len()])
                }
            };
            for open in open.chunks(AT_A_TIME) {
                samples.clear();
                transfer.gather(open, &mut samples);
                let samples: Vec<&[f32]> = samples.chunks_exact(transfer.width().max(1)).collect();
                let decided = open.iter().copied().zip(judge(&samples));
                self.decided.extend(decided);
            }
        }
        Ok(rows.iter().map(|row| self.decided[row]).collect())
    }
}

/// Says of each of these samples whether it is like one's own.
type Judge = Box<dyn Fn(&[&[f32]]) -> Vec<bool>>;

/// Samples that are judged at a time: they stay in the processor's cache.
const AT_A_TIME: usize = 64;

/// A client's own samples, of which at most so many are looked at where the plan does not say it.
const MOST_OWN: u16 = 600;

/// Own samples by chance, one after the other.
struct Own {
    values: Vec<f32>,
    width: usize,
}

impl Own {
    fn of(private: &dyn PrivateData, name: &Name, most: usize) -> Result<Self, StudentError> {
        let mut rng = seed::stream(0, &format!("likeness/{name}"));
        let mut order = seed::permutation(private.len(), &mut rng);
        order.truncate(most);
        let width = private.shape().iter().map(|side| *side as usize).product();
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        private.batch(&order, &mut values, &mut labels)?;
        Ok(Self { values, width })
    }

    fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.width.max(1))
    }

    fn len(&self) -> usize {
        self.rows().len()
    }

    /// The first `count` rows, and the others.
    fn split(mut self, count: usize) -> (Self, Self) {
        let (width, at) = (self.width, count.min(self.len()) * self.width);
        let rest = self.values.split_off(at);
        let of = |values| Self { values, width };
        (of(self.values), of(rest))
    }
}

/// The value that `share` of all are at most, or the largest.
fn quantile(mut values: Vec<f64>, share: f32) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (f64::from(share) * values.len() as f64).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// By the distance to the nearest own sample.
struct Far {
    own: Own,
    bar: f32,
}

impl Far {
    /// A sample is near if it is no further from the nearest own sample than this share of own samples
    /// are from the nearest other one; of one own sample alone, if it is the same.
    fn new(own: Own, share: f32) -> Self {
        let nearest = |(at, row): (usize, &[f32])| {
            let mut squares = squared_distances(row, &own.values);
            squares[at] = f32::INFINITY;
            f64::from(squares.into_iter().fold(f32::INFINITY, f32::min))
        };
        // A third of them tells as much.
        let distances = own.rows().enumerate().step_by(3).map(nearest);
        let distances = distances.filter(|square| square.is_finite()).collect();
        Self {
            bar: quantile(distances, share) as f32,
            own,
        }
    }

    /// Own samples come some at a time to all that no near one is known of yet, so that they are read from memory once.
    fn are_near(&self, samples: &[&[f32]]) -> Vec<bool> {
        const OWN_AT_A_TIME: usize = 8;
        let mut near = vec![false; samples.len()];
        for own in self
            .own
            .values
            .chunks(OWN_AT_A_TIME * self.own.width.max(1))
        {
            for (sample, near) in samples.iter().zip(&mut near).filter(|(_, near)| !**near) {
                let squares = squared_distances(sample, own);
                *near = squares.into_iter().any(|square| square <= self.bar);
            }
        }
        near
    }
}

/// By the density of own samples relative to even noise: kernel unconstrained least-squares importance
/// fitting (KuLSIF, Kanamori et al. 2012), as Selective-FD uses it (Shao et al. 2023).
struct Unlike {
    own: Own,
    noise: Vec<f32>,
    alpha: Vec<f64>,
    /// 1 / (lambda n).
    share: f64,
    /// -1 / (2 width^2).
    scale: f64,
    bar: f64,
}

impl Unlike {
    /// The density ratio of own samples; `share` of them are below the bar. Some of the own samples set
    /// the bar, the others make the estimate.
    ///
    /// # Errors
    /// A width with which nothing can be estimated.
    fn new(
        own: Own,
        width: f32,
        share: f32,
        density: &Density,
        name: &Name,
    ) -> Result<Self, StudentError> {
        let points = usize::from(density.noise);
        let held_out = f64::from(density.held_out) * own.len() as f64;
        let (known, own) = match held_out as usize {
            0 => (None, own),
            count => {
                let (known, own) = own.split(count);
                (Some(known), own)
            }
        };
        let values = own.values.iter().copied();
        let (least, most) = values.fold((0f32, 1f32), |(l, m), v| (l.min(v), m.max(v)));
        let mut rng = seed::stream(0, &format!("likeness/noise/{name}"));
        let value = |_| least + (most - least) * rng.random::<f32>();
        let noise: Vec<f32> = (0..points * own.width).map(value).collect();
        let scale = -0.5 / f64::from(width).powi(2);
        let kernel = |row: &[f32], others: &[f32]| -> Vec<f64> {
            let squares = squared_distances(row, others).into_iter();
            squares
                .map(|square| (scale * f64::from(square)).exp())
                .collect()
        };
        let lambda = density.ridge();
        // (K / m + lambda I) alpha = -(1 / (lambda n m)) K' 1: the inverse, not the matrix.
        let factor = -1.0 / (lambda * own.len() as f64 * points as f64);
        let (mut matrix, mut right) = (Vec::new(), Vec::new());
        for (at, row) in noise.chunks_exact(own.width.max(1)).enumerate() {
            let mut products = kernel(row, &noise);
            products
                .iter_mut()
                .for_each(|value| *value /= points as f64);
            products[at] += lambda;
            matrix.push(products);
            right.push(factor * kernel(row, &own.values).iter().sum::<f64>());
        }
        let alpha = solve(matrix, right).ok_or_else(useless)?;
        let mut unlike = Self {
            share: 1.0 / (lambda * own.len() as f64),
            own,
            noise,
            alpha,
            scale,
            bar: 0.0,
        };
        let ratio = |sample| unlike.ratio(sample);
        let ratios: Vec<f64> = match &known {
            Some(known) => known.rows().map(ratio).collect(),
            None => unlike.own.rows().map(ratio).collect(),
        };
        // So narrow a kernel that no sample is near another, or so wide that all are: everything would be
        // like one's own.
        let first = ratios.first().copied();
        if ratios.len() > 1 && ratios.iter().all(|ratio| Some(*ratio) == first) {
            return Err(useless());
        }
        unlike.bar = quantile(ratios, share);
        Ok(unlike)
    }

    fn ratio(&self, sample: &[f32]) -> f64 {
        let kernel = |square: f32| (self.scale * f64::from(square)).exp();
        let own = squared_distances(sample, &self.own.values).into_iter();
        let noise = squared_distances(sample, &self.noise).into_iter();
        let noise = noise
            .zip(&self.alpha)
            .map(|(square, alpha)| alpha * kernel(square));
        self.share * own.map(kernel).sum::<f64>() + noise.sum::<f64>()
    }

    fn are_like(&self, samples: &[&[f32]]) -> Vec<bool> {
        let is_like = |sample: &&[f32]| self.ratio(sample) >= self.bar;
        samples.iter().map(is_like).collect()
    }
}

/// It tells no sample from another.
fn useless() -> StudentError {
    "the kernel's width is too small or too large for these samples".into()
}

/// Solves a symmetric positive definite system by its Cholesky factor; `None` where it is none.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| a[i][k] * a[j][k]).sum();
            let left = a[i][j] - dot;
            a[i][j] = match i == j {
                true if left > 0.0 => left.sqrt(),
                true => return None,
                false => left / a[j][j],
            };
        }
    }
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| a[i][k] * b[k]).sum();
        b[i] = (b[i] - dot) / a[i][i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| a[k][i] * b[k]).sum();
        b[i] = (b[i] - dot) / a[i][i];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use fedistill_protocol::Elements;

    use super::*;

    /// Points around (x, x, x, x), by chance.
    fn cloud(x: f32, count: usize) -> Own {
        let mut rng = seed::stream(7, &format!("cloud/{x}"));
        let mut value = || x + 0.1 * (rng.random::<f32>() - 0.5);
        Own {
            values: (0..4 * count).map(|_| value()).collect(),
            width: 4,
        }
    }

    #[test]
    fn what_is_like_ones_own_is_told_from_what_is_not() {
        let (other, same) = (cloud(0.7, 50), cloud(0.2, 50));
        let name = "ward-1".parse().unwrap();
        let far = Far::new(cloud(0.2, 300), 0.9);
        let density = Density::default();
        let unlike = Unlike::new(cloud(0.2, 300), 0.3, 0.25, &density, &name).unwrap();
        let judges: [Judge; 2] = [
            Box::new(move |samples| far.are_near(samples)),
            Box::new(move |samples| unlike.are_like(samples)),
        ];
        for judge in judges {
            let share = |of: &Own| {
                let samples: Vec<&[f32]> = of.rows().collect();
                let alike = judge(&samples).into_iter().filter(|is| *is).count();
                alike as f64 / of.len() as f64
            };
            assert!(share(&other) == 0.0);
            assert!(share(&same) > 0.5, "{}", share(&same));
        }
    }

    #[test]
    fn near_is_who_has_any_own_sample_near() {
        let own = Own {
            values: (0..40).map(|at| at as f32).collect(),
            width: 1,
        };
        let far = Far { own, bar: 0.25 };
        let samples = [-1.0, 0.5, 7.6, 20.5, 39.4, 39.6, 80.0].map(|value| [value]);
        let samples: Vec<&[f32]> = samples.iter().map(|sample| &sample[..]).collect();
        let near = [false, true, true, true, true, false, false];
        assert_eq!(far.are_near(&samples), near);
    }

    #[test]
    fn who_has_one_sample_knows_nothing_else() {
        let one = Own {
            values: vec![0.5, 0.5],
            width: 2,
        };
        let far = Far::new(one, 0.75);
        assert_eq!(far.are_near(&[&[0.5, 0.5], &[0.5, 0.6]]), [true, false]);
    }

    #[test]
    fn a_kernel_that_tells_nothing_is_refused() {
        let name = "ward-1".parse().unwrap();
        for held_out in [0.0, 0.1] {
            let density = Density {
                held_out,
                ..Density::default()
            };
            let unlike = Unlike::new(cloud(0.2, 300), 1e-4, 0.25, &density, &name);
            let why = unlike.err().unwrap().to_string();
            assert!(why.contains("width is too small"), "{why}");
        }
    }

    /// Private samples around 0.2, by chance, of which it is noted how many are looked at.
    struct Counting(Own, std::sync::Mutex<usize>);

    impl PrivateData for Counting {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn shape(&self) -> &[u32] {
            &[4]
        }

        fn classes(&self) -> &[String] {
            &[]
        }

        fn batch(
            &self,
            indices: &[usize],
            samples: &mut Vec<f32>,
            labels: &mut Vec<u32>,
        ) -> Result<(), StudentError> {
            let rows: Vec<&[f32]> = self.0.rows().collect();
            samples.extend(indices.iter().flat_map(|at| rows[*at]));
            labels.extend(indices.iter().map(|_| 0));
            *self.1.lock().unwrap() = indices.len();
            Ok(())
        }
    }

    #[test]
    fn an_estimate_is_as_the_plan_says() {
        let name = "ward-1".parse().unwrap();
        let of = |density: &Density| {
            let unlike = Unlike::new(cloud(0.2, 300), 0.3, 0.25, density, &name).unwrap();
            (unlike.alpha.len(), unlike.own.len(), unlike.share)
        };
        let usual = Density::default();
        let (noise, own, share) = of(&usual);
        assert_eq!((noise, own), (250, 270));
        // 1 / (lambda n), with lambda one by the root of 250.
        assert!((share - 250f64.sqrt() / 270.0).abs() < 1e-12);
        let other = Density {
            noise: 40,
            held_out: 0.5,
            lambda: 0.25,
            ..usual
        };
        assert_eq!(of(&other), (40, 150, 1.0 / (0.25 * 150.0)));
        // Of 700 samples 600 are looked at, or as many as the plan says, whatever else it says.
        let looked_at = |rule| {
            let data = Counting(cloud(0.2, 700), std::sync::Mutex::new(0));
            let transfer = Samples::new(vec![4], Elements::F32(vec![0.2; 4])).unwrap();
            let set = (Digest::of(b"set"), &transfer);
            let mut likeness = Likeness::default();
            likeness.of(rule, set, &[0], &data, &name).unwrap();
            *data.1.lock().unwrap()
        };
        let (width, quantile) = (0.3, 0.25);
        assert_eq!(looked_at(Silence::Unlike { width, quantile }), 600);
        assert_eq!(looked_at(Silence::Far { quantile }), 600);
        for (own, expected) in [(50, 50), (10_000, 700)] {
            let density = Density { own, ..usual };
            let rule = Silence::UnlikeBy {
                width,
                quantile,
                density,
            };
            assert_eq!(looked_at(rule), expected);
        }
    }

    #[test]
    fn systems_are_solved() {
        let a = vec![
            vec![4.0, 2.0, 0.5],
            vec![2.0, 3.0, 0.25],
            vec![0.5, 0.25, 1.0],
        ];
        let x = solve(a.clone(), vec![1.0, -2.0, 3.0]).unwrap();
        for (row, b) in a.iter().zip([1.0, -2.0, 3.0]) {
            let dot: f64 = row.iter().zip(&x).map(|(a, x)| a * x).sum();
            assert!((dot - b).abs() < 1e-12);
        }
        assert!(solve(vec![vec![-1.0]], vec![1.0]).is_none());
    }

    #[test]
    fn quantiles_are_of_the_sorted() {
        assert_eq!(quantile(vec![3.0, 1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(quantile(vec![3.0, 1.0, 2.0, 4.0], 1.0), 4.0);
        assert_eq!(quantile(vec![3.0, 1.0], 0.0), 1.0);
    }
}
