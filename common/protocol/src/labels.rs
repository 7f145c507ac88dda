mod alphabets;
mod blocks;
mod coding;
mod flags;
mod parts;
mod peaks;
mod planes;
mod precision;
mod rounding;
mod sparse;
mod symbols;
mod top;
mod unpacking;
mod update;
mod versions;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::codec::{Decode, Encode};
use crate::{ProtocolError, Version};

use coding::Coding;
use peaks::Peaks;
use precision::Form;
pub use precision::Precision;
pub use rounding::Rounding;
use top::Top;

/// What the values of an answer are.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, PartialEq)]
pub enum AnswerKind {
    /// Outputs before the softmax, any finite value.
    Logits,
    /// Rows of non-negative values that sum to 1; or of zeros, where nothing is said of a sample.
    Probabilities,
    /// Outputs of a layer within, any finite value; answers have as many "classes" as it has outputs.
    Features,
}

impl AnswerKind {
    /// The kind of this number on the wire.
    fn from_number(number: u8) -> Option<Self> {
        [Self::Logits, Self::Probabilities, Self::Features]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// Set in the byte of the coding where rows that say nothing are left out.
const GAPS: u8 = 0x10;

/// What somebody knows about some samples or classes: a row each, a column a class, row-major, all
/// finite. A row of zeros says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    kind: AnswerKind,
    rows: u32,
    classes: u32,
    values: Vec<f32>,
}

impl Answers {
    /// Values that share a pair of scales at [`Precision::U8`].
    pub const BLOCK: usize = blocks::BLOCK;
    /// Length of the header before the packed values.
    pub const HEADER_BYTES: usize = 12;
    /// The most values: what is coded can stand for far more than its own length.
    pub const MOST_VALUES: u64 = 1 << 26;
    const FORMAT: u8 = 2;

    /// Answers of `values.len() / classes` rows.
    ///
    /// # Errors
    /// A length that is no multiple of `classes`, a value that is not finite, or a probability below 0.
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
        if kind == AnswerKind::Probabilities && values.iter().any(|value| *value < 0.0) {
            return Err(malformed("a probability is below 0"));
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

    /// The rows, in their order.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.classes.max(1) as usize)
    }

    /// Whether each row says something.
    pub fn speaks(&self) -> impl Iterator<Item = bool> {
        self.iter().map(|row| row.iter().any(|value| *value != 0.0))
    }

    /// The rows for which `keep` holds, in their order.
    pub(crate) fn only(&self, keep: &[bool]) -> Self {
        let rows = self.iter().zip(keep).filter(|(_, keep)| **keep);
        let values: Vec<f32> = rows.flat_map(|(row, _)| row.iter().copied()).collect();
        Self {
            kind: self.kind,
            rows: (values.len() / self.classes.max(1) as usize) as u32,
            classes: self.classes,
            values,
        }
    }

    /// The most bytes that packed answers may have: a function of their shape alone.
    pub fn most_bytes(kind: AnswerKind, rows: u32, classes: u32, precision: Precision) -> u64 {
        let flags = match kind.form(precision) {
            Form::Parts(_) => 0,
            _ => flags::most_bytes(rows),
        };
        let body = plain_bytes(kind, rows, classes, precision);
        let count = u64::from(matches!(precision, Precision::Top(_)));
        body.saturating_add(flags + count + Self::HEADER_BYTES as u64)
    }

    /// Packs the answers, so that peers of all versions that are spoken can read them: [`Self::pack_for`] the oldest.
    pub fn pack(&self, precision: Precision) -> Vec<u8> {
        self.pack_for(Version::OLDEST, precision)
    }

    /// Packs the answers for peers of a version: format, kind, precision, coding, rows and classes as u32
    /// little-endian; then the values, or their scales and symbols. Symbols are coded at their entropy where that is
    /// shorter, and rows that say nothing are left out. Later versions know shorter ways; all are read by
    /// [`Self::unpack`]. Peaks are for [`Version::LATEST`] always, as the precision is.
    pub fn pack_for(&self, version: Version, precision: Precision) -> Vec<u8> {
        let mut bytes = vec![Self::FORMAT, self.kind as u8, precision.number(), 0];
        bytes.extend(self.rows.to_le_bytes());
        bytes.extend(self.classes.to_le_bytes());
        if let Precision::Top(count) = precision {
            bytes.push(count);
        }
        let speaks: Vec<bool> = match self.kind.form(precision) {
            Form::Parts(_) => Vec::new(),
            _ => self.speaks().collect(),
        };
        let coding = match speaks.contains(&false) {
            true => {
                flags::write(&speaks, &mut bytes);
                GAPS | self.only(&speaks).pack_body(version, precision, &mut bytes) as u8
            }
            false => self.pack_body(version, precision, &mut bytes) as u8,
        };
        bytes[3] = coding;
        bytes
    }

    fn pack_body(&self, version: Version, precision: Precision, bytes: &mut Vec<u8>) -> Coding {
        let classes = self.classes as usize;
        match self.kind.form(precision) {
            Form::Floats => self.pack_floats(version, precision, bytes),
            Form::Peaks => Peaks::closest(&self.values, classes).pack(self.kind, classes, bytes),
            Form::Parts(bits) => {
                let mut found = Vec::with_capacity(self.values.len());
                parts::of_rows(&self.values, classes, most(bits), &mut found);
                coding::write_parts(&found, classes, bits, version, bytes)
            }
            Form::Steps(bits) => {
                let mut found = Vec::with_capacity(self.values.len());
                blocks::quantise(&self.values, most(bits), bytes, &mut found);
                coding::write_steps(&found, bits, bytes)
            }
        }
    }

    fn pack_floats(&self, version: Version, precision: Precision, bytes: &mut Vec<u8>) -> Coding {
        match precision {
            Precision::Top(count) => {
                Top::new(self.kind, self.classes, count).pack(&self.values, version, bytes)
            }
            Precision::F32 => pack_numbers(&wholes(&self.values), version, bytes),
            _ => pack_numbers(&halves(&self.values), version, bytes),
        }
    }
}

/// Values as they are, little-endian.
fn wholes(values: &[f32]) -> Vec<[u8; 4]> {
    values.iter().map(|value| value.to_le_bytes()).collect()
}

/// Values as f16, little-endian, rounded to nearest; what is beyond becomes the largest.
fn halves(values: &[f32]) -> Vec<[u8; 2]> {
    let largest = f16::MAX.to_f32();
    let mut clamped = [0.0; Answers::BLOCK];
    let mut halves = [f16::ZERO; Answers::BLOCK];
    let mut all = Vec::with_capacity(values.len());
    for block in values.chunks(Answers::BLOCK) {
        let (clamped, halves) = (&mut clamped[..block.len()], &mut halves[..block.len()]);
        for (to, value) in clamped.iter_mut().zip(block) {
            *to = value.clamp(-largest, largest);
        }
        // A whole slice asks the processor once what it can do.
        halves.convert_from_f32_slice(clamped);
        all.extend(halves.iter().map(|half| half.to_le_bytes()));
    }
    all
}

/// Appends numbers, as planes where that is shorter and peers of this version know it.
fn pack_numbers<const BYTES: usize>(
    numbers: &[[u8; BYTES]],
    version: Version,
    bytes: &mut Vec<u8>,
) -> Coding {
    if coding::knows_all(version) {
        let before = bytes.len();
        planes::write(numbers, bytes);
        if bytes.len() - before < numbers.len() * BYTES {
            return Coding::Planes;
        }
        bytes.truncate(before);
    }
    bytes.extend(numbers.as_flattened());
    Coding::Plain
}

/// Length of the values of so many rows, all of them spoken and none coded.
fn plain_bytes(kind: AnswerKind, rows: u32, classes: u32, precision: Precision) -> u64 {
    let count = u64::from(rows) * u64::from(classes);
    match (kind.form(precision), precision) {
        (Form::Floats, Precision::F32) => count.saturating_mul(4),
        (Form::Floats, Precision::Top(most)) => Top::new(kind, classes, most).bytes(rows.into()),
        (Form::Floats, _) => count.saturating_mul(2),
        (Form::Peaks, _) => peaks::most_bytes(rows, classes),
        (Form::Parts(bits), _) => symbols::packed(count, bits),
        (Form::Steps(bits), _) => {
            symbols::packed(count, bits).saturating_add(blocks::scales(count))
        }
    }
}

fn malformed(why: &str) -> ProtocolError {
    ProtocolError::Malformed {
        what: "answer",
        why: why.to_owned(),
    }
}

/// The largest symbol of so many bits, 1 to 8.
fn most(bits: u32) -> u8 {
    (u16::MAX >> (16 - bits)) as u8
}
