//! Values as steps between the least and the largest of a block.

/// Values that share a pair of scales.
pub(super) const BLOCK: usize = 256;

/// Appends the scales of each block, least and largest value as f32 little-endian, to `scales`, and
/// the step that is nearest to each value, of `steps` + 1, to `symbols`.
pub(super) fn quantise(values: &[f32], steps: u8, scales: &mut Vec<u8>, symbols: &mut Vec<u8>) {
    for block in values.chunks(BLOCK) {
        let least = block.iter().copied().fold(f32::INFINITY, f32::min);
        let most = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        scales.extend(least.to_le_bytes());
        scales.extend(most.to_le_bytes());
        // In f64, so that the span of two finite f32 is finite.
        let (low, span) = (f64::from(least), f64::from(most) - f64::from(least));
        symbols.extend(block.iter().map(|&value| match span > 0.0 {
            true => ((f64::from(value) - low) / span * f64::from(steps)).round() as u8,
            false => 0,
        }));
    }
}

/// Length of the scales of so many values, in bytes.
pub(super) fn scales(count: u64) -> u64 {
    count.div_ceil(BLOCK as u64).saturating_mul(8)
}

/// The values that symbols stand for; `scales` are as many as [`scales`] says.
pub(super) fn restore(scales: &[u8], symbols: &[u8], steps: u8) -> Vec<f32> {
    let (scales, _) = scales.as_chunks::<8>();
    let blocks = scales.iter().zip(symbols.chunks(BLOCK));
    let values = blocks.flat_map(|(scales, symbols)| {
        let [a, b, c, d, e, f, g, h] = *scales;
        let low = f64::from(f32::from_le_bytes([a, b, c, d]));
        let span = f64::from(f32::from_le_bytes([e, f, g, h])) - low;
        let value =
            move |symbol: &u8| (low + span * (f64::from(*symbol) / f64::from(steps))) as f32;
        symbols.iter().map(value)
    });
    values.collect()
}
