//! The innermost loop of every product and convolution: a tile of the result, held in registers.
#![allow(unsafe_code, reason = "raw pointers; see `Tile`")]

use super::Kernels;
#[cfg(target_arch = "aarch64")]
use super::lanes::Neon;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx512};
use super::lanes::{LANES, Lanes, Portable};

/// What a result begins as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// Zeros.
    Zero,
    /// What lies there: the product is added to it.
    Keep,
    /// A value for each column.
    Bias(&'a [f32]),
}

/// What is done to a result at the end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// Nothing.
    Plain,
    /// `max(x, 0)`.
    Relu,
}

/// A tile of `c = start + sum over s < segments, l < k of a(i, s, l) * b(s, l, j)`, where
/// `a(i, s, l)` lies at `a + i * a_row + s * a_segment + l * a_step` and `b(s, l, j)` at
/// `b + s * b_segment + l * b_step + j`; c's rows are `c_row` apart.
///
/// # Safety
/// Who runs a tile of R rows and V vectors with it vouches that all of a(i, s, l) can be read for
/// i < R; that b can be read for j < 16 V, or, with `whole` false, for j < `columns`; that c can be
/// written (and, when kept, read) for j < `columns`; that `bias` has `columns` values or is null;
/// and that 16 (V - 1) < columns <= 16 V.
pub(super) struct Tile {
    pub(super) a: *const f32,
    pub(super) a_row: usize,
    pub(super) a_step: usize,
    pub(super) a_segment: usize,
    pub(super) b: *const f32,
    pub(super) b_step: usize,
    pub(super) b_segment: usize,
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
    pub(super) k: usize,
    pub(super) segments: usize,
    pub(super) columns: usize,
    pub(super) bias: *const f32,
    pub(super) keep: bool,
    pub(super) relu: bool,
}

/// Runs a tile; see [`Tile`] for what that needs.
pub(super) type RunTile = unsafe fn(&Tile);

/// # Safety
/// See [`Tile`].
#[inline(always)]
unsafe fn run<L: Lanes, const R: usize, const V: usize, const WHOLE: bool>(tile: &Tile) {
    // SAFETY: all places are those that the caller vouches for; `last` is at most 16.
    unsafe {
        let last = tile.columns - LANES * (V - 1);
        let mut sums = [[L::zero(); V]; R];
        if tile.keep || !tile.bias.is_null() {
            for (r, row) in sums.iter_mut().enumerate() {
                let from = match tile.keep {
                    true => tile.c.cast_const().add(r * tile.c_row),
                    false => tile.bias,
                };
                for (v, sum) in row.iter_mut().enumerate() {
                    let from = from.add(LANES * v);
                    *sum = match v + 1 == V {
                        true => L::load_first(from, last),
                        false => L::load(from),
                    };
                }
            }
        }
        for segment in 0..tile.segments {
            let mut a = tile.a.add(segment * tile.a_segment);
            let mut b = tile.b.add(segment * tile.b_segment);
            for _ in 0..tile.k {
                let mut right = [L::zero(); V];
                for (v, right) in right.iter_mut().enumerate() {
                    *right = match WHOLE || v + 1 < V {
                        true => L::load(b.add(LANES * v)),
                        false => L::load_first(b.add(LANES * v), last),
                    };
                }
                for (r, row) in sums.iter_mut().enumerate() {
                    let left = L::splat(*a.add(r * tile.a_row));
                    for (sum, right) in row.iter_mut().zip(right) {
                        *sum = L::fused(left, right, *sum);
                    }
                }
                // One past the end is computed but never read.
                a = a.wrapping_add(tile.a_step);
                b = b.wrapping_add(tile.b_step);
            }
        }
        for (r, row) in sums.iter().enumerate() {
            let to = tile.c.add(r * tile.c_row);
            for (v, sum) in row.iter().enumerate() {
                let sum = match tile.relu {
                    true => L::positive(*sum),
                    false => *sum,
                };
                let to = to.add(LANES * v);
                match v + 1 == V {
                    true => L::store_first(to, last, sum),
                    false => L::store(to, sum),
                }
            }
        }
    }
}

/// # Safety
/// AVX-512, and see [`Tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512<const R: usize, const V: usize, const WHOLE: bool>(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe { run::<Avx512, R, V, WHOLE>(tile) }
}

/// # Safety
/// AVX2 and FMA, and see [`Tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const R: usize, const V: usize, const WHOLE: bool>(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe { run::<Avx2, R, V, WHOLE>(tile) }
}

/// # Safety
/// See [`Tile`].
#[cfg(target_arch = "aarch64")]
unsafe fn neon<const R: usize, const V: usize, const WHOLE: bool>(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe { run::<Neon, R, V, WHOLE>(tile) }
}

/// # Safety
/// See [`Tile`].
unsafe fn portable<const R: usize, const V: usize, const WHOLE: bool>(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe { run::<Portable, R, V, WHOLE>(tile) }
}

/// The tiles of a set of instructions.
pub(super) struct Tiles {
    /// The most rows of a tile.
    pub(super) rows: usize,
    /// The most vectors of a tile's row.
    pub(super) vectors: usize,
    /// By rows - 1, vectors - 1, and whether b's rows can be read in whole vectors.
    run: &'static [[[RunTile; 2]; 2]; 8],
}

macro_rules! table {
    ($run:ident: $($rows:literal)*) => {
        &[$([
            [$run::<$rows, 1, false>, $run::<$rows, 1, true>],
            [$run::<$rows, 2, false>, $run::<$rows, 2, true>],
        ]),*]
    };
}

impl Tiles {
    /// The registers of each set hold the tile's sums, a row of b and one value of a.
    pub(super) fn of(kernels: Kernels) -> Self {
        match kernels {
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx512 => Self {
                rows: 8,
                vectors: 2,
                run: table!(avx512: 1 2 3 4 5 6 7 8),
            },
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx2 => Self {
                rows: 6,
                vectors: 1,
                run: table!(avx2: 1 2 3 4 5 6 7 8),
            },
            #[cfg(target_arch = "aarch64")]
            Kernels::Neon => Self {
                rows: 6,
                vectors: 1,
                run: table!(neon: 1 2 3 4 5 6 7 8),
            },
            Kernels::Portable => Self {
                rows: 6,
                vectors: 1,
                run: table!(portable: 1 2 3 4 5 6 7 8),
            },
        }
    }

    pub(super) fn of_size(&self, rows: usize, vectors: usize, whole: bool) -> RunTile {
        self.run[rows - 1][vectors - 1][usize::from(whole)]
    }

    /// Columns of the widest tile.
    pub(super) fn columns(&self) -> usize {
        LANES * self.vectors
    }

    /// The sizes of tiles that `count` rows are cut into: as even as can be, so that none is thin.
    pub(super) fn cut(&self, count: usize) -> impl Iterator<Item = (usize, usize)> {
        let tiles = count.div_ceil(self.rows).max(1);
        (0..tiles).map(move |tile| {
            let (from, to) = (tile * count / tiles, (tile + 1) * count / tiles);
            (from, to - from)
        })
    }
}
