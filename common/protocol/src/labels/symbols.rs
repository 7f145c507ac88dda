//! Symbols of a few bits each, side by side.

use super::malformed;
use crate::ProtocolError;

/// Appends symbols of `bits` (1, 2, 4 or 8) each, the first in the lowest bits of a byte.
pub(super) fn pack(symbols: &[u8], bits: u32, bytes: &mut Vec<u8>) {
    if bits == 8 {
        return bytes.extend_from_slice(symbols);
    }
    let each = (8 / bits) as usize;
    bytes.extend(symbols.chunks(each).map(|symbols| {
        let places = symbols.iter().zip((0..8).step_by(bits as usize));
        places.fold(0, |byte, (symbol, place)| byte | symbol << place)
    }));
}

/// Length of so many symbols, in bytes.
pub(super) fn packed(count: u64, bits: u32) -> u64 {
    count.saturating_mul(bits.into()).div_ceil(8)
}

/// The first `count` symbols of as many bytes as [`packed`] says.
///
/// # Errors
/// Bits after the last symbol that are not 0, which [`pack`] would not have written.
pub(super) fn unpack(bytes: &[u8], bits: u32, count: usize) -> Result<Vec<u8>, ProtocolError> {
    if bits == 8 {
        return Ok(bytes.get(..count).unwrap_or(bytes).to_vec());
    }
    let used = (count * bits as usize % 8) as u32;
    if used > 0 && bytes.last().is_some_and(|last| last >> used != 0) {
        return Err(malformed("bits are left over"));
    }
    let mask = (u16::MAX >> (16 - bits)) as u8;
    let places = |byte: &u8| {
        let byte = *byte;
        (0..8)
            .step_by(bits as usize)
            .map(move |place| byte >> place & mask)
    };
    Ok(bytes.iter().flat_map(places).take(count).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn symbols_come_back(symbols in prop::collection::vec(any::<u8>(), 0..50)) {
            for bits in [1, 2, 4, 8] {
                let few: Vec<u8> = symbols.iter().map(|s| s >> (8 - bits)).collect();
                let mut bytes = Vec::new();
                pack(&few, bits, &mut bytes);
                prop_assert_eq!(bytes.len() as u64, packed(few.len() as u64, bits));
                prop_assert_eq!(unpack(&bytes, bits, few.len()), Ok(few));
            }
        }
    }
    #[test]
    fn bits_after_the_last_symbol_are_zeros() {
        assert_eq!(unpack(&[0b0001_0110], 2, 3), Ok(vec![2, 1, 1]));
        assert!(unpack(&[0b0101_0110], 2, 3).is_err());
        assert!(unpack(&[0b1000_0000], 1, 7).is_err());
        assert_eq!(unpack(&[0b1000_0000], 1, 8).map(|bits| bits[7]), Ok(1));
    }
}
