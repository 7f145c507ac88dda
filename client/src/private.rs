use fedistill_learning::Dataset;

use crate::StudentError;

/// Private samples: what implements this is the only code that sees them, beside the student.
pub trait PrivateData: Send {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shape of a sample, outermost dimension first; the federation's transfer set has the same.
    fn shape(&self) -> &[u32];

    /// Names of the classes, in the order of the student's outputs.
    fn classes(&self) -> &[String];

    /// Appends the values and the labels of the samples at `indices`, all below [`Self::len`].
    ///
    /// # Errors
    /// Samples that cannot be read.
    fn batch(
        &self,
        indices: &[usize],
        samples: &mut Vec<f32>,
        labels: &mut Vec<u32>,
    ) -> Result<(), StudentError>;

    /// The labels of all samples, in their order.
    ///
    /// # Errors
    /// Samples that cannot be read.
    fn labels(&self) -> Result<Vec<u32>, StudentError> {
        let (mut samples, mut labels) = (Vec::new(), Vec::new());
        for index in 0..self.len() {
            samples.clear();
            self.batch(&[index], &mut samples, &mut labels)?;
        }
        Ok(labels)
    }
}

impl PrivateData for Dataset {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn shape(&self) -> &[u32] {
        self.samples().shape()
    }

    fn classes(&self) -> &[String] {
        Self::classes(self)
    }

    fn batch(
        &self,
        indices: &[usize],
        samples: &mut Vec<f32>,
        labels: &mut Vec<u32>,
    ) -> Result<(), StudentError> {
        self.samples().gather(indices, samples);
        labels.extend(indices.iter().map(|&index| self.labels()[index]));
        Ok(())
    }

    fn labels(&self) -> Result<Vec<u32>, StudentError> {
        Ok(Self::labels(self).to_vec())
    }
}
