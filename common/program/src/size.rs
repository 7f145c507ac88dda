/// Bytes for people: three or so digits, in powers of a thousand.
pub fn size(bytes: f64) -> String {
    match bytes {
        b if b >= 1e9 => format!("{:.2} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.2} MB", b / 1e6),
        b if b >= 1e3 => format!("{:.1} kB", b / 1e3),
        b => format!("{b:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_fits() {
        for (bytes, text) in [
            (0.0, "0 B"),
            (999.4, "999 B"),
            (1_000.0, "1.0 kB"),
            (2_345_678.0, "2.35 MB"),
            (1e12, "1000.00 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
