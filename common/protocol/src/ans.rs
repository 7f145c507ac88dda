//! A fast entropy coder for many symbols of one kind: asymmetric numeral systems (Duda 2013) in the
//! variant with ranges, four states in turn (Giesen 2014). How often each symbol comes crosses first.
//! Integers alone, as in [`entropy`](crate::entropy).

use crate::ProtocolError;
use crate::entropy::{Bit, Decoder, Encoder, Symbols};

/// Frequencies add up to `1 << SCALE`.
const SCALE: u32 = 12;
/// States are at least this, between symbols.
const LEAST: u32 = 1 << 16;
/// Independent states, so that a processor works on some at a time.
const STATES: usize = 4;

fn malformed(why: &str) -> ProtocolError {
    ProtocolError::Malformed {
        what: "entropy-coded block",
        why: why.to_owned(),
    }
}

/// How often each symbol comes. In turn by four, so that a processor does not wait where one comes again and
/// again.
pub(crate) fn counted(symbols: &[u8]) -> [u32; 256] {
    let mut turns = [[0u32; 256]; 4];
    let (fours, rest) = symbols.as_chunks::<4>();
    for four in fours {
        for (counts, symbol) in turns.iter_mut().zip(four) {
            counts[usize::from(*symbol)] += 1;
        }
    }
    let [mut counts, others @ ..] = turns;
    rest.iter()
        .for_each(|symbol| counts[usize::from(*symbol)] += 1);
    for other in others {
        counts
            .iter_mut()
            .zip(other)
            .for_each(|(all, count)| *all += count);
    }
    counts
}

/// Counts scaled to add up to `1 << SCALE`; no symbol that comes gets none.
fn scaled(counts: &[u32; 256]) -> [u32; 256] {
    let total = counts.iter().map(|count| u64::from(*count)).sum::<u64>();
    let mut scaled = counts.map(|count| match count {
        0 => 0,
        count => (((u64::from(count) << SCALE) / total.max(1)) as u32).max(1),
    });
    // What rounding has left or taken goes to and from the most frequent, which feel it least.
    let sum = |scaled: &[u32; 256]| scaled.iter().sum::<u32>();
    while sum(&scaled) != 1 << SCALE {
        let (more, gap) = match sum(&scaled) {
            sum if sum < 1 << SCALE => (true, (1 << SCALE) - sum),
            sum => (false, sum - (1 << SCALE)),
        };
        let Some(most) = scaled.iter_mut().max() else {
            break;
        };
        match more {
            true => *most += gap,
            // Half at most, so that several share what is taken; there are 256 at most, so one has
            // more than 1.
            false => *most -= gap.min(*most / 2),
        }
    }
    scaled
}

/// Frequencies as bits: how long each is, then its digits.
fn write_table(frequencies: &[u32; 256]) -> Vec<u8> {
    let (mut encoder, mut lengths) = (Encoder::default(), Symbols::new(SCALE + 2));
    for frequency in frequencies {
        let length = u32::BITS - frequency.leading_zeros();
        lengths.write(&mut encoder, length);
        for digit in (0..length.saturating_sub(1)).rev() {
            encoder.bit(&mut Bit::default(), frequency >> digit & 1 == 1);
        }
    }
    encoder.finish()
}

fn read_table(bytes: &[u8]) -> Result<[u32; 256], ProtocolError> {
    let (mut decoder, mut lengths) = (Decoder::new(bytes), Symbols::new(SCALE + 2));
    let mut frequencies = [0u32; 256];
    for frequency in &mut frequencies {
        let length = lengths.read(&mut decoder);
        if length > SCALE + 1 {
            return Err(malformed("a frequency is too large"));
        }
        *frequency = u32::from(length > 0);
        for _ in 1..length {
            *frequency = *frequency << 1 | u32::from(decoder.bit(&mut Bit::default()));
        }
    }
    decoder.finish()?;
    match frequencies.iter().sum::<u32>() == 1 << SCALE {
        true => Ok(frequencies),
        false => Err(malformed("frequencies do not add up")),
    }
}

/// Where each symbol's range begins.
fn starts(frequencies: &[u32; 256]) -> [u32; 256] {
    let mut sum = 0;
    frequencies.map(|frequency| {
        sum += frequency;
        sum - frequency
    })
}

/// What putting a symbol into a state takes.
#[derive(Clone, Copy, Default)]
struct Code {
    /// A state of this size and more gives off a word first.
    most: u64,
    /// `2^63 / frequency`, rounded up: a multiplication in place of a division.
    inverse: u64,
    /// `2^SCALE - frequency`.
    rest: u32,
    start: u32,
}

impl Code {
    /// `(state / frequency << SCALE) + state % frequency + start`, of a state below `most`.
    #[inline(always)]
    fn put(&self, state: u32) -> u32 {
        // Exact: rounding up adds less than the state, 2^32, to the product, and where the next whole quotient
        // begins is at least 2^63 / frequency, 2^51, further.
        let quotient = ((u128::from(state) * u128::from(self.inverse)) >> 63) as u32;
        state + self.start + quotient * self.rest
    }
}

/// The codes of all symbols that come.
fn codes(frequencies: &[u32; 256]) -> [Code; 256] {
    let starts = starts(frequencies);
    std::array::from_fn(|at| match frequencies[at] {
        0 => Code::default(),
        frequency => Code {
            most: u64::from(frequency) << (32 - SCALE),
            inverse: (1u64 << 63).div_ceil(frequency.into()),
            rest: (1 << SCALE) - frequency,
            start: starts[at],
        },
    })
}

/// Codes symbols: the length of the table as u16, the table, the states, and words of 16 bits, all
/// little-endian.
pub fn encode(symbols: &[u8]) -> Vec<u8> {
    if symbols.is_empty() {
        return Vec::new();
    }
    let frequencies = scaled(&counted(symbols));
    let codes = codes(&frequencies);
    // Written from the end on, as the decoder takes in the other way what the encoder puts out: at most
    // one a symbol, and one more that is written and does not count.
    let mut words = vec![0u16; symbols.len() + 1];
    let mut next = symbols.len();
    let mut states = [LEAST; STATES];
    let mut put = |state: &mut u32, symbol: u8| {
        let code = &codes[usize::from(symbol)];
        // Without a branch, which a processor could not foresee.
        words[next] = *state as u16;
        let full = u64::from(*state) >= code.most;
        next -= usize::from(full);
        *state >>= 16 * u32::from(full);
        *state = code.put(*state);
    };
    // Backwards, as the decoder undoes it.
    let (groups, rest) = symbols.as_chunks::<STATES>();
    for (state, symbol) in states.iter_mut().zip(rest).rev() {
        put(state, *symbol);
    }
    for group in groups.iter().rev() {
        for (state, symbol) in states.iter_mut().zip(group).rev() {
            put(state, *symbol);
        }
    }
    let words = &words[next + 1..];
    let table = write_table(&frequencies);
    let mut bytes = Vec::with_capacity(2 + table.len() + 4 * STATES + 2 * words.len());
    bytes.extend((table.len() as u16).to_le_bytes());
    bytes.extend(table);
    bytes.extend(states.iter().flat_map(|state| state.to_le_bytes()));
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

/// A symbol, its frequency less 1, and how far into its range a state is, side by side.
#[derive(Clone, Copy)]
struct Slot(u32);

impl Slot {
    fn new(symbol: usize, frequency: u32, offset: u32) -> Self {
        Self(symbol as u32 | (frequency - 1) << 8 | offset << (8 + SCALE))
    }

    #[inline(always)]
    fn symbol(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    fn frequency(self) -> u32 {
        (self.0 >> 8 & ((1 << SCALE) - 1)) + 1
    }

    #[inline(always)]
    fn offset(self) -> u32 {
        self.0 >> (8 + SCALE)
    }
}

/// What each place within `1 << SCALE` stands for, where frequencies add up to that.
fn slots(frequencies: &[u32; 256]) -> Option<Box<[Slot; 1 << SCALE]>> {
    let mut slots = Vec::with_capacity(1 << SCALE);
    for (symbol, &frequency) in frequencies.iter().enumerate() {
        slots.extend((0..frequency).map(|offset| Slot::new(symbol, frequency, offset)));
    }
    slots.into_boxed_slice().try_into().ok()
}

/// Reads `count` symbols that [`encode`] wrote.
///
/// # Errors
/// Bytes that it would not have written for so many.
pub fn decode(bytes: &[u8], count: usize) -> Result<Vec<u8>, ProtocolError> {
    if count == 0 {
        return match bytes.is_empty() {
            true => Ok(Vec::new()),
            false => Err(malformed("it holds something, not nothing")),
        };
    }
    let (length, rest) = bytes
        .split_first_chunk::<2>()
        .ok_or_else(|| malformed("it is cut off"))?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (table, rest) = rest
        .split_at_checked(length)
        .ok_or_else(|| malformed("it is cut off"))?;
    let frequencies = read_table(table)?;
    let slots = slots(&frequencies).ok_or_else(|| malformed("frequencies do not add up"))?;
    let (states, words) = rest
        .split_first_chunk::<{ 4 * STATES }>()
        .ok_or_else(|| malformed("it is cut off"))?;
    let (words, odd) = words.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(malformed("half a word is left"));
    }
    let mut states: [u32; STATES] = std::array::from_fn(|at| {
        let bytes = &states[4 * at..4 * at + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    });
    let mut next = 0;
    let mut get = |state: &mut u32| -> u8 {
        let slot = slots[*state as usize & ((1 << SCALE) - 1)];
        // Below 2^32: the state is, and a frequency is 2^12 at most.
        let left = slot.frequency() * (*state >> SCALE) + slot.offset();
        // Without a branch, which a processor could not foresee. Words after the last are 0.
        let word = words.get(next).map_or(0, |word| u16::from_le_bytes(*word));
        let low = left < LEAST;
        *state = match low {
            true => left << 16 | u32::from(word),
            false => left,
        };
        next += usize::from(low);
        slot.symbol()
    };
    let mut symbols = vec![0u8; count];
    let (groups, rest) = symbols.as_chunks_mut::<STATES>();
    for group in groups {
        for (symbol, state) in group.iter_mut().zip(&mut states) {
            *symbol = get(state);
        }
    }
    for (symbol, state) in rest.iter_mut().zip(&mut states) {
        *symbol = get(state);
    }
    if next != words.len() || states != [LEAST; STATES] {
        return Err(malformed("it ends where its symbols do not"));
    }
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_coded_comes_back(
            size in 1u32..=256, symbols in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let symbols: Vec<u8> = symbols.iter().map(|s| (u32::from(*s) % size) as u8).collect();
            let bytes = encode(&symbols);
            prop_assert_eq!(decode(&bytes, symbols.len()), Ok(symbols.clone()));
            // One symbol alone says nothing, however often it comes.
            if symbols.iter().any(|symbol| *symbol != symbols[0]) {
                prop_assert!(decode(&bytes, symbols.len() + 1).is_err());
                prop_assert!(decode(&bytes, symbols.len() - 1).is_err());
            }
        }

        #[test]
        fn any_bytes_are_symbols_or_an_error(
            symbols in prop::collection::vec(0u8..9, 1..300), at: prop::sample::Index, to: u8,
        ) {
            let mut bytes = encode(&symbols);
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = decode(&bytes, symbols.len());
            bytes.truncate(at);
            let _ = decode(&bytes, symbols.len());
        }

        #[test]
        fn multiplying_is_dividing(frequency in 1u32..=1 << SCALE, part in 0.0f64..1.0) {
            let mut frequencies = [0; 256];
            frequencies[7] = (1 << SCALE) - frequency;
            frequencies[9] = frequency;
            let code = codes(&frequencies)[9];
            for state in [0, 1, frequency - 1, frequency, (part * code.most as f64) as u32, (code.most - 1) as u32] {
                let divided = ((state / frequency) << SCALE) + state % frequency + frequencies[7];
                prop_assert_eq!(code.put(state), divided);
            }
        }

        #[test]
        fn scaled_counts_keep_every_symbol(counts in prop::collection::vec(any::<u32>(), 256)) {
            let mut all = [0u32; 256];
            all.copy_from_slice(&counts);
            all[0] = all[0].max(1);
            let scaled = scaled(&all);
            prop_assert_eq!(scaled.iter().sum::<u32>(), 1 << SCALE);
            prop_assert!(all.iter().zip(&scaled).all(|(count, s)| (*count > 0) == (*s > 0)));
        }
    }

    #[test]
    fn ten_thousand_values_cost_hardly_more_than_their_entropy() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as f64 / 256.0
        };
        // Sums of six are almost normal, as logits are.
        let symbols: Vec<u8> = (0..10_000)
            .map(|_| ((0..6).map(|_| random()).sum::<f64>() / 6.0 * 256.0) as u8)
            .collect();
        let mut counts = [0u32; 256];
        symbols.iter().for_each(|s| counts[usize::from(*s)] += 1);
        let shares = counts.iter().map(|c| f64::from(*c) / 10_000.0);
        let bits = shares
            .filter(|s| *s > 0.0)
            .map(|s| -s * s.log2())
            .sum::<f64>();
        let (bytes, least) = (encode(&symbols).len() as f64, bits * 10_000.0 / 8.0);
        assert!(bytes < 1.05 * least, "{bytes} bytes, entropy {least}");
    }
}
