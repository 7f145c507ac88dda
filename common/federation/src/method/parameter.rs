//! Keys that a method has of its own, and how they are read from `KEY=VALUE`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::MethodError;

/// Something of a method that can be set.
#[derive(Debug)]
pub struct Parameter {
    /// Its key.
    pub key: &'static str,
    /// Its symbol in the source.
    pub symbol: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Its value where none is given.
    pub default: f64,
    /// The least and the largest value.
    pub range: (f64, f64),
    /// The values that it may have; any within its range where there are none.
    pub one_of: &'static [f64],
    /// Whether it is a whole number.
    pub whole: bool,
    /// Where the default comes from.
    pub source: &'static str,
}

/// The variant and the parameters that were given, all within their ranges.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    method: &'static str,
    variant: Option<&'static str>,
    values: BTreeMap<&'static str, f64>,
    /// Those that are not as by default, as they were written.
    written: Vec<String>,
}

impl Given {
    /// What these `KEY=VALUE`s say of a method that has these parameters and but one form.
    ///
    /// # Errors
    /// [`MethodError::Parameter`]: a key that it does not have or that stands twice, or a value beyond its
    /// range.
    pub fn read(
        method: &'static str,
        parameters: &'static [Parameter],
        settings: &[&str],
    ) -> Result<Self, MethodError> {
        let wrong = |why: String| MethodError::Parameter {
            method: method.to_owned(),
            why,
        };
        let mut given = Self {
            method,
            variant: None,
            values: parameters.iter().map(|p| (p.key, p.default)).collect(),
            written: Vec::new(),
        };
        let mut told: Vec<&str> = Vec::new();
        for setting in settings {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| wrong(format!("{setting:?}: write KEY=VALUE")))?;
            let parameter = parameters.iter().find(|p| p.key == key);
            let parameter = parameter.ok_or_else(|| {
                let keys: Vec<&str> = parameters.iter().map(|p| p.key).collect();
                wrong(match keys.is_empty() {
                    true => format!("it has no parameters, not {key:?} either"),
                    false => format!("no parameter {key:?}: there are {}", keys.join(", ")),
                })
            })?;
            if told.contains(&key) {
                return Err(wrong(format!("{key} is given more than once")));
            }
            told.push(key);
            let number = parameter.read(value).map_err(wrong)?;
            given.values.insert(parameter.key, number);
        }
        given.written = parameters
            .iter()
            .filter(|p| given.get(p.key) != p.default)
            .map(|p| format!("{}={}", p.key, given.get(p.key)))
            .collect();
        Ok(given)
    }

    /// The same, of this variant.
    #[must_use]
    pub(super) fn of(self, variant: Option<&'static str>) -> Self {
        Self { variant, ..self }
    }

    /// A parameter's value. One that its entry does not list is 0.
    pub fn get(&self, key: &str) -> f64 {
        self.values.get(key).copied().unwrap_or(0.0)
    }

    /// The variant's name; empty where there is but one form.
    pub fn variant(&self) -> &'static str {
        self.variant.unwrap_or("")
    }

    /// The name that leads back here.
    pub fn name(&self) -> String {
        let mut name = self.method.to_owned();
        if let Some(variant) = self.variant {
            // Writing to a string cannot fail.
            let _ = write!(name, ":{variant}");
        }
        for written in &self.written {
            let _ = write!(name, ",{written}");
        }
        name
    }
}

impl Parameter {
    /// The value that is written so.
    fn read(&self, value: &str) -> Result<f64, String> {
        let (key, (least, most)) = (self.key, self.range);
        let number = value.parse::<f64>().ok().filter(|number| {
            let listed = self.one_of.is_empty() || self.one_of.contains(number);
            let whole = !self.whole || number.fract() == 0.0;
            (least..=most).contains(number) && whole && listed
        });
        let kind = match self.whole {
            true => "whole number",
            false => "number",
        };
        let number = number.ok_or_else(|| match self.one_of {
            [] => format!("{key} is {value:?}, it must be a {kind} from {least} to {most}"),
            list => format!("{key} is {value:?}, it must be one of {}", listed(list)),
        })?;
        // Most are used in single precision, where it would come to 0, which may mean something else.
        match number != 0.0 && number.abs() < f64::from(f32::MIN_POSITIVE) {
            true => Err(format!(
                "{key} is {value:?}, which is too near 0: write 0 or at least 1e-37"
            )),
            false => Ok(number),
        }
    }
}

/// Parameters as a table for documents.
pub fn table(parameters: &[Parameter]) -> String {
    let mut text = String::from(
        "| key | symbol | what | default | range | source |\n|---|---|---|---|---|---|\n",
    );
    for p in parameters {
        let (least, most) = p.range;
        let range = match p.one_of {
            [] => format!("{least} to {most}"),
            list => listed(list),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {range} | {} |",
            p.key, p.symbol, p.what, p.default, p.source
        );
    }
    text
}

/// Numbers for people.
fn listed(numbers: &[f64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
    numbers.join(", ")
}
