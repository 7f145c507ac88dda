//! How symbols are written, and which way is taken.

use crate::entropy::{Decoder, Encoder, Symbols};
use crate::{ProtocolError, Version, ans};

use super::{Form, malformed, most, parts, sparse, symbols};

/// How symbols are written; its number is in packed answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Coding {
    /// Side by side.
    Plain = 0,
    /// By an adaptive arithmetic coder.
    Adaptive = 1,
    /// By asymmetric numeral systems.
    Systems = 2,
    /// By the adaptive coder too: which parts are some, and how many. Peers of version 3 do not know it.
    Sparse = 3,
    /// By the adaptive coder too: classes of peaks that are too many to be learnt as fast, and the others' level by the
    /// largest one's. Peers of version 3 do not know peaks.
    Firm = 4,
    /// Numbers of 16 and 32 bits as planes of bytes, some of them coded; of the largest values alone, which ones they are
    /// too. Peers of version 3 do not know it.
    Planes = 5,
}

/// From so many symbols on the faster coder is used: what it has to say first is little among them.
const MANY: usize = 1 << 15;
/// The same of eight bits, of which the other one would have as much to learn.
const MANY_BYTES: usize = 1 << 13;
/// The first version of which peers know [`Coding::Sparse`], [`Coding::Firm`] and [`Coding::Planes`].
const ALL_SINCE: u8 = 4;

/// Whether peers of a version know all ways.
pub(super) fn knows_all(version: Version) -> bool {
    version.number() >= ALL_SINCE
}

impl Coding {
    /// The way of this number, if what has this form may be written so.
    pub(super) fn of(number: u8, form: Form) -> Option<Self> {
        match (number, form) {
            (0, _) => Some(Self::Plain),
            (1, Form::Peaks | Form::Parts(_) | Form::Steps(_)) => Some(Self::Adaptive),
            (2, Form::Parts(_) | Form::Steps(_)) => Some(Self::Systems),
            (3, Form::Parts(_)) => Some(Self::Sparse),
            (4, Form::Peaks) => Some(Self::Firm),
            (5, Form::Floats) => Some(Self::Planes),
            _ => None,
        }
    }
}

/// Appends steps of so many bits, coded where that is shorter.
pub(super) fn write_steps(found: &[u8], bits: u32, bytes: &mut Vec<u8>) -> Coding {
    let coded = match bits {
        8 if found.len() >= MANY_BYTES => (Coding::Systems, ans::encode(found)),
        _ if found.len() >= MANY => (Coding::Systems, ans::encode(found)),
        _ => (Coding::Adaptive, encode(found, bits)),
    };
    write(coded, found, bits, bytes)
}

/// Appends parts of rows of so many classes, coded where that is shorter, so that a peer of this version can read
/// them.
pub(super) fn write_parts(
    found: &[u8],
    classes: usize,
    bits: u32,
    version: Version,
    bytes: &mut Vec<u8>,
) -> Coding {
    let whole = most(bits);
    // What parts of a row leave for the others is worth more than speed, but for bytes, of which the adaptive coder
    // takes ten times as long.
    let systems = bits == 8 && found.len() >= MANY_BYTES;
    let coded = match systems {
        true => (Coding::Systems, ans::encode(found)),
        false => (Coding::Adaptive, parts::encode(found, classes, whole)),
    };
    let may_be_sparse = knows_all(version)
        && (sparse::is_worth_it(found) || systems && wastes(&ans::counted(found), coded.1.len()));
    let coded = match may_be_sparse {
        true => shorter(
            coded,
            (Coding::Sparse, sparse::encode(found, classes, whole)),
        ),
        false => coded,
    };
    write(coded, found, bits, bytes)
}

/// The first of the shortest.
pub(super) fn shorter(one: (Coding, Vec<u8>), other: (Coding, Vec<u8>)) -> (Coding, Vec<u8>) {
    match other.1.len() < one.1.len() {
        true => other,
        false => one,
    }
}

fn write((coding, coded): (Coding, Vec<u8>), found: &[u8], bits: u32, to: &mut Vec<u8>) -> Coding {
    match (coded.len() as u64) < symbols::packed(found.len() as u64, bits) {
        true => {
            to.extend(coded);
            coding
        }
        false => {
            symbols::pack(found, bits, to);
            Coding::Plain
        }
    }
}

/// Whether so many bytes are a 32nd more than the entropy of order zero of symbols that come so often each. In whole numbers: the
/// same on every processor, since bytes depend on it.
pub(super) fn wastes(counts: &[u32], bytes: usize) -> bool {
    let bits = 8 * bytes as u64;
    (bits - bits / 33) << FRACTION > least(counts)
}

/// The entropy of order zero of symbols that come so often each, in bits, rounded down.
pub(super) fn least_bits(counts: &[u32]) -> u64 {
    least(counts) >> FRACTION
}

/// The same in 2^[`FRACTION`]ths of a bit.
pub(super) fn least(counts: &[u32]) -> u64 {
    let counts = || counts.iter().map(|count| u64::from(*count));
    let all = logarithm(counts().sum::<u64>().max(1));
    let some = counts().filter(|count| *count > 0);
    some.map(|count| count * (all - logarithm(count))).sum()
}

/// Bits of a logarithm below its point.
pub(super) const FRACTION: u32 = 12;

/// The logarithm to base 2 of a number from 1 to 2^32, in 2^[`FRACTION`]ths, rounded down.
pub(super) fn logarithm(number: u64) -> u64 {
    let whole = number.ilog2();
    // From 1 up to 2, in 2^31sts: squared, what is 2 and more has a bit.
    let mut rest = match whole {
        ..=31 => number << (31 - whole),
        _ => number >> (whole - 31),
    };
    let mut logarithm = u64::from(whole);
    for _ in 0..FRACTION {
        rest = (rest * rest) >> 31;
        let bit = rest >> 32;
        rest >>= bit;
        logarithm = logarithm << 1 | bit;
    }
    logarithm
}

/// Reads parts of rows of so many classes.
///
/// # Errors
/// Bytes that [`write_parts`] would not have written.
pub(super) fn read_parts(
    coded: &[u8],
    [rows, classes]: [usize; 2],
    bits: u32,
    coding: Coding,
) -> Result<Vec<u8>, ProtocolError> {
    let whole = most(bits);
    match coding {
        Coding::Adaptive => parts::decode(coded, rows, classes, whole),
        Coding::Sparse => sparse::decode(coded, rows, classes, whole),
        _ => read_steps(coded, rows * classes, bits, coding),
    }
}

/// Reads so many steps.
///
/// # Errors
/// Bytes that [`write_steps`] would not have written.
pub(super) fn read_steps(
    coded: &[u8],
    count: usize,
    bits: u32,
    coding: Coding,
) -> Result<Vec<u8>, ProtocolError> {
    let found = match coding {
        Coding::Plain => symbols::unpack(coded, bits, count)?,
        Coding::Systems => ans::decode(coded, count)?,
        Coding::Adaptive => decode(coded, bits, count)?,
        Coding::Sparse | Coding::Firm | Coding::Planes => return Err(malformed("unknown coding")),
    };
    match found.iter().any(|symbol| *symbol >> (bits - 1) > 1) {
        true => Err(malformed("a symbol is beyond its bits")),
        false => Ok(found),
    }
}

/// Symbols of so many bits by the adaptive coder.
pub(super) fn encode(found: &[u8], bits: u32) -> Vec<u8> {
    let (mut encoder, mut model) = (Encoder::default(), Symbols::new(1 << bits));
    for symbol in found {
        model.write(&mut encoder, (*symbol).into());
    }
    encoder.finish()
}

/// Reads so many symbols that [`encode`] wrote.
///
/// # Errors
/// Bytes that it would not have written.
pub(super) fn decode(bytes: &[u8], bits: u32, count: usize) -> Result<Vec<u8>, ProtocolError> {
    let (mut decoder, mut model) = (Decoder::new(bytes), Symbols::new(1 << bits));
    let found = (0..count).map(|_| model.read(&mut decoder) as u8).collect();
    decoder.finish()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right_to_their_last_bit() {
        for number in [
            1,
            2,
            3,
            7,
            10,
            1000,
            65_535,
            65_537,
            1 << 26,
            (1 << 32) - 1,
            1 << 32,
        ] {
            let exact = (number as f64).log2() * f64::from(1 << FRACTION);
            let ours = logarithm(number) as f64;
            assert!(
                ours <= exact && exact - ours < 1.01,
                "{number}: {ours}, {exact}"
            );
        }
    }

    #[test]
    fn what_is_a_32nd_over_its_entropy_is_waste() {
        // One in four is a 1: 0.8113 bits a symbol.
        let found: Vec<u8> = (0..80_000).map(|at| u8::from(at % 4 == 0)).collect();
        let counts = ans::counted(&found);
        assert!(!wastes(&counts, 8113));
        assert!(!wastes(&counts, 8350));
        assert!(wastes(&counts, 8400));
    }
}
