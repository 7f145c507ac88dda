//! What a round is: its table in the configuration.

use std::time::Duration;

use fedistill_federation::{Late, Missed, Quorum};
use fedistill_program::config::{Packing, Rounding};
use serde::Deserialize;

use crate::CoordinatorError;

/// What a round is; times in seconds.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RoundConfig {
    /// The fewest contributions that a round can close with.
    pub least: usize,
    /// The contributions that a round aims for: it closes at once when it has them.
    #[serde(default = "everyone")]
    pub cohort: usize,
    /// How many times as many clients a round asks, from 1: with 1.3 (Bonawitz et al. 2019) it does
    /// not wait for the slowest three of thirteen.
    #[serde(default = "one")]
    pub over_selection: f64,
    /// A round opens once so many clients are connected; by default, `least`.
    pub open_with: Option<usize>,
    /// Before this time, a round waits for its whole cohort.
    #[serde(default = "half_a_minute")]
    pub least_seconds: f64,
    /// At this time, a round closes with what it has, if that is `least`.
    #[serde(default = "ten_minutes")]
    pub most_seconds: f64,
    /// What becomes of it where that is less.
    #[serde(default)]
    pub missed: MissedConfig,
    /// How often `missed = "extend"` gives it `most-seconds` more.
    #[serde(default = "three")]
    pub extensions: u32,
    /// What becomes of contributions that come after their round has closed.
    #[serde(default)]
    pub late: LateConfig,
    /// With `late = "fold"`, a contribution that is s rounds late weighs (1 + s)^-this of what a fresh
    /// one does.
    #[serde(default = "half")]
    pub staleness_exponent: f64,
    /// A client at work that is silent for so long is not waited for.
    #[serde(default = "minute")]
    pub silence_seconds: f64,
    /// How long to wait for enough clients before giving up; by default, for ever.
    pub patience_seconds: Option<f64>,
    /// Time between two rounds, in which clients need not be connected.
    #[serde(default)]
    pub pause_seconds: f64,
    /// How long to stay once all rounds are done, also where they were before this start, and tell clients
    /// that come that the federation is over.
    #[serde(default)]
    pub farewell_seconds: f64,
    /// Tries at a round before giving up; by default, for ever.
    pub attempts: Option<u32>,
    /// Transfer samples that a round speaks about.
    #[serde(default = "thousand")]
    pub samples: u32,
    /// How answers are packed; by default, as the method says.
    pub packing: Option<Packing>,
    /// How clients round what they pack.
    #[serde(default)]
    pub rounding: Rounding,
}

/// What becomes of a round that has missed its quorum.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum MissedConfig {
    /// It is given up, and opens again as its next attempt.
    #[default]
    Reopen,
    /// It keeps what it has and is given more time, some times; then it is given up.
    Extend,
    /// It closes with what it has, and is given up where that is nothing.
    Settle,
}

/// What becomes of contributions that come after their round has closed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum LateConfig {
    /// They are refused.
    #[default]
    Refuse,
    /// They count in the next round, for less.
    Fold,
}

fn everyone() -> usize {
    10_000
}

fn ten_minutes() -> f64 {
    600.0
}

fn half_a_minute() -> f64 {
    30.0
}

fn minute() -> f64 {
    60.0
}

fn thousand() -> u32 {
    1000
}

fn one() -> f64 {
    1.0
}

fn half() -> f64 {
    0.5
}

fn three() -> u32 {
    3
}

impl RoundConfig {
    /// When a round has enough.
    pub(super) fn quorum(&self) -> Result<Quorum, CoordinatorError> {
        let (least, cohort) = (self.least, self.cohort);
        if least > cohort {
            return wrong(format!(
                "round.least asks for {least} contributions, but round.cohort aims for only {cohort}: lower the one or raise the other"
            ));
        }
        Ok(Quorum::new(
            least,
            cohort,
            seconds("least-seconds", self.least_seconds)?,
            seconds("most-seconds", self.most_seconds)?,
        )?)
    }

    /// The most clients that a round asks.
    pub(super) fn asked(&self) -> Result<usize, CoordinatorError> {
        let factor = self.over_selection;
        if !(1.0..=MOST_OVER_SELECTION).contains(&factor) {
            return wrong(format!(
                "round.over-selection is {factor}: write how many times round.cohort are asked, from 1 to {MOST_OVER_SELECTION}"
            ));
        }
        // 1.1 of 10 is a little above 11 in binary, and yet 11.
        let asked = (factor * self.cohort as f64 - 1e-6).ceil();
        Ok((asked as usize).max(self.cohort))
    }

    pub(super) fn missed(&self) -> Missed {
        match self.missed {
            MissedConfig::Reopen => Missed::Reopen,
            MissedConfig::Extend => Missed::Extend {
                most: self.extensions,
            },
            MissedConfig::Settle => Missed::Settle,
        }
    }

    pub(super) fn late(&self) -> Late {
        match self.late {
            LateConfig::Refuse => Late::Refuse,
            LateConfig::Fold => Late::Fold {
                exponent: self.staleness_exponent,
            },
        }
    }

    pub(super) fn silence(&self) -> Result<Duration, CoordinatorError> {
        seconds("silence-seconds", self.silence_seconds)
    }

    pub(super) fn pause(&self) -> Result<Duration, CoordinatorError> {
        a_month_at_most("pause-seconds", self.pause_seconds)
    }

    pub(super) fn farewell(&self) -> Result<Duration, CoordinatorError> {
        a_month_at_most("farewell-seconds", self.farewell_seconds)
    }

    pub(super) fn patience(&self) -> Result<Option<Duration>, CoordinatorError> {
        let patience = self.patience_seconds;
        let patience = patience.map(|patience| seconds("patience-seconds", patience));
        patience.transpose()
    }
}

/// Who asks more than so many for one wastes nearly all that they train.
const MOST_OVER_SELECTION: f64 = 10.0;

/// In seconds.
const A_MONTH: f64 = 2_678_400.0;

fn a_month_at_most(key: &str, value: f64) -> Result<Duration, CoordinatorError> {
    match value <= A_MONTH {
        true => seconds(key, value),
        false => wrong(format!(
            "round.{key} is {value}: write seconds, {A_MONTH} (a month) at most"
        )),
    }
}

fn seconds(key: &str, value: f64) -> Result<Duration, CoordinatorError> {
    let seconds = Duration::try_from_secs_f64(value);
    seconds.or_else(|_| wrong(format!("round.{key} is {value}: write seconds")))
}

fn wrong<T>(why: String) -> Result<T, CoordinatorError> {
    Err(CoordinatorError::Settings(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(keys: &str) -> RoundConfig {
        toml::from_str(&format!("least = 2\n{keys}")).unwrap()
    }

    #[test]
    fn what_is_aimed_for_and_what_is_asked_are_two_numbers() {
        let asked = |keys: &str| round(keys).asked().unwrap();
        assert_eq!(asked("cohort = 10"), 10);
        assert_eq!(asked("cohort = 10\nover-selection = 1.3"), 13);
        assert_eq!(asked("cohort = 10\nover-selection = 1.1"), 11);
        assert_eq!(asked("cohort = 10\nover-selection = 1.11"), 12);
        assert_eq!(asked("cohort = 3\nover-selection = 1.0001"), 4);
        let quorum = round("cohort = 10\nover-selection = 1.3").quorum().unwrap();
        let seconds = Duration::from_secs;
        assert_eq!(
            quorum,
            Quorum::new(2, 10, seconds(30), seconds(600)).unwrap()
        );
        for factor in ["0.9", "nan", "inf", "-1", "10.5"] {
            let error = round(&format!("over-selection = {factor}")).asked();
            let error = error.unwrap_err().to_string();
            assert!(error.contains("round.over-selection is"), "{error}");
        }
    }

    #[test]
    fn a_missed_quorum_has_three_rules() {
        assert_eq!(round("").missed(), Missed::Reopen);
        assert_eq!(round("missed = \"settle\"").missed(), Missed::Settle);
        let extend = |keys: &str| round(&format!("missed = \"extend\"\n{keys}")).missed();
        assert_eq!(extend(""), Missed::Extend { most: 3 });
        assert_eq!(extend("extensions = 1"), Missed::Extend { most: 1 });
        assert!(toml::from_str::<RoundConfig>("least = 2\nmissed = \"wait\"").is_err());
    }

    #[test]
    fn late_contributions_have_two_rules() {
        assert_eq!(round("").late(), Late::Refuse);
        let fold = |exponent| Late::Fold { exponent };
        assert_eq!(round("late = \"fold\"").late(), fold(0.5));
        let keys = "late = \"fold\"\nstaleness-exponent = 1.5";
        assert_eq!(round(keys).late(), fold(1.5));
    }

    #[test]
    fn a_pause_and_a_farewell_are_a_month_at_most() {
        type Read = fn(&RoundConfig) -> Result<Duration, CoordinatorError>;
        for (key, read) in [
            ("pause-seconds", RoundConfig::pause as Read),
            ("farewell-seconds", RoundConfig::farewell),
        ] {
            assert_eq!(read(&round("")).unwrap(), Duration::ZERO);
            let day = Duration::from_secs(86_400);
            let said = |seconds: &str| read(&round(&format!("{key} = {seconds}")));
            assert_eq!(said("86400").unwrap(), day);
            for seconds in ["-1", "nan", "inf", "1e9"] {
                let error = said(seconds).unwrap_err().to_string();
                assert!(error.contains(&format!("round.{key} is")), "{error}");
            }
        }
    }

    #[test]
    fn a_cohort_below_the_least_is_refused() {
        let error = round("cohort = 1").quorum().unwrap_err().to_string();
        assert!(error.contains("round.cohort aims for only 1"), "{error}");
    }
}
