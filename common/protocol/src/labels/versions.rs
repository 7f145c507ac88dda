//! Which version's peers can read what was packed.

use super::coding::{self, Coding};
use super::{Answers, GAPS, flags};
use crate::{Digest, Precision, Version};

impl Answers {
    /// The answers, packed to the bytes of this digest, for whichever version they are meant; `None` where none of them
    /// are these.
    pub fn packed_as(&self, precision: Precision, digest: Digest) -> Option<Vec<u8>> {
        let mut packed = Version::ALL
            .into_iter()
            .map(|version| self.pack_for(version, precision));
        packed.find(|bytes| Digest::of(bytes) == digest)
    }

    /// Whether peers of a version know the way in which the symbols of these packed answers are written. Whatever they
    /// know, [`Self::pack_for`] packs for them to the same bytes.
    pub fn is_known_to(version: Version, packed: &[u8]) -> bool {
        let later = [Coding::Sparse, Coding::Planes].map(|coding| coding as u8);
        let coding = packed.get(3).map(|coding| coding & !GAPS);
        coding::knows_all(version) || !coding.is_some_and(|coding| later.contains(&coding))
    }

    /// The same of an update, that [`Self::update_for`] has written.
    pub fn is_update_known_to(version: Version, update: &[u8]) -> bool {
        let nested = flags::skip(update).unwrap_or_default();
        Self::is_known_to(version, nested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AnswerKind;

    /// A thousand rows, each of which names one of a hundred classes.
    fn named(shift: usize) -> Answers {
        let rows = (0..1000usize).flat_map(|row| {
            let class = (row * 7919 % 1009 + shift * usize::from(row % 4 == 0)) % 100;
            (0..100).map(move |at| f32::from(u8::from(at == class)))
        });
        Answers::new(AnswerKind::Probabilities, 100, rows.collect()).unwrap()
    }

    #[test]
    fn each_version_is_written_what_it_can_read() {
        let (old, new) = (named(0), named(1));
        for precision in [Precision::U8, Precision::U4, Precision::U2, Precision::U1] {
            let packed = Version::ALL.map(|version| new.pack_for(version, precision));
            let updates = Version::ALL.map(|version| new.update_for(version, &old, precision));
            let ([latest, oldest], [latest_update, oldest_update]) = (&packed, &updates);
            assert!(latest.len() < oldest.len(), "{precision:?}");
            assert_eq!(*oldest, new.pack(precision));
            assert_eq!(*oldest_update, new.update(&old, precision));
            for version in Version::ALL {
                let knows = version == Version::LATEST;
                assert!(Answers::is_known_to(version, oldest));
                assert_eq!(Answers::is_known_to(version, latest), knows);
                let update = |update: &Option<Vec<u8>>| {
                    Answers::is_update_known_to(version, update.as_ref().unwrap())
                };
                assert!(update(oldest_update));
                assert_eq!(update(latest_update), knows, "{precision:?}");
            }
            // Either is the same answers, and who holds a digest finds which.
            for (bytes, update) in packed.iter().zip(updates) {
                assert_eq!(Answers::read(bytes), Ok(new.clone()));
                let found = new.packed_as(precision, Digest::of(bytes));
                assert_eq!(found.as_ref(), Some(bytes));
                assert_eq!(old.updated(&update.unwrap()), Ok(new.clone()));
            }
            let other = Digest::of(&old.pack(precision));
            assert_eq!(new.packed_as(precision, other), None);
        }
    }

    #[test]
    fn what_all_have_known_is_the_same_for_all() {
        let values = (0..3000).map(|at| (at * at % 97) as f32).collect();
        let logits = Answers::new(AnswerKind::Logits, 3, values).unwrap();
        for precision in [Precision::U8, Precision::U4, Precision::U2, Precision::U1] {
            let latest = logits.pack_for(Version::LATEST, precision);
            assert!(Answers::is_known_to(Version::OLDEST, &latest));
            assert_eq!(latest, logits.pack(precision));
        }
    }

    #[test]
    fn numbers_are_shorter_for_peers_that_know_planes() {
        let values = (0..3000).map(|at| (at * at % 97) as f32).collect();
        let logits = Answers::new(AnswerKind::Logits, 3, values).unwrap();
        for precision in [Precision::F32, Precision::F16, Precision::Top(2)] {
            let (latest, oldest) = (
                logits.pack_for(Version::LATEST, precision),
                logits.pack_for(Version::OLDEST, precision),
            );
            assert!(latest.len() < oldest.len(), "{precision:?}");
            assert!(!Answers::is_known_to(Version::OLDEST, &latest));
            assert!(Answers::is_known_to(Version::LATEST, &latest));
            assert!(Answers::is_known_to(Version::OLDEST, &oldest));
            assert_eq!(Answers::read(&latest), Answers::read(&oldest));
        }
    }
}
