//! Configuration files: TOML, in which a key that is not known is an error.

use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use fedistill_protocol::{Optimiser, Precision};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a configuration cannot be used.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config {path}: cannot read it: {why}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Something in it is not as it should be.
    #[error("config {path}, line {line} ({text}): {why}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What the line says.
        text: String,
        /// What is wrong.
        why: String,
    },
}

/// Reads a configuration.
///
/// # Errors
/// A file that cannot be read, or the first line in it that cannot be used.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| ConfigError::Read {
        path: path.to_owned(),
        why: match error.kind() {
            ErrorKind::NotFound => "there is no such file: name another with --config".to_owned(),
            _ => error.to_string(),
        },
    })?;
    parse(path, &text)
}

/// The same of text from elsewhere; errors call it `path`.
///
/// # Errors
/// The first line in it that cannot be used.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let of = |line: usize| text.lines().nth(line - 1).unwrap_or_default().trim();
        ConfigError::Malformed {
            path: path.to_owned(),
            line,
            text: of(line).chars().take(80).collect(),
            why: error.message().replace('\n', "; "),
        }
    })
}

/// The folder that a configuration is in: relative paths in it start there.
pub fn folder(config: &Path) -> PathBuf {
    let parent = config
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// How answers are packed, as configurations write it. Without a word it is the method's to say.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Packing {
    /// 32 bits a value.
    F32,
    /// 16 bits a value.
    F16,
    /// 8 bits a value, and a range for each block of logits.
    U8,
    /// 4 bits a value.
    U4,
    /// 2 bits a value.
    U2,
    /// Votes: of probabilities the largest alone.
    U1,
    /// `top-N`, N from 1 to 255: the N largest values of each row, at 16 bits; the others share evenly what is left.
    Top(NonZeroU8),
}

/// Those with a name, which is what configurations say.
const NAMED: [(&str, Packing); 6] = [
    ("f32", Packing::F32),
    ("f16", Packing::F16),
    ("u8", Packing::U8),
    ("u4", Packing::U4),
    ("u2", Packing::U2),
    ("u1", Packing::U1),
];

impl TryFrom<String> for Packing {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let top = |text: &str| text.strip_prefix("top-")?.parse().ok().map(Self::Top);
        let named = NAMED.iter().find(|(name, _)| *name == text);
        let found = named.map(|(_, packing)| *packing).or_else(|| top(&text));
        found.ok_or_else(|| {
            format!("unknown packing `{text}`, expected `f32`, `f16`, `u8`, `u4`, `u2`, `u1`, or `top-1` to `top-255`")
        })
    }
}

impl From<Packing> for String {
    fn from(packing: Packing) -> Self {
        match (packing, NAMED.iter().find(|(_, known)| *known == packing)) {
            (Packing::Top(count), _) => format!("top-{count}"),
            (_, named) => named.map_or("", |(name, _)| name).to_owned(),
        }
    }
}

impl From<Packing> for Precision {
    fn from(packing: Packing) -> Self {
        match packing {
            Packing::F32 => Self::F32,
            Packing::F16 => Self::F16,
            Packing::U8 => Self::U8,
            Packing::U4 => Self::U4,
            Packing::U2 => Self::U2,
            Packing::U1 => Self::U1,
            Packing::Top(count) => Self::Top(count.get()),
        }
    }
}

/// How values are rounded that lie between two that can be packed, as configurations write it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// To the nearer one.
    #[default]
    Nearest,
    /// To one of the two by chance, right on average; of 8 bits and fewer.
    Stochastic,
}

impl From<Rounding> for fedistill_protocol::Rounding {
    fn from(rounding: Rounding) -> Self {
        match rounding {
            Rounding::Nearest => Self::Nearest,
            Rounding::Stochastic => Self::Stochastic,
        }
    }
}

/// How steps are taken, as configurations write it: `{ sgd = { learning-rate = 0.1 } }`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Steps {
    /// Stochastic gradient descent.
    #[serde(rename_all = "kebab-case")]
    Sgd {
        /// Length of a step.
        learning_rate: f32,
        /// How much of the last step is kept.
        #[serde(default)]
        momentum: f32,
    },
    /// AdamW.
    #[serde(rename_all = "kebab-case")]
    Adamw {
        /// Length of a step.
        learning_rate: f32,
        /// Decoupled weight decay.
        #[serde(default)]
        weight_decay: f32,
    },
}

impl Steps {
    /// Checks that such steps lead anywhere.
    ///
    /// # Errors
    /// The key and what to write there, as one line.
    pub fn check(&self) -> Result<(), String> {
        let (learning_rate, other) = match *self {
            Self::Sgd {
                learning_rate,
                momentum,
            } if !(0.0..1.0).contains(&momentum) => {
                let other = format!("momentum is {momentum}: write a number from 0 to below 1");
                (learning_rate, Some(other))
            }
            Self::Adamw {
                learning_rate,
                weight_decay,
            } if !(0.0..=f32::MAX).contains(&weight_decay) => {
                let other = format!("weight-decay is {weight_decay}: write a number from 0 on");
                (learning_rate, Some(other))
            }
            Self::Sgd { learning_rate, .. } | Self::Adamw { learning_rate, .. } => {
                (learning_rate, None)
            }
        };
        match (learning_rate.is_finite() && learning_rate > 0.0, other) {
            (false, _) => Err(format!(
                "learning-rate is {learning_rate}: write a number above 0"
            )),
            (true, Some(other)) => Err(other),
            (true, None) => Ok(()),
        }
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::Sgd {
            learning_rate: 0.1,
            momentum: 0.0,
        }
    }
}

impl From<Steps> for Optimiser {
    fn from(steps: Steps) -> Self {
        match steps {
            Steps::Sgd {
                learning_rate,
                momentum,
            } => Self::Sgd {
                learning_rate,
                momentum,
            },
            Steps::Adamw {
                learning_rate,
                weight_decay,
            } => Self::AdamW {
                learning_rate,
                weight_decay,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Example {
        rounds: u32,
        #[serde(default)]
        packing: Option<Packing>,
        #[serde(default)]
        steps: Steps,
    }

    #[test]
    fn an_error_names_file_line_and_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("example.toml");
        let fail = |text: &str| {
            fs::write(&path, text).unwrap();
            let error = read::<Example>(&path).unwrap_err().to_string();
            assert!(error.contains("example.toml"), "{error}");
            assert!(!error.contains('\n'), "{error}");
            error
        };
        let error = fail("rounds = 3\nroundz = 4\n");
        assert!(error.contains("line 2 (roundz = 4)"), "{error}");
        assert!(error.contains("unknown field `roundz`"), "{error}");
        assert!(error.contains("`rounds`"), "{error}");
        let error = fail("rounds = \"three\"");
        assert!(error.contains("line 1 (rounds = \"three\")"), "{error}");
        assert!(fail("packing = \"f32\"").contains("missing field `rounds`"));
        assert!(fail("rounds = ").contains("line 1"));
        let error = fail("rounds = 1\nsteps = { sgd = { rate = 1 } }");
        assert!(
            error.contains("rate, available keys: learning-rate"),
            "{error}"
        );
        let error = read::<Example>(&folder.path().join("none.toml")).unwrap_err();
        assert!(error.to_string().contains("none.toml: cannot read it"));
    }

    #[test]
    fn packings_are_what_they_are_called() {
        let read = |text: &str| {
            let text = format!("rounds = 1\npacking = {text:?}");
            parse::<Example>(Path::new("example.toml"), &text)
        };
        let five = NonZeroU8::new(5).unwrap();
        let all = NAMED.into_iter().chain([("top-5", Packing::Top(five))]);
        for (name, packing) in all {
            assert_eq!(read(name).unwrap().packing.unwrap(), packing);
            assert_eq!(String::from(packing), name);
        }
        assert_eq!(Precision::from(Packing::Top(five)), Precision::Top(5));
        for name in ["u7", "top-0", "top-256", "top-", "F16", ""] {
            let error = read(name).unwrap_err().to_string();
            assert!(
                error.contains("line 2") && error.contains("`top-255`"),
                "{error}"
            );
        }
    }

    #[test]
    fn steps_that_lead_nowhere_are_refused() {
        assert_eq!(Steps::default().check(), Ok(()));
        for (learning_rate, momentum, part) in [
            (0.0, 0.0, "learning-rate is 0:"),
            (-0.1, 0.0, "learning-rate is -0.1:"),
            (f32::NAN, 0.0, "learning-rate is NaN:"),
            (f32::INFINITY, 0.0, "learning-rate is inf:"),
            (0.1, 1.0, "momentum is 1:"),
            (0.1, f32::NAN, "momentum is NaN:"),
        ] {
            let steps = Steps::Sgd {
                learning_rate,
                momentum,
            };
            let why = steps.check().unwrap_err();
            assert!(why.contains(part), "{why}");
        }
        let decay = Steps::Adamw {
            learning_rate: 0.1,
            weight_decay: -1.0,
        };
        assert!(decay.check().unwrap_err().contains("weight-decay is -1:"));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("example.toml");
        fs::write(
            &path,
            "rounds = 3\npacking = \"u8\"\nsteps = { adamw = { learning-rate = 0.5 } }",
        )
        .unwrap();
        let example: Example = read(&path).unwrap();
        assert_eq!(example.packing, Some(Packing::U8));
        let steps = Steps::Adamw {
            learning_rate: 0.5,
            weight_decay: 0.0,
        };
        assert_eq!(example.steps, steps);
        assert_eq!(super::folder(Path::new("a/b.toml")), Path::new("a"));
        assert_eq!(super::folder(Path::new("b.toml")), Path::new("."));
    }
}
