//! Matrix products on slices, on one thread.

use gemm::Parallelism;

/// A matrix in a slice: element (r, c) lies at `r * row + c * column`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// `rows x columns`, row-major.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "matrix has another size");
        Self {
            values,
            rows,
            columns,
            row: columns,
            column: 1,
        }
    }

    /// Its transpose, a view.
    pub(crate) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row: self.column,
            column: self.row,
        }
    }
}

/// `out = keep * out + a b`, with `out` row-major; `keep` is 0 or 1.
#[allow(unsafe_code)]
pub(crate) fn multiply(out: &mut [f32], keep: bool, a: Matrix<'_>, b: Matrix<'_>) {
    assert_eq!(a.columns, b.rows, "matrices do not fit");
    assert_eq!(out.len(), a.rows * b.columns, "product has another size");
    if out.is_empty() {
        return;
    }
    if a.columns == 0 {
        if !keep {
            out.fill(0.0);
        }
        return;
    }
    // SAFETY: the pointers come from slices that live through the call; the sizes of all three
    // matrices were checked against their slices (`Matrix::new` and above), and `transposed` only
    // swaps dimensions together with their strides. `out` is borrowed mutably, so it does not overlap.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            b.columns as isize,
            keep,
            a.values.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.values.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn products_are_sums_of_products(
            (m, k, n) in (1usize..20, 0usize..20, 1usize..20),
            values in prop::collection::vec(-1.0f32..1.0, 1200), keep: bool, turn: bool,
        ) {
            let a = &values[..m * k];
            let b = &values[400..400 + k * n];
            let start = &values[800..800 + m * n];
            let mut out = start.to_vec();
            let right = match turn {
                true => Matrix::new(b, n, k).transposed(),
                false => Matrix::new(b, k, n),
            };
            multiply(&mut out, keep, Matrix::new(a, m, k), right);
            for i in 0..m {
                for j in 0..n {
                    let at = |l: usize| if turn { b[j * k + l] } else { b[l * n + j] };
                    let sum: f32 = (0..k).map(|l| a[i * k + l] * at(l)).sum();
                    let expected = sum + if keep { start[i * n + j] } else { 0.0 };
                    prop_assert!((out[i * n + j] - expected).abs() < 1e-4);
                }
            }
        }
    }
}
