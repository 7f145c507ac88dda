//! Values as steps between the least and the largest of a block.

/// Values that share a pair of scales.
pub(super) const BLOCK: usize = 256;

/// Appends the scales of each block, least and largest value as f32 little-endian, to `scales`, and
/// the step that is nearest to each value, of `steps` + 1, to `symbols`.
pub(super) fn quantise(values: &[f32], steps: u8, scales: &mut Vec<u8>, symbols: &mut Vec<u8>) {
    for block in values.chunks(BLOCK) {
        let [least, most] = extremes(block);
        scales.extend(least.to_le_bytes());
        scales.extend(most.to_le_bytes());
        // In f64, so that the span of two finite f32 is finite.
        let (low, span) = (f64::from(least), f64::from(most) - f64::from(least));
        match span > 0.0 {
            true => symbols.extend(block.iter().map(|&value| {
                let step = (f64::from(value) - low) / span * f64::from(steps);
                // Rounds halves up. At most 255, and many values at a time, which `round` is not.
                let down = step as u32;
                (down + u32::from(step - f64::from(down) >= 0.5)) as u8
            })),
            false => symbols.resize(symbols.len() + block.len(), 0),
        }
    }
}

/// Each value as one of the two steps beside it, by `chance` from 0 up to 1, such that it is right on
/// average. Blocks keep their least and largest value.
pub(super) fn by_chance(values: &[f32], steps: u8, mut chance: impl FnMut() -> f64) -> Vec<f32> {
    let (mut scales, mut symbols) = (Vec::new(), Vec::with_capacity(values.len()));
    for block in values.chunks(BLOCK) {
        let [least, most] = extremes(block);
        scales.extend(least.to_le_bytes());
        scales.extend(most.to_le_bytes());
        let (low, span) = (f64::from(least), f64::from(most) - f64::from(least));
        symbols.extend(block.iter().map(|&value| match span > 0.0 {
            true => ((f64::from(value) - low) / span * f64::from(steps) + chance()) as u8,
            false => 0,
        }));
    }
    restore(&scales, &symbols, steps)
}

/// The least and the largest value, eight lanes at a time; a zero is positive, so that bytes do not depend
/// on which of two a processor takes.
fn extremes(block: &[f32]) -> [f32; 2] {
    const LANES: usize = 8;
    let lower = |a: f32, b: f32| if a < b { a } else { b };
    let higher = |a: f32, b: f32| if a > b { a } else { b };
    let (mut least, mut most) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (whole, rest) = block.as_chunks::<LANES>();
    for chunk in whole {
        for lane in 0..LANES {
            least[lane] = lower(chunk[lane], least[lane]);
            most[lane] = higher(chunk[lane], most[lane]);
        }
    }
    let least = rest.iter().copied().chain(least).fold(f32::INFINITY, lower);
    let most = rest.iter().copied().chain(most);
    [least + 0.0, most.fold(f32::NEG_INFINITY, higher) + 0.0]
}

/// Length of the scales of so many values, in bytes.
pub(super) fn scales(count: u64) -> u64 {
    count.div_ceil(BLOCK as u64).saturating_mul(8)
}

/// The values that symbols stand for; `scales` are as many as [`scales`] says.
pub(super) fn restore(scales: &[u8], symbols: &[u8], steps: u8) -> Vec<f32> {
    let (scales, _) = scales.as_chunks::<8>();
    let mut values = Vec::with_capacity(symbols.len());
    for (scales, symbols) in scales.iter().zip(symbols.chunks(BLOCK)) {
        let [a, b, c, d, e, f, g, h] = *scales;
        let low = f64::from(f32::from_le_bytes([a, b, c, d]));
        let span = f64::from(f32::from_le_bytes([e, f, g, h])) - low;
        let value = |symbol: &u8| (low + span * (f64::from(*symbol) / f64::from(steps))) as f32;
        values.extend(symbols.iter().map(value));
    }
    values
}
