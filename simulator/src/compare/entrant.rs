use crate::config::Config;
use crate::{Averaging, SimulationError};

/// Settings that a method of a comparison may have for itself: what it sends and how it trains. What is
/// left is the same for all, or what is compared.
const OWN: [&str; 8] = [
    "packing",
    "rounding",
    "samples",
    "rounds",
    "per-round",
    "private-epochs",
    "distillation-epochs",
    "batch",
];

/// A method with these settings, as a comparison names it: `METHOD`, or `METHOD@KEY=VALUE,...` where
/// some are its own.
///
/// # Errors
/// A method, a setting or a value that nobody knows.
pub(super) fn settings(name: &str, shared: &Config) -> Result<Config, SimulationError> {
    let (method, own) = name.split_once('@').unwrap_or((name, ""));
    let mut config = Config {
        method: method.to_owned(),
        ..shared.clone()
    };
    let mut told = Vec::new();
    for pair in own.split(',').filter(|_| name.contains('@')) {
        let wrong = |why: String| SimulationError::Settings(format!("{pair:?} in {name:?}: {why}"));
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| wrong("write METHOD@KEY=VALUE,KEY=VALUE".to_owned()))?;
        if !OWN.contains(&key) {
            return Err(wrong(format!(
                "a method may have {} for itself, what else there is is the same for all",
                OWN.join(", ")
            )));
        }
        if told.contains(&key) {
            return Err(wrong(format!("{key} is given more than once")));
        }
        told.push(key);
        let weights = Averaging::by_name(method).is_some();
        if weights && ["packing", "rounding"].contains(&key) {
            return Err(wrong(format!(
                "{method} packs nothing: weights cross as they are"
            )));
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        config = with(&config, key, value).map_err(|error| wrong(error.to_string()))?;
    }
    config.check()?;
    Ok(config)
}

/// The method of such a name.
pub(super) fn method(name: &str) -> &str {
    name.split_once('@').map_or(name, |(method, _)| method)
}

fn with(config: &Config, key: &str, value: serde_json::Value) -> serde_json::Result<Config> {
    let mut keys = serde_json::to_value(config)?;
    if let Some(keys) = keys.as_object_mut() {
        keys.insert(key.to_owned(), value);
    }
    serde_json::from_value(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedistill_program::config::Packing;

    #[test]
    fn a_method_has_what_it_sends_for_itself() {
        let shared = Config {
            rounds: 7,
            ..Config::default()
        };
        let plain = settings("ds-fl:era,temperature=0.2", &shared).unwrap();
        assert_eq!(plain.method, "ds-fl:era,temperature=0.2");
        assert_eq!((plain.rounds, plain.packing), (7, Packing::F16));
        let own = settings("ds-fl:era,temperature=0.2@packing=u4,samples=500", &shared).unwrap();
        let expected = Config {
            samples: 500,
            packing: Packing::U4,
            ..plain
        };
        assert_eq!(own, expected);
        assert_eq!(method("a:b,c=1@d=2"), "a:b,c=1");
        assert_eq!(method("a"), "a");
    }

    #[test]
    fn what_it_may_not_have_is_told() {
        for (name, part) in [
            ("adaptive@", "write METHOD@KEY=VALUE"),
            ("adaptive@u4", "write METHOD@KEY=VALUE"),
            ("adaptive@seed=3", "may have packing, rounding, samples"),
            ("adaptive@packing=u3", "u3"),
            ("adaptive@samples=many", "samples=many"),
            ("adaptive@samples=0", "at least 1"),
            ("best@samples=1", "choose adaptive"),
            ("adaptive@packing=u4,packing=u8", "more than once"),
            ("fedavg@packing=u4", "packs nothing"),
        ] {
            let error = settings(name, &Config::default()).unwrap_err().to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
    }
}
