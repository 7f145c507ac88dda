//! Levels as steps between the least and the largest of some rows.

use half::f16;

use super::{LEVEL_BITS, Peak};
use crate::ProtocolError;
use crate::labels::malformed;

/// Steps between the least and the largest level.
pub(super) const STEPS: u8 = (1 << LEVEL_BITS) - 1;
/// Bytes of the scales of some rows: the least and the largest of two levels, as f16.
pub(super) const BYTES: usize = 8;

/// The least and the largest level of some rows.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    ends: [f16; 2],
    /// Levels are multiples of it.
    grain: f64,
}

impl Scale {
    fn ends(self) -> [f64; 2] {
        self.ends.map(f64::from)
    }

    fn snapped(self, level: f64) -> f64 {
        (level / self.grain).round() * self.grain
    }

    /// A level within the scale as a step, `round`ed.
    pub(super) fn step(self, level: f32, mut round: impl FnMut(f64) -> u8) -> u8 {
        let [least, most] = self.ends();
        match most > least {
            true => {
                let above = self.snapped(level.into()) - least;
                round(above / (most - least) * f64::from(STEPS))
            }
            false => 0,
        }
    }

    /// The level that a step stands for.
    pub(super) fn level(self, step: u8) -> f64 {
        let [least, most] = self.ends();
        self.snapped(least + (most - least) * (f64::from(step) / f64::from(STEPS)))
    }
}

/// Scales of the others' level, and of how far the largest is above it.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub(super) low: Scale,
    pub(super) gap: Scale,
}

impl Scales {
    /// The scales of some rows.
    pub(super) fn of(rows: &[Peak]) -> Self {
        let ends = |of: fn(&Peak) -> f32| {
            let ends = [f32::INFINITY, f32::NEG_INFINITY];
            let ends = rows.iter().map(of).fold(ends, |[least, most], level| {
                [least.min(level), most.max(level)]
            });
            ends.map(f16::from_f32)
        };
        let exact = Self::new(ends(|row| row.low), ends(|row| row.gap));
        let snapped = |scale: Scale| scale.ends().map(|end| f16::from_f64(scale.snapped(end)));
        Self::new(snapped(exact.low), snapped(exact.gap))
    }

    /// A grain is so small that no level of f16 that matters is changed, and so large that a level and a distance
    /// above it have a sum that f32 has exactly: who reads it finds both again, to the bit.
    fn new(low: [f16; 2], gap: [f16; 2]) -> Self {
        let sizes = [low, gap]
            .into_iter()
            .flatten()
            .map(f64::from)
            .map(f64::abs);
        let most = sizes.fold(f64::from(f16::MIN_POSITIVE), f64::max);
        // The power of two at or below it, by its bits: other ways differ between processors. The sum is below 4 times
        // that, of which f32 has 24 digits.
        let power = f64::from_bits(most.to_bits() >> 52 << 52);
        let grain = power / f64::from(1 << 22);
        Self {
            low: Scale { ends: low, grain },
            gap: Scale { ends: gap, grain },
        }
    }

    /// The scales that these bytes say.
    ///
    /// # Errors
    /// Ends that are no numbers, in the wrong order, or below 0 where nothing is.
    pub(super) fn read(bytes: [u8; BYTES]) -> Result<Self, ProtocolError> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let [low, gap] =
            [[[a, b], [c, d]], [[e, f], [g, h]]].map(|ends| ends.map(f16::from_le_bytes));
        let fair = |[least, most]: [f16; 2]| least <= most && least.is_finite() && most.is_finite();
        match fair(low) && fair(gap) && gap[0] >= f16::ZERO {
            true => Ok(Self::new(low, gap)),
            false => Err(malformed("scales of levels are not in order")),
        }
    }

    /// As [`Self::read`] takes them.
    pub(super) fn bytes(self) -> impl Iterator<Item = u8> {
        let ends = [self.low.ends, self.gap.ends].into_iter().flatten();
        ends.flat_map(f16::to_le_bytes)
    }
}
