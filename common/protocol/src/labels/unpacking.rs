//! From bytes to answers: nothing is allocated before lengths are held against what was asked for.

use std::borrow::Cow;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::coding::{self, Coding};
use super::peaks::Peaks;
use super::precision::Form;
use super::top::Top;
use super::{
    AnswerKind, Answers, GAPS, Precision, blocks, flags, malformed, most, parts, plain_bytes,
    planes,
};
use crate::ProtocolError;

impl Answers {
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
                Top::new(kind, classes, count).unpack(body, spoken as usize, coding)?
            }
            (Form::Floats, _) => unpack_floats(body, shape, precision, coding)?,
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

fn unpack_floats(
    payload: &[u8],
    [rows, classes]: [usize; 2],
    precision: Precision,
    coding: Coding,
) -> Result<Vec<f32>, ProtocolError> {
    let count = rows * classes;
    Ok(match precision {
        Precision::F32 => {
            let found = numbers::<4>(payload, count, coding)?;
            let values = found.iter();
            values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        _ => {
            let found = numbers::<2>(payload, count, coding)?;
            let halves: Vec<f16> = found.iter().map(|b| f16::from_le_bytes(*b)).collect();
            halves.to_f32_vec()
        }
    })
}

/// So many numbers, little-endian.
fn numbers<const BYTES: usize>(
    payload: &[u8],
    count: usize,
    coding: Coding,
) -> Result<Cow<'_, [[u8; BYTES]]>, ProtocolError> {
    match coding {
        Coding::Planes => match planes::read(payload, count)? {
            (numbers, []) => Ok(numbers.into()),
            _ => Err(malformed("bytes are left over")),
        },
        // As many as there are: the length was checked.
        _ => Ok(payload.as_chunks::<BYTES>().0.into()),
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
