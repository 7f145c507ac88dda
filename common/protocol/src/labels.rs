mod alphabets;
mod blocks;
mod coding;
mod flags;
mod parts;
mod peaks;
mod rounding;
mod sparse;
mod symbols;
mod top;
mod update;
mod versions;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::codec::{Decode, Encode};
use crate::{ProtocolError, Version};

use coding::Coding;
use peaks::Peaks;
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

    /// What its values become at a precision.
    fn form(self, precision: Precision) -> Form {
        match (self, precision.bits()) {
            _ if precision == Precision::Peak => Form::Peaks,
            (_, None) => Form::Floats,
            (Self::Probabilities, Some(bits)) => Form::Parts(bits),
            (_, Some(bits)) => Form::Steps(bits),
        }
    }
}

/// What values become.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// Numbers, all of them or the largest.
    Floats,
    /// The largest of each row, and two levels.
    Peaks,
    /// Symbols of so many bits: parts of a whole, of which a row may have none.
    Parts(u32),
    /// Symbols of so many bits: steps between the least and the largest value of a block.
    Steps(u32),
}

/// How many bits a value takes on the wire.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, PartialEq)]
pub enum Precision {
    /// 32 bits: the value itself.
    F32,
    /// 16 bits, IEEE 754 binary16, rounded to nearest; values beyond its range become its largest.
    F16,
    /// 8 bits. Of logits, the nearest of 256 steps between the least and the largest value of a block
    /// of [`Answers::BLOCK`] values, which are there too as f32; of probabilities, so many of 255 parts.
    U8,
    /// 4 bits: 16 steps, or 15 parts.
    U4,
    /// 2 bits: 4 steps, or 3 parts.
    U2,
    /// 1 bit: of probabilities, a vote for the largest; of logits and features, the largest of its block or the
    /// least.
    U1,
    /// So many values of each row, at least 1: the largest, at 16 bits, and which ones they are. The others
    /// share evenly what those leave of 1; of logits and features all are what they are on average.
    Top(u8),
    /// Which value of each row is the largest, how much that is, and what all others are on average, both as one of 16
    /// levels: some 1 bit a value of ten classes. Peers of version 3 do not know it, and cannot read plans that ask
    /// for it.
    Peak,
}

impl Precision {
    /// All that keep every value, finest first.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::U8, Self::U4, Self::U2, Self::U1];

    /// Its number in packed answers.
    fn number(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::U8 => 2,
            Self::U4 => 3,
            Self::U2 => 4,
            Self::U1 => 5,
            Self::Top(_) => Self::TOP,
            Self::Peak => 7,
        }
    }

    /// The number of [`Self::Top`], whose count follows the header.
    const TOP: u8 = 6;

    /// What a user means who asks for it: one bit of logits is [`Self::Peak`].
    #[must_use]
    pub fn of(self, kind: AnswerKind) -> Self {
        match (self, kind) {
            (Self::U1, AnswerKind::Logits) => Self::Peak,
            (other, _) => other,
        }
    }

    /// What nobody could pack with, as the end of a sentence.
    pub(crate) fn fault(self) -> Option<String> {
        (self == Self::Top(0)).then(|| "keeps no value of a row".to_owned())
    }

    /// Bits of a symbol, where values become symbols.
    fn bits(self) -> Option<u32> {
        match self {
            Self::F32 | Self::F16 | Self::Top(_) | Self::Peak => None,
            Self::U8 => Some(8),
            Self::U4 => Some(4),
            Self::U2 => Some(2),
            Self::U1 => Some(1),
        }
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
            Form::Floats => {
                self.pack_floats(precision, bytes);
                Coding::Plain
            }
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

    fn pack_floats(&self, precision: Precision, bytes: &mut Vec<u8>) {
        if let Precision::Top(count) = precision {
            return Top::new(self.kind, self.classes, count).pack(&self.values, bytes);
        }
        if precision == Precision::F32 {
            return bytes.extend(self.values.iter().flat_map(|v| v.to_le_bytes()));
        }
        let largest = f16::MAX.to_f32();
        let mut clamped = [0.0; Self::BLOCK];
        let mut halves = [f16::ZERO; Self::BLOCK];
        bytes.reserve(2 * self.values.len());
        for block in self.values.chunks(Self::BLOCK) {
            let (clamped, halves) = (&mut clamped[..block.len()], &mut halves[..block.len()]);
            for (to, value) in clamped.iter_mut().zip(block) {
                *to = value.clamp(-largest, largest);
            }
            // A whole slice asks the processor once what it can do.
            halves.convert_from_f32_slice(clamped);
            bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
        }
    }

    /// Unpacks answers of whatever shape and kind they say they are: for bytes from one's own disk.
    ///
    /// # Errors
    /// As [`Self::unpack`].
    pub fn read(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let Some([_, kind, _, _, r0, r1, r2, r3, c0, c1, c2, c3]) =
            bytes.first_chunk::<{ Self::HEADER_BYTES }>().copied()
        else {
            return Err(malformed("shorter than its header"));
        };
        let kind = AnswerKind::from_number(kind);
        let kind = kind.ok_or_else(|| malformed("unknown kind of values"))?;
        let rows = u32::from_le_bytes([r0, r1, r2, r3]);
        Self::unpack(bytes, kind, rows, u32::from_le_bytes([c0, c1, c2, c3]))
    }

    /// Unpacks answers of a shape and kind that the receiver knows beforehand.
    ///
    /// # Errors
    /// Another shape, kind or length than expected, an unknown format, symbols that nobody would
    /// have coded, or a value that is not finite. Lengths are checked before anything is allocated.
    pub fn unpack(
        bytes: &[u8],
        kind: AnswerKind,
        rows: u32,
        classes: u32,
    ) -> Result<Self, ProtocolError> {
        let Some((header, payload)) = bytes.split_first_chunk::<{ Self::HEADER_BYTES }>() else {
            return Err(malformed("shorter than its header"));
        };
        let [
            format,
            kind_byte,
            precision,
            coding,
            r0,
            r1,
            r2,
            r3,
            c0,
            c1,
            c2,
            c3,
        ] = *header;
        if format != Self::FORMAT {
            return Err(malformed("unknown format: update the older side"));
        }
        let Some(actual) = AnswerKind::from_number(kind_byte) else {
            return Err(malformed("unknown kind of values"));
        };
        if actual != kind {
            return Err(ProtocolError::WrongKind {
                actual,
                expected: kind,
            });
        }
        let (precision, payload) = match (precision, payload) {
            (Precision::TOP, [count, payload @ ..]) if *count > 0 => {
                (Precision::Top(*count), payload)
            }
            (Precision::TOP, _) => return Err(malformed("it keeps no value of a row")),
            (number, payload) => {
                let mut known = Precision::ALL.into_iter().chain([Precision::Peak]);
                let precision = known.find(|one| one.number() == number);
                let unknown = || malformed("unknown precision");
                (precision.ok_or_else(unknown)?, payload)
            }
        };
        let form = kind.form(precision);
        let gaps = coding & GAPS != 0;
        let coding = Coding::of(coding & !GAPS, form);
        let coding = coding.ok_or_else(|| malformed("unknown coding"))?;
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
        let values = u64::from(rows) * u64::from(classes);
        if values > Self::MOST_VALUES {
            return Err(ProtocolError::TooLong {
                what: "answer",
                actual: values.saturating_mul(4),
                limit: 4 * Self::MOST_VALUES,
            });
        }
        let (speaks, body) = match gaps {
            true => {
                let (speaks, rest) = flags::read(payload, rows as usize)?;
                (Some(speaks), rest)
            }
            false => (None, payload),
        };
        let spoken = match &speaks {
            // No more than there are rows.
            Some(speaks) => speaks.iter().filter(|speaks| **speaks).count() as u32,
            None => rows,
        };
        if gaps && (spoken == rows || matches!(form, Form::Parts(_))) {
            return Err(malformed("it leaves out no row"));
        }
        let before = (bytes.len() - body.len()) as u64;
        let most = before.saturating_add(plain_bytes(kind, spoken, classes, precision));
        let actual = bytes.len() as u64;
        if coding == Coding::Plain && actual != most {
            return Err(ProtocolError::WrongLength {
                what: "answer",
                actual,
                expected: most,
            });
        }
        // What is coded is shorter, or would not have been.
        if coding != Coding::Plain && actual >= most {
            return Err(ProtocolError::TooLong {
                what: "answer",
                actual,
                limit: most.saturating_sub(1),
            });
        }
        let shape = [spoken as usize, classes as usize];
        let values = match (form, precision) {
            (Form::Floats, Precision::Top(count)) => {
                Top::new(kind, classes, count).unpack(body, spoken as usize)?
            }
            (Form::Floats, _) => unpack_floats(body, precision),
            (Form::Peaks, _) => Peaks::unpack(body, kind, shape, coding)?.values(shape[1]),
            (Form::Parts(bits), _) => unpack_parts(body, shape, bits, coding)?,
            (Form::Steps(bits), _) => unpack_steps(body, shape, bits, coding)?,
        };
        let values = match speaks {
            None => values,
            Some(speaks) => spread(&values, &speaks, classes as usize),
        };
        Self::new(kind, classes, values)
    }
}

/// Rows at their places, and zeros between them.
fn spread(values: &[f32], speaks: &[bool], classes: usize) -> Vec<f32> {
    let mut all = vec![0.0; speaks.len() * classes];
    let places = all.chunks_exact_mut(classes.max(1)).zip(speaks);
    let places = places.filter(|(_, speaks)| **speaks);
    for ((place, _), row) in places.zip(values.chunks_exact(classes.max(1))) {
        place.copy_from_slice(row);
    }
    all
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

fn unpack_floats(payload: &[u8], precision: Precision) -> Vec<f32> {
    match precision {
        Precision::F32 => {
            let values = payload.as_chunks::<4>().0.iter();
            values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        _ => {
            let halves = payload.as_chunks::<2>().0.iter();
            let halves: Vec<f16> = halves.map(|b| f16::from_le_bytes(*b)).collect();
            halves.to_f32_vec()
        }
    }
}

fn unpack_parts(
    coded: &[u8],
    [rows, classes]: [usize; 2],
    bits: u32,
    coding: Coding,
) -> Result<Vec<f32>, ProtocolError> {
    let found = coding::read_parts(coded, [rows, classes], bits, coding)?;
    parts::restore(&found, classes, most(bits))
}

fn unpack_steps(
    payload: &[u8],
    [rows, classes]: [usize; 2],
    bits: u32,
    coding: Coding,
) -> Result<Vec<f32>, ProtocolError> {
    let count = rows * classes;
    let (scales, coded) = payload
        .split_at_checked(blocks::scales(count as u64) as usize)
        .ok_or_else(|| malformed("it is cut off"))?;
    let found = coding::read_steps(coded, count, bits, coding)?;
    Ok(blocks::restore(scales, &found, most(bits)))
}

/// The largest symbol of so many bits, 1 to 8.
fn most(bits: u32) -> u8 {
    (u16::MAX >> (16 - bits)) as u8
}
