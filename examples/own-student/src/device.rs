//! A device of one's own: what fedistill needs of data and model, of whatever framework.
use fedistill_client::{PrivateData, Student, StudentError};
use fedistill_learning::{Objective, Samples};
use fedistill_protocol::{Optimiser, Start};
use rand_chacha::ChaCha20Rng;

type Done<T = ()> = Result<T, StudentError>;

/// Four lengths of a flower, and which it is.
pub struct Flowers(pub Vec<([f32; 4], u32)>, pub Vec<String>);

impl PrivateData for Flowers {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn shape(&self) -> &[u32] {
        &[4]
    }
    fn classes(&self) -> &[String] {
        &self.1
    }
    fn batch(&self, of: &[usize], x: &mut Vec<f32>, y: &mut Vec<u32>) -> Done {
        x.extend(of.iter().flat_map(|&i| self.0[i].0));
        y.extend(of.iter().map(|&i| self.0[i].1));
        Ok(())
    }
}

/// Softmax regression: a row of four weights and a bias for each of three classes.
pub struct Regression(pub [[f32; 5]; 3], pub f32);

impl Regression {
    pub fn scores(&self, x: &[f32]) -> Vec<f32> {
        let dot = |x: &[f32], w: &[f32; 5]| w[4] + (0..4).map(|i| x[i] * w[i]).sum::<f32>();
        let each = |x| self.0.each_ref().map(|w| dot(x, w));
        x.chunks(4).flat_map(each).collect()
    }
}

impl Student for Regression {
    fn begin(&mut self, _: Start, steps: Optimiser) -> Done {
        self.1 = steps.learning_rate();
        Ok(())
    }
    fn step(&mut self, x: &[f32], aim: &Objective<'_>, _: &mut ChaCha20Rng) -> Done<f32> {
        let mut slopes = Vec::new();
        let loss = aim.evaluate(&self.scores(x), 3, &mut slopes)?;
        for (x, slopes) in x.chunks(4).zip(slopes.chunks(3)) {
            for (w, slope) in self.0.iter_mut().zip(slopes) {
                (0..5).for_each(|i| w[i] -= self.1 * slope * x.get(i).unwrap_or(&1.0));
            }
        }
        Ok(loss)
    }
    fn logits(&mut self, samples: &Samples) -> Done<Vec<f32>> {
        Ok(self.scores(&samples.to_vec()))
    }
}
