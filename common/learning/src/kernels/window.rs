//! Convolutions, without unfolding: a tile reads what the kernel sees where it lies.
#![allow(
    unsafe_code,
    reason = "tiles work on raw pointers; all sizes are checked first"
)]

use super::lanes::LANES;
use super::product::{Left, Panels, Right, product};
use super::tile::{Ending, Start, Tile, Tiles};
use super::{kernels, transpose};

/// One of the two directions of a convolution.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Axis {
    pub(crate) size: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Zeros on either side.
    pub(crate) pad: usize,
}

/// Inputs whose distance to the kernel's places is the same: `stride * q + offset - pad` for q in
/// `from..to` see `taps` places of the kernel, `offset`, `offset + stride` and so on, in outputs q, q - 1 and so
/// on.
#[derive(Clone, Copy, Debug)]
struct Phase {
    offset: usize,
    taps: usize,
    from: usize,
    to: usize,
}

impl Axis {
    pub(crate) fn outputs(self) -> usize {
        (self.size + 2 * self.pad - self.kernel) / self.stride + 1
    }

    fn padded(self) -> usize {
        self.size + 2 * self.pad
    }

    fn phases(self) -> impl Iterator<Item = Phase> {
        (0..self.stride).map(move |offset| Phase {
            offset,
            taps: self.kernel.saturating_sub(offset).div_ceil(self.stride),
            from: self.pad.saturating_sub(offset).div_ceil(self.stride),
            to: (self.size + self.pad)
                .saturating_sub(offset)
                .div_ceil(self.stride),
        })
    }

    /// Zeros that go before the outputs' gradient, and its length with those before and after.
    fn gradient(self) -> (usize, usize) {
        let before = self.kernel.div_ceil(self.stride) - 1;
        let last = self.phases().map(|phase| phase.to).max().unwrap_or(0);
        (before, before + last.max(self.outputs()))
    }

    fn plain(self) -> bool {
        (self.kernel, self.stride, self.pad) == (1, 1, 0)
    }
}

/// A convolution of images that lie channels last: `rows x columns x inputs` to
/// `rows x columns x outputs`, with weights `kernel rows x kernel columns x inputs x outputs`.
#[derive(Debug)]
pub(crate) struct Window {
    rows: Axis,
    columns: Axis,
    inputs: usize,
    outputs: usize,
    /// Weights as the forward pass reads them.
    panels: Panels,
    /// And as the backward pass does, by phase.
    turned: Vec<Panels>,
    /// A sample, and an output's gradient, in a frame of zeros.
    framed: Vec<f32>,
    framed_gradient: Vec<f32>,
    packed_gradient: Panels,
}

/// Inner dimension up to which a tile takes all rows of the kernel at once.
const WHOLE: usize = 256;

/// Tiles that have to share a packed gradient before packing pays.
const SHARED: usize = 8;

impl Window {
    /// # Panics
    /// A kernel larger than the padded image, or a stride of 0.
    pub(crate) fn new(rows: Axis, columns: Axis, inputs: usize, outputs: usize) -> Self {
        for axis in [rows, columns] {
            assert!(axis.stride > 0 && axis.kernel > 0 && axis.kernel <= axis.padded());
        }
        Self {
            rows,
            columns,
            inputs,
            outputs,
            panels: Panels::default(),
            turned: Vec::new(),
            framed: vec![0.0; rows.padded() * columns.padded() * inputs],
            framed_gradient: vec![0.0; rows.gradient().1 * columns.gradient().1 * outputs],
            packed_gradient: Panels::default(),
        }
    }

    /// Values of one sample that go in.
    pub(crate) fn input(&self) -> usize {
        self.rows.size * self.columns.size * self.inputs
    }

    /// Values of one sample that come out.
    pub(crate) fn output(&self) -> usize {
        self.rows.outputs() * self.columns.outputs() * self.outputs
    }

    /// Inputs that one output sees, all channels.
    pub(crate) fn seen(&self) -> usize {
        self.rows.kernel * self.columns.kernel * self.inputs
    }

    fn plain(&self) -> bool {
        self.rows.plain() && self.columns.plain()
    }

    /// Writes all of `y`: bias, convolution, ending.
    pub(crate) fn forward(
        &mut self,
        weights: &[f32],
        bias: Option<&[f32]>,
        x: &[f32],
        y: &mut [f32],
        ending: Ending,
    ) {
        let (seen, outputs) = (self.seen(), self.outputs);
        assert_eq!(weights.len(), seen * outputs, "kernel has another size");
        self.panels
            .pack(weights, seen, outputs, |row| row * outputs);
        let start = bias.map_or(Start::Zero, Start::Bias);
        if self.plain() {
            let left = Left::new(x, x.len() / self.inputs, self.inputs);
            return product(y, start, left, Right::Packed(&self.panels), outputs, ending);
        }
        assert!(bias.is_none_or(|bias| bias.len() == outputs));
        let samples = x.chunks_exact(self.input());
        assert_eq!(
            samples.len() * self.output(),
            y.len(),
            "batch has another size"
        );
        let mut framed = std::mem::take(&mut self.framed);
        for (x, y) in samples.zip(y.chunks_exact_mut(self.output())) {
            let x = frame(&mut framed, x, (self.rows, self.columns), self.inputs);
            self.forward_sample(x, bias, y, ending);
        }
        self.framed = framed;
    }

    fn forward_sample(&self, x: &[f32], bias: Option<&[f32]>, y: &mut [f32], ending: Ending) {
        let tiles = Tiles::of(kernels());
        let width = tiles.columns();
        let (down, across) = (self.rows.outputs(), self.columns.outputs());
        let line = self.columns.padded() * self.inputs;
        let step = self.columns.stride * self.inputs;
        let k = self.columns.kernel * self.inputs;
        assert_eq!(
            self.panels.width(),
            width,
            "panels are packed for other tiles"
        );
        assert_eq!(self.panels.inner(), self.rows.kernel * k);
        assert_eq!(x.len(), self.rows.padded() * line);
        assert_eq!(y.len(), down * across * self.outputs);
        // All kernel rows at once, or one by one so that a panel's part stays in the first cache.
        let together = match self.rows.kernel * k <= WHOLE {
            true => self.rows.kernel,
            false => 1,
        };
        for column in (0..self.outputs).step_by(width) {
            let count = width.min(self.outputs - column);
            let panel = self.panels.panel(column);
            for kernel_row in (0..self.rows.kernel).step_by(together) {
                let first = kernel_row == 0;
                let last = kernel_row + together == self.rows.kernel;
                let bias = match (first, bias) {
                    (true, Some(bias)) => bias[column..].as_ptr(),
                    _ => std::ptr::null(),
                };
                for row in 0..down {
                    for (from, size) in tiles.cut(across) {
                        let at = (row * self.rows.stride + kernel_row) * line + from * step;
                        let tile = Tile {
                            a: x[at..].as_ptr(),
                            a_row: step,
                            a_step: 1,
                            a_segment: line,
                            b: panel[kernel_row * k * width..].as_ptr(),
                            b_step: width,
                            b_segment: k * width,
                            c: y[(row * across + from) * self.outputs + column..].as_mut_ptr(),
                            c_row: self.outputs,
                            k,
                            segments: together,
                            columns: count,
                            bias,
                            keep: !first,
                            relu: last && ending == Ending::Relu,
                        };
                        let run = tiles.of_size(size, count.div_ceil(LANES), true);
                        // SAFETY: outputs `from..from + size` of a row see only the padded image,
                        // whose size was checked; the panel has `together * k` whole rows from here; y has
                        // `across` outputs a row, the bias `outputs` values.
                        unsafe { run(&tile) }
                    }
                }
            }
        }
    }

    /// Writes the kernel's gradient to `dweights`, on top of what is there with `keep`, and the input's
    /// to `dx` where it is wanted.
    pub(crate) fn backward(
        &mut self,
        weights: &[f32],
        x: &[f32],
        dy: &[f32],
        (dweights, keep): (&mut [f32], bool),
        dx: Option<&mut [f32]>,
    ) {
        let (seen, outputs) = (self.seen(), self.outputs);
        assert_eq!(weights.len(), seen * outputs, "kernel has another size");
        assert_eq!(dweights.len(), weights.len(), "gradient has another size");
        if self.plain() {
            let pixels = x.len() / self.inputs;
            let left = Left::transposed(x, pixels, self.inputs);
            let start = match keep {
                true => Start::Keep,
                false => Start::Zero,
            };
            product(
                dweights,
                start,
                left,
                Right::Plain(dy),
                outputs,
                Ending::Plain,
            );
            if let Some(dx) = dx {
                let turned = (outputs, self.inputs, outputs);
                self.panels.pack_strided(weights, turned, |row| row);
                let left = Left::new(dy, pixels, outputs);
                let right = Right::Packed(&self.panels);
                product(dx, Start::Zero, left, right, self.inputs, Ending::Plain);
            }
            return;
        }
        let samples = x.len() / self.input();
        assert_eq!(x.len(), samples * self.input(), "batch has another size");
        assert_eq!(
            dy.len(),
            samples * self.output(),
            "gradient has another size"
        );
        let mut framed = std::mem::take(&mut self.framed);
        let pairs = x
            .chunks_exact(self.input())
            .zip(dy.chunks_exact(self.output()));
        for (sample, (x, dy)) in pairs.enumerate() {
            let x = frame(&mut framed, x, (self.rows, self.columns), self.inputs);
            self.kernel_gradient(x, dy, dweights, keep || sample > 0);
        }
        self.framed = framed;
        if samples == 0 && !keep {
            dweights.fill(0.0);
        }
        if let Some(dx) = dx {
            assert_eq!(dx.len(), x.len(), "input's gradient has another size");
            self.turn(weights);
            let pairs = dx
                .chunks_exact_mut(self.input())
                .zip(dy.chunks_exact(self.output()));
            for (dx, dy) in pairs {
                self.input_gradient(dy, dx);
            }
        }
    }

    /// Of one sample, on top of what is there with `keep`.
    fn kernel_gradient(&mut self, x: &[f32], dy: &[f32], dweights: &mut [f32], keep: bool) {
        let tiles = Tiles::of(kernels());
        let width = tiles.columns();
        let (down, across) = (self.rows.outputs(), self.columns.outputs());
        let line = self.columns.padded() * self.inputs;
        let places = self.columns.kernel * self.inputs;
        assert_eq!(x.len(), self.rows.padded() * line);
        assert_eq!(dy.len(), down * across * self.outputs);
        let outputs = self.outputs;
        let pack = places.div_ceil(tiles.rows) * self.rows.kernel >= SHARED;
        if pack {
            self.packed_gradient
                .pack(dy, down * across, outputs, |row| row * outputs);
        }
        for column in (0..outputs).step_by(width) {
            let count = width.min(outputs - column);
            let vectors = count.div_ceil(LANES);
            let (b, b_step) = match pack {
                true => (self.packed_gradient.panel(column), width),
                false => (&dy[column..], outputs),
            };
            let whole = pack || count == vectors * LANES;
            for kernel_row in 0..self.rows.kernel {
                for (from, size) in tiles.cut(places) {
                    let tile = Tile {
                        a: x[kernel_row * line + from..].as_ptr(),
                        a_row: 1,
                        a_step: self.columns.stride * self.inputs,
                        a_segment: self.rows.stride * line,
                        b: b.as_ptr(),
                        b_step,
                        b_segment: across * b_step,
                        c: dweights[(kernel_row * places + from) * outputs + column..].as_mut_ptr(),
                        c_row: outputs,
                        k: across,
                        segments: down,
                        columns: count,
                        bias: std::ptr::null(),
                        keep,
                        relu: false,
                    };
                    let run = tiles.of_size(size, vectors, whole);
                    // SAFETY: places `from..from + size` of a kernel row lie side by side in the
                    // padded image, for each output too; dy has `down * across` rows; c's rows are `size` of
                    // the kernel's, in `dweights`.
                    unsafe { run(&tile) }
                }
            }
        }
    }

    /// Packs the kernel, turned by half a circle, for each phase of rows and columns.
    fn turn(&mut self, weights: &[f32]) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let (rows, columns) = (self.rows, self.columns);
        let mut turned = std::mem::take(&mut self.turned);
        turned.resize_with(rows.stride * columns.stride, Panels::default);
        let mut panels = turned.iter_mut();
        for down in rows.phases() {
            for across in columns.phases() {
                let Some(panels) = panels.next() else { break };
                let taps = (down.taps * across.taps * outputs, inputs, outputs);
                panels.pack_strided(weights, taps, |row| {
                    let (tap, output) = (row / outputs, row % outputs);
                    let from_end = |phase: Phase, tap: usize, stride| {
                        phase.offset + stride * (phase.taps - 1 - tap)
                    };
                    let row = from_end(down, tap / across.taps, rows.stride);
                    let column = from_end(across, tap % across.taps, columns.stride);
                    (row * columns.kernel + column) * inputs * outputs + output
                });
            }
        }
        self.turned = turned;
    }

    /// Of one sample: a convolution of the output's gradient with the turned kernel.
    fn input_gradient(&mut self, dy: &[f32], dx: &mut [f32]) {
        let tiles = Tiles::of(kernels());
        let width = tiles.columns();
        let (rows, columns, inputs, outputs) = (self.rows, self.columns, self.inputs, self.outputs);
        let (above, height) = rows.gradient();
        let (left, length) = columns.gradient();
        let line = length * outputs;
        let own = columns.outputs() * outputs;
        for (row, dy) in dy.chunks_exact(own).enumerate() {
            let at = (above + row) * line + left * outputs;
            self.framed_gradient[at..at + own].copy_from_slice(dy);
        }
        assert_eq!(self.framed_gradient.len(), height * line);
        assert_eq!(dx.len(), rows.size * columns.size * inputs);
        let phases = rows
            .phases()
            .flat_map(|down| columns.phases().map(move |across| (down, across)));
        for ((down, across), panels) in phases.zip(&self.turned) {
            let k = across.taps * outputs;
            assert_eq!(panels.width(), width, "panels are packed for other tiles");
            assert_eq!((panels.inner(), panels.columns()), (down.taps * k, inputs));
            let together = match down.taps * k <= WHOLE {
                true => down.taps,
                false => 1,
            };
            for column in (0..inputs).step_by(width) {
                let count = width.min(inputs - column);
                let panel = panels.panel(column);
                // Where no place of the kernel is seen, zeros are written still.
                for tap in (0..down.taps.max(1)).step_by(together.max(1)) {
                    for q in down.from..down.to {
                        // The first output that this input was seen by.
                        let first = above + q + 1 - down.taps.max(1) + tap;
                        let target = rows.stride * q + down.offset - rows.pad;
                        for (from, size) in tiles.cut(across.to - across.from) {
                            if size == 0 {
                                continue;
                            }
                            let from = across.from + from;
                            let at =
                                first * line + (left + from + 1 - across.taps.max(1)) * outputs;
                            let to = columns.stride * from + across.offset - columns.pad;
                            let tile = Tile {
                                a: self.framed_gradient[at..].as_ptr(),
                                a_row: outputs,
                                a_step: 1,
                                a_segment: line,
                                b: panel.as_ptr().wrapping_add(tap * k * width),
                                b_step: width,
                                b_segment: k * width,
                                c: dx[(target * columns.size + to) * inputs + column..]
                                    .as_mut_ptr(),
                                c_row: columns.stride * inputs,
                                k,
                                segments: together,
                                columns: count,
                                bias: std::ptr::null(),
                                keep: tap > 0,
                                relu: false,
                            };
                            let run = tiles.of_size(size, count.div_ceil(LANES), true);
                            // SAFETY: inputs of this phase were seen by outputs within the framed
                            // gradient (`Axis::gradient`), whose size was checked; the panel has `together * k`
                            // whole rows from `tap` on; the inputs `from..from + size` lie `stride` apart in dx.
                            unsafe { run(&tile) }
                        }
                    }
                }
            }
        }
    }
}

/// A sample with zeros around it; as it is where it needs none. The frame of `framed` stays zero
/// from its beginning.
fn frame<'a>(
    framed: &'a mut [f32],
    x: &'a [f32],
    (rows, columns): (Axis, Axis),
    channels: usize,
) -> &'a [f32] {
    if rows.pad == 0 && columns.pad == 0 {
        return x;
    }
    let (line, own) = (columns.padded() * channels, columns.size * channels);
    for (row, x) in x.chunks_exact(own).enumerate() {
        let at = (rows.pad + row) * line + columns.pad * channels;
        framed[at..at + own].copy_from_slice(x);
    }
    framed
}

/// Images that lie channels first, channels last.
pub(crate) fn channels_last(x: &[f32], y: &mut [f32], channels: usize, area: usize) {
    let images = x.chunks_exact(channels * area);
    for (x, y) in images.zip(y.chunks_exact_mut(channels * area)) {
        transpose(y, x, channels, area);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::{available, with_kernels};

    /// The convolution's definition, and both gradients of `sum(dy * y)`.
    fn plain(w: &Window, weights: &[f32], x: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let (rows, columns, inputs, outputs) = (w.rows, w.columns, w.inputs, w.outputs);
        let mut y = vec![0.0; w.output()];
        let mut dw = vec![0.0; weights.len()];
        let mut dx = vec![0.0; x.len()];
        for row in 0..rows.outputs() {
            for column in 0..columns.outputs() {
                for down in 0..rows.kernel {
                    for across in 0..columns.kernel {
                        let r = (row * rows.stride + down).checked_sub(rows.pad);
                        let c = (column * columns.stride + across).checked_sub(columns.pad);
                        let (Some(r), Some(c)) = (r, c) else { continue };
                        if r >= rows.size || c >= columns.size {
                            continue;
                        }
                        for input in 0..inputs {
                            for output in 0..outputs {
                                let at = ((down * columns.kernel + across) * inputs + input)
                                    * outputs
                                    + output;
                                let from = (r * columns.size + c) * inputs + input;
                                let to = (row * columns.outputs() + column) * outputs + output;
                                y[to] += weights[at] * x[from];
                                dw[at] += dy[to] * x[from];
                                dx[from] += dy[to] * weights[at];
                            }
                        }
                    }
                }
            }
        }
        [y, dw, dx]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(120))]
        #[test]
        fn a_window_is_what_its_definition_says_on_every_processor(
            (height, width) in (3usize..12, 3usize..20),
            (tall, wide) in (1usize..6, 1usize..6),
            (down, across) in (1usize..4, 1usize..4),
            (pad, side) in (0usize..3, 0usize..3),
            (inputs, outputs) in (1usize..20, 1usize..40),
            seed: u64,
        ) {
            let rows = Axis { size: height, kernel: tall.min(height), stride: down, pad };
            let columns = Axis { size: width, kernel: wide.min(width), stride: across, pad: side };
            let window = || Window::new(rows, columns, inputs, outputs);
            let w = window();
            let mut rng = crate::seed::stream(seed, "window");
            let mut random = |count: usize| -> Vec<f32> {
                (0..count).map(|_| rand::RngExt::random::<f32>(&mut rng) - 0.5).collect()
            };
            let (weights, x, dy) = (random(w.seen() * outputs), random(2 * w.input()), random(2 * w.output()));
            let mut results = Vec::new();
            for set in available() {
                results.push(with_kernels(set, || {
                    let mut w = window();
                    let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
                    let mut dw = vec![f32::NAN; weights.len()];
                    w.forward(&weights, None, &x, &mut y, Ending::Plain);
                    w.backward(&weights, &x, &dy, (&mut dw, false), Some(&mut dx));
                    [y, dw, dx]
                }));
            }
            for result in &results[1..] {
                prop_assert!(result == &results[0], "instruction sets disagree");
            }
            let first = plain(&w, &weights, &x[..w.input()], &dy[..w.output()]);
            let second = plain(&w, &weights, &x[w.input()..], &dy[w.output()..]);
            let close = |actual: &[f32], expected: &[f32]| {
                actual.len() == expected.len()
                    && actual.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-3)
            };
            let [y, dw, dx] = &results[0];
            prop_assert!(close(&y[..w.output()], &first[0]) && close(&y[w.output()..], &second[0]), "y");
            let sum: Vec<f32> = first[1].iter().zip(&second[1]).map(|(a, b)| a + b).collect();
            prop_assert!(close(dw, &sum), "dw");
            prop_assert!(close(&dx[..w.input()], &first[2]) && close(&dx[w.input()..], &second[2]), "dx");
        }
    }
}
