use std::sync::Arc;

use fedistill_client::{PrivateData, StudentError};
use fedistill_learning::Dataset;

/// Some samples of a data set that many clients share: which ones, and no copy of any.
///
/// Like a [`Dataset`] it has no encoding:
/// ```compile_fail,E0277
/// fn encodes<T: serde::Serialize>() {}
/// encodes::<fedistill_simulator::View>();
/// ```
#[derive(Clone, Debug)]
pub struct View {
    data: Arc<Dataset>,
    indices: Arc<[u32]>,
}

impl View {
    /// The samples of `data` at `indices`, in that order; `None` where there are fewer.
    pub fn new(data: Arc<Dataset>, indices: impl IntoIterator<Item = usize>) -> Option<Self> {
        let index = |index: usize| {
            let index = u32::try_from(index).ok()?;
            ((index as usize) < data.len()).then_some(index)
        };
        let indices = indices.into_iter().map(index).collect::<Option<_>>()?;
        Some(Self { data, indices })
    }

    /// All samples of several views of one data set; `None` where there are none, or the sets differ.
    pub fn join(views: &[Self]) -> Option<Self> {
        let data = Arc::clone(&views.first()?.data);
        let one = views.iter().all(|view| Arc::ptr_eq(&view.data, &data));
        let indices = views.iter().flat_map(|view| view.indices.iter().copied());
        let indices = indices.collect();
        one.then_some(Self { data, indices })
    }

    /// The shared data set.
    pub(crate) fn data(&self) -> &Dataset {
        &self.data
    }

    /// Those samples of the shared data set; `None` where it has fewer.
    pub(crate) fn part(&self, places: impl IntoIterator<Item = usize>) -> Option<Self> {
        Self::new(Arc::clone(&self.data), places)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Places of the samples in the shared data set.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.indices.iter().map(|&index| index as usize)
    }

    /// The labels of the samples.
    pub fn labels(&self) -> impl Iterator<Item = u32> {
        self.places().map(|index| self.data.labels()[index])
    }

    /// Number of samples of each class.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.data.classes().len()];
        self.labels().for_each(|label| counts[label as usize] += 1);
        counts
    }

    /// The samples as a data set of their own: a copy.
    #[must_use]
    pub fn to_dataset(&self) -> Dataset {
        self.data.select(&self.places().collect::<Vec<_>>())
    }
}

impl PrivateData for View {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn shape(&self) -> &[u32] {
        self.data.samples().shape()
    }

    fn classes(&self) -> &[String] {
        self.data.classes()
    }

    fn batch(
        &self,
        indices: &[usize],
        samples: &mut Vec<f32>,
        labels: &mut Vec<u32>,
    ) -> Result<(), StudentError> {
        for &index in indices {
            PrivateData::batch(
                self.data.as_ref(),
                &[self.indices[index] as usize],
                samples,
                labels,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fedistill_learning::Samples;
    use fedistill_protocol::Elements;

    use super::*;

    #[test]
    fn a_view_gives_what_a_copy_would() {
        let samples = Samples::new(vec![2], Elements::U8((0..20).collect())).unwrap();
        let labels = (0..10).map(|label| label % 3).collect();
        let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        let data = Arc::new(Dataset::new(Path::new("test"), samples, labels, classes).unwrap());
        let view = View::new(Arc::clone(&data), [7, 1, 4]).unwrap();
        let copy = data.select(&[7, 1, 4]);
        assert_eq!(view.to_dataset(), copy);
        assert_eq!(view.counts(), [0, 3, 0]);
        let batch = |of: &dyn PrivateData| {
            let (mut samples, mut labels) = (Vec::new(), Vec::new());
            of.batch(&[2, 0], &mut samples, &mut labels).unwrap();
            (samples, labels)
        };
        assert_eq!(batch(&view), batch(&copy));
        assert!(View::new(data, [10]).is_none());
    }
}
