use crate::ProtocolError;
use crate::codec::{Decode, Encode, decode_through, encode_through};

/// A choice of samples of the transfer set.
///
/// A list travels in the shorter of two forms: as gaps between its samples, or as marks, a bit for each
/// sample from its first to its last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rows {
    /// `start..start + count`.
    Range {
        /// First sample.
        start: u32,
        /// Number of samples, at least 1.
        count: u32,
    },
    /// These samples, ascending, each once.
    List(Vec<u32>),
}

impl Rows {
    /// These samples, ascending and each once, in the shorter form: the same choice always looks the
    /// same.
    pub fn of(rows: Vec<u32>) -> Self {
        let without_gaps = rows.is_sorted_by(|a, b| a.checked_add(1) == Some(*b));
        match rows.first() {
            Some(&start) if without_gaps => Self::Range {
                start,
                count: rows.len() as u32,
            },
            _ => Self::List(rows),
        }
    }

    /// Number of samples.
    pub fn count(&self) -> u32 {
        match self {
            Self::Range { count, .. } => *count,
            // A list is bounded by the frame that carried it.
            Self::List(rows) => rows.len() as u32,
        }
    }

    /// The samples, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let (range, list) = match self {
            Self::Range { start, count } => (*start..start.saturating_add(*count), &[][..]),
            Self::List(rows) => (0..0, rows.as_slice()),
        };
        range.chain(list.iter().copied())
    }

    pub(crate) fn check(&self, samples: u32) -> Result<(), String> {
        let fits = match self {
            Self::Range { start, count } => {
                *count > 0 && start.checked_add(*count).is_some_and(|end| end <= samples)
            }
            Self::List(rows) => {
                rows.is_sorted_by(|a, b| a < b) && rows.last().is_some_and(|last| *last < samples)
            }
        };
        match fits {
            true => Ok(()),
            false => Err(format!(
                "rows are empty, repeated, unsorted or beyond {samples} samples"
            )),
        }
    }
}

/// What travels.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
enum Wire {
    Range {
        start: u32,
        count: u32,
    },
    /// By how much each sample is above the one before, the first above 0; modulo 2^32, so that a list
    /// that is out of order is one that can be refused.
    Gaps(Vec<u32>),
    /// A bit for each sample from `start` on, the first in a byte's lowest: whether it is chosen.
    Marks {
        start: u32,
        marks: Vec<u8>,
    },
}

encode_through!(Rows, Wire, Wire::of);
decode_through!(Rows, Wire, Wire::rows);

impl Wire {
    fn of(rows: &Rows) -> Self {
        let list = match rows {
            Rows::Range { start, count } => {
                let (start, count) = (*start, *count);
                return Self::Range { start, count };
            }
            Rows::List(list) => list,
        };
        let before = std::iter::once(0).chain(list.iter().copied());
        let gaps: Vec<u32> = list
            .iter()
            .zip(before)
            .map(|(row, before)| row.wrapping_sub(before))
            .collect();
        let of_gaps: usize = gaps.iter().map(|&gap| length(gap)).sum();
        match Self::marks(list) {
            Some((start, marks)) if length(start) + marks.len() < of_gaps => {
                Self::Marks { start, marks }
            }
            _ => Self::Gaps(gaps),
        }
    }

    /// The marks of an ascending list whose span is not far beyond what gaps could take.
    fn marks(list: &[u32]) -> Option<(u32, Vec<u8>)> {
        let (&start, &last) = (list.first()?, list.last()?);
        let span = last.checked_sub(start)? as usize + 1;
        if !list.is_sorted_by(|a, b| a < b) || span.div_ceil(8) > 5 * list.len() {
            return None;
        }
        let mut marks = vec![0; span.div_ceil(8)];
        for row in list {
            let at = (row - start) as usize;
            marks[at / 8] |= 1 << (at % 8);
        }
        Some((start, marks))
    }

    fn rows(self) -> Result<Rows, ProtocolError> {
        let beyond = || ProtocolError::Malformed {
            what: "rows",
            why: "marks go beyond the last number".to_owned(),
        };
        Ok(match self {
            Self::Range { start, count } => Rows::Range { start, count },
            Self::Gaps(gaps) => {
                let mut row = 0u32;
                let step = |gap: u32| {
                    row = row.wrapping_add(gap);
                    row
                };
                Rows::List(gaps.into_iter().map(step).collect())
            }
            // At most 32 times the bytes that came, which is what a message may take.
            Self::Marks { start, marks } => {
                let mut list = Vec::new();
                for (byte, at) in marks.iter().zip((u64::from(start)..).step_by(8)) {
                    for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                        list.push(u32::try_from(at + bit).map_err(|_| beyond())?);
                    }
                }
                Rows::List(list)
            }
        })
    }
}

/// Bytes of an integer of variable length.
fn length(value: u32) -> usize {
    match value {
        0..=250 => 1,
        251..=0xFFFF => 3,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn bytes(rows: &Rows) -> Vec<u8> {
        codec::encode("rows", rows).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Rows, ProtocolError> {
        codec::decode::<Rows, 1_000_000>("rows", bytes)
    }

    #[test]
    fn whatever_is_chosen_comes_back() {
        let lists: [&[u32]; 9] = [
            &[],
            &[7],
            &[0, 2],
            &[3, 4, 6, 900],
            &[0, u32::MAX],
            &[u32::MAX - 9, u32::MAX - 1, u32::MAX],
            // Nobody may ask for these, and it is the other side that says so.
            &[5, 3, 9],
            &[5, 5],
            &[u32::MAX, 0],
        ];
        for list in lists {
            let rows = Rows::List(list.to_vec());
            assert_eq!(read(&bytes(&rows)).unwrap(), rows);
        }
        let range = Rows::Range {
            start: 9,
            count: u32::MAX,
        };
        assert_eq!(read(&bytes(&range)).unwrap(), range);
        for step in 1..40u32 {
            let rows = Rows::List((0..500).map(|at| 1000 + at * step + at % 3).collect());
            assert_eq!(read(&bytes(&rows)).unwrap(), rows, "{step}");
        }
    }

    #[test]
    fn a_dense_list_is_marks_and_a_sparse_one_gaps() {
        let every = |step: u32, count: u32| Rows::List((0..count).map(|at| at * step).collect());
        // A third of 3,000: 375 bytes of marks.
        let dense = bytes(&every(3, 1000));
        assert!((375..385).contains(&dense.len()), "{}", dense.len());
        // A byte a gap.
        let sparse = bytes(&every(200, 1000));
        assert!((1000..1010).contains(&sparse.len()), "{}", sparse.len());
        // What spans all and is two samples takes no marks of half a gigabyte.
        assert!(bytes(&Rows::List(vec![0, u32::MAX])).len() < 16);
    }

    #[test]
    fn marks_beyond_the_last_number_are_refused() {
        let wire = |start| Wire::Marks {
            start,
            marks: vec![0b1000_0001],
        };
        let read = |start| read(&codec::encode("rows", &wire(start)).unwrap());
        let last = u32::MAX - 7;
        assert_eq!(read(last).unwrap(), Rows::List(vec![last, u32::MAX]));
        let error = read(last + 1).unwrap_err().to_string();
        assert!(error.contains("beyond"), "{error}");
    }
}
