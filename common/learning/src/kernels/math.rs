//! Functions and sums that are the same to the bit however they are vectorised.

use super::lanes::LANES;

/// `e^x`, within 2 units in the last place for x in -87..88; 0 below, and limited above.
///
/// After the reduction x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial of degree 6 (Cephes' `expf`).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to whole numbers.
    let low = x < -87.0;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    // ln 2 in two parts, the first short enough to be multiplied without loss.
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut sum = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        sum = sum * r + coefficient;
    }
    let value = sum * r * r + r + 1.0;
    // The whole number sits in the lowest bits of `rounded`; it becomes the exponent.
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000));
    if low { 0.0 } else { value * power }
}

/// The natural logarithm of a finite number, within 2 units in the last place or 1e-7, whichever is more; that
/// of 0 is some finite number below all others.
///
/// Of x = 2^n m, 1 / sqrt(2) <= m < sqrt(2), a polynomial of m - 1 (Cephes' `logf`).
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    const HALF_ROOT: u32 = 0x3f35_04f3; // 1 / sqrt(2)
    let small = x < f32::MIN_POSITIVE;
    let normal = if small { x * 16_777_216.0 } else { x };
    let bits = normal.to_bits().wrapping_sub(HALF_ROOT);
    let m = f32::from_bits((bits & 0x007f_ffff) + HALF_ROOT);
    let n = ((bits as i32) >> 23) as f32 - if small { 24.0 } else { 0.0 };
    let r = m - 1.0;
    let mut sum = 7.037_683_6e-2;
    for coefficient in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        sum = sum * r + coefficient;
    }
    let square = r * r;
    let low = sum * r * square + n * -2.121_944_4e-4 - 0.5 * square;
    n * 0.693_359_4 + (r + low)
}

/// The normal distribution at `x`: what lies below it, and its density; both within 3e-7.
///
/// `(1 + erf(x / sqrt(2))) / 2` by formula 7.1.26 of Abramowitz and Stegun (1964), as the smaller of both
/// tails, so that what lies far below 0 loses nothing.
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    let power = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let mut sum = 0.530_702_7;
    for coefficient in [-0.726_576, 0.710_706_9, -0.142_248_37, 0.127_414_8] {
        sum = sum * t + coefficient;
    }
    let tail = sum * t * power;
    let below = if x > 0.0 { 1.0 - tail } else { tail };
    (below, 0.398_942_3 * power)
}

/// The sum of `term(a[i], b[i])`, added up as [`lanes_sum`] does.
#[inline(always)]
pub(crate) fn lanes_sum_of_pairs(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += term(a[lane], b[lane]);
        }
    }
    let rest = a_rest.iter().zip(b_rest);
    for (lane, (a, b)) in lanes.iter_mut().zip(rest) {
        *lane += term(*a, *b);
    }
    folded(lanes)
}

/// The sum of `term(i)` for `i < count`: sixteen lanes, then the lanes in pairs.
#[inline(always)]
pub(crate) fn lanes_sum(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = count / LANES * LANES;
    let mut at = 0;
    while at < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(at + lane);
        }
        at += LANES;
    }
    for (lane, index) in (whole..count).enumerate() {
        lanes[lane] += term(index);
    }
    folded(lanes)
}

/// The sum of lanes, in pairs.
#[inline(always)]
fn folded(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The largest of some values, of which none is NaN; minus infinity where there is none.
#[inline(always)]
pub(crate) fn lanes_max(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*value, *lane);
        }
    }
    let rest = rest.iter().copied();
    rest.chain(lanes).fold(f32::NEG_INFINITY, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close() {
        let mut worst = 0.0f64;
        for step in 0..=349_000 {
            let x = -87.0 + step as f32 * 0.0005;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.5e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-200.0), 0.0);
        assert!(exp(200.0).is_finite());
    }

    #[test]
    fn ln_is_close() {
        let mut worst = 0.0f64;
        for bits in (1..f32::INFINITY.to_bits()).step_by(4_001) {
            let x = f32::from_bits(bits);
            let exact = f64::from(x).ln();
            worst = worst.max((f64::from(ln(x)) - exact).abs() / exact.abs().max(1.0));
        }
        assert!(worst < 1.2e-7, "{worst}");
        for step in 1..2_000_000 {
            let x = step as f32 * 1e-6;
            let exact = f64::from(x).ln();
            let gap = (f64::from(ln(x)) - exact).abs();
            assert!(gap < 1e-7 + 2.4e-7 * exact.abs(), "{x} {gap}");
        }
        assert_eq!(ln(1.0), 0.0);
        assert!(ln(0.0).is_finite() && ln(0.0) < ln(f32::from_bits(1)));
    }

    #[test]
    fn normal_is_close() {
        let (mut worst, mut worst_density) = (0.0f64, 0.0f64);
        for step in -6000..=6000 {
            let x = f64::from(step) * 1e-3;
            // Phi(x) = 1 / 2 + density (x + x^3 / 3 + x^5 / 15 + ...)
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let (mut term, mut sum) = (x, 0.0);
            for odd in 1..100 {
                sum += term;
                term *= x * x / f64::from(2 * odd + 1);
            }
            let (below, own) = normal(x as f32);
            worst = worst.max((f64::from(below) - (0.5 + density * sum)).abs());
            worst_density = worst_density.max((f64::from(own) - density).abs());
        }
        assert!(
            worst < 3e-7 && worst_density < 3e-7,
            "{worst} {worst_density}"
        );
        assert_eq!([-20.0, 20.0].map(|x| normal(x).0), [0.0, 1.0]);
    }

    #[test]
    fn sums_are_sums() {
        for count in [0, 1, 15, 16, 17, 100] {
            let sum = lanes_sum(count, |index| index as f32);
            assert_eq!(sum, (count * count.saturating_sub(1) / 2) as f32);
            let terms: Vec<f32> = (0..count).map(|index| index as f32 / 7.0).collect();
            let [pairs, each] = [
                lanes_sum_of_pairs(&terms, &terms, |a, b| a * b),
                lanes_sum(count, |index| terms[index] * terms[index]),
            ];
            assert_eq!(pairs.to_bits(), each.to_bits());
        }
    }
}
