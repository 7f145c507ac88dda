//! Which values of each row are the largest, at the entropy of that: class by class whether it is one of them, by how many
//! are still to come.

use crate::ProtocolError;
use crate::entropy::{Bit, Decoder, Encoder};

use super::super::coding;

/// More models than these would take longer to begin with than rows take.
const MOST_MODELS: usize = 1 << 16;
/// Of so many classes one at least is kept: what is rarer costs a bit of a model more than it says.
const MOST_OF_EACH: usize = 1 << 10;
/// As how often seen a model is taken to begin with that learns, and one that never does.
const SEEN: [u8; 2] = [4, 255];
/// What each model takes to be learnt, in bits.
const LEARNT: u64 = 4;
/// Rows that tell whether it is worth it.
const TELLING: usize = 512;

/// Rows of `classes`, `count` of which are kept, at least one and not all.
#[derive(Clone, Copy)]
pub(super) struct Places {
    classes: usize,
    count: usize,
}

impl Places {
    /// `None` of rows that are not coded.
    pub(super) fn new(classes: usize, count: usize) -> Option<Self> {
        let is_coded = (1..classes).contains(&count)
            && classes <= MOST_OF_EACH * count
            && classes.saturating_mul(count) <= MOST_MODELS;
        is_coded.then_some(Self { classes, count })
    }

    /// Which model says whether a class is kept, where so many still are to be; `None` where all others are, or none.
    #[inline(always)]
    fn model(self, class: usize, left: usize) -> Option<usize> {
        (left > 0 && left < self.classes - class).then(|| class * self.count + left - 1)
    }

    /// A model a class and number, as likely as all choices of so many are.
    fn models(self, seen: u8) -> Vec<Bit> {
        let of = |class: usize| {
            let others = (self.classes - class) as u64;
            (1..=self.count as u64)
                .map(move |left| Bit::firm(others.saturating_sub(left), others, seen))
        };
        (0..self.classes).flat_map(of).collect()
    }

    /// Calls `each` with the model and the answer, of one in so many rows, one after the other.
    fn walk(self, kept: &[u32], step: usize, mut each: impl FnMut(usize, bool)) {
        for row in kept.chunks_exact(self.count).step_by(step) {
            let mut at = 0;
            for class in 0..self.classes {
                let Some(model) = self.model(class, row.len() - at) else {
                    break;
                };
                let is_kept = row[at] as usize == class;
                each(model, is_kept);
                at += usize::from(is_kept);
            }
        }
    }

    /// Whether what rows are like is worth learning, as some of them tell.
    fn is_worth_learning(self, kept: &[u32]) -> bool {
        let step = (kept.len() / self.count / TELLING).max(1);
        let mut counts = vec![[0u32; 2]; self.classes * self.count];
        self.walk(kept, step, |model, is_kept| {
            counts[model][usize::from(is_kept)] += 1
        });
        let (mut learnt, mut even, mut models) = (0, 0, 0);
        for (model, counts) in counts.iter().enumerate().filter(|(_, c)| **c != [0; 2]) {
            let (class, left) = (model / self.count, model % self.count + 1);
            let others = (self.classes - class) as u64;
            learnt += coding::least(counts);
            models += 1;
            let [not, is] = counts.map(u64::from);
            let cost = |part| coding::logarithm(others) - coding::logarithm(part);
            even += not * cost(others - left as u64) + is * cost(left as u64);
        }
        // Few rows look less even than they are, by most of a bit for each model.
        let beside = step as u64 + LEARNT - 1;
        learnt * step as u64 + models * (beside << coding::FRACTION) < even * step as u64
    }

    /// What each model that says anything is asked, for who measures it.
    pub(super) fn symbols(self, kept: &[u32]) -> Vec<Vec<u32>> {
        let mut all = vec![Vec::new(); self.classes * self.count];
        self.walk(kept, 1, |model, is_kept| all[model].push(is_kept.into()));
        all.retain(|list| !list.is_empty());
        all
    }

    /// The classes that are kept, ascending, rows one after the other: an even bit, whether models never learn, and then a
    /// bit a class.
    pub(super) fn encode(self, kept: &[u32]) -> Vec<u8> {
        let firm = !self.is_worth_learning(kept);
        let (mut encoder, mut models) = (Encoder::default(), self.models(SEEN[usize::from(firm)]));
        encoder.bit(&mut Bit::default(), firm);
        self.walk(kept, 1, |model, is_kept| {
            encoder.bit(&mut models[model], is_kept)
        });
        encoder.finish()
    }

    /// Reads so many rows that [`Self::encode`] wrote: as many classes of each as are kept, ascending.
    ///
    /// # Errors
    /// Bytes that it would not have written.
    pub(super) fn decode(self, bytes: &[u8], rows: usize) -> Result<Vec<u32>, ProtocolError> {
        let mut decoder = Decoder::new(bytes);
        let firm = decoder.bit(&mut Bit::default());
        let mut models = self.models(SEEN[usize::from(firm)]);
        let mut kept = Vec::with_capacity(rows * self.count);
        for _ in 0..rows {
            let mut left = self.count;
            for class in 0..self.classes {
                let is_kept = match self.model(class, left) {
                    Some(model) => decoder.bit(&mut models[model]),
                    None => left > 0,
                };
                if is_kept {
                    // Classes are counted in 32 bits.
                    kept.push(class as u32);
                    left -= 1;
                }
            }
        }
        decoder.finish()?;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// So many rows, the first classes more often than others.
    fn rows(places: Places, rows: usize, skew: u32) -> Vec<u32> {
        let mut state = 1u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 24)
        };
        let row = |_| {
            let mut row: Vec<u32> = Vec::new();
            while row.len() < places.count {
                let class = (random().powi(skew as i32) * places.classes as f64) as u32;
                if !row.contains(&class) {
                    row.push(class);
                }
            }
            row.sort_unstable();
            row
        };
        (0..rows).flat_map(row).collect()
    }

    proptest! {
        #[test]
        fn places_come_back(classes in 2usize..40, count in 1usize..39, many in 0usize..90, skew in 1u32..4) {
            let Some(places) = Places::new(classes, count) else {
                return Ok(());
            };
            let kept = rows(places, many, skew);
            prop_assert_eq!(places.decode(&places.encode(&kept), many), Ok(kept));
        }

        #[test]
        fn any_bytes_are_places_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40), many in 0usize..40) {
            let places = Places::new(7, 3).unwrap();
            if let Ok(kept) = places.decode(&bytes, many) {
                prop_assert_eq!(kept.len(), 3 * many);
                let mut rows = kept.chunks_exact(3);
                prop_assert!(rows.all(|row| row.is_sorted_by(|a, b| a < b) && row[2] < 7));
            }
        }
    }

    #[test]
    fn even_choices_take_the_logarithm_of_their_number() {
        for (classes, count, bits) in [(10, 3, 120f64.log2()), (100, 5, 75_287_520f64.log2())] {
            let places = Places::new(classes, count).unwrap();
            let bytes = places.encode(&rows(places, 1000, 1)).len() as f64;
            let least = 1000.0 * bits / 8.0;
            assert!(bytes < 1.01 * least, "{bytes} bytes of {least}");
        }
    }

    #[test]
    fn choices_that_come_often_take_less() {
        let places = Places::new(10, 3).unwrap();
        let kept = rows(places, 1000, 4);
        let counts = |list: &[u32]| {
            let mut counts = std::collections::BTreeMap::new();
            list.chunks_exact(3)
                .for_each(|row| *counts.entry(row.to_vec()).or_insert(0u32) += 1);
            counts.into_values().collect::<Vec<_>>()
        };
        let joint = coding::least_bits(&counts(&kept)) as f64 / 8.0;
        let bytes = places.encode(&kept).len() as f64;
        assert!(
            bytes < 1.15 * joint && bytes < 0.8 * 863.0,
            "{bytes} of {joint}"
        );
    }
}
