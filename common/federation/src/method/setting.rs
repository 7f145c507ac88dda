use fedistill_protocol::{Precision, Rounding};

use super::{Method, Training};

/// A setting of the user's of which some methods make nothing: see [`Method::heeds`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Setting {
    /// How answers are packed.
    Packing,
    /// How clients round what they pack.
    Rounding,
    /// Transfer samples that a round speaks about.
    Samples,
    /// Passes over private data.
    PrivateEpochs,
    /// Passes over the round's transfer samples.
    DistillationEpochs,
    /// Temperature of distillation.
    DistillationTemperature,
}

impl Setting {
    /// All of them, with their keys.
    pub const ALL: [(&'static str, Self); 6] = [
        ("packing", Self::Packing),
        ("rounding", Self::Rounding),
        ("samples", Self::Samples),
        ("private-epochs", Self::PrivateEpochs),
        ("distillation-epochs", Self::DistillationEpochs),
        ("distillation-temperature", Self::DistillationTemperature),
    ];

    /// The one that is written so.
    pub fn by_key(key: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == key);
        found.map(|(_, setting)| *setting)
    }

    /// The key that it is written as.
    pub fn key(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, known)| *known == self);
        found.map_or("", |(key, _)| key)
    }

    /// That it is without effect on the method of this name, for whoever gave it.
    pub fn is_lost_on(self, method: &str) -> String {
        format!(
            "{} changes nothing with {method}: leave it out; docs/methods.md has the keys that {method} has of its own",
            self.key()
        )
    }
}

/// What stands at the centre of a federation, as far as keys depend on it: each is more than the one before.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum AtCentre {
    /// No teacher.
    Nobody,
    /// A teacher that knows nothing as the federation begins.
    Untrained,
    /// A teacher that knows something, and no labelled samples to measure it by.
    Trained,
    /// A teacher that knows something, and labelled samples to measure it by.
    Measured,
}

impl AtCentre {
    /// Which keys of its own a method has been given, other than by default, that are without effect there: a line each.
    pub fn idle(self, method: &dyn Method) -> Vec<String> {
        let why = match self {
            Self::Nobody => "where there is no teacher",
            Self::Untrained => "where the teacher begins untrained",
            Self::Trained => "without labelled samples to measure the teacher by",
            Self::Measured => "beside the other keys",
        };
        told_among(method, &method.idle(self), why)
    }
}

/// That clients round by chance where answers are packed so wide that there is nothing to round.
pub fn rounds_nothing(
    method: &dyn Method,
    precision: Precision,
    rounding: Rounding,
) -> Option<String> {
    let taken_as_they_are = is_wide(precision) || matches!(precision, Precision::Top(_));
    let lost = rounding == Rounding::Stochastic && taken_as_they_are;
    (lost && method.heeds(Setting::Packing)).then(|| {
        "rounding changes nothing where values are packed in 16 bits and more, or the largest of them as they are: leave it out, or give packing too".to_owned()
    })
}

/// Which keys of its own a method has been given, other than by default, that are without effect where answers are packed
/// so: a line each.
pub fn idle_packed(method: &dyn Method, precision: Precision) -> Vec<String> {
    let why = match is_wide(precision) {
        true => "where values are packed in 16 bits and more",
        false => "with such packing",
    };
    told_among(method, &method.idle_packed(precision), why)
}

fn is_wide(precision: Precision) -> bool {
    matches!(precision, Precision::F32 | Precision::F16)
}

/// Of these keys those that have been given, other than by default, and why they change nothing.
fn told_among(method: &dyn Method, keys: &[&str], why: &str) -> Vec<String> {
    let name = method.name();
    let told = name.split(',').filter_map(|part| part.split_once('='));
    told.filter(|(key, _)| keys.contains(key))
        .map(|(key, _)| format!("{key} of {name} changes nothing {why}: leave it out"))
        .collect()
}

impl Training {
    /// Refuses what of it, other than by default, would be without effect on a method.
    ///
    /// # Errors
    /// The key and what to do, as one line.
    pub fn suits(&self, method: &dyn Method) -> Result<(), String> {
        let setting = Setting::DistillationTemperature;
        match self.distillation_temperature == Self::TEMPERATURE || method.heeds(setting) {
            true => Ok(()),
            false => Err(setting.is_lost_on(&method.name())),
        }
    }
}
