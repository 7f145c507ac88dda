//! Probabilities as whole parts, row by row; a row of zeros says nothing about its sample.

use crate::ProtocolError;
use crate::entropy::{Bit, Decoder, Encoder, Symbols};
use crate::simplex::{Claims, quantise_with};

/// Appends the parts of each row, which add up to `whole` or to nothing.
pub(super) fn of_rows(values: &[f32], classes: usize, whole: u8, symbols: &mut Vec<u8>) {
    // There may be no row of many classes.
    let mut parts = Vec::with_capacity(classes.min(values.len()));
    let mut claims = Claims::default();
    for row in values.chunks_exact(classes.max(1)) {
        quantise_with(row, whole.into(), &mut parts, &mut claims);
        // A part is at most the whole.
        symbols.extend(parts.iter().map(|part| *part as u8));
    }
}

/// Each row of probabilities as parts of a whole, by `chance` from 0 up to 1: each gets the parts below
/// it, and what is left goes to the remainders by systematic sampling, so that all are right on average
/// and still add up.
pub(super) fn by_chance(
    values: &[f32],
    classes: usize,
    whole: u8,
    mut chance: impl FnMut() -> f64,
) -> Vec<f32> {
    let mut all = Vec::with_capacity(values.len());
    for row in values.chunks_exact(classes.max(1)) {
        let share = |value: &f32| f64::from(value.max(0.0));
        let sum: f64 = row.iter().map(share).sum();
        if sum <= 0.0 {
            all.resize(all.len() + row.len(), 0.0);
            continue;
        }
        // Classes lie side by side on a ruler with a mark a part, the first at `offset`: each gets the
        // marks on its stretch.
        let (offset, mut reached, mut given) = (1.0 - chance(), 0.0, 0u8);
        all.extend(row.iter().enumerate().map(|(class, value)| {
            reached += share(value) / sum * f64::from(whole);
            let marks = match class + 1 == row.len() {
                true => whole,
                false => ((reached + 1.0 - offset) as u8).clamp(given, whole),
            };
            let parts = marks - given;
            given = marks;
            f32::from(parts) / f32::from(whole)
        }));
    }
    all
}

fn malformed(why: &str) -> ProtocolError {
    ProtocolError::Malformed {
        what: "answer",
        why: why.to_owned(),
    }
}

/// The probabilities that parts stand for.
///
/// # Errors
/// A row that adds up to something else than `whole` or nothing.
pub(super) fn restore(
    symbols: &[u8],
    classes: usize,
    whole: u8,
) -> Result<Vec<f32>, ProtocolError> {
    for row in symbols.chunks_exact(classes.max(1)) {
        let sum: u64 = row.iter().map(|part| u64::from(*part)).sum();
        if sum != 0 && sum != u64::from(whole) {
            return Err(malformed("parts of a row do not add up"));
        }
    }
    let value = |part: &u8| f32::from(*part) / f32::from(whole);
    Ok(symbols.iter().map(value).collect())
}

/// What is likely in a row.
struct Model {
    /// Whether a row says anything.
    speaks: Bit,
    /// Parts of each class: while nothing has been given away, and after.
    parts: Vec<[Symbols; 2]>,
}

/// Up to this many parts each class is learnt by itself; more would take too long to learn.
const FEW: u8 = 3;

impl Model {
    /// For so many symbols. Rows that are not there may have any number of classes, of which none is learnt.
    fn new(symbols: usize, classes: usize, whole: u8) -> Self {
        let count = if whole <= FEW { classes } else { 1 };
        let count = count.min(symbols);
        let alphabet = || Symbols::new(u32::from(whole) + 1);
        Self {
            speaks: Bit::default(),
            parts: (0..count).map(|_| [alphabet(), alphabet()]).collect(),
        }
    }

    fn of(&mut self, class: usize, begun: bool) -> &mut Symbols {
        let class = class.min(self.parts.len().saturating_sub(1));
        &mut self.parts[class][usize::from(begun)]
    }
}

/// Codes rows of parts. What is left over decides the last part, and all once nothing is.
pub(super) fn encode(symbols: &[u8], classes: usize, whole: u8) -> Vec<u8> {
    let (mut encoder, mut model) = (
        Encoder::default(),
        Model::new(symbols.len(), classes, whole),
    );
    for row in symbols.chunks_exact(classes.max(1)) {
        let speaks = row.iter().any(|part| *part > 0);
        encoder.bit(&mut model.speaks, speaks);
        let mut left = if speaks { whole } else { 0 };
        for (class, part) in row.iter().enumerate().take(classes - 1) {
            if left == 0 {
                break;
            }
            let begun = left < whole;
            model.of(class, begun).write(&mut encoder, (*part).into());
            left -= part;
        }
    }
    encoder.finish()
}

/// Reads `rows` rows of parts that [`encode`] wrote.
///
/// # Errors
/// Bytes that it would not have written.
pub(super) fn decode(
    bytes: &[u8],
    rows: usize,
    classes: usize,
    whole: u8,
) -> Result<Vec<u8>, ProtocolError> {
    let mut symbols = vec![0; rows * classes];
    let (mut decoder, mut model) = (
        Decoder::new(bytes),
        Model::new(symbols.len(), classes, whole),
    );
    for row in symbols.chunks_exact_mut(classes.max(1)) {
        let mut left = match decoder.bit(&mut model.speaks) {
            true => whole,
            false => 0,
        };
        let Some((last, others)) = row.split_last_mut() else {
            continue;
        };
        for (class, part) in others.iter_mut().enumerate() {
            if left == 0 {
                break;
            }
            let begun = left < whole;
            *part = model.of(class, begun).read(&mut decoder) as u8;
            left = left
                .checked_sub(*part)
                .ok_or_else(|| malformed("parts of a row are more than the whole"))?;
        }
        *last = left;
    }
    decoder.finish()?;
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use super::of_rows;

    #[test]
    fn no_row_of_many_classes_takes_no_memory() {
        let mut symbols = Vec::new();
        of_rows(&[], usize::MAX, 255, &mut symbols);
        assert!(symbols.is_empty());
    }
}
