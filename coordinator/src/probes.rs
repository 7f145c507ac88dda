//! Labelled samples hidden in the transfer set.

use fedistill_federation::Probes;
use fedistill_learning::{Dataset, Samples, seed};
use fedistill_protocol::{Answers, ProtocolError, Rows};

/// Labelled samples by which a method may measure what clients and teacher are worth.
#[derive(Clone, Debug)]
pub struct Labelled {
    samples: Samples,
    labels: Vec<u32>,
    teacher: Option<Answers>,
}

impl Labelled {
    /// Enough to tell two weights by, and few beside the samples of a round.
    pub const MOST: usize = 200;

    /// The first [`Self::MOST`] of these samples. Where the teacher has been trained on them,
    /// `teacher` has logits of teachers that were not: a row for each.
    ///
    /// # Errors
    /// Not as many rows as samples.
    pub fn new(data: &Dataset, teacher: Option<Answers>) -> Result<Self, ProtocolError> {
        let first: Vec<usize> = (0..data.len().min(Self::MOST)).collect();
        let data = data.select(&first);
        if let Some(rows) = teacher.as_ref().map(Answers::rows)
            && rows as usize != data.len()
        {
            return Err(ProtocolError::WrongLength {
                what: "answers on labelled samples",
                actual: rows.into(),
                expected: data.len() as u64,
            });
        }
        Ok(Self {
            labels: data.labels().to_vec(),
            samples: data.samples().clone(),
            teacher,
        })
    }

    /// The transfer set with these samples at places that follow from `seed`, which clients do not
    /// know; `None` where they are of another shape.
    pub fn hide_in(&self, transfer: &Samples, seed: u64) -> Option<(Samples, Probes)> {
        let joined = Samples::join(&[transfer, &self.samples])?;
        let mut places = seed::permutation(joined.len(), &mut seed::stream(seed, "probes"));
        places.truncate(self.samples.len());
        places.sort_unstable();
        let (mut hidden, mut plain) = (transfer.len()..joined.len(), 0..transfer.len());
        let order: Vec<usize> = (0..joined.len())
            .filter_map(|place| match places.binary_search(&place) {
                Ok(_) => hidden.next(),
                Err(_) => plain.next(),
            })
            .collect();
        let rows = Rows::of(places.iter().map(|place| *place as u32).collect());
        let probes = Probes::new(rows, self.labels.clone(), self.teacher.clone()).ok()?;
        Some((joined.select(&order), probes))
    }
}

/// Where labelled samples lie, and where others do.
#[derive(Clone, Debug)]
pub(crate) struct Hidden {
    pub(crate) probes: Probes,
    /// All other samples of the transfer set, ascending.
    pub(crate) others: Vec<u32>,
}

impl Hidden {
    /// In a transfer set of so many samples.
    pub(crate) fn new(probes: Probes, samples: u32) -> Self {
        let others = (0..samples).filter(|row| probes.of(*row).is_none());
        let others = others.collect();
        Self { probes, others }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fedistill_protocol::Elements;

    use super::*;

    fn samples(values: std::ops::Range<u8>) -> Samples {
        Samples::new(vec![1], Elements::U8(values.collect())).unwrap()
    }

    #[test]
    fn each_sample_is_in_the_set_once_and_labels_stay_with_theirs() {
        let classes = vec!["a".to_owned(), "b".to_owned()];
        let labels = (0..20).map(|index| index % 2).collect();
        let data = Dataset::new(Path::new("x"), samples(100..120), labels, classes).unwrap();
        let labelled = Labelled::new(&data, None).unwrap();
        let (set, probes) = labelled.hide_in(&samples(0..50), 7).unwrap();
        let values = set.to_vec();
        assert_eq!(values.len(), 70);
        // The transfer set's own samples keep their order.
        let hidden = Hidden::new(probes.clone(), 70);
        let gather = |rows: &mut dyn Iterator<Item = u32>| -> Vec<u8> {
            let value = |row: u32| (values[row as usize] * 255.0).round() as u8;
            rows.map(value).collect()
        };
        let plain = gather(&mut hidden.others.iter().copied());
        assert_eq!(plain, (0..50).collect::<Vec<u8>>());
        let found = gather(&mut probes.rows.iter());
        assert_eq!(found, (100..120).collect::<Vec<u8>>());
        for (row, value) in probes.rows.iter().zip(found) {
            assert_eq!(probes.of(row).unwrap().0, u32::from(value % 2));
        }
        // They are not all at one end, and lie elsewhere under another seed.
        assert!(probes.rows.iter().any(|row| row < 50));
        let (_, other) = labelled.hide_in(&samples(0..50), 8).unwrap();
        assert_ne!(other.rows, probes.rows);
    }

    #[test]
    fn samples_of_another_shape_cannot_hide() {
        let other = Samples::new(vec![2], Elements::U8(vec![0; 20])).unwrap();
        let classes = vec!["a".to_owned(), "b".to_owned()];
        let data = Dataset::new(Path::new("x"), samples(0..4), vec![0, 1, 0, 1], classes).unwrap();
        assert!(
            Labelled::new(&data, None)
                .unwrap()
                .hide_in(&other, 1)
                .is_none()
        );
    }
}
