//! Of each row which value is the largest, how much that is, and what the others are on average,
//! the two levels that are closest to the row in the sum of squares.

mod scales;

use half::f16;

use crate::entropy::{Bit, Decoder, Encoder, Symbols};
use crate::{AnswerKind, ProtocolError};

use super::coding::{self, Coding};
use super::malformed;
use super::top::{Bits, Reader};
use scales::{STEPS, Scales};

/// Rows that share their scales.
const ROWS: usize = 256;
/// Bits of a level: of each row there are two.
const LEVEL_BITS: u32 = 4;

/// A row of two levels, each a value that f16 has: ends of scales are some of them, and so come back as they were.
#[derive(Clone, Copy)]
struct Peak {
    /// Which value is the largest, the first of equal ones.
    class: u32,
    /// What all others are.
    low: f32,
    /// How far the largest is above them, 0 or more.
    gap: f32,
}

impl Peak {
    fn new(class: usize, low: f64, gap: f64) -> Self {
        let bound = f64::from(f16::MAX);
        // A zero is positive, so that bytes do not depend on which of two is the lesser one.
        let level = |level: f64| f16::from_f64(level.clamp(-bound, bound)).to_f32() + 0.0;
        Self {
            // Classes are counted in 32 bits.
            class: class as u32,
            low: level(low),
            gap: level(gap.max(0.0)),
        }
    }

    /// The closest to this row, which is not empty.
    fn closest(row: &[f32]) -> Self {
        let (mut class, mut most) = (0, f32::NEG_INFINITY);
        for (at, value) in row.iter().enumerate() {
            if *value > most {
                (class, most) = (at, *value);
            }
        }
        let sum: f64 = row.iter().map(|value| f64::from(*value)).sum();
        let most = f64::from(most);
        let low = match row.len() {
            1 => most,
            classes => (sum - most) / (classes - 1) as f64,
        };
        Self::new(class, low, most - low)
    }

    /// By `chance` from 0 up to 1, such that each value is right on average: a class is drawn by how far its value is
    /// above the least, and gets what all together are above it.
    fn drawn(row: &[f32], chance: f64) -> Self {
        let least = row.iter().copied().fold(f32::INFINITY, f32::min);
        let above = |value: &f32| f64::from(*value) - f64::from(least);
        let all: f64 = row.iter().map(above).sum();
        let mut reached = 0.0;
        let class = row.iter().position(|value| {
            reached += above(value);
            chance * all < reached
        });
        Self::new(class.unwrap_or(0), least.into(), all)
    }
}

/// Rows as classes, and levels as steps between the least and the largest of some rows.
pub(super) struct Peaks {
    classes: Vec<u32>,
    /// Those of [`ROWS`] rows each.
    scales: Vec<Scales>,
    /// Steps of the others' level, and of how far the largest is above it.
    levels: Vec<[u8; 2]>,
}

impl Peaks {
    /// The closest to rows of so many classes.
    pub(super) fn closest(values: &[f32], classes: usize) -> Self {
        let rows = values.chunks_exact(classes.max(1));
        let peaks: Vec<Peak> = rows.map(Peak::closest).collect();
        // Halves up: at most as many as there are steps.
        Self::of(&peaks, true, |step| (step + 0.5) as u8)
    }

    /// By `chance` from 0 up to 1: each value is right on average.
    pub(super) fn drawn(values: &[f32], classes: usize, mut chance: impl FnMut() -> f64) -> Self {
        let rows = values.chunks_exact(classes.max(1));
        let peaks: Vec<Peak> = rows.map(|row| Peak::drawn(row, chance())).collect();
        Self::of(&peaks, false, |step| (step + chance()) as u8)
    }

    fn of(peaks: &[Peak], keep: bool, mut round: impl FnMut(f64) -> u8) -> Self {
        let mut all = Self {
            classes: Vec::with_capacity(peaks.len()),
            scales: Vec::with_capacity(peaks.len().div_ceil(ROWS)),
            levels: Vec::with_capacity(peaks.len()),
        };
        for block in peaks.chunks(ROWS) {
            let scales = Scales::of(block);
            for peak in block {
                let low = scales.low.step(peak.low, &mut round);
                let (mut class, mut gap) = (peak.class, scales.gap.step(peak.gap, &mut round));
                if scales.gap.level(gap) <= 0.0 {
                    // Whichever is the largest stays it, but not by chance.
                    gap += u8::from(keep && peak.gap > 0.0 && scales.gap.level(STEPS) > 0.0);
                }
                if scales.gap.level(gap) <= 0.0 {
                    // Of equal values the first is the largest.
                    class = 0;
                }
                all.levels.push([low, gap]);
                all.classes.push(class);
            }
            all.scales.push(scales);
        }
        all
    }

    /// The values of all rows.
    pub(super) fn values(&self, classes: usize) -> Vec<f32> {
        let mut values = vec![0.0; self.classes.len() * classes];
        let rows = values.chunks_exact_mut(classes.max(1));
        let peaks = self.classes.iter().zip(&self.levels);
        for (at, (row, (class, [low, gap]))) in rows.zip(peaks).enumerate() {
            let scales = &self.scales[at / ROWS];
            let low = scales.low.level(*low) as f32;
            row.fill(low);
            if let Some(value) = row.get_mut(*class as usize) {
                *value = (f64::from(low) + scales.gap.level(*gap)) as f32;
            }
        }
        values
    }

    /// Classes, steps of the others' levels, and of how far the largest are above them.
    pub(super) fn symbols(&self) -> Vec<Vec<u32>> {
        let steps = [0, 1].map(|of| self.levels.iter().map(|both| both[of].into()).collect());
        let [lows, gaps] = steps;
        vec![self.classes.clone(), lows, gaps]
    }

    /// Appends scales and, in fewer bytes where they are coded, classes and levels of such values.
    pub(super) fn pack(&self, kind: AnswerKind, classes: usize, bytes: &mut Vec<u8>) -> Coding {
        bytes.extend(self.scales.iter().flat_map(|scales| scales.bytes()));
        let plain = symbols_bytes(self.classes.len() as u64, classes as u64);
        if let Some((coding, coded)) = self.encode(kind, classes)
            && (coded.len() as u64) < plain
        {
            bytes.extend(coded);
            return coding;
        }
        let (digits, mut bits) = (digits(classes as u64), Bits::default());
        for (class, levels) in self.classes.iter().zip(&self.levels) {
            bits.push(*class, digits);
            levels
                .iter()
                .for_each(|level| bits.push((*level).into(), LEVEL_BITS));
        }
        bytes.extend(bits.bytes);
        Coding::Plain
    }

    fn encode(&self, kind: AnswerKind, classes: usize) -> Option<(Coding, Vec<u8>)> {
        let write = |mut encoder: Encoder, mut model: Model| {
            for (class, [low, gap]) in self.classes.iter().zip(&self.levels) {
                model.classes.write(&mut encoder, *class);
                model.gaps.write(&mut encoder, (*gap).into());
                model.lows(*gap).write(&mut encoder, (*low).into());
            }
            encoder.finish()
        };
        let coded = write(Encoder::default(), Model::new(classes)?);
        let learnt = (Coding::Adaptive, coded);
        // Few classes are soon learnt, and many of many rows: there is nothing to be gained.
        let are_learnt = classes <= FEW || self.classes.len() >= ENOUGH * classes;
        if kind != AnswerKind::Probabilities && are_learnt {
            return Some(learnt);
        }
        let firm = (0..FIRMNESS.len()).filter_map(|which| {
            let (mut encoder, model) = (Encoder::default(), Model::firm(which, kind, classes)?);
            for place in (0..FIRMNESS_BITS).rev() {
                encoder.bit(&mut Bit::default(), which >> place & 1 == 1);
            }
            Some((Coding::Firm, write(encoder, model)))
        });
        Some(firm.fold(learnt, coding::shorter))
    }

    /// Reads so many rows that [`Self::pack`] wrote.
    ///
    /// # Errors
    /// Bytes that it would not have written.
    pub(super) fn unpack(
        bytes: &[u8],
        kind: AnswerKind,
        [rows, classes]: [usize; 2],
        coding: Coding,
    ) -> Result<Self, ProtocolError> {
        let cut = || malformed("it is cut off");
        let scales = scales::BYTES * rows.div_ceil(ROWS);
        let (scales, symbols) = bytes.split_at_checked(scales).ok_or_else(cut)?;
        let scales = scales.as_chunks::<{ scales::BYTES }>().0.iter();
        let mut all = Self {
            classes: Vec::with_capacity(rows),
            scales: scales
                .map(|bytes| Scales::read(*bytes))
                .collect::<Result<_, _>>()?,
            levels: Vec::with_capacity(rows),
        };
        match coding {
            Coding::Plain => {
                let (digits, mut reader) = (digits(classes as u64), Reader::new(symbols));
                for _ in 0..rows {
                    all.classes.push(reader.take(digits));
                    all.levels
                        .push([0; 2].map(|_: u8| reader.take(LEVEL_BITS) as u8));
                }
                if !reader.is_over() {
                    return Err(malformed("bits are left over"));
                }
            }
            Coding::Adaptive | Coding::Firm => {
                let mut decoder = Decoder::new(symbols);
                let model = match coding {
                    Coding::Firm => {
                        let bits = (0..FIRMNESS_BITS).map(|_| decoder.bit(&mut Bit::default()));
                        let which = bits.fold(0, |which, bit| which << 1 | usize::from(bit));
                        Model::firm(which, kind, classes)
                    }
                    _ => Model::new(classes),
                };
                let mut model = model.ok_or_else(|| malformed("unknown coding"))?;
                for _ in 0..rows {
                    all.classes.push(model.classes.read(&mut decoder));
                    let gap = model.gaps.read(&mut decoder) as u8;
                    let low = model.lows(gap).read(&mut decoder) as u8;
                    all.levels.push([low, gap]);
                }
                decoder.finish()?;
            }
            Coding::Systems | Coding::Sparse | Coding::Planes => {
                return Err(malformed("unknown coding"));
            }
        }
        match all.classes.iter().all(|class| (*class as usize) < classes) {
            true => Ok(all),
            false => Err(malformed("a class is beyond the last one")),
        }
    }
}

/// As how often seen a class's bits are taken, to begin with: what a row says is firmer then, and what many say is
/// learnt later.
const FIRMNESS: [u8; 1 << FIRMNESS_BITS] = [0, 8, 40, 255];
const FIRMNESS_BITS: u32 = 2;
/// So few classes are soon learnt.
const FEW: usize = 32;
/// Rows a class that are enough to learn which are likely.
const ENOUGH: usize = 32;

/// What is likely in a row.
struct Model {
    classes: Symbols,
    gaps: Symbols,
    /// One, or one for each distance of the largest.
    lows: Vec<Symbols>,
}

impl Model {
    /// `None` of more classes than could be learnt.
    fn new(classes: usize) -> Option<Self> {
        let classes = u32::try_from(classes)
            .ok()
            .filter(|count| *count <= 1 << 16)?;
        let levels = Symbols::new(u32::from(STEPS) + 1);
        Some(Self {
            classes: Symbols::new(classes),
            gaps: levels.clone(),
            lows: vec![levels],
        })
    }

    /// Of classes that are as firm as one of [`FIRMNESS`] is, and levels of such values.
    fn firm(which: usize, kind: AnswerKind, classes: usize) -> Option<Self> {
        let Self { gaps, mut lows, .. } = Self::new(classes)?;
        if kind == AnswerKind::Probabilities {
            // They add up to 1: one level follows from the other.
            lows = vec![gaps.clone(); usize::from(STEPS) + 1];
        }
        Some(Self {
            // At most 2^16.
            classes: Symbols::firm(classes as u32, *FIRMNESS.get(which)?),
            gaps,
            lows,
        })
    }

    fn lows(&mut self, gap: u8) -> &mut Symbols {
        let last = self.lows.len() - 1;
        &mut self.lows[usize::from(gap).min(last)]
    }
}

/// Bits of a class's number.
fn digits(classes: u64) -> u32 {
    classes.max(1).next_power_of_two().ilog2()
}

/// Length of so many rows' classes and levels side by side.
fn symbols_bytes(rows: u64, classes: u64) -> u64 {
    let each = u64::from(digits(classes) + 2 * LEVEL_BITS);
    rows.saturating_mul(each).div_ceil(8)
}

/// Length of so many rows, in bytes, none of it coded.
pub(super) fn most_bytes(rows: u32, classes: u32) -> u64 {
    let scales = u64::from(rows).div_ceil(ROWS as u64) * scales::BYTES as u64;
    match classes {
        0 => 0,
        _ => scales + symbols_bytes(rows.into(), classes.into()),
    }
}

#[cfg(test)]
mod tests;
