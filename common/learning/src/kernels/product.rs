//! Products of matrices.
#![allow(
    unsafe_code,
    reason = "tiles work on raw pointers; all sizes are checked first"
)]

use super::kernels;
use super::lanes::LANES;
use super::tile::{Ending, Start, Tile, Tiles};

/// The left matrix of a product, m x k: element (i, l) lies at `i * row + l * step`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    values: &'a [f32],
    rows: usize,
    inner: usize,
    row: usize,
    step: usize,
}

impl<'a> Left<'a> {
    /// `rows x inner`, row-major.
    pub(crate) fn new(values: &'a [f32], rows: usize, inner: usize) -> Self {
        assert_eq!(values.len(), rows * inner, "matrix has another size");
        Self {
            values,
            rows,
            inner,
            row: inner,
            step: 1,
        }
    }

    /// The transpose of `values`, which is `inner x rows`, row-major.
    pub(crate) fn transposed(values: &'a [f32], inner: usize, rows: usize) -> Self {
        assert_eq!(values.len(), rows * inner, "matrix has another size");
        Self {
            values,
            rows,
            inner,
            row: 1,
            step: rows,
        }
    }

    /// `rows x inner`, row-major, in a matrix whose rows are `row` values apart.
    pub(crate) fn within(values: &'a [f32], rows: usize, inner: usize, row: usize) -> Self {
        assert_within(values, rows, inner, row);
        Self {
            values,
            rows,
            inner,
            row,
            step: 1,
        }
    }
}

/// That `rows x columns` values lie in `values`, rows `row` apart.
fn assert_within(values: &[f32], rows: usize, columns: usize, row: usize) {
    assert!(columns <= row || rows <= 1, "rows overlap");
    let end = match rows.checked_sub(1) {
        Some(before) => before * row + columns,
        None => 0,
    };
    assert!(end <= values.len(), "matrix ends outside");
}

/// The right matrix of a product.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// `k x n`, row-major.
    Plain(&'a [f32]),
    /// `k x n`, row-major, in a matrix whose rows are so many values apart.
    Within(&'a [f32], usize),
    /// Packed before.
    Packed(&'a Panels),
}

/// A matrix `inner x columns`, packed for reading in whole vectors: panels of as many columns as a tile has, each row-major,
/// the last one filled up with zeros. Many products may use it.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    values: Vec<f32>,
    width: usize,
    inner: usize,
    columns: usize,
}

impl Panels {
    /// Packs element (l, j) from `at(l) + j`, which gives where a row begins in `values`.
    pub(crate) fn pack(
        &mut self,
        values: &[f32],
        inner: usize,
        columns: usize,
        at: impl Fn(usize) -> usize,
    ) {
        self.fill(inner, columns, |row, from, target| {
            let start = at(row) + from;
            target.copy_from_slice(&values[start..start + target.len()]);
        });
    }

    /// Packs element (l, j) from `values[at(l) + j * step]`.
    pub(crate) fn pack_strided(
        &mut self,
        values: &[f32],
        (inner, columns, step): (usize, usize, usize),
        at: impl Fn(usize) -> usize,
    ) {
        self.fill(inner, columns, |row, from, target| {
            let start = at(row) + from * step;
            for (column, target) in target.iter_mut().enumerate() {
                *target = values[start + column * step];
            }
        });
    }

    /// Has `write` write the columns from its second argument on of the row that its first one
    /// names; what is beyond the last column is zero.
    fn fill(&mut self, inner: usize, columns: usize, write: impl Fn(usize, usize, &mut [f32])) {
        let width = Tiles::of(kernels()).columns();
        self.shape(inner, columns, width);
        for (panel, from) in (0..columns).step_by(width).enumerate() {
            let count = width.min(columns - from);
            let target = &mut self.values[panel * inner * width..(panel + 1) * inner * width];
            for (row, target) in target.chunks_exact_mut(width).enumerate() {
                write(row, from, &mut target[..count]);
                target[count..].fill(0.0);
            }
        }
    }

    fn shape(&mut self, inner: usize, columns: usize, width: usize) {
        self.values
            .resize(columns.div_ceil(width) * width * inner, 0.0);
        (self.width, self.inner, self.columns) = (width, inner, columns);
    }

    /// Where the panel of columns from `column` begins, a multiple of a tile's width. A panel's
    /// rows are [`Self::width`] apart, and all of its `inner` rows can be read.
    pub(super) fn panel(&self, column: usize) -> &[f32] {
        let size = self.width * self.inner;
        let panel = column / self.width;
        &self.values[panel * size..(panel + 1) * size]
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn inner(&self) -> usize {
        self.inner
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }
}

/// Inner dimension that a panel is worked through at a time: 16 kB of it stay in the first cache.
const BLOCK: usize = 128;

/// `out = ending(start + a b)`, `out` row-major, `m x columns`.
pub(crate) fn product(
    out: &mut [f32],
    start: Start<'_>,
    a: Left<'_>,
    b: Right<'_>,
    columns: usize,
    ending: Ending,
) {
    assert_eq!(out.len(), a.rows * columns, "product has another size");
    product_within(out, columns, start, a, b, columns, ending);
}

/// [`product`] into a matrix whose rows are `out_row` values apart.
pub(crate) fn product_within(
    out: &mut [f32],
    out_row: usize,
    start: Start<'_>,
    a: Left<'_>,
    b: Right<'_>,
    columns: usize,
    ending: Ending,
) {
    assert_within(out, a.rows, columns, out_row);
    if let Start::Bias(bias) = start {
        assert_eq!(bias.len(), columns, "bias has another size");
    }
    match b {
        Right::Plain(values) => assert_eq!(values.len(), a.inner * columns, "matrices do not fit"),
        Right::Within(values, row) => assert_within(values, a.inner, columns, row),
        Right::Packed(panels) => assert_eq!(
            (panels.inner, panels.columns),
            (a.inner, columns),
            "matrices do not fit"
        ),
    }
    let tiles = Tiles::of(kernels());
    let width = tiles.columns();
    let blocks = a.inner.div_ceil(BLOCK).max(1);
    for column in (0..columns).step_by(width) {
        let count = width.min(columns - column);
        let vectors = count.div_ceil(LANES);
        let (panel, b_step, whole) = match b {
            Right::Plain(values) => {
                let panel = &values[column.min(values.len())..];
                (panel, columns, count == vectors * LANES)
            }
            Right::Within(values, row) => {
                let panel = &values[column.min(values.len())..];
                (panel, row, count == vectors * LANES)
            }
            Right::Packed(panels) => {
                assert_eq!(panels.width, width, "panels are packed for other tiles");
                (panels.panel(column), width, true)
            }
        };
        for block in 0..blocks {
            let from = block * a.inner / blocks;
            let k = (block + 1) * a.inner / blocks - from;
            let bias = match (block, start) {
                (0, Start::Bias(bias)) => bias[column..].as_ptr(),
                _ => std::ptr::null(),
            };
            for (row, rows) in tiles.cut(a.rows) {
                if rows == 0 {
                    continue;
                }
                let tile = Tile {
                    a: a.values.as_ptr().wrapping_add(row * a.row + from * a.step),
                    a_row: a.row,
                    a_step: a.step,
                    a_segment: 0,
                    b: panel.as_ptr().wrapping_add(from * b_step),
                    b_step,
                    b_segment: 0,
                    c: out[row * out_row + column..].as_mut_ptr(),
                    c_row: out_row,
                    k,
                    segments: 1,
                    columns: count,
                    bias,
                    keep: block > 0 || matches!(start, Start::Keep),
                    relu: ending == Ending::Relu && block + 1 == blocks,
                };
                let run = tiles.of_size(rows, vectors, whole);
                // SAFETY: rows `row..row + rows` and inner `from..from + k` lie in `a`, whose size
                // `Left` was checked against; b, checked above, has `k` rows from `from` on, each with `count`
                // columns from `column` on, or whole vectors where it is packed; c's rows and
                // columns lie in `out`, the bias has `columns` values.
                unsafe { run(&tile) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::{Kernels, available, with_kernels};

    fn all(
        (m, k, n): (usize, usize, usize),
        values: &[f32],
        (turn, packed, start, relu): (bool, bool, u8, bool),
    ) -> Vec<(Kernels, Vec<f32>)> {
        let (a, b) = (&values[..m * k], &values[4000..4000 + k * n]);
        let (kept, bias) = (&values[1000..1000 + m * n], &values[2000..2000 + n]);
        let run = |set| {
            with_kernels(set, || {
                let left = match turn {
                    true => Left::transposed(a, k, m),
                    false => Left::new(a, m, k),
                };
                let mut panels = Panels::default();
                panels.pack(b, k, n, |row| row * n);
                let right = match packed {
                    true => Right::Packed(&panels),
                    false => Right::Plain(b),
                };
                let start = match start {
                    0 => Start::Zero,
                    1 => Start::Keep,
                    _ => Start::Bias(bias),
                };
                let ending = if relu { Ending::Relu } else { Ending::Plain };
                let mut out = kept.to_vec();
                product(&mut out, start, left, right, n, ending);
                out
            })
        };
        available().into_iter().map(|set| (set, run(set))).collect()
    }

    #[test]
    fn a_product_within_larger_matrices_is_the_same() {
        let values: Vec<f32> = (0..400).map(|at| (at as f32).sin()).collect();
        let (m, k, n) = (9, 5, 18);
        let cut = |columns: usize, rows: usize, row: usize| -> Vec<f32> {
            let rows = values.chunks(row).take(rows);
            rows.flat_map(|values| values[..columns].to_vec()).collect()
        };
        let (a, b) = (cut(k, m, 7), cut(n, k, 20));
        let mut plain = vec![0.0; m * n];
        let left = Left::new(&a, m, k);
        product(
            &mut plain,
            Start::Zero,
            left,
            Right::Plain(&b),
            n,
            Ending::Plain,
        );
        let mut wide = vec![7.0; m * 21];
        let left = Left::within(&values, m, k, 7);
        let right = Right::Within(&values, 20);
        product_within(&mut wide, 21, Start::Zero, left, right, n, Ending::Plain);
        for (wide, plain) in wide.chunks(21).zip(plain.chunks(n)) {
            assert_eq!(wide[..n], *plain);
            assert_eq!(wide[n..], [7.0; 3]);
        }
    }

    proptest! {
        #[test]
        fn products_are_chains_of_fused_steps_on_every_processor(
            (m, k, n) in (1usize..20, 0usize..150, 1usize..50),
            values in prop::collection::vec(-1.0f32..1.0, 12_000),
            turn: bool, packed: bool, start in 0u8..3, relu: bool,
        ) {
            let results = all((m, k, n), &values, (turn, packed, start, relu));
            for i in 0..m {
                for j in 0..n {
                    let mut sum = match start {
                        0 => 0.0,
                        1 => values[1000 + i * n + j],
                        _ => values[2000 + j],
                    };
                    for l in 0..k {
                        let a = if turn { values[l * m + i] } else { values[i * k + l] };
                        sum = a.mul_add(values[4000 + l * n + j], sum);
                    }
                    if relu && sum < 0.0 { sum = 0.0 }
                    for (set, out) in &results {
                        prop_assert_eq!(out[i * n + j].to_bits(), sum.to_bits(), "{:?} {} {}", set, i, j);
                    }
                }
            }
        }
    }
}
