/// `out = a^T`, where `a` is `rows x columns`, row-major.
///
/// In squares, so that what a cache line brings is used before it is gone.
pub(crate) fn transpose(out: &mut [f32], a: &[f32], rows: usize, columns: usize) {
    assert_eq!(a.len(), rows * columns, "matrix has another size");
    assert_eq!(out.len(), a.len(), "transpose has another size");
    squares(out, a, rows, columns);
}

const SIDE: usize = 16;

super::multiversion! {
    fn squares(out: &mut [f32], a: &[f32], rows: usize, columns: usize) {
        for row in (0..rows).step_by(SIDE) {
            let height = SIDE.min(rows - row);
            for column in (0..columns).step_by(SIDE) {
                let width = SIDE.min(columns - column);
                let mut square = [[0.0f32; SIDE]; SIDE];
                for (r, line) in square.iter_mut().enumerate().take(height) {
                    let from = (row + r) * columns + column;
                    line[..width].copy_from_slice(&a[from..from + width]);
                }
                for c in 0..width {
                    let to = (column + c) * rows + row;
                    let out = &mut out[to..to + height];
                    out.iter_mut().zip(&square).for_each(|(out, line)| *out = line[c]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_is_nothing() {
        for (rows, columns) in [(1, 1), (3, 40), (33, 17), (16, 32)] {
            let a: Vec<f32> = (0..rows * columns).map(|value| value as f32).collect();
            let (mut once, mut twice) = (vec![0.0; a.len()], vec![0.0; a.len()]);
            transpose(&mut once, &a, rows, columns);
            assert_eq!(once[0], 0.0);
            assert_eq!(once.get(rows), a.get(1).filter(|_| columns > 1));
            transpose(&mut twice, &once, columns, rows);
            assert_eq!(twice, a);
        }
    }
}
