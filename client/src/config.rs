//! The client's configuration.

use std::path::{Path, PathBuf};

use fedistill_learning::{Architecture, Source};
use fedistill_program::ConfigError;
use fedistill_program::config;
use serde::Deserialize;

use crate::Policy;

/// A client, whole. Relative paths start from the folder of the file. Its name and its federation
/// are in its bundle.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where the coordinator is: `host:port`.
    pub coordinator: String,
    /// The name that the coordinator's certificate is for, where it is not the host.
    pub server_name: Option<String>,
    /// The bundle that `fedistill-coordinator client-cert` has made for this device.
    pub bundle: PathBuf,
    /// The folder that the student is kept in.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// The student's net.
    #[serde(default = "mlp_s")]
    pub model: Architecture,
    /// Names of the classes, in the same order as the coordinator's.
    pub classes: Vec<String>,
    /// What the student's first parameters are drawn under; by default, the client's name.
    pub seed: Option<u64>,
    /// The private samples. They never leave.
    pub data: Source,
    /// Private samples that the student never learns from, to tell how good it is.
    pub held_out: Option<Source>,
    /// What this device allows a coordinator to ask.
    #[serde(default)]
    pub policy: Policy,
}

fn state() -> PathBuf {
    "state".into()
}

fn mlp_s() -> Architecture {
    Architecture::MlpS
}

impl Config {
    /// Reads a file; all paths in what is returned are whole.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = config::read(path)?;
        let folder = config::folder(path);
        config.bundle = folder.join(&config.bundle);
        config.state = folder.join(&config.state);
        for source in [&mut config.data].into_iter().chain(&mut config.held_out) {
            source.start_from(&folder);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.toml");
        std::fs::write(&path, text).unwrap();
        Config::from_file(&path)
    }

    const LEAST: &str = r#"
        coordinator = "localhost:4433"
        bundle = "ward-7.pem"
        classes = ["cat", "dog"]
        [data]
        folder = { path = "photos", shape = [3, 32, 32] }
    "#;

    #[test]
    fn little_has_to_be_said() {
        let config = written(LEAST).unwrap();
        assert_eq!(config.model, Architecture::MlpS);
        assert_eq!(config.policy, Policy::default());
        assert!(config.bundle.is_absolute() && config.state.is_absolute());
    }

    #[test]
    fn nothing_is_passed_over() {
        for (more, part) in [
            ("[policy]\nmost-row = 3", "unknown field `most-row`"),
            ("[held-out]\nparquet = 3", "unknown variant `parquet`"),
            ("[held_out]\n", "unknown field `held_out`"),
        ] {
            let error = written(&format!("{LEAST}\n{more}\n"))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(part) && error.contains("client.toml, line"),
                "{error}"
            );
        }
    }
}
