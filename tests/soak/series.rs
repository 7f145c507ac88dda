//! What a process came to over time.

use std::fmt;
use std::time::Duration;

use fedistill_tests::Vitals;

use crate::fleet::Tally;

/// How things stood at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Since the beginning.
    pub(crate) at: Duration,
    /// The coordinator's.
    pub(crate) vitals: Vitals,
    /// Rounds that were over.
    pub(crate) rounds: usize,
    /// What clients had lived through.
    pub(crate) tally: Tally,
}

impl Sample {
    /// What [`Self::line`] says.
    pub(crate) const HEAD: &str =
        "seconds,resident_bytes,descriptors,cpu_seconds,rounds,connected,lost,counted";

    /// As a line of CSV.
    pub(crate) fn line(&self) -> String {
        let Self {
            at,
            vitals,
            rounds,
            tally,
        } = self;
        format!(
            "{:.1},{},{},{:.2},{rounds},{},{},{}",
            at.as_secs_f64(),
            vitals.resident,
            vitals.descriptors,
            vitals.ran.as_secs_f64(),
            tally.connected,
            tally.lost,
            tally.counted
        )
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            vitals,
            rounds,
            tally,
        } = self;
        write!(
            f,
            "{:6.1} min: {:.1} MB, {} descriptors, {rounds} rounds, {} contributions counted, {} times connected, {} times lost",
            at.as_secs_f64() / 60.0,
            vitals.resident as f64 / 1e6,
            vitals.descriptors,
            tally.counted,
            tally.connected,
            tally.lost
        )
    }
}

/// Samples in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<Sample>);

impl Series {
    pub(crate) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those from `at` on.
    pub(crate) fn since(&self, at: Duration) -> Self {
        let late = self.0.iter().filter(|sample| sample.at >= at);
        Self(late.copied().collect())
    }

    /// The first and the last.
    pub(crate) fn ends(&self) -> Option<(&Sample, &Sample)> {
        self.0.first().zip(self.0.last())
    }

    /// The most of something.
    pub(crate) fn most(&self, of: impl Fn(&Sample) -> u64) -> u64 {
        self.0.iter().map(of).max().unwrap_or(0)
    }

    /// By how many bytes an hour memory has grown, by least squares, and the standard error of that.
    pub(crate) fn slope(&self) -> (f64, f64) {
        let points = self.0.iter();
        let points = points.map(|s| (s.at.as_secs_f64() / 3600.0, s.vitals.resident as f64));
        let points: Vec<(f64, f64)> = points.collect();
        line(&points)
    }
}

/// Slope of the line through points by least squares, and its standard error.
pub(crate) fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let along: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / along;
    let rest = points.iter().map(|p| (p.1 - y - slope * (p.0 - x)).powi(2));
    let error = (rest.sum::<f64>() / (count - 2.0) / along).sqrt();
    (slope, error)
}
