//! Rows of parts most of which are none: how many classes have none before the next that has some, and how many it
//! has. No symbol takes less than a bit here, however rare others are, since those that are none take nothing.

use crate::ProtocolError;
use crate::entropy::{Bit, Decoder, Encoder, Symbols};

use super::malformed;

/// Whether so few of these parts are some that it may be the shortest to say which. Of more it would take longer than
/// other ways.
pub(super) fn is_worth_it(parts: &[u8]) -> bool {
    let some: usize = parts
        .chunks(128)
        .map(|chunk| usize::from(chunk.iter().map(|part| u8::from(*part > 0)).sum::<u8>()))
        .sum();
    some <= parts.len() / MOST
}

/// At most one part in so many is some.
const MOST: usize = 8;

/// Digits of a number, without zeros before them.
fn length(number: u32) -> u32 {
    u32::BITS - number.leading_zeros()
}

/// What is likely in a row.
struct Model {
    /// Whether a row says anything.
    speaks: Bit,
    /// How many classes have none before the first that has some, and before others.
    gaps: [Numbers; 2],
    /// Digits of a part, by those of what is left of the whole, the whole itself apart.
    lengths: Vec<Symbols>,
    /// Each digit of a part but its first, by how many there are and those before it.
    digits: Vec<Bit>,
}

/// Places in [`Model::digits`] of parts of so many digits.
const PLACES: usize = 1 << 7;

impl Model {
    fn new(classes: usize, whole: u8) -> Self {
        let longest = length(whole.into());
        Self {
            speaks: Bit::default(),
            gaps: [Numbers::below(classes), Numbers::below(classes)],
            lengths: vec![Symbols::new(longest); longest as usize + 1],
            digits: vec![Bit::default(); PLACES * longest as usize],
        }
    }

    fn lengths(&mut self, left: u8, whole: u8) -> &mut Symbols {
        // A part is left, so there are digits.
        let place = match left == whole {
            true => 0,
            false => length(left.into()),
        };
        &mut self.lengths[place as usize]
    }

    fn digit(&mut self, length: u32, before: u32) -> &mut Bit {
        // `before` has fewer digits than a part, which has at most eight.
        &mut self.digits[PLACES * (length as usize - 1) + before as usize]
    }

    fn write(&mut self, encoder: &mut Encoder, part: u8, left: u8, whole: u8) {
        let digits = length(part.into());
        self.lengths(left, whole).write(encoder, digits - 1);
        let mut before = 1;
        for place in (0..digits - 1).rev() {
            let digit = u32::from(part) >> place & 1;
            encoder.bit(self.digit(digits, before), digit == 1);
            before = before << 1 | digit;
        }
    }

    fn read(&mut self, decoder: &mut Decoder<'_>, left: u8, whole: u8) -> Option<u8> {
        let digits = self.lengths(left, whole).read(decoder) + 1;
        // Alphabets have a power of two of symbols, so that some stand for more digits than the whole has.
        if digits > length(whole.into()) {
            return None;
        }
        let mut part = 1;
        for _ in 1..digits {
            part = part << 1 | u32::from(decoder.bit(self.digit(digits, part)));
        }
        u8::try_from(part).ok()
    }
}

/// Numbers from 0: how many digits one more than it has, and the second of them, are learnt; other digits are as
/// likely 0 as 1.
struct Numbers {
    lengths: Symbols,
    seconds: Vec<Bit>,
}

impl Numbers {
    fn below(count: usize) -> Self {
        // Classes are counted in 32 bits.
        let longest = length(count.max(1) as u32);
        Self {
            lengths: Symbols::new(longest),
            seconds: vec![Bit::default(); longest.next_power_of_two() as usize],
        }
    }

    fn write(&mut self, encoder: &mut Encoder, number: usize) {
        let number = number as u32 + 1;
        let digits = length(number) - 1;
        self.lengths.write(encoder, digits);
        for place in (0..digits).rev() {
            let mut even = Bit::default();
            let model = match place + 1 == digits {
                true => &mut self.seconds[digits as usize],
                false => &mut even,
            };
            encoder.bit(model, number >> place & 1 == 1);
        }
    }

    fn read(&mut self, decoder: &mut Decoder<'_>) -> usize {
        let digits = self.lengths.read(decoder);
        let mut number = 1u64;
        for place in (0..digits).rev() {
            let mut even = Bit::default();
            let model = match place + 1 == digits {
                true => &mut self.seconds[digits as usize],
                false => &mut even,
            };
            number = number << 1 | u64::from(decoder.bit(model));
        }
        (number - 1) as usize
    }
}

/// Codes rows of parts, each of which adds up to `whole` or to nothing. What is left over decides the last class's
/// part, and ends a row once nothing is.
pub(super) fn encode(parts: &[u8], classes: usize, whole: u8) -> Vec<u8> {
    let (mut encoder, mut model) = (Encoder::default(), Model::new(classes, whole));
    for row in parts.chunks_exact(classes.max(1)) {
        let (mut left, mut begin) = (whole, 0);
        let next = |begin: usize| {
            let gap = row[begin..].iter().position(|part| *part > 0);
            gap.map(|gap| (gap, begin + gap))
        };
        let mut some = next(begin);
        encoder.bit(&mut model.speaks, some.is_some());
        while let Some((gap, class)) = some {
            model.gaps[usize::from(left < whole)].write(&mut encoder, gap);
            if class + 1 == classes {
                break;
            }
            model.write(&mut encoder, row[class], left, whole);
            left -= row[class];
            begin = class + 1;
            some = match left {
                0 => None,
                _ => next(begin),
            };
        }
    }
    encoder.finish()
}

/// Reads `rows` rows of parts that [`encode`] wrote.
///
/// # Errors
/// Bytes that it would not have written.
pub(super) fn decode(
    bytes: &[u8],
    rows: usize,
    classes: usize,
    whole: u8,
) -> Result<Vec<u8>, ProtocolError> {
    let (mut decoder, mut model) = (Decoder::new(bytes), Model::new(classes, whole));
    let mut parts = vec![0; rows * classes];
    for row in parts.chunks_exact_mut(classes.max(1)) {
        let (mut left, mut begin) = (whole, 0);
        if !decoder.bit(&mut model.speaks) {
            continue;
        }
        while left > 0 {
            let gap = model.gaps[usize::from(left < whole)].read(&mut decoder);
            let part = row.get_mut(begin..).and_then(|rest| rest.get_mut(gap));
            let part = part.ok_or_else(|| malformed("a class is beyond the last one"))?;
            begin += gap + 1;
            *part = match begin == classes {
                true => left,
                false => {
                    let read = model.read(&mut decoder, left, whole);
                    read.filter(|part| *part <= left)
                        .ok_or_else(|| malformed("parts of a row are more than the whole"))?
                }
            };
            left -= *part;
        }
    }
    decoder.finish()?;
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLES: [u8; 4] = [1, 3, 15, 255];

    /// A row of so many classes, some of which take a share of what is left; of no shares one that says nothing.
    fn row(classes: usize, whole: u8, shares: Option<&[(prop::sample::Index, u8)]>) -> Vec<u8> {
        let (mut row, mut left) = (vec![0; classes], whole);
        let Some(shares) = shares else {
            return row;
        };
        for (at, share) in shares {
            let part = (u16::from(left) * u16::from(*share) / 255) as u8;
            row[at.index(classes)] += part;
            left -= part;
        }
        row[classes / 2] += left;
        row
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            classes in 1usize..40, which in 0usize..4,
            rows in prop::collection::vec(
                prop::option::of(prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)), 0..60,
            ),
        ) {
            let whole = WHOLES[which];
            let rows: Vec<Vec<u8>> = rows
                .iter()
                .map(|shares| row(classes, whole, shares.as_deref()))
                .collect();
            let parts = rows.concat();
            let bytes = encode(&parts, classes, whole);
            prop_assert_eq!(decode(&bytes, rows.len(), classes, whole), Ok(parts));
        }

        #[test]
        fn any_bytes_are_rows_that_add_up_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..60), rows in 0usize..30, classes in 0usize..30,
            which in 0usize..4,
        ) {
            let whole = WHOLES[which];
            if let Ok(parts) = decode(&bytes, rows, classes, whole) {
                prop_assert_eq!(parts.len(), rows * classes);
                for row in parts.chunks_exact(classes.max(1)) {
                    let sum: u32 = row.iter().map(|part| u32::from(*part)).sum();
                    prop_assert!(sum == 0 || sum == u32::from(whole), "{row:?}");
                }
                // No two blocks say the same.
                prop_assert_eq!(encode(&parts, classes, whole), bytes);
            }
        }
    }

    #[test]
    fn few_of_many_are_some() {
        let mut parts = vec![0; 1000];
        parts[..1000 / MOST].fill(1);
        assert!(is_worth_it(&parts));
        parts[999] = 200;
        assert!(!is_worth_it(&parts));
        assert!(is_worth_it(&[]));
    }

    #[test]
    fn votes_for_any_of_a_thousand_classes_take_ten_bits() {
        let votes = (0..1000usize).flat_map(|row| {
            let vote = row * 7919 % 1009 % 1000;
            (0..1000).map(move |class| u8::from(class == vote))
        });
        let votes: Vec<u8> = votes.collect();
        let bytes = encode(&votes, 1000, 1);
        assert!((1240..1275).contains(&bytes.len()), "{}", bytes.len());
    }

    #[test]
    fn classes_beyond_the_last_and_parts_beyond_the_whole_are_refused() {
        // Such models as a reader has, said what no writer says.
        let said = |gap: usize, part: u8| {
            let (mut encoder, mut model) = (Encoder::default(), Model::new(5, 15));
            encoder.bit(&mut model.speaks, true);
            model.gaps[0].write(&mut encoder, 0);
            model.write(&mut encoder, 9, 15, 15);
            model.gaps[1].write(&mut encoder, gap);
            model.write(&mut encoder, part, 6, 15);
            decode(&encoder.finish(), 1, 5, 15)
        };
        assert_eq!(said(1, 6), Ok(vec![9, 0, 6, 0, 0]));
        let beyond = said(4, 6).unwrap_err().to_string();
        assert!(beyond.contains("beyond the last"), "{beyond}");
        let more = said(1, 7).unwrap_err().to_string();
        assert!(more.contains("more than the whole"), "{more}");
    }
}
