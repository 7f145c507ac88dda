use fedistill_protocol::{Elements, ProtocolError, TransferSet};

/// Unlabelled samples of one shape.
///
/// Neither this nor [`crate::Dataset`] has an encoding: what is private cannot be sent by mistake.
/// Only [`Self::publish`] makes bytes for the wire of them, and only a transfer set goes through it.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    shape: Vec<u32>,
    count: usize,
    elements: Elements,
}

impl Samples {
    /// The most values that a sample may have; nets get as wide, so more is a mistake.
    pub const MOST_VALUES: usize = 1 << 22;

    /// Samples of `shape` each, outermost dimension first: `[1, 28, 28]` for a grey image.
    ///
    /// Returns `None` where the elements are not a whole number of samples, or the shape is empty or
    /// has more than [`Self::MOST_VALUES`].
    pub fn new(shape: Vec<u32>, elements: Elements) -> Option<Self> {
        let width = Self::values(&shape)?;
        let count = elements.len().checked_div(width)?;
        (count * width == elements.len()).then_some(Self {
            shape,
            count,
            elements,
        })
    }

    /// Values of a sample of this shape, if it may have so many.
    pub(crate) fn values(shape: &[u32]) -> Option<usize> {
        let sides = shape.iter().map(|&side| side as usize);
        let width = sides.fold(1usize, usize::saturating_mul);
        (width <= Self::MOST_VALUES).then_some(width)
    }

    /// Shape of a sample, outermost dimension first.
    pub fn shape(&self) -> &[u32] {
        &self.shape
    }

    /// Values of a sample.
    pub fn width(&self) -> usize {
        self.shape.iter().map(|&side| side as usize).product()
    }

    /// Bytes that the values take, in memory and packed alike.
    pub fn bytes(&self) -> usize {
        match &self.elements {
            Elements::U8(values) => values.len(),
            Elements::F32(values) => 4 * values.len(),
        }
    }

    /// Whether values are bytes, which count as their 255th part; floats otherwise.
    pub fn is_of_bytes(&self) -> bool {
        matches!(self.elements, Elements::U8(_))
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends the values of the samples at `indices` to `into`; bytes become `0.0..=1.0`.
    ///
    /// # Panics
    /// An index that is not below [`Self::len`].
    pub fn gather(&self, indices: &[usize], into: &mut Vec<f32>) {
        let width = self.width();
        for &index in indices {
            let range = index * width..(index + 1) * width;
            match &self.elements {
                Elements::U8(values) => {
                    into.extend(values[range].iter().map(|&value| f32::from(value) / 255.0))
                }
                Elements::F32(values) => into.extend(&values[range]),
            }
        }
    }

    /// The values of all samples, one after the other; bytes become `0.0..=1.0`.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.len() * self.width());
        self.gather(&(0..self.len()).collect::<Vec<_>>(), &mut values);
        values
    }

    /// The samples at `indices`, in that order.
    ///
    /// # Panics
    /// An index that is not below [`Self::len`].
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let width = self.width();
        fn pick<T: Copy>(values: &[T], width: usize, indices: &[usize]) -> Vec<T> {
            let row = |&index: &usize| values[index * width..(index + 1) * width].iter().copied();
            indices.iter().flat_map(row).collect()
        }
        let elements = match &self.elements {
            Elements::U8(values) => Elements::U8(pick(values, width, indices)),
            Elements::F32(values) => Elements::F32(pick(values, width, indices)),
        };
        Self {
            shape: self.shape.clone(),
            count: indices.len(),
            elements,
        }
    }

    /// All samples of several sets, one after the other; `None` where there are none, or where
    /// shapes or types of elements differ.
    pub fn join(sets: &[&Self]) -> Option<Self> {
        let first = sets.first()?;
        let mut all = Self {
            count: 0,
            ..(*first).clone()
        };
        match &mut all.elements {
            Elements::U8(values) => values.clear(),
            Elements::F32(values) => values.clear(),
        }
        for set in sets {
            match (&mut all.elements, &set.elements) {
                (Elements::U8(to), Elements::U8(from)) => to.extend(from),
                (Elements::F32(to), Elements::F32(from)) => to.extend(from),
                _ => return None,
            }
            all.count += set.count;
        }
        sets.iter().all(|set| set.shape == all.shape).then_some(all)
    }

    /// Adds all values to a hash, to tell one set from another; nothing comes back from that.
    pub fn digest_into(&self, hasher: &mut blake3::Hasher) {
        match &self.elements {
            Elements::U8(values) => {
                hasher.update(values);
            }
            Elements::F32(values) => values.iter().for_each(|value| {
                hasher.update(&value.to_le_bytes());
            }),
        }
    }

    /// Makes a transfer set of these samples, which everyone in the federation will see.
    ///
    /// # Errors
    /// More samples, dimensions or bytes than a transfer set may have; values that are not finite.
    pub fn publish(self) -> Result<TransferSet, ProtocolError> {
        TransferSet::new(self.shape, self.elements)
    }
}

impl From<TransferSet> for Samples {
    fn from(set: TransferSet) -> Self {
        let count = set.samples() as usize;
        let (shape, elements) = set.into_parts();
        Self {
            shape,
            count,
            elements,
        }
    }
}

/// The squared Euclidean distance of a sample, as values, to each of `others`, one after the other and
/// as long. The same bits on every processor.
pub fn squared_distances(sample: &[f32], others: &[f32]) -> Vec<f32> {
    let mut distances = vec![0.0; others.len().checked_div(sample.len()).unwrap_or(0)];
    crate::kernels::squared_distances(&mut distances, others, sample);
    distances
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_gathered_in_order() {
        let samples = Samples::new(vec![1, 1, 2], Elements::U8(vec![0, 255, 51, 0])).unwrap();
        let mut values = Vec::new();
        samples.gather(&[1, 0, 1], &mut values);
        assert_eq!(values, [0.2, 0.0, 0.0, 1.0, 0.2, 0.0]);
        let chosen = samples.select(&[1]);
        assert_eq!((chosen.len(), chosen.width()), (1, 2));
        assert!(Samples::new(vec![3], Elements::F32(vec![0.0; 4])).is_none());
        assert!(Samples::new(vec![0], Elements::F32(vec![])).is_none());
        assert!(Samples::new(vec![3, 100_000, 100_000], Elements::U8(vec![])).is_none());
    }

    #[test]
    fn a_transfer_set_comes_back_as_it_went() {
        let samples = Samples::new(vec![2], Elements::F32(vec![0.5, -1.0, 3.0, 4.0])).unwrap();
        let set = samples.clone().publish().unwrap();
        let back = TransferSet::unpack(&set.pack()).unwrap();
        assert_eq!(Samples::from(back), samples);
    }
}
