//! Numbers as planes: the highest byte of all of them, then the next one, and so on. A sign, an exponent and the first
//! digits are far from even, and are coded at their entropy; digits after them hardly are, and stay as they are.

use crate::{ProtocolError, ans};

use super::{coding, malformed};

/// How a plane is written; its number is in the byte before a number's planes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// A byte a number.
    Plain = 0,
    /// By the adaptive coder.
    Adaptive = 1,
    /// By numeral systems.
    Systems = 2,
}

/// From so many numbers on the faster coder is used. What it has to say first is a hundred bytes, of which the adaptive
/// one has to learn half.
const MANY: usize = 1 << 11;
/// Bits for the way of each plane.
const WAY_BITS: usize = 2;
/// Length of a plane's length, which is there if it is coded.
const LENGTH_BYTES: usize = 4;
/// What each byte that comes at all takes to be learnt, in bits: half the logarithm of how many numbers there are, of a
/// thousand.
const LEARNT: u64 = 5;

/// The planes of numbers of so many bytes, little-endian, the highest first.
fn of<const BYTES: usize>(numbers: &[[u8; BYTES]]) -> [Vec<u8>; BYTES] {
    std::array::from_fn(|plane| {
        let numbers = numbers.iter();
        numbers.map(|number| number[BYTES - 1 - plane]).collect()
    })
}

/// The bytes of each plane, for who measures them.
pub(super) fn symbols<const BYTES: usize>(numbers: &[[u8; BYTES]]) -> Vec<Vec<u32>> {
    let planes = of(numbers).into_iter();
    planes
        .map(|plane| plane.into_iter().map(u32::from).collect())
        .collect()
}

/// Appends numbers: a byte with the way of each plane, the first in its lowest bits; then the planes, each as it is, or
/// coded with its length as u32 little-endian before it. Whether any is coded.
pub(super) fn write<const BYTES: usize>(numbers: &[[u8; BYTES]], bytes: &mut Vec<u8>) -> bool {
    let at = bytes.len();
    bytes.push(0);
    for (place, plane) in of(numbers).iter().enumerate() {
        let Some((way, coded)) = coded(plane) else {
            bytes.extend(plane);
            continue;
        };
        bytes[at] |= (way as u8) << (WAY_BITS * place);
        // Shorter than the plane, of which there are 2^26 at most.
        bytes.extend((coded.len() as u32).to_le_bytes());
        bytes.extend(coded);
    }
    bytes[at] != 0
}

/// The way of a plane that is shorter coded, and what it is then.
fn coded(plane: &[u8]) -> Option<(Way, Vec<u8>)> {
    let (counts, most) = (ans::counted(plane), plane.len());
    let kinds = counts.iter().filter(|count| **count > 0).count() as u64;
    // What is as good as even is not worth the time.
    if coding::least_bits(&counts) + LEARNT * kinds >= 8 * most as u64 {
        return None;
    }
    let adaptive = || (Way::Adaptive, coding::encode(plane, 8));
    let coded = match most {
        MANY.. => {
            let systems = (Way::Systems, ans::encode(plane));
            // As where most bytes are the same: the others have no ranges as small as they are rare.
            let better = coding::wastes(&counts, systems.1.len()).then(adaptive);
            let better = better.filter(|better| better.1.len() < systems.1.len());
            better.unwrap_or(systems)
        }
        _ => adaptive(),
    };
    (coded.1.len() + LENGTH_BYTES < most).then_some(coded)
}

/// Reads so many numbers that [`write()`] wrote, and what follows them.
///
/// # Errors
/// Bytes that it would not have written.
pub(super) fn read<const BYTES: usize>(
    bytes: &[u8],
    count: usize,
) -> Result<(Vec<[u8; BYTES]>, &[u8]), ProtocolError> {
    let cut = || malformed("it is cut off");
    let (&ways, mut rest) = bytes.split_first().ok_or_else(cut)?;
    if u32::from(ways) >> (WAY_BITS * BYTES) != 0 {
        return Err(malformed("it has more planes than its numbers"));
    }
    // All parts are there before any is decoded.
    let mut planes = [(Way::Plain, &[][..]); BYTES];
    for (place, (way, plane)) in planes.iter_mut().enumerate() {
        *way = match ways >> (WAY_BITS * place) & 3 {
            0 => Way::Plain,
            1 => Way::Adaptive,
            2 => Way::Systems,
            _ => return Err(malformed("unknown coding of a plane")),
        };
        let mut length = count;
        if *way != Way::Plain {
            let (coded, after) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or_else(cut)?;
            (length, rest) = (u32::from_le_bytes(*coded) as usize, after);
            if length.saturating_add(LENGTH_BYTES) >= count {
                return Err(malformed("a plane is longer than its numbers"));
            }
        }
        (*plane, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
    }
    let mut numbers = vec![[0; BYTES]; count];
    for (place, (way, plane)) in planes.into_iter().enumerate() {
        let decoded;
        let plane = match way {
            Way::Plain => plane,
            Way::Adaptive => {
                decoded = coding::decode(plane, 8, count)?;
                &decoded
            }
            Way::Systems => {
                decoded = ans::decode(plane, count)?;
                &decoded
            }
        };
        for (number, byte) in numbers.iter_mut().zip(plane) {
            number[BYTES - 1 - place] = *byte;
        }
    }
    Ok((numbers, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(
            bytes in prop::collection::vec(any::<[u8; 4]>(), 0..3000), few in 1u8..=255, low: bool,
        ) {
            let numbers: Vec<[u8; 4]> = bytes
                .iter()
                .map(|[a, b, c, d]| [if low { *a } else { 0 }, *b, c % few, d % few])
                .collect();
            let mut packed = Vec::new();
            write(&numbers, &mut packed);
            prop_assert!(packed.len() <= 1 + 4 * numbers.len());
            packed.push(7);
            prop_assert_eq!(read::<4>(&packed, numbers.len()), Ok((numbers, &[7][..])));
        }

        #[test]
        fn any_bytes_are_numbers_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..60), ways in 0u8..16, count in 0usize..40,
        ) {
            let bytes: Vec<u8> = [ways, bytes.len().saturating_sub(9) as u8, 0, 0, 0].into_iter().chain(bytes).collect();
            if let Ok((numbers, _)) = read::<2>(&bytes, count) {
                prop_assert_eq!(numbers.len(), count);
            }
        }
    }

    #[test]
    fn what_lies_about_its_planes_is_refused() {
        let numbers: Vec<[u8; 2]> = (0..200).map(|at| [at as u8, 3]).collect();
        let mut bytes = Vec::new();
        assert!(write(&numbers, &mut bytes));
        assert_eq!(
            bytes[0], 1,
            "the upper one adaptive, the lower one as it is"
        );
        assert!(read::<2>(&bytes, 200).is_ok());
        let refused = |at: usize, to: u8, why: &str| {
            let mut bytes = bytes.clone();
            bytes[at] = to;
            let error = read::<2>(&bytes, 200).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(0, 3, "unknown coding of a plane");
        refused(0, 1 << 4, "more planes");
        // 4 GiB, which nobody sets aside.
        refused(4, 0xFF, "longer than its numbers");
        refused(1, 196, "longer than its numbers");
        refused(1, 190, "cut off");
        for length in 0..bytes.len() {
            assert!(read::<2>(&bytes[..length], 200).is_err());
        }
    }
}
