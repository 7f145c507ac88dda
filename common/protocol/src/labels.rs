use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::ProtocolError;
use crate::codec::{Decode, Encode};

/// What the values of an answer are.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, PartialEq)]
pub enum AnswerKind {
    /// Outputs before the softmax, any finite value.
    Logits,
    /// Rows of non-negative values that sum to 1.
    Probabilities,
}

/// How many bits a value takes on the wire.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, PartialEq)]
pub enum Precision {
    /// 32 bits: the value itself.
    F32,
    /// 16 bits, IEEE 754 binary16, rounded to nearest; values beyond its range become its largest.
    F16,
    /// 8 bits: the nearest of 256 steps between the least and the largest value of a block of
    /// [`Answers::BLOCK`] values, which both precede the block as f32.
    U8,
}

/// What somebody knows about some samples: a row each, a column a class, row-major, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    kind: AnswerKind,
    rows: u32,
    classes: u32,
    values: Vec<f32>,
}

impl Answers {
    /// Values that share a pair of scales at [`Precision::U8`].
    pub const BLOCK: usize = 256;
    /// Length of the header before the packed values.
    pub const HEADER_BYTES: usize = 12;
    const FORMAT: u8 = 1;

    /// Answers of `values.len() / classes` rows.
    ///
    /// # Errors
    /// A length that is no multiple of `classes`, or a value that is not finite.
    pub fn new(kind: AnswerKind, classes: u32, values: Vec<f32>) -> Result<Self, ProtocolError> {
        let width = classes as usize;
        let rows = match values.len().checked_div(width) {
            Some(rows) if rows * width == values.len() => u32::try_from(rows).ok(),
            _ => None,
        };
        let Some(rows) = rows else {
            return Err(ProtocolError::WrongLength {
                what: "answer's last row",
                actual: values.len() as u64 % u64::from(classes.max(1)),
                expected: classes.into(),
            });
        };
        // Infinity's bits without the sign: all finite values have less, and a fold over bits is
        // done many values at a time.
        let bits = |value: &f32| value.to_bits() & !(1 << 31);
        let most = values.iter().map(bits).fold(0, u32::max);
        if most >= f32::INFINITY.to_bits()
            && let Some(at) = values.iter().position(|value| !value.is_finite())
        {
            return Err(ProtocolError::NotFinite {
                row: at / width,
                column: at % width,
            });
        }
        Ok(Self {
            kind,
            rows,
            classes,
            values,
        })
    }

    /// What the values are.
    pub fn kind(&self) -> AnswerKind {
        self.kind
    }

    /// Number of samples.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Number of classes.
    pub fn classes(&self) -> u32 {
        self.classes
    }

    /// All values, `rows x classes`, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Exact length in bytes of packed answers: a function of their shape alone.
    pub fn packed_bytes(rows: u32, classes: u32, precision: Precision) -> u64 {
        let count = u64::from(rows) * u64::from(classes);
        let payload = match precision {
            Precision::F32 => count.saturating_mul(4),
            Precision::F16 => count.saturating_mul(2),
            Precision::U8 => count.saturating_add(count.div_ceil(Self::BLOCK as u64) * 8),
        };
        payload.saturating_add(Self::HEADER_BYTES as u64)
    }

    /// Packs the answers: format, kind, precision, a zero byte, rows and classes as u32
    /// little-endian, then the values.
    pub fn pack(&self, precision: Precision) -> Vec<u8> {
        let mut bytes = vec![Self::FORMAT, self.kind as u8, precision as u8, 0];
        bytes.extend(self.rows.to_le_bytes());
        bytes.extend(self.classes.to_le_bytes());
        match precision {
            Precision::F32 => bytes.extend(self.values.iter().flat_map(|v| v.to_le_bytes())),
            Precision::F16 => {
                let largest = f16::MAX.to_f32();
                let mut clamped = [0.0; Self::BLOCK];
                let mut halves = [f16::ZERO; Self::BLOCK];
                bytes.reserve(2 * self.values.len());
                for block in self.values.chunks(Self::BLOCK) {
                    let (clamped, halves) =
                        (&mut clamped[..block.len()], &mut halves[..block.len()]);
                    for (to, value) in clamped.iter_mut().zip(block) {
                        *to = value.clamp(-largest, largest);
                    }
                    // A whole slice asks the processor once what it can do.
                    halves.convert_from_f32_slice(clamped);
                    bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
                }
            }
            Precision::U8 => self
                .values
                .chunks(Self::BLOCK)
                .for_each(|b| pack_block(b, &mut bytes)),
        }
        bytes
    }

    /// Unpacks answers of a shape and kind that the receiver knows beforehand.
    ///
    /// # Errors
    /// Another shape, kind or length than expected, an unknown format, or a value that is not
    /// finite. Lengths are checked before anything is allocated.
    pub fn unpack(
        bytes: &[u8],
        kind: AnswerKind,
        rows: u32,
        classes: u32,
    ) -> Result<Self, ProtocolError> {
        let malformed = |why: &str| ProtocolError::Malformed {
            what: "answer",
            why: why.to_owned(),
        };
        let Some((header, payload)) = bytes.split_first_chunk::<{ Self::HEADER_BYTES }>() else {
            return Err(malformed("shorter than its header"));
        };
        let [
            format,
            kind_byte,
            precision,
            zero,
            r0,
            r1,
            r2,
            r3,
            c0,
            c1,
            c2,
            c3,
        ] = *header;
        if format != Self::FORMAT || zero != 0 {
            return Err(malformed("unknown format: update this side"));
        }
        let actual = match kind_byte {
            0 => AnswerKind::Logits,
            1 => AnswerKind::Probabilities,
            _ => return Err(malformed("unknown kind of values")),
        };
        if actual != kind {
            return Err(ProtocolError::WrongKind {
                actual,
                expected: kind,
            });
        }
        let precision = match precision {
            0 => Precision::F32,
            1 => Precision::F16,
            2 => Precision::U8,
            _ => return Err(malformed("unknown precision")),
        };
        let actual_rows = u32::from_le_bytes([r0, r1, r2, r3]);
        let actual_classes = u32::from_le_bytes([c0, c1, c2, c3]);
        if (actual_rows, actual_classes) != (rows, classes) {
            return Err(ProtocolError::WrongShape {
                actual_rows,
                actual_classes,
                rows,
                classes,
            });
        }
        let expected = Self::packed_bytes(rows, classes, precision);
        if bytes.len() as u64 != expected {
            let actual = bytes.len() as u64;
            return Err(ProtocolError::WrongLength {
                what: "answer",
                actual,
                expected,
            });
        }
        let values = match precision {
            Precision::F32 => payload
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            Precision::F16 => {
                let halves = payload.as_chunks::<2>().0.iter();
                let halves: Vec<f16> = halves.map(|b| f16::from_le_bytes(*b)).collect();
                halves.to_f32_vec()
            }
            Precision::U8 => payload
                .chunks(Self::BLOCK + 8)
                .flat_map(unpack_block)
                .collect(),
        };
        Self::new(kind, classes, values)
    }
}

fn pack_block(block: &[f32], bytes: &mut Vec<u8>) {
    let least = block.iter().copied().fold(f32::INFINITY, f32::min);
    let most = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    bytes.extend(least.to_le_bytes());
    bytes.extend(most.to_le_bytes());
    // In f64, so that the span of two finite f32 is finite.
    let (low, span) = (f64::from(least), f64::from(most) - f64::from(least));
    bytes.extend(block.iter().map(|&value| match span > 0.0 {
        true => ((f64::from(value) - low) / span * 255.0).round() as u8,
        false => 0,
    }));
}

fn unpack_block(block: &[u8]) -> Vec<f32> {
    let Some((scales, steps)) = block.split_first_chunk::<8>() else {
        return Vec::new();
    };
    let [a, b, c, d, e, f, g, h] = *scales;
    let low = f64::from(f32::from_le_bytes([a, b, c, d]));
    let span = f64::from(f32::from_le_bytes([e, f, g, h])) - low;
    steps
        .iter()
        .map(|&step| (low + span * (f64::from(step) / 255.0)) as f32)
        .collect()
}
