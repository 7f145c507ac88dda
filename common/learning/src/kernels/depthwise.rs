//! Depthwise convolutions: each channel has a 3 x 3 kernel of its own.
#![allow(
    unsafe_code,
    reason = "raw loads of lanes; all sizes are checked first"
)]

#[cfg(target_arch = "aarch64")]
use super::lanes::Neon;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx512};
use super::lanes::{LANES, Lanes, Portable};
use super::{Kernels, kernels};

const SIDE: usize = 3;
const TAPS: usize = SIDE * SIDE;

/// Neighbouring outputs that are worked on at once, with a stride of 1: they see mostly the same
/// inputs.
const BLOCK: usize = 4;

/// A depthwise 3 x 3 convolution of images that lie channels last, padded by 1, with weights
/// `3 x 3 x channels`.
#[derive(Debug)]
pub(crate) struct Depthwise {
    rows: usize,
    columns: usize,
    channels: usize,
    stride: usize,
    framed: Vec<f32>,
    /// The output's gradient in a frame, with a stride of 1; else the input's, with a frame that is
    /// thrown away.
    gathered: Vec<f32>,
    /// Weights turned by half a circle.
    turned: Vec<f32>,
}

/// What one pass over an image works on: `framed` and `dense` are an image with its frame, and
/// what lies beside its outputs.
struct Work {
    framed: *mut f32,
    dense: *mut f32,
    weights: *mut f32,
    bias: *const f32,
    channels: usize,
    line: usize,
    stride: usize,
    down: usize,
    across: usize,
}

impl Work {
    /// Where in the framed image what an output sees begins.
    #[inline(always)]
    fn corner(&self, row: usize, column: usize) -> usize {
        self.stride * (row * self.line + column * self.channels)
    }

    /// Where an output lies.
    #[inline(always)]
    fn pixel(&self, row: usize, column: usize) -> usize {
        (row * self.across + column) * self.channels
    }

    /// How far from its corner a place of the kernel is.
    #[inline(always)]
    fn tap(&self, tap: usize) -> usize {
        tap / SIDE * self.line + tap % SIDE * self.channels
    }
}

/// Puts an image of so many columns into its frame.
fn frame(framed: &mut [f32], image: &[f32], columns: usize, channels: usize) {
    let (line, own) = ((columns + 2) * channels, columns * channels);
    for (row, pixels) in image.chunks_exact(own).enumerate() {
        let at = (row + 1) * line + channels;
        framed[at..at + own].copy_from_slice(pixels);
    }
}

/// The passes.
#[derive(Clone, Copy)]
enum Pass {
    Forward,
    Kernel,
    Input,
}

impl Depthwise {
    pub(crate) fn new(rows: usize, columns: usize, channels: usize, stride: usize) -> Self {
        assert!(rows > 0 && columns > 0 && (1..=2).contains(&stride));
        let size = (rows + 2) * (columns + 2) * channels;
        Self {
            rows,
            columns,
            channels,
            stride,
            framed: vec![0.0; size],
            gathered: vec![0.0; size],
            turned: Vec::new(),
        }
    }

    pub(crate) fn down(&self) -> usize {
        (self.rows - 1) / self.stride + 1
    }

    pub(crate) fn across(&self) -> usize {
        (self.columns - 1) / self.stride + 1
    }

    pub(crate) fn input(&self) -> usize {
        self.rows * self.columns * self.channels
    }

    pub(crate) fn output(&self) -> usize {
        self.down() * self.across() * self.channels
    }

    fn work(&self) -> Work {
        Work {
            framed: std::ptr::null_mut(),
            dense: std::ptr::null_mut(),
            weights: std::ptr::null_mut(),
            bias: std::ptr::null(),
            channels: self.channels,
            line: (self.columns + 2) * self.channels,
            stride: self.stride,
            down: self.down(),
            across: self.across(),
        }
    }

    /// Writes all of `y`.
    pub(crate) fn forward(
        &mut self,
        weights: &[f32],
        bias: Option<&[f32]>,
        x: &[f32],
        y: &mut [f32],
    ) {
        assert_eq!(
            weights.len(),
            TAPS * self.channels,
            "kernel has another size"
        );
        assert!(bias.is_none_or(|bias| bias.len() == self.channels));
        let samples = x.chunks_exact(self.input());
        assert_eq!(
            samples.len() * self.output(),
            y.len(),
            "batch has another size"
        );
        let output = self.output();
        for (x, y) in samples.zip(y.chunks_exact_mut(output)) {
            frame(&mut self.framed, x, self.columns, self.channels);
            let work = Work {
                framed: self.framed.as_mut_ptr(),
                dense: y.as_mut_ptr(),
                // Only read in this pass.
                weights: weights.as_ptr().cast_mut(),
                bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
                ..self.work()
            };
            // SAFETY: the sizes of all four slices were checked above; `framed` has its frame.
            unsafe { run(Pass::Forward, &work) }
        }
    }

    /// Writes the kernel's gradient, on top of what is there with `keep`, and the input's where it is
    /// wanted.
    pub(crate) fn backward(
        &mut self,
        weights: &[f32],
        x: &[f32],
        dy: &[f32],
        (dweights, keep): (&mut [f32], bool),
        mut dx: Option<&mut [f32]>,
    ) {
        assert_eq!(
            weights.len(),
            TAPS * self.channels,
            "kernel has another size"
        );
        assert_eq!(dweights.len(), weights.len(), "gradient has another size");
        assert!(dx.as_ref().is_none_or(|dx| dx.len() == x.len()));
        let samples = x.len() / self.input();
        assert_eq!(
            samples * self.output(),
            dy.len(),
            "gradient has another size"
        );
        if !keep {
            dweights.fill(0.0);
        }
        if self.stride == 1 {
            self.turned.clear();
            let taps = weights.chunks_exact(self.channels).rev();
            taps.for_each(|tap| self.turned.extend_from_slice(tap));
        }
        let (input, output) = (self.input(), self.output());
        for (sample, (x, dy)) in x
            .chunks_exact(input)
            .zip(dy.chunks_exact(output))
            .enumerate()
        {
            frame(&mut self.framed, x, self.columns, self.channels);
            let work = Work {
                framed: self.framed.as_mut_ptr(),
                // Only read in this pass.
                dense: dy.as_ptr().cast_mut(),
                weights: dweights.as_mut_ptr(),
                ..self.work()
            };
            // SAFETY: as in `forward`.
            unsafe { run(Pass::Kernel, &work) }
            let Some(dx) = dx.as_deref_mut() else {
                continue;
            };
            let dx = &mut dx[sample * input..(sample + 1) * input];
            if self.stride == 1 {
                // A convolution of the output's gradient with the kernel turned by half a circle.
                frame(&mut self.gathered, dy, self.columns, self.channels);
                let work = Work {
                    framed: self.gathered.as_mut_ptr(),
                    dense: dx.as_mut_ptr(),
                    weights: self.turned.as_mut_ptr(),
                    ..self.work()
                };
                // SAFETY: as in `forward`: with a stride of 1 outputs are as many as inputs;
                // `gathered` is as large as `framed`, and its frame is never written.
                unsafe { run(Pass::Forward, &work) }
                continue;
            }
            self.gathered.fill(0.0);
            let work = Work {
                framed: self.gathered.as_mut_ptr(),
                dense: dy.as_ptr().cast_mut(),
                weights: weights.as_ptr().cast_mut(),
                ..self.work()
            };
            // SAFETY: as in `forward`; `gathered` is as large as `framed`.
            unsafe { run(Pass::Input, &work) }
            let (line, own) = (
                (self.columns + 2) * self.channels,
                self.columns * self.channels,
            );
            for (row, dx) in dx.chunks_exact_mut(own).enumerate() {
                let at = (row + 1) * line + self.channels;
                dx.copy_from_slice(&self.gathered[at..at + own]);
            }
        }
    }
}

/// # Safety
/// `framed` has the frame of its image, `dense` all outputs, `weights` nine rows of channels, `bias` one or is null;
/// what the pass writes is not shared.
unsafe fn run(pass: Pass, work: &Work) {
    // SAFETY: the caller's; `kernels` gives only what the processor has.
    unsafe {
        match kernels() {
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx512 => avx512(pass, work),
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx2 => avx2(pass, work),
            #[cfg(target_arch = "aarch64")]
            Kernels::Neon => channels::<Neon>(pass, work),
            Kernels::Portable => channels::<Portable>(pass, work),
        }
    }
}

/// # Safety
/// AVX-512, and see [`run`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512(pass: Pass, work: &Work) {
    // SAFETY: the caller's.
    unsafe { channels::<Avx512>(pass, work) }
}

/// # Safety
/// AVX2 and FMA, and see [`run`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(pass: Pass, work: &Work) {
    // SAFETY: the caller's.
    unsafe { channels::<Avx2>(pass, work) }
}

/// Sixteen channels at a time.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn channels<L: Lanes>(pass: Pass, work: &Work) {
    let mut channel = 0;
    while channel < work.channels {
        let count = LANES.min(work.channels - channel);
        // SAFETY: the caller's, `channel + count <= channels`.
        unsafe {
            match (pass, count == LANES) {
                (Pass::Forward, true) => forward::<L, true>(work, channel, count),
                (Pass::Forward, false) => forward::<L, false>(work, channel, count),
                (Pass::Kernel, true) => kernel::<L, true>(work, channel, count),
                (Pass::Kernel, false) => kernel::<L, false>(work, channel, count),
                (Pass::Input, true) => input::<L, true>(work, channel, count),
                (Pass::Input, false) => input::<L, false>(work, channel, count),
            }
        }
        channel += LANES;
    }
}

/// # Safety
/// `count` values, 16 with `ALL`.
#[inline(always)]
unsafe fn get<L: Lanes, const ALL: bool>(from: *const f32, count: usize) -> L::Vector {
    // SAFETY: the caller's.
    unsafe {
        match ALL {
            true => L::load(from),
            false => L::load_first(from, count),
        }
    }
}

/// # Safety
/// As [`get`].
#[inline(always)]
unsafe fn put<L: Lanes, const ALL: bool>(to: *mut f32, count: usize, vector: L::Vector) {
    // SAFETY: the caller's.
    unsafe {
        match ALL {
            true => L::store(to, vector),
            false => L::store_first(to, count, vector),
        }
    }
}

/// # Safety
/// See [`run`]; channels `channel..channel + count` exist.
#[inline(always)]
unsafe fn forward<L: Lanes, const ALL: bool>(work: &Work, channel: usize, count: usize) {
    // SAFETY: the caller's: tap (r, c) of output (row, column) is pixel
    // (stride row + r, stride column + c) of the framed image.
    unsafe {
        let mut weights = [L::zero(); TAPS];
        for (tap, weight) in weights.iter_mut().enumerate() {
            *weight = get::<L, ALL>(work.weights.add(tap * work.channels + channel), count);
        }
        let start = match work.bias.is_null() {
            true => L::zero(),
            false => get::<L, ALL>(work.bias.add(channel), count),
        };
        let side_by_side = match work.stride {
            1 => work.across / BLOCK * BLOCK,
            _ => 0,
        };
        for row in 0..work.down {
            for column in (0..side_by_side).step_by(BLOCK) {
                let corner = work.framed.add(work.corner(row, column) + channel);
                let mut sums = [start; BLOCK];
                for line in 0..SIDE {
                    let mut seen = [L::zero(); BLOCK + SIDE - 1];
                    for (at, pixel) in seen.iter_mut().enumerate() {
                        let from = corner.add(line * work.line + at * work.channels);
                        *pixel = get::<L, ALL>(from, count);
                    }
                    for tap in 0..SIDE {
                        for (at, sum) in sums.iter_mut().enumerate() {
                            *sum = L::fused(seen[at + tap], weights[line * SIDE + tap], *sum);
                        }
                    }
                }
                for (at, sum) in sums.into_iter().enumerate() {
                    let to = work.dense.add(work.pixel(row, column + at) + channel);
                    put::<L, ALL>(to, count, sum);
                }
            }
            for column in side_by_side..work.across {
                let corner = work.framed.add(work.corner(row, column) + channel);
                let mut sum = start;
                for (tap, weight) in weights.iter().enumerate() {
                    let at = corner.add(work.tap(tap));
                    sum = L::fused(get::<L, ALL>(at, count), *weight, sum);
                }
                let to = work.dense.add(work.pixel(row, column) + channel);
                put::<L, ALL>(to, count, sum);
            }
        }
    }
}

/// # Safety
/// As [`forward`].
#[inline(always)]
unsafe fn kernel<L: Lanes, const ALL: bool>(work: &Work, channel: usize, count: usize) {
    // SAFETY: as in `forward`.
    unsafe {
        let mut sums = [L::zero(); TAPS];
        for (tap, sum) in sums.iter_mut().enumerate() {
            *sum = get::<L, ALL>(work.weights.add(tap * work.channels + channel), count);
        }
        let side_by_side = match work.stride {
            1 => work.across / BLOCK * BLOCK,
            _ => 0,
        };
        for row in 0..work.down {
            for column in (0..side_by_side).step_by(BLOCK) {
                let corner = work.framed.add(work.corner(row, column) + channel);
                let mut dy = [L::zero(); BLOCK];
                for (at, dy) in dy.iter_mut().enumerate() {
                    let from = work.dense.add(work.pixel(row, column + at) + channel);
                    *dy = get::<L, ALL>(from, count);
                }
                for line in 0..SIDE {
                    let mut seen = [L::zero(); BLOCK + SIDE - 1];
                    for (at, pixel) in seen.iter_mut().enumerate() {
                        let from = corner.add(line * work.line + at * work.channels);
                        *pixel = get::<L, ALL>(from, count);
                    }
                    for (at, dy) in dy.iter().enumerate() {
                        for tap in 0..SIDE {
                            let sum = &mut sums[line * SIDE + tap];
                            *sum = L::fused(seen[at + tap], *dy, *sum);
                        }
                    }
                }
            }
            for column in side_by_side..work.across {
                let corner = work.framed.add(work.corner(row, column) + channel);
                let from = work.dense.add(work.pixel(row, column) + channel);
                let dy = get::<L, ALL>(from, count);
                for (tap, sum) in sums.iter_mut().enumerate() {
                    let at = corner.add(work.tap(tap));
                    *sum = L::fused(get::<L, ALL>(at, count), dy, *sum);
                }
            }
        }
        for (tap, sum) in sums.into_iter().enumerate() {
            put::<L, ALL>(work.weights.add(tap * work.channels + channel), count, sum);
        }
    }
}

/// # Safety
/// As [`forward`]; adds to the framed image.
#[inline(always)]
unsafe fn input<L: Lanes, const ALL: bool>(work: &Work, channel: usize, count: usize) {
    // SAFETY: as in `forward`.
    unsafe {
        let mut weights = [L::zero(); TAPS];
        for (tap, weight) in weights.iter_mut().enumerate() {
            *weight = get::<L, ALL>(work.weights.add(tap * work.channels + channel), count);
        }
        for row in 0..work.down {
            for column in 0..work.across {
                let corner = work.framed.add(work.corner(row, column) + channel);
                let from = work.dense.add(work.pixel(row, column) + channel);
                let dy = get::<L, ALL>(from, count);
                for (tap, weight) in weights.iter().enumerate() {
                    let at = corner.add(work.tap(tap));
                    put::<L, ALL>(at, count, L::fused(dy, *weight, get::<L, ALL>(at, count)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::RngExt;

    use super::*;
    use crate::kernels::{available, with_kernels};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn channels_do_not_mix(
            (rows, columns, channels) in (1usize..7, 1usize..7, 1usize..40),
            stride in 1usize..3, seed: u64,
        ) {
            let layer = Depthwise::new(rows, columns, channels, stride);
            let mut rng = crate::seed::stream(seed, "depthwise");
            let mut random = |count: usize| -> Vec<f32> {
                (0..count).map(|_| rng.random::<f32>() - 0.5).collect()
            };
            let (weights, bias) = (random(TAPS * channels), random(channels));
            let (x, dy) = (random(2 * layer.input()), random(2 * layer.output()));
            let mut results = Vec::new();
            for set in available() {
                results.push(with_kernels(set, || {
                    let mut layer = Depthwise::new(rows, columns, channels, stride);
                    let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
                    let mut dw = vec![f32::NAN; weights.len()];
                    layer.forward(&weights, Some(&bias), &x, &mut y);
                    layer.backward(&weights, &x, &dy, (&mut dw, false), Some(&mut dx));
                    [y, dw, dx]
                }));
            }
            for result in &results[1..] {
                prop_assert!(result == &results[0], "instruction sets disagree");
            }
            let (mut y, mut dw) = (vec![0.0f32; dy.len()], vec![0.0f32; weights.len()]);
            let mut dx = vec![0.0f32; x.len()];
            let (down, across) = (layer.down(), layer.across());
            for place in 0..2 * down * across * channels {
                let (channel, pixel) = (place % channels, place / channels);
                let (sample, row, column) =
                    (pixel / (down * across), pixel / across % down, pixel % across);
                y[place] += bias[channel];
                for tap in 0..TAPS {
                    let r = (row * stride + tap / SIDE).checked_sub(1).filter(|r| *r < rows);
                    let c = (column * stride + tap % SIDE).checked_sub(1).filter(|c| *c < columns);
                    let (Some(r), Some(c)) = (r, c) else { continue };
                    let from = ((sample * rows + r) * columns + c) * channels + channel;
                    let at = tap * channels + channel;
                    y[place] += weights[at] * x[from];
                    dw[at] += dy[place] * x[from];
                    dx[from] += dy[place] * weights[at];
                }
            }
            let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
            let [actual, actual_dw, actual_dx] = &results[0];
            prop_assert!(close(actual, &y) && close(actual_dw, &dw) && close(actual_dx, &dx));
        }
    }
}
