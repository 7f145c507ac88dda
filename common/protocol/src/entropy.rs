//! An adaptive binary arithmetic coder: what is likely costs little, and both sides learn what is
//! likely from what has gone by, so that no table crosses. Integers alone: the same bytes, and the
//! same symbols, on every processor.
//!
//! Range coding after Martin (1979), with binary decisions as in Witten, Neal and Cleary (1987); an
//! alphabet is a tree of them.

use crate::ProtocolError;

/// How likely a bit is 0, in 65536ths, from the bits that it has been.
#[derive(Clone, Copy, Debug)]
pub struct Bit {
    zero: u16,
    seen: u8,
}

/// Bits after which new ones count as little as they ever will.
const LONG: u8 = 254;
/// Bits said to be as many as never to learn from new ones.
const FIXED: u8 = 255;
/// Nothing is ever certain: neither of two bits is less likely, in 65536ths.
const LEAST: u32 = 32;

/// After so many bits, how far an estimate moves: 1 / (n + 1.5), in 65536ths. Dividing would take a
/// coder most of its time.
const SHARES: [u32; FIXED as usize + 1] = {
    let mut shares = [0; FIXED as usize + 1];
    let mut seen = 0;
    while seen <= LONG as usize {
        shares[seen] = (1 << 17) / (2 * seen as u32 + 3);
        seen += 1;
    }
    shares
};

impl Default for Bit {
    fn default() -> Self {
        Self {
            zero: 1 << 15,
            seen: 0,
        }
    }
}

impl Bit {
    /// As likely 0 as so many of others are, as firm as if it had been seen so often: it learns less from the first bits.
    /// After 255 times it never learns.
    pub(crate) fn firm(zeros: u64, of: u64, seen: u8) -> Self {
        let zero = (zeros << 16).checked_div(of).unwrap_or(1 << 15);
        // Within its bounds, and so below 2^16.
        let zero = zero.clamp(LEAST.into(), u64::from(65_536 - LEAST)) as u16;
        Self { zero, seen }
    }

    /// Moves by 1 / (n + 1.5) of the way: after n bits, close to the estimate of Krichevsky and
    /// Trofimov (1981).
    fn learn(&mut self, bit: bool) {
        let share = SHARES[usize::from(self.seen)];
        let zero = u32::from(self.zero);
        let moved = match bit {
            false => zero + (((65_536 - zero) * share) >> 16),
            true => zero - ((zero * share) >> 16),
        };
        self.zero = moved.clamp(LEAST, 65_536 - LEAST) as u16;
        self.seen += u8::from(self.seen < LONG);
    }

    /// Where a range is cut: what is below is 0.
    fn cut(self, low: u32, high: u32) -> u32 {
        low + ((u64::from(high - low) * u64::from(self.zero)) >> 16) as u32
    }
}

/// Writes bits.
#[derive(Debug)]
pub struct Encoder {
    low: u32,
    high: u32,
    bytes: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            low: 0,
            high: u32::MAX,
            bytes: Vec::new(),
        }
    }
}

impl Encoder {
    /// Writes a bit, and lets `model` learn from it.
    pub fn bit(&mut self, model: &mut Bit, bit: bool) {
        let cut = model.cut(self.low, self.high);
        match bit {
            false => self.high = cut,
            true => self.low = cut + 1,
        }
        model.learn(bit);
        while (self.low ^ self.high) >> 24 == 0 {
            self.bytes.push((self.low >> 24) as u8);
            self.low <<= 8;
            self.high = self.high << 8 | 0xff;
        }
    }

    /// All bytes: as few as tell the last bit.
    pub fn finish(mut self) -> Vec<u8> {
        let (value, count) = last(self.low, self.high);
        self.bytes.extend_from_slice(&value.to_be_bytes()[..count]);
        while self.bytes.last() == Some(&0) {
            self.bytes.pop();
        }
        self.bytes
    }
}

/// What an encoder ends with, and how many of its bytes: zeros follow what is read, so of a range the value with the most
/// of them at its end will do.
fn last(low: u32, high: u32) -> (u32, usize) {
    let ending = |count: usize| {
        let rest = u32::MAX >> (8 * count);
        let value = low.checked_add(rest)? & !rest;
        (value <= high).then_some((value, count))
    };
    (0..4).find_map(ending).unwrap_or((low, 4))
}

/// Reads bits.
#[derive(Debug)]
pub struct Decoder<'a> {
    low: u32,
    high: u32,
    value: u32,
    bytes: &'a [u8],
    /// Bytes taken in so far, zeros after the end among them.
    read: usize,
}

impl<'a> Decoder<'a> {
    /// Reads what an [`Encoder`] wrote.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self {
            low: 0,
            high: u32::MAX,
            value: 0,
            bytes,
            read: 0,
        };
        (0..4).for_each(|_| decoder.take());
        decoder
    }

    fn take(&mut self) {
        let byte = self.bytes.get(self.read).copied().unwrap_or(0);
        self.value = self.value << 8 | u32::from(byte);
        self.read += 1;
    }

    /// Reads a bit, and lets `model` learn from it. Any bytes are some bits; see [`Self::finish`].
    pub fn bit(&mut self, model: &mut Bit) -> bool {
        let cut = model.cut(self.low, self.high);
        let bit = self.value > cut;
        match bit {
            false => self.high = cut,
            true => self.low = cut + 1,
        }
        model.learn(bit);
        while (self.low ^ self.high) >> 24 == 0 {
            self.low <<= 8;
            self.high = self.high << 8 | 0xff;
            self.take();
        }
        bit
    }

    /// All has been read that was to be read: no two blocks say the same.
    ///
    /// # Errors
    /// Bytes that an encoder would not have written: more of them, zeros at their end, or another end of the same meaning.
    pub fn finish(self) -> Result<(), ProtocolError> {
        let malformed = |why: &str| {
            Err(ProtocolError::Malformed {
                what: "entropy-coded block",
                why: why.to_owned(),
            })
        };
        match self.bytes.last() {
            Some(0) => malformed("it ends with a zero that says nothing"),
            _ if self.bytes.len() > self.read => malformed("it goes on after its last symbol"),
            _ if self.value != last(self.low, self.high).0 => {
                malformed("it ends as no encoder does")
            }
            _ => Ok(()),
        }
    }
}

/// Symbols `0..size`, by their likelihood so far.
#[derive(Clone, Debug)]
pub struct Symbols {
    depth: u32,
    /// A bit for each inner place of a tree; place 1 is its root.
    tree: Vec<Bit>,
}

impl Symbols {
    /// An alphabet of `size` symbols, 1 to 65536.
    pub fn new(size: u32) -> Self {
        let depth = size.clamp(1, 1 << 16).next_power_of_two().ilog2();
        Self {
            depth,
            tree: vec![Bit::default(); 1 << depth],
        }
    }

    /// The same, all of them as likely to begin with, which each bit takes for as firm as if it had been seen so
    /// often: it learns less from the first symbols. After 255 times it never learns.
    pub fn firm(size: u32, seen: u8) -> Self {
        let mut all = Self::new(size);
        let size = u64::from(size.clamp(1, 1 << 16));
        for (place, bit) in all.tree.iter_mut().enumerate().skip(1) {
            // How many symbols are below a place, and below where a bit of it is 0.
            let level = place.ilog2();
            let wide = 1u64 << (all.depth - level);
            let first = (place as u64 - (1 << level)) * wide;
            let below = |wide: u64| size.saturating_sub(first).min(wide);
            *bit = Bit::firm(below(wide / 2), below(wide), seen);
        }
        all
    }

    /// Writes a symbol.
    pub fn write(&mut self, encoder: &mut Encoder, symbol: u32) {
        let mut place = 1;
        for level in (0..self.depth).rev() {
            let bit = symbol >> level & 1;
            encoder.bit(&mut self.tree[place], bit == 1);
            place = place << 1 | bit as usize;
        }
    }

    /// Reads a symbol: below the alphabet's size, rounded up to a power of two.
    pub fn read(&mut self, decoder: &mut Decoder<'_>) -> u32 {
        let mut place = 1;
        for _ in 0..self.depth {
            place = place << 1 | usize::from(decoder.bit(&mut self.tree[place]));
        }
        (place - (1 << self.depth)) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(symbols: &[u32], size: u32) -> Vec<u8> {
        let (mut encoder, mut model) = (Encoder::default(), Symbols::new(size));
        symbols
            .iter()
            .for_each(|&symbol| model.write(&mut encoder, symbol));
        encoder.finish()
    }

    fn read(bytes: &[u8], count: usize, size: u32) -> Result<Vec<u32>, ProtocolError> {
        let (mut decoder, mut model) = (Decoder::new(bytes), Symbols::new(size));
        let symbols = (0..count).map(|_| model.read(&mut decoder)).collect();
        decoder.finish().map(|()| symbols)
    }

    /// Bytes at the empirical entropy of these symbols.
    fn entropy(symbols: &[u32], size: u32) -> f64 {
        let share = |symbol| {
            let count = symbols.iter().filter(|s| **s == symbol).count();
            count as f64 / symbols.len() as f64
        };
        let bits = (0..size).map(share).filter(|share| *share > 0.0);
        bits.map(|share| -share * share.log2()).sum::<f64>() * symbols.len() as f64 / 8.0
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            size in 1u32..300, symbols in prop::collection::vec(any::<u32>(), 0..400),
        ) {
            let symbols: Vec<u32> = symbols.into_iter().map(|s| s % size).collect();
            let bytes = write(&symbols, size);
            prop_assert_eq!(read(&bytes, symbols.len(), size), Ok(symbols));
        }

        #[test]
        fn any_bytes_are_symbols_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..100), count in 0usize..200,
        ) {
            if let Ok(symbols) = read(&bytes, count, 16) {
                // No two blocks say the same.
                prop_assert_eq!(write(&symbols, 16), bytes);
            }
        }

        #[test]
        fn a_damaged_block_is_refused_or_one_that_would_have_been_written(
            symbols in prop::collection::vec(0u32..4, 0..40), at: prop::sample::Index, to: u8, more: bool,
        ) {
            let mut bytes = write(&symbols, 4);
            let at = at.index(bytes.len() + 1);
            match bytes.get_mut(at) {
                Some(byte) if !more => *byte = to,
                _ => bytes.insert(at, to),
            }
            if let Ok(symbols) = read(&bytes, symbols.len(), 4) {
                prop_assert_eq!(write(&symbols, 4), bytes);
            }
        }
    }

    #[test]
    fn a_thousand_votes_cost_hardly_more_than_their_entropy() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 16
        };
        for skew in [1, 3, 10] {
            let votes: Vec<u32> = (0..1000)
                .map(|_| random() % 10 / (random() % skew + 1))
                .collect();
            let (bytes, least) = (write(&votes, 10).len() as f64, entropy(&votes, 10));
            assert!(bytes < 1.05 * least, "{bytes} bytes, entropy {least}");
        }
        assert!(write(&[7; 1000], 10).len() <= 4);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let mut bytes = write(&[1, 2, 3], 4);
        bytes.extend([1; 8]);
        assert!(read(&bytes, 3, 4).is_err());
        assert!(read(&[0], 0, 4).is_err());
    }
}
