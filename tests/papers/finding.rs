use std::fmt::{self, Write as _};

use super::Figures;

/// What the mean over seeds must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// So much, or more.
    AtLeast(f64),
    /// So much, or less.
    AtMost(f64),
    /// From the one to the other.
    Between(f64, f64),
    /// Exactly this, at every seed.
    Exactly(f64),
    /// Anything: the figure is there to be read.
    Told,
}

impl Rule {
    fn holds(self, figures: &Figures) -> bool {
        let mean = figures.mean();
        // What was never reached is no figure that a rule could be about.
        if !figures.0.iter().all(|figure| figure.is_finite()) {
            return false;
        }
        match self {
            Self::AtLeast(least) => mean >= least,
            Self::AtMost(most) => mean <= most,
            Self::Between(least, most) => (least..=most).contains(&mean),
            Self::Exactly(value) => figures.0.iter().all(|figure| *figure == value),
            Self::Told => true,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::Between(least, most) => write!(f, "{least} to {most}"),
            Self::Exactly(value) => write!(f, "= {value}"),
            Self::Told => f.write_str("told"),
        }
    }
}

/// A relation as it was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What was compared, and in which unit.
    pub what: String,
    /// What the paper has, or what follows from it.
    pub paper: String,
    /// What ours must be.
    pub rule: Rule,
    /// What ours is.
    pub measured: Figures,
    /// Digits after the point that are worth reading.
    pub digits: usize,
    /// The figures that it was made of.
    pub of: String,
    /// Whether ours is known to differ, for a reason that `docs/papers.md` gives.
    pub explained: bool,
}

impl Finding {
    /// A difference in points of accuracy, or another figure with one digit.
    pub fn new(what: impl Into<String>, measured: Figures, rule: Rule, paper: &str) -> Self {
        Self {
            what: what.into(),
            paper: paper.to_owned(),
            rule,
            measured,
            digits: 1,
            of: String::new(),
            explained: false,
        }
    }

    /// With so many digits after the point.
    #[must_use]
    pub fn digits(self, digits: usize) -> Self {
        Self { digits, ..self }
    }

    /// With the figures that it was made of.
    #[must_use]
    pub fn of(self, figures: &[(&str, &Figures)]) -> Self {
        let each = figures
            .iter()
            .map(|(what, figures)| format!("{what} {figures:.1}"));
        Self {
            of: each.collect::<Vec<_>>().join(", "),
            ..self
        }
    }

    /// Ours differs, for a reason that `docs/papers.md` gives.
    #[must_use]
    pub fn explained(self) -> Self {
        Self {
            explained: true,
            ..self
        }
    }

    /// The same where this is so.
    #[must_use]
    pub fn explained_where(self, known: bool) -> Self {
        Self {
            explained: self.explained || known,
            ..self
        }
    }

    /// Whether ours is what it must be.
    pub fn holds(&self) -> bool {
        self.rule.holds(&self.measured)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.rule, self.holds()) {
            (Rule::Told, _) => "",
            (_, true) => "holds",
            (_, false) if self.explained => "differs",
            (_, false) => "FAILS",
        };
        write!(
            f,
            "{} | {:.*} | {} | {} | {} | {verdict}",
            self.what, self.digits, self.measured, self.rule, self.paper, self.of
        )
    }
}

/// Findings as a table for documents.
pub fn markdown(findings: &[(&str, Vec<Finding>)]) -> String {
    let mut text = String::from(
        "| | what | measured | rule | paper, or what follows | of | |\n|---|---|---|---|---|---|---|\n",
    );
    for (number, findings) in findings {
        for finding in findings {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {number} | {finding} |");
        }
    }
    text
}
