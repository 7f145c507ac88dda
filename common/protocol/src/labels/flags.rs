//! A flag a row, at their entropy: u32 little-endian length, then that many bytes.

use crate::ProtocolError;
use crate::entropy::{Bit, Decoder, Encoder};

const LENGTH_BYTES: usize = 4;

/// Length of so many flags side by side.
fn plain(rows: usize) -> usize {
    rows.div_ceil(8)
}

/// The most bytes that so many flags take.
pub(super) fn most_bytes(rows: u32) -> u64 {
    (LENGTH_BYTES + plain(rows as usize)) as u64
}

/// Appends flags; side by side where that is not longer.
pub(super) fn write(flags: &[bool], bytes: &mut Vec<u8>) {
    let (mut encoder, mut models) = (Encoder::default(), [Bit::default(); 2]);
    let mut last = 0;
    for flag in flags {
        // What a row is, its neighbour often is too.
        encoder.bit(&mut models[last], *flag);
        last = usize::from(*flag);
    }
    let mut coded = encoder.finish();
    if coded.len() >= plain(flags.len()) {
        let byte = |eight: &[bool]| {
            let bits = eight.iter().zip(0..8);
            bits.fold(0, |byte, (flag, place)| byte | u8::from(*flag) << place)
        };
        coded = flags.chunks(8).map(byte).collect();
    }
    // As many as there are flags at most.
    bytes.extend((coded.len() as u32).to_le_bytes());
    bytes.extend(coded);
}

/// Reads `rows` flags, and what follows them.
///
/// # Errors
/// Bytes that [`write`] would not have written.
pub(super) fn read(bytes: &[u8], rows: usize) -> Result<(Vec<bool>, &[u8]), ProtocolError> {
    let malformed = || ProtocolError::Malformed {
        what: "answer",
        why: "its flags are cut off, too long or of other rows".to_owned(),
    };
    let (length, rest) = bytes
        .split_first_chunk::<LENGTH_BYTES>()
        .ok_or_else(malformed)?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > plain(rows) {
        return Err(malformed());
    }
    let (coded, rest) = rest.split_at_checked(length).ok_or_else(malformed)?;
    if length == plain(rows) {
        let used = (rows % 8) as u32;
        if used > 0 && coded.last().is_some_and(|last| last >> used != 0) {
            return Err(malformed());
        }
        let places = coded
            .iter()
            .flat_map(|byte| (0..8).map(move |at| byte >> at & 1 == 1));
        return Ok((places.take(rows).collect(), rest));
    }
    let (mut decoder, mut models) = (Decoder::new(coded), [Bit::default(); 2]);
    let mut last = 0;
    let flags = (0..rows).map(|_| {
        let flag = decoder.bit(&mut models[last]);
        last = usize::from(flag);
        flag
    });
    let flags = flags.collect();
    decoder.finish()?;
    Ok((flags, rest))
}

/// What follows the flags, of whatever number.
pub(super) fn skip(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(u32::from_le_bytes(*length) as usize..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn flags_come_back(flags in prop::collection::vec(any::<bool>(), 0..200), rare: bool) {
            let flags: Vec<bool> =
                flags.iter().enumerate().map(|(at, flag)| *flag && (!rare || at % 50 == 0)).collect();
            let mut bytes = Vec::new();
            write(&flags, &mut bytes);
            prop_assert!(bytes.len() as u64 <= most_bytes(flags.len() as u32));
            bytes.push(7);
            prop_assert_eq!(skip(&bytes), Some(&[7][..]));
            prop_assert_eq!(read(&bytes, flags.len()).unwrap(), (flags, &[7][..]));
        }

        #[test]
        fn any_bytes_are_flags_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..40), rows in 0usize..100,
        ) {
            if let Ok((flags, _)) = read(&bytes, rows) {
                prop_assert_eq!(flags.len(), rows);
            }
        }

        #[test]
        fn damaged_flags_are_refused_or_such_as_would_have_been_written(
            flags in prop::collection::vec(prop::bool::weighted(0.1), 0..100), at: prop::sample::Index, to: u8,
        ) {
            let mut bytes = Vec::new();
            write(&flags, &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok((read, rest)) = read(&bytes, flags.len()) {
                let used = bytes.len() - rest.len();
                // Side by side they may be, where that is longer.
                if used < LENGTH_BYTES + plain(flags.len()) {
                    let mut again = Vec::new();
                    write(&read, &mut again);
                    prop_assert_eq!(&again, &bytes[..used]);
                }
            }
        }
    }

    /// Flags by the coder, whatever their length.
    fn coded(flags: &[bool]) -> Vec<u8> {
        let (mut encoder, mut models) = (Encoder::default(), [Bit::default(); 2]);
        let mut last = 0;
        for flag in flags {
            encoder.bit(&mut models[last], *flag);
            last = usize::from(*flag);
        }
        encoder.finish()
    }

    #[test]
    fn what_is_longer_than_flags_side_by_side_is_refused() {
        // Which come after which is even, so there is nothing to learn but that.
        let flags: Vec<bool> = (0..64u32).map(|at| (at * at / 3) % 5 < 2).collect();
        let coded = coded(&flags);
        assert!(
            (1..=9).contains(&(coded.len() - plain(64))),
            "{}",
            coded.len()
        );
        let bytes = [&(coded.len() as u32).to_le_bytes()[..], &coded].concat();
        assert!(read(&bytes, 64).is_err());
        let mut bytes = Vec::new();
        write(&flags, &mut bytes);
        assert_eq!(bytes.len(), LENGTH_BYTES + plain(64));
        assert_eq!(read(&bytes, 64).map(|(flags, _)| flags), Ok(flags));
    }

    #[test]
    fn bits_after_the_last_flag_are_zeros() {
        let side_by_side = |byte| [1, 0, 0, 0, byte];
        let flags = read(&side_by_side(0b101), 3).map(|(flags, _)| flags);
        assert_eq!(flags, Ok(vec![true, false, true]));
        assert!(read(&side_by_side(0b1101), 3).is_err());
    }

    #[test]
    fn few_changes_take_few_bytes() {
        let mut flags = vec![false; 1000];
        flags[77] = true;
        let mut bytes = Vec::new();
        write(&flags, &mut bytes);
        assert!(bytes.len() <= 4 + 8, "{}", bytes.len());
    }
}
