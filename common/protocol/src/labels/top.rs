//! The largest values of each row, and what the others are on average: soft labels of many classes, of which few are
//! likely (as in distillation of language models, where "top-k" is usual).

mod places;

use half::f16;

use super::coding::{self, Coding};
use super::{malformed, planes};
use crate::{AnswerKind, ProtocolError, Version};
use places::Places;

/// Rows of `classes` values, of which `count` are kept; all are kept where there are no more.
#[derive(Clone, Copy)]
pub(super) struct Top {
    classes: usize,
    count: usize,
    /// Whether what the others are on average is there too, or follows from what is left of 1.
    told: bool,
}

impl Top {
    pub(super) fn new(kind: AnswerKind, classes: u32, count: u8) -> Self {
        let (classes, count) = (classes as usize, usize::from(count).min(classes as usize));
        let told = kind != AnswerKind::Probabilities && count < classes;
        Self {
            classes,
            count,
            told,
        }
    }

    /// Bits of a class's number.
    fn digits(self) -> u32 {
        self.classes.max(1).next_power_of_two().ilog2()
    }

    /// Whether a bit a class says which ones are kept; otherwise their numbers do, ascending.
    fn by_mask(self) -> bool {
        self.classes <= self.count * self.digits() as usize
    }

    /// Bits of a row that say which values are kept.
    fn places_bits(self) -> u64 {
        match (self.count == self.classes, self.by_mask()) {
            (true, _) => 0,
            (false, true) => self.classes as u64,
            (false, false) => self.count as u64 * u64::from(self.digits()),
        }
    }

    /// Length of so many rows.
    pub(super) fn bytes(self, rows: u64) -> u64 {
        let values = 2 * (self.count as u64 + u64::from(self.told));
        rows.saturating_mul(values)
            .saturating_add(self.places_length(rows))
    }

    /// Length of the places of so many rows, side by side.
    fn places_length(self, rows: u64) -> u64 {
        rows.saturating_mul(self.places_bits()).div_ceil(8)
    }

    /// Appends which values of each row are kept, and what those are, so that peers of this version can read it.
    pub(super) fn pack(self, values: &[f32], version: Version, bytes: &mut Vec<u8>) -> Coding {
        let all = self.of(values);
        if coding::knows_all(version) {
            let mut coded = Vec::new();
            self.write(&all, &mut coded);
            if (coded.len() as u64) < self.bytes((values.len() / self.classes.max(1)) as u64) {
                bytes.extend(coded);
                return Coding::Planes;
            }
        }
        bytes.extend(self.places_bytes(&all.kept));
        let mut rest = all.rest.iter();
        for own in all.own.chunks_exact(self.count.max(1)) {
            bytes.extend(own.iter().chain(rest.next()).flatten());
        }
        Coding::Plain
    }

    /// What is said of such values.
    fn of(self, values: &[f32]) -> Kept {
        let (mut all, mut largest) = (Kept::default(), Largest::default());
        for row in values.chunks_exact(self.classes.max(1)) {
            let is_kept = largest.of(row, self.count);
            // No branch that a processor could not foresee: nothing changes as a negative zero is added.
            let mut sum = -0.0;
            for ((class, value), is_kept) in (0u32..).zip(row).zip(is_kept) {
                sum += if *is_kept { -0.0 } else { f64::from(*value) };
                if *is_kept {
                    all.kept.push(class);
                    all.own.push(half(*value));
                }
            }
            if self.told {
                let mean = (sum / (self.classes - self.count) as f64) as f32;
                all.rest.push(half(mean));
            }
        }
        all
    }

    /// What coders code of such values, for who measures them; nothing of places that are not coded.
    pub(super) fn symbols(self, values: &[f32]) -> Vec<Vec<u32>> {
        let all = self.of(values);
        let places = Places::new(self.classes, self.count);
        let mut lists = places.map_or_else(Vec::new, |places| places.symbols(&all.kept));
        lists.extend(planes::symbols(&all.own));
        if self.told {
            lists.extend(planes::symbols(&all.rest));
        }
        lists
    }

    /// Which values are kept, all rows side by side.
    fn places_bytes(self, kept: &[u32]) -> Vec<u8> {
        let mut bits = Bits::default();
        if self.count == self.classes {
            return bits.bytes;
        }
        for kept in kept.chunks_exact(self.count.max(1)) {
            match self.by_mask() {
                true => {
                    let mut next = kept.iter().peekable();
                    for class in 0..self.classes as u32 {
                        bits.push(u32::from(next.next_if(|at| **at == class).is_some()), 1);
                    }
                }
                false => kept.iter().for_each(|at| bits.push(*at, self.digits())),
            }
        }
        bits.bytes
    }

    /// Appends the length of places as u32 little-endian, and places, coded where that is shorter, unless all are kept; then
    /// planes of the kept values, and of the means of others where they are told.
    fn write(self, all: &Kept, bytes: &mut Vec<u8>) {
        if self.count < self.classes {
            let plain = self.places_bytes(&all.kept);
            let coded = Places::new(self.classes, self.count).map(|of| of.encode(&all.kept));
            let coded = coded.filter(|coded| coded.len() < plain.len());
            let places = coded.unwrap_or(plain);
            // At most 16 bits a value, of which there are 2^26.
            bytes.extend((places.len() as u32).to_le_bytes());
            bytes.extend(places);
        }
        planes::write(&all.own, bytes);
        if self.told {
            planes::write(&all.rest, bytes);
        }
    }

    /// Reads so many rows that [`Self::write`] wrote.
    ///
    /// # Errors
    /// Bytes that it would not have written.
    fn read(self, bytes: &[u8], rows: usize) -> Result<Kept, ProtocolError> {
        let cut = || malformed("it is cut off");
        let (mut all, mut rest) = (Kept::default(), bytes);
        let mut places = None;
        if self.count < self.classes {
            let (length, after) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (found, after) = after.split_at_checked(length).ok_or_else(cut)?;
            (places, rest) = (Some(found), after);
        }
        // Their parts are there before any row is set aside.
        (all.own, rest) = planes::read(rest, rows * self.count)?;
        if self.told {
            (all.rest, rest) = planes::read(rest, rows)?;
        }
        if !rest.is_empty() {
            return Err(malformed("bytes are left over"));
        }
        let plain = self.places_length(rows as u64);
        all.kept = match places {
            Some(coded) if (coded.len() as u64) < plain => {
                let places = Places::new(self.classes, self.count);
                places.ok_or_else(cut)?.decode(coded, rows)?
            }
            places => self.read_places(places.unwrap_or_default(), rows)?,
        };
        Ok(all)
    }

    /// The values of so many rows that [`Self::pack`] wrote.
    ///
    /// # Errors
    /// Bytes that it would not have written.
    pub(super) fn unpack(
        self,
        bytes: &[u8],
        rows: usize,
        coding: Coding,
    ) -> Result<Vec<f32>, ProtocolError> {
        let all = match coding {
            Coding::Planes => self.read(bytes, rows)?,
            _ => self.read_plain(bytes, rows)?,
        };
        let value = |half: &[u8; 2]| f16::from_le_bytes(*half).to_f32();
        let mut values = vec![0.0; rows * self.classes];
        let each = self.count.max(1);
        let kept = all.kept.chunks_exact(each).zip(all.own.chunks_exact(each));
        let mut means = all.rest.iter();
        for (row, (kept, own)) in values.chunks_exact_mut(self.classes.max(1)).zip(kept) {
            let rest = match means.next() {
                Some(mean) => value(mean),
                None => self.spread(own.iter().map(value)),
            };
            // Below what is kept, so that the same values are kept if all are packed again.
            let least = own.iter().map(value).fold(f32::INFINITY, f32::min);
            row.fill(match least > 0.0 || self.told {
                true => rest.min(least.next_down()),
                false => rest,
            });
            for (at, own) in kept.iter().zip(own) {
                row[*at as usize] = value(own);
            }
        }
        Ok(values)
    }

    /// Reads rows from as many bytes as [`Self::bytes`] says.
    fn read_plain(self, bytes: &[u8], rows: usize) -> Result<Kept, ProtocolError> {
        let cut = || malformed("it is cut off");
        let places = self.places_length(rows as u64) as usize;
        let (places, halves) = bytes.split_at_checked(places).ok_or_else(cut)?;
        let (halves, odd) = halves.as_chunks::<2>();
        let each = self.count + usize::from(self.told);
        if halves.len() != rows * each || !odd.is_empty() {
            return Err(cut());
        }
        let kept = self.read_places(places, rows)?;
        let halves = || halves.chunks_exact(each.max(1));
        Ok(Kept {
            kept,
            own: halves()
                .flat_map(|row| &row[..self.count])
                .copied()
                .collect(),
            rest: halves()
                .flat_map(|row| &row[self.count..])
                .copied()
                .collect(),
        })
    }

    /// What each of the others has of what kept probabilities leave of 1.
    fn spread(self, kept: impl Iterator<Item = f32>) -> f32 {
        let sum: f64 = kept.map(f64::from).sum();
        let others = self.classes - self.count;
        ((1.0 - sum).max(0.0) / others.max(1) as f64) as f32
    }

    /// Which values are kept of so many rows that lie side by side.
    fn read_places(self, places: &[u8], rows: usize) -> Result<Vec<u32>, ProtocolError> {
        if places.len() as u64 != self.places_length(rows as u64) {
            return Err(malformed("it has not the places of its rows"));
        }
        let (mut bits, mut all) = (Reader::new(places), Vec::with_capacity(rows * self.count));
        let classes = self.classes as u32;
        for _ in 0..rows {
            let begin = all.len();
            match (self.count == self.classes, self.by_mask()) {
                (true, _) => all.extend(0..classes),
                (false, true) => all.extend((0..classes).filter(|_| bits.take(1) == 1)),
                (false, false) => all.extend((0..self.count).map(|_| bits.take(self.digits()))),
            }
            let kept = &all[begin..];
            let fits = kept.len() == self.count
                && kept.is_sorted_by(|a, b| a < b)
                && kept.last().is_none_or(|last| *last < classes);
            if !fits {
                return Err(malformed(
                    "classes are repeated, unsorted, too many or unknown",
                ));
            }
        }
        match bits.is_over() {
            true => Ok(all),
            false => Err(malformed("bits are left over")),
        }
    }
}

/// What is said of rows.
#[derive(Default)]
struct Kept {
    /// Which values are kept, as many of each row, ascending.
    kept: Vec<u32>,
    /// Those values as f16, little-endian.
    own: Vec<[u8; 2]>,
    /// What the others of each row are on average, where it is told.
    rest: Vec<[u8; 2]>,
}

/// Finds the largest values of rows.
#[derive(Default)]
struct Largest {
    keys: Vec<u64>,
    order: Vec<u64>,
    are: Vec<bool>,
}

/// So many values are counted out in less time than they take to be put in order.
const FEW: usize = 32;

impl Largest {
    /// Whether each value of a row is one of so many that are the largest; of equal ones the first.
    fn of(&mut self, row: &[f32], count: usize) -> &[bool] {
        let key = |(value, place): (&f32, u32)| {
            // Ascending as `f32::total_cmp` has it.
            let bits = value.to_bits();
            let order = bits ^ ((bits as i32 >> 31) as u32 >> 1) ^ (1 << 31);
            u64::from(order) << 32 | u64::from(!place)
        };
        self.keys.clear();
        self.keys.extend(row.iter().zip(0u32..).map(key));
        let keys = &self.keys;
        self.are.clear();
        if row.len() <= FEW {
            let above = |key: &u64| keys.iter().map(|other| usize::from(other > key)).sum();
            let are = keys.iter().map(|key| {
                let above: usize = above(key);
                above < count
            });
            self.are.extend(are);
            return &self.are;
        }
        let mut least = 0;
        if count < row.len() {
            self.order.clone_from(keys);
            least = *self.order.select_nth_unstable(row.len() - count).1;
        }
        self.are.extend(keys.iter().map(|key| *key >= least));
        &self.are
    }
}

/// Rounded to nearest; what is beyond becomes the largest.
fn half(value: f32) -> [u8; 2] {
    let largest = f16::MAX.to_f32();
    f16::from_f32(value.clamp(-largest, largest)).to_le_bytes()
}

/// Bits side by side, the first in a byte's lowest.
#[derive(Default)]
pub(super) struct Bits {
    pub(super) bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    pub(super) fn push(&mut self, value: u32, bits: u32) {
        for place in 0..bits {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> place & 1) as u8) << (self.used % 8);
            }
            self.used += 1;
        }
    }
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits; zeros after the end.
    pub(super) fn take(&mut self, bits: u32) -> u32 {
        (0..bits).fold(0, |value, place| {
            let byte = self.bytes.get(self.at / 8).copied().unwrap_or(0);
            let bit = byte >> (self.at % 8) & 1;
            self.at += 1;
            value | u32::from(bit) << place
        })
    }

    /// Whether nothing but zeros to the end of a byte is left.
    pub(super) fn is_over(&mut self) -> bool {
        let left = (8 * self.bytes.len()).saturating_sub(self.at);
        left < 8 && self.take(left as u32) == 0
    }
}

#[cfg(test)]
mod tests;
