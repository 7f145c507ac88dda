use fedistill_federation::{Setting, method};

use fedistill_protocol::Precision;

use crate::config::{Config, heeds};
use crate::{Averaging, SimulationError};

/// Settings that a method of a comparison may have for itself: what it sends and how it trains. What is
/// left is the same for all, or what is compared.
const OWN: [&str; 10] = [
    "packing",
    "rounding",
    "samples",
    "rounds",
    "per-round",
    "private-epochs",
    "distillation-epochs",
    "batch",
    "distillation-temperature",
    "label-smoothing",
];

/// A method with these settings, as a comparison names it: `METHOD`, or `METHOD@KEY=VALUE,...` where
/// some are its own.
///
/// # Errors
/// A method, a setting or a value that nobody knows, or one that would be without effect.
pub(super) fn settings(name: &str, shared: &Config) -> Result<Config, SimulationError> {
    let (method, own) = name.split_once('@').unwrap_or((name, ""));
    let mut config = Config {
        method: method.to_owned(),
        ..shared.clone()
    };
    let wrong =
        |what: &str, why: String| SimulationError::Settings(format!("{what:?} in {name:?}: {why}"));
    if own.contains('@') {
        let why = "part settings by commas, METHOD@KEY=VALUE,KEY=VALUE: only one @ in a name";
        return Err(wrong(own, why.to_owned()));
    }
    let mut told = Vec::new();
    for pair in own.split(',').filter(|_| name.contains('@')) {
        let wrong = |why| wrong(pair, why);
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
        if let Some(setting) = Setting::by_key(key).filter(|setting| !heeds(method, *setting)) {
            return Err(wrong(setting.is_lost_on(method)));
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        config = with(&config, key, value).map_err(|error| wrong(error.to_string()))?;
    }
    config.check()?;
    // What all have in common may be for others.
    let rounding = config
        .rounds_nothing()
        .filter(|_| told.contains(&"rounding"));
    let keys = config.idle_packed().into_iter();
    let mut lost = rounding
        .into_iter()
        .chain(keys.filter(|_| told.contains(&"packing")));
    match lost.next() {
        Some(why) => Err(wrong(own, why)),
        None => Ok(config),
    }
}

/// How answers are packed; `None` where there are none.
fn precision(config: &Config) -> Option<Precision> {
    let usual = || Some(method::by_name(&config.method).ok()?.usual_precision());
    config.packing.map(Precision::from).or_else(usual)
}

/// The same for all names that come to the same.
///
/// # Errors
/// As of [`settings`].
pub(super) fn meaning(
    name: &str,
    shared: &Config,
) -> Result<(Config, Option<Precision>), SimulationError> {
    let config = settings(name, shared)?;
    let packed = precision(&config);
    let method = match Averaging::is(&config.method) {
        true => config.method.clone(),
        false => method::by_name(&config.method)?.name(),
    };
    let config = Config {
        method,
        packing: None,
        ..config
    };
    Ok((config, packed))
}

/// The method of such a name.
pub(super) fn method_of(name: &str) -> &str {
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
    use fedistill_program::config::{Packing, Rounding};

    #[test]
    fn a_method_has_what_it_sends_for_itself() {
        let shared = Config {
            rounds: 7,
            ..Config::default()
        };
        let plain = settings("ds-fl:era,temperature=0.2", &shared).unwrap();
        assert_eq!(plain.method, "ds-fl:era,temperature=0.2");
        assert_eq!((plain.rounds, plain.packing), (7, None));
        let own = settings("ds-fl:era,temperature=0.2@packing=u4,samples=500", &shared).unwrap();
        let expected = Config {
            samples: 500,
            packing: Some(Packing::U4),
            ..plain
        };
        assert_eq!(own, expected);
        assert_eq!(method_of("a:b,c=1@d=2"), "a:b,c=1");
        assert_eq!(method_of("a"), "a");
    }

    /// Settings that all methods of a comparison have in common: what they learn from, what they are, and
    /// what no result depends on. Nobody writes `steps` in a name: they hold commas.
    const SHARED: [&str; 18] = [
        "data",
        "method",
        "clients",
        "partition",
        "teacher",
        "transport",
        "seed",
        "out",
        "threads",
        "memory-budget-mb",
        "checkpoint-seconds",
        "models",
        "teacher-model",
        "public",
        "personal-held-out",
        "steps",
        "byzantine",
        "baselines",
    ];

    #[test]
    fn each_setting_is_one_method_s_or_all_methods() {
        let keys = serde_json::to_value(Config::default()).unwrap();
        let keys: Vec<&String> = keys.as_object().unwrap().keys().collect();
        for key in &keys {
            let (own, shared) = (OWN.contains(&key.as_str()), SHARED.contains(&key.as_str()));
            assert!(
                own != shared,
                "{key}: list it here, or among a method's own"
            );
        }
        assert_eq!(keys.len(), OWN.len() + SHARED.len());
    }

    #[test]
    fn each_setting_that_a_method_may_have_is_taken() {
        let shared = Config::default();
        for (pair, expected) in [
            (
                "packing=u8",
                Config {
                    packing: Some(Packing::U8),
                    ..shared.clone()
                },
            ),
            (
                "rounding=stochastic",
                Config {
                    rounding: Rounding::Stochastic,
                    ..shared.clone()
                },
            ),
            (
                "samples=7",
                Config {
                    samples: 7,
                    ..shared.clone()
                },
            ),
            (
                "rounds=7",
                Config {
                    rounds: 7,
                    ..shared.clone()
                },
            ),
            (
                "per-round=7",
                Config {
                    per_round: Some(7),
                    ..shared.clone()
                },
            ),
            (
                "private-epochs=7",
                Config {
                    private_epochs: 7,
                    ..shared.clone()
                },
            ),
            (
                "distillation-epochs=7",
                Config {
                    distillation_epochs: 7,
                    ..shared.clone()
                },
            ),
            (
                "batch=7",
                Config {
                    batch: 7,
                    ..shared.clone()
                },
            ),
            (
                "distillation-temperature=7",
                Config {
                    distillation_temperature: 7.0,
                    ..shared.clone()
                },
            ),
            (
                "label-smoothing=0.5",
                Config {
                    label_smoothing: 0.5,
                    ..shared.clone()
                },
            ),
        ] {
            assert_eq!(
                settings(&format!("adaptive@{pair}"), &shared).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn what_would_be_without_effect_is_refused() {
        for (name, key) in [
            ("cfd@packing=u4", "packing"),
            ("cfd,bits-up=4,robust=median@packing=u4", "packing"),
            ("vote:tally@packing=u1", "packing"),
            ("local@samples=5", "samples"),
            ("teacher-only@rounding=stochastic", "rounding"),
            ("fedmd,revisit-epochs=4@private-epochs=2", "private-epochs"),
            ("fd@distillation-epochs=2", "distillation-epochs"),
            (
                "fedproto@distillation-temperature=2",
                "distillation-temperature",
            ),
            ("fedavg@packing=u4", "packing"),
            ("feddf@rounding=stochastic", "rounding"),
            ("fedavg@samples=5", "samples"),
            ("feddf,steps=5@distillation-epochs=2", "distillation-epochs"),
        ] {
            let error = settings(name, &Config::default()).unwrap_err().to_string();
            let part = format!(
                "{key} changes nothing with {}: leave it out",
                method_of(name)
            );
            assert!(error.contains(&part), "{name}: {error}");
        }
        for name in [
            "feddf,steps=5@samples=5,distillation-temperature=2",
            "cfd@rounding=stochastic",
            "fedmd@private-epochs=2",
        ] {
            settings(name, &Config::default()).unwrap();
        }
        let error = settings("logit-mean@rounding=stochastic", &Config::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("packed in 16 bits and more"), "{error}");
        let name = "adaptive,tolerance=5@packing=f16";
        let error = settings(name, &Config::default()).unwrap_err().to_string();
        assert!(
            error.contains("tolerance of adaptive,tolerance=5"),
            "{error}"
        );
        settings(
            "logit-mean@rounding=stochastic,packing=u4",
            &Config::default(),
        )
        .unwrap();
        // What all have in common may be for others.
        let shared = Config {
            distillation_temperature: 2.0,
            packing: Some(Packing::U4),
            ..Config::default()
        };
        settings("fedmd", &shared).unwrap();
        settings("cfd", &shared).unwrap();
    }

    #[test]
    fn what_it_may_not_have_is_told() {
        for (name, part) in [
            ("adaptive@", "write METHOD@KEY=VALUE"),
            ("adaptive@u4", "write METHOD@KEY=VALUE"),
            (
                "adaptive@seed=3",
                "may have packing, rounding, samples, rounds",
            ),
            ("adaptive@packing=u3", "u3"),
            ("adaptive@samples=many", "samples=many"),
            ("adaptive@samples=0", "at least 1"),
            ("best@samples=1", "choose adaptive"),
            ("adaptive@packing=u4,packing=u8", "more than once"),
            ("adaptive@packing=u4@samples=5", "part settings by commas"),
            ("adaptive@@packing=u4", "part settings by commas"),
            ("adaptive@label-smoothing=1", "label-smoothing is 1"),
        ] {
            let error = settings(name, &Config::default()).unwrap_err().to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
    }
}
