use std::fmt;

/// One figure a seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures(pub Vec<f64>);

impl Figures {
    /// The mean over seeds.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// The population's standard deviation over seeds.
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares = self.0.iter().map(|value| (value - mean).powi(2));
        (squares.sum::<f64>() / self.0.len().max(1) as f64).sqrt()
    }

    /// Seed by seed, these less those.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        self.with(other, |a, b| a - b)
    }

    /// Seed by seed, these over those.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        self.with(other, |a, b| a / b)
    }

    /// Each without its sign.
    #[must_use]
    pub fn sizes(&self) -> Self {
        Self(self.0.iter().map(|value| value.abs()).collect())
    }

    fn with(&self, other: &Self, both: impl Fn(f64, f64) -> f64) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self(pairs.map(|(a, b)| both(*a, *b)).collect())
    }
}

impl FromIterator<f64> for Figures {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        write!(
            f,
            "{:.digits$} ± {:.digits$}",
            self.mean(),
            self.deviation()
        )
    }
}
