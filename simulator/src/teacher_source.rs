use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::SimulationError;

/// Where the teacher comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TeacherSource {
    /// There is none.
    None,
    /// A net that knows nothing as the federation begins, and learns what it comes to: the server's
    /// model of DS-FL or CFD. It has no vote.
    Untrained,
    /// Trained on so many labelled public samples.
    Train(usize),
    /// A file that `fedistill-coordinator teacher train` or a simulation wrote.
    File(PathBuf),
}

impl TeacherSource {
    /// Refuses a file that is not there, before data are read for it.
    ///
    /// # Errors
    /// No such file.
    pub(crate) fn is_there(&self) -> Result<(), SimulationError> {
        match self {
            Self::File(path) if !path.is_file() => Err(SimulationError::Settings(format!(
                "no teacher {path:?}: write none, untrained, train:N or the path of a file"
            ))),
            _ => Ok(()),
        }
    }
}

impl std::str::FromStr for TeacherSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "untrained" => Ok(Self::Untrained),
            Some(("train", count)) => match count.parse() {
                Ok(count) if count > 0 => Ok(Self::Train(count)),
                _ => Err(format!("{text:?}: write train:N with N at least 1")),
            },
            _ => Ok(Self::File(text.into())),
        }
    }
}

impl Serialize for TeacherSource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TeacherSource {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl std::fmt::Display for TeacherSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Untrained => f.write_str("untrained"),
            Self::Train(count) => write!(f, "train:{count}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}
