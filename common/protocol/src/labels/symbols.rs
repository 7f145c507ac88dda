//! Symbols of a few bits each, side by side.

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
pub(super) fn unpack(bytes: &[u8], bits: u32, count: usize) -> Vec<u8> {
    if bits == 8 {
        return bytes.get(..count).unwrap_or(bytes).to_vec();
    }
    let mask = (u16::MAX >> (16 - bits)) as u8;
    let places = |byte: &u8| {
        let byte = *byte;
        (0..8)
            .step_by(bits as usize)
            .map(move |place| byte >> place & mask)
    };
    bytes.iter().flat_map(places).take(count).collect()
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
                prop_assert_eq!(unpack(&bytes, bits, few.len()), few);
            }
        }
    }
}
