//! The client's configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fedistill_learning::{Architecture, Source};
use fedistill_program::ConfigError;
use fedistill_program::config;
use fedistill_transport::Fallback;
use serde::{Deserialize, Deserializer};

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
    /// Where it is over TCP, for networks that let no UDP through: `none`, `tcp` (the same host, port 443),
    /// `tcp:PORT` or `tcp:HOST:PORT`.
    #[serde(default)]
    pub fallback: Fallback,
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
    /// Least time between two checkpoints of a training that is under way, in seconds: what a crash costs at
    /// most, beside a pass over the samples.
    #[serde(default = "ten_seconds", deserialize_with = "seconds")]
    pub checkpoint_seconds: Duration,
    /// After so long a silence a sign of life is sent, in seconds: shorter than what the network's address
    /// translators remember, and than the 30 s of silence after which a connection is taken for lost.
    #[serde(default = "ten_seconds", deserialize_with = "sign_of_life")]
    pub keep_alive_seconds: Duration,
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

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// From 0 to a day.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    within(deserializer, 0.0, 86_400.0)
}

/// So often that one of them may be lost.
fn sign_of_life<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    within(deserializer, 0.1, 20.0)
}

fn within<'de, D: Deserializer<'de>>(
    deserializer: D,
    least: f64,
    most: f64,
) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    match (least..=most).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => {
            let why = format!("{seconds} seconds are not within {least} to {most}");
            Err(serde::de::Error::custom(why))
        }
    }
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
        assert_eq!(config.fallback, Fallback::None);
        assert_eq!(config.checkpoint_seconds, Duration::from_secs(10));
        assert!(config.bundle.is_absolute() && config.state.is_absolute());
    }

    #[test]
    fn a_checkpoint_is_due_within_a_day() {
        let with = |line: &str| written(&format!("{line}\n{LEAST}"));
        let config = with("checkpoint-seconds = 0.5").unwrap();
        assert_eq!(config.checkpoint_seconds, Duration::from_millis(500));
        for wrong in ["-1.0", "nan", "inf", "86401.0"] {
            let error = with(&format!("checkpoint-seconds = {wrong}")).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains("client.toml, line 1") && error.contains("86400"),
                "{error}"
            );
        }
    }

    #[test]
    fn signs_of_life_come_before_a_connection_is_lost() {
        let with = |seconds: &str| written(&format!("keep-alive-seconds = {seconds}\n{LEAST}"));
        let config = with("0.5").unwrap();
        assert_eq!(config.keep_alive_seconds, Duration::from_millis(500));
        for wrong in ["0.0", "nan", "30.0"] {
            let error = with(wrong).unwrap_err().to_string();
            assert!(error.contains("not within 0.1 to 20"), "{error}");
        }
    }

    #[test]
    fn a_fallback_is_a_port_or_an_address() {
        let with = |value: &str| written(&format!("fallback = {value:?}\n{LEAST}"));
        for (value, address) in [
            ("tcp", Some("localhost:443")),
            ("tcp:8443", Some("localhost:8443")),
            ("tcp:gate.example:443", Some("gate.example:443")),
            ("none", None),
        ] {
            let config = with(value).unwrap();
            let found = config.fallback.address(&config.coordinator);
            assert_eq!(found.as_deref(), address);
        }
        let error = with("quic").unwrap_err().to_string();
        assert!(
            error.contains("client.toml, line 1") && error.contains("tcp:HOST:PORT"),
            "{error}"
        );
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
