//! Answers for who holds earlier ones: which rows have changed, and those rows (the delta coding of
//! CFD, Sattler et al. 2022, and the cache of SCARLET, Azuma et al. 2025, in one form).

use super::{Answers, flags, malformed};
use crate::{Precision, ProtocolError, Version};

impl Answers {
    /// What leads who holds `base` to these answers, as they are at this precision: a flag for each row
    /// of another value there than in `base`, then those rows, packed. `base` is what was unpacked on
    /// the other side, not what it was packed from. `None` where the shape or kind is another one, or
    /// where the other side could not tell by the digest of these answers, packed, that it has them.
    /// All versions that are spoken can read it: [`Self::update_for`] the oldest.
    pub fn update(&self, base: &Self, precision: Precision) -> Option<Vec<u8>> {
        self.update_for(Version::OLDEST, base, precision)
    }

    /// The same for peers of a version, which know these answers by what [`Self::pack_for`] packs for them.
    pub fn update_for(
        &self,
        version: Version,
        base: &Self,
        precision: Precision,
    ) -> Option<Vec<u8>> {
        if (base.kind, base.rows, base.classes) != (self.kind, self.rows, self.classes) {
            return None;
        }
        // As they will be over there: rounded.
        let packed = self.pack_for(version, precision);
        let rounded = Self::unpack(&packed, self.kind, self.rows, self.classes).ok()?;
        if rounded.pack_for(version, precision) != packed {
            return None;
        }
        let rows = rounded.iter().zip(base.iter());
        let changed: Vec<bool> = rows.map(|(new, old)| new != old).collect();
        let mut bytes = Vec::new();
        flags::write(&changed, &mut bytes);
        let some = self.only(&changed);
        let nested = some.pack_for(version, precision);
        // Scales are of blocks of rows: without the others, a row may be rounded otherwise.
        let again = Self::unpack(&nested, some.kind, some.rows, some.classes).ok()?;
        let nested = match again == rounded.only(&changed) {
            true => nested,
            false => rounded.only(&changed).pack(Precision::F32),
        };
        bytes.extend(nested);
        Some(bytes)
    }

    /// The answers that an update of these leads to. Whoever knows their digest holds it against
    /// them, packed.
    ///
    /// # Errors
    /// Bytes that [`Self::update`] would not have written.
    pub fn updated(&self, update: &[u8]) -> Result<Self, ProtocolError> {
        let (changed, rest) = flags::read(update, self.rows as usize)?;
        let count = changed.iter().filter(|changed| **changed).count() as u32;
        let new = Self::unpack(rest, self.kind, count, self.classes)?;
        let mut values = self.values.clone();
        let width = self.classes.max(1) as usize;
        let places = values.chunks_exact_mut(width).zip(&changed);
        let places = places.filter(|(_, changed)| **changed);
        for ((place, _), row) in places.zip(new.iter()) {
            place.copy_from_slice(row);
        }
        if changed.len() != self.rows as usize {
            return Err(malformed("an update of other answers"));
        }
        Self::new(self.kind, self.classes, values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::AnswerKind;

    proptest! {
        #[test]
        fn an_update_leads_to_the_same_answers(
            raw in prop::collection::vec(0f32..1.0, 60),
            other in prop::collection::vec(0f32..1.0, 60),
            change in prop::collection::vec(any::<bool>(), 20),
            which in 0usize..3, precision in 0usize..9,
        ) {
            let kind = [AnswerKind::Logits, AnswerKind::Probabilities, AnswerKind::Features][which];
            let top = [Precision::Top(1), Precision::Top(2), Precision::Peak];
            let precision = Precision::ALL.into_iter().chain(top).nth(precision).unwrap();
            let mut new = raw.clone();
            for (row, _) in change.iter().enumerate().filter(|(_, change)| **change) {
                new[row * 3..][..3].copy_from_slice(&other[row * 3..][..3]);
            }
            let there = |values: Vec<f32>| {
                let packed = Answers::new(kind, 3, values).unwrap().pack(precision);
                Answers::unpack(&packed, kind, 20, 3).unwrap()
            };
            let (base, expected) = (there(raw), there(new.clone()));
            let new = Answers::new(kind, 3, new).unwrap();
            let updated = base.updated(&new.update(&base, precision).unwrap()).unwrap();
            prop_assert_eq!(updated.pack(precision), new.pack(precision));
            prop_assert_eq!(updated, expected);
        }

        #[test]
        fn any_bytes_are_an_update_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let base = Answers::new(AnswerKind::Probabilities, 2, vec![0.5; 16]).unwrap();
            if let Ok(updated) = base.updated(&bytes) {
                prop_assert_eq!(updated.rows(), 8);
            }
        }
    }

    /// Who holds the base comes to values of which it could not tell by a digest that they are the right ones.
    #[test]
    fn there_is_no_update_to_what_is_packed_otherwise_once_it_was_read() {
        // From -1e30 up to 1 it is 1e30 in f64, so the largest value comes back as 0, the end of another scale.
        let new = Answers::new(AnswerKind::Logits, 3, vec![-1e30, 1.0, 1.0]).unwrap();
        let packed = new.pack(Precision::U8);
        let read = Answers::read(&packed).unwrap();
        assert_eq!(read.values(), [-1e30, 0.0, 0.0]);
        assert_ne!(read.pack(Precision::U8), packed);
        let base = Answers::new(AnswerKind::Logits, 3, vec![0.0; 3]).unwrap();
        assert_eq!(new.update(&base, Precision::U8), None);
        assert!(new.update(&base, Precision::F32).is_some());
    }

    #[test]
    fn votes_that_hardly_change_cost_hardly_anything() {
        let votes = |changed: usize| {
            let rows = (0..1000).flat_map(|row| {
                let vote = (row * 7 + usize::from(row % 100 < changed)) % 10;
                (0..10).map(move |class| f32::from(u8::from(class == vote)))
            });
            Answers::new(AnswerKind::Probabilities, 10, rows.collect()).unwrap()
        };
        let whole = votes(0).pack(Precision::U1).len();
        let update = votes(1).update(&votes(0), Precision::U1).unwrap().len();
        assert!(update < 50 && whole > 350, "{update} of {whole}");
    }
}
