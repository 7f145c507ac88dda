//! What methods there are, and how they and their parameters are named:
//! `NAME[:VARIANT][,KEY=VALUE...]`.

use std::fmt::Write as _;

use super::parameter::{self, Given, Parameter};
use super::{
    AtCentre, Method, MethodError, adaptive, cfd, comet, ds_fl, fd, fedmd, fedntd, fedproto,
    fedtgp, kt_pfl, local, logit_mean, robustly, scarlet, selective, teacher_only, vote,
};

/// A method, as a user meets it.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Its variants, the default first; none where there is but one form.
    pub variants: &'static [Variant],
    /// Where it comes from.
    pub source: &'static str,
    /// What it does, in a sentence or two.
    pub summary: &'static str,
    /// What goes up.
    pub up: &'static str,
    /// What comes down.
    pub down: &'static str,
    /// What clients minimise.
    pub loss: &'static str,
    /// When to use it.
    pub good: &'static str,
    /// When not to.
    pub bad: &'static str,
    /// Where it differs from its source, and why.
    pub differs: &'static str,
    /// What can be set.
    pub parameters: &'static [Parameter],
    /// Makes it.
    pub(super) make: fn(&Given) -> Box<dyn Method>,
}

/// A form of a method.
#[derive(Debug)]
pub struct Variant {
    /// Its name.
    pub name: &'static str,
    /// What is particular to it.
    pub what: &'static str,
    /// Keys of parameters that no other variant has.
    pub own: &'static [&'static str],
}

/// The method where none is named.
pub const DEFAULT: &str = adaptive::ENTRY.name;

/// All methods.
pub fn entries() -> &'static [&'static Entry] {
    &[
        &adaptive::ENTRY,
        &logit_mean::ENTRY,
        &ds_fl::ENTRY,
        &fedmd::ENTRY,
        &fedntd::ENTRY,
        &cfd::ENTRY,
        &scarlet::ENTRY,
        &vote::ENTRY,
        &selective::ENTRY,
        &comet::ENTRY,
        &kt_pfl::ENTRY,
        &fd::ENTRY,
        &fedproto::ENTRY,
        &fedtgp::ENTRY,
        &teacher_only::ENTRY,
        &local::ENTRY,
    ]
}

/// The names of all, for messages.
pub(super) fn names() -> String {
    let names: Vec<String> = entries().iter().flat_map(|entry| entry.names()).collect();
    names.join(", ")
}

impl Entry {
    /// Its name with each variant.
    pub fn names(&self) -> Vec<String> {
        match self.variants {
            [] => vec![self.name.to_owned()],
            variants => variants
                .iter()
                .map(|variant| format!("{}:{}", self.name, variant.name))
                .collect(),
        }
    }

    fn parse(
        &'static self,
        variant: Option<&str>,
        settings: &[&str],
    ) -> Result<Given, MethodError> {
        let wrong = |why: String| MethodError::Parameter {
            method: self.name.to_owned(),
            why,
        };
        let variant = match variant {
            None => self.variants.first(),
            Some(name) => {
                let found = self.variants.iter().find(|variant| variant.name == name);
                Some(found.ok_or_else(|| match self.variants {
                    [] => wrong(format!("it has no variants, not {name:?} either")),
                    _ => wrong(format!(
                        "no variant {name:?}: choose {}",
                        self.names().join(", ")
                    )),
                })?)
            }
        };
        let own = variant.map_or(&[][..], |variant| variant.own);
        for (key, _) in settings.iter().filter_map(|told| told.split_once('=')) {
            let mut others = self.variants.iter().filter(|v| v.own.contains(&key));
            if !own.contains(&key)
                && let Some(other) = others.next()
            {
                return Err(wrong(format!(
                    "{key} is a parameter of {}:{} alone",
                    self.name, other.name
                )));
            }
        }
        let given = Given::read(self.name, self.parameters, settings)?;
        Ok(given.of(variant.map(|variant| variant.name)))
    }
}

/// The method that a user names.
///
/// # Errors
/// [`MethodError::Unknown`] with the names there are, or [`MethodError::Parameter`].
pub fn by_name(text: &str) -> Result<Box<dyn Method>, MethodError> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let (name, variant) = match name.split_once(':') {
        Some((name, variant)) => (name, Some(variant)),
        None => (name, None),
    };
    let entry = entries().iter().find(|entry| entry.name == name);
    let entry = entry.ok_or_else(|| MethodError::Unknown {
        name: text.to_owned(),
    })?;
    let is_robust = |setting: &&str| {
        setting
            .split_once('=')
            .is_some_and(|(key, _)| key == robustly::KEY)
    };
    let (robust, settings): (Vec<&str>, Vec<&str>) = parts.partition(is_robust);
    let method = (entry.make)(&entry.parse(variant, &settings)?);
    // Whatever stands at the centre, beside the other keys.
    let idle = method.idle(AtCentre::Measured);
    let mut told = settings.iter().filter_map(|told| told.split_once('='));
    if let Some((key, _)) = told.find(|(key, _)| idle.contains(key)) {
        return Err(MethodError::Parameter {
            method: text.to_owned(),
            why: format!("{key} changes nothing beside the other keys: leave it out"),
        });
    }
    match robust.as_slice() {
        [] => Ok(method),
        [one] => robustly::wrap(method, one),
        _ => Err(MethodError::Parameter {
            method: method.name(),
            why: format!("{} is given more than once", robustly::KEY),
        }),
    }
}

/// The catalogue for people: `docs/methods.md`.
pub fn markdown() -> String {
    let mut text = String::from(HEAD);
    // Writing to a string cannot fail.
    for entry in entries() {
        let _ = writeln!(
            text,
            "\n## `{}`\n\n{} ({})\n",
            entry.name, entry.summary, entry.source
        );
        let _ = writeln!(text, "| | |\n|---|---|");
        for (what, words) in [
            ("up", entry.up),
            ("down", entry.down),
            ("loss", entry.loss),
            ("use it", entry.good),
            ("do not", entry.bad),
            ("differs", entry.differs),
        ] {
            if !words.is_empty() {
                let _ = writeln!(text, "| {what} | {words} |");
            }
        }
        for variant in entry.variants {
            let _ = writeln!(
                text,
                "| `{}:{}` | {} |",
                entry.name, variant.name, variant.what
            );
        }
        if !entry.parameters.is_empty() {
            let _ = write!(text, "\n{}", parameter::table(entry.parameters));
        }
    }
    text
}

const HEAD: &str = "# Methods

This page is written by the code (`common/federation/src/method/catalogue.rs`), and a test holds it against it.

A method is named `NAME`, `NAME:VARIANT` or `NAME[:VARIANT],KEY=VALUE,...`, in `--method` and in configuration files. N are the transfer samples of a round
(`samples`), C the classes, d the width of features. Bytes are of f32, before packing: `packing` makes them 2, 4, 8, 16 or 32 times fewer (`u1` leaves of a row of logits which class is the largest and two levels, 12 bits of ten classes), and entropy coding
fewer still; where nobody says it, `adaptive` is packed in 8 bits a value and others in 16, but for those that say themselves in how many; with `rounding = \"stochastic\"` clients round by chance what they pack at 8 bits and fewer, right on average, so that errors of many cancel in their mean. When to use which is what their papers say and how they are made; hold them against each other on your own data with `fedistill-simulate compare`. How hard clients train (private epochs, distillation epochs, batch, steps), at which temperature they distil and how much they smooth labels is the user's, whatever the method, unless its table says otherwise (`docs/operations.md`, How students train). A setting of which a method makes nothing is refused where a comparison gives it to that method alone, and told of elsewhere. So is a key of its own that waits for another teacher than there is; one that changes nothing beside its other keys is refused.

Where a teacher was trained before the federation, what it says comes down in the first round, before any client has spoken, and students distil it: with every method but `fd`, `fedproto`, `fedtgp` and `local`, though
few of their papers have such a teacher. `--teacher none` or `untrained` begins as those papers do, with private training.

A method whose aggregate is a mean of what comes up takes one key more: `robust=median` (each value by itself; Yin et al. 2018) or `robust=geometric-median` (the point with the least
sum of distances to what all clients say of a sample; Weiszfeld 1937) puts that in the mean's place, so that fewer than half of the clients cannot move it far, whatever they say. Each client then counts
once, whatever its weight (0 keeps it out), and the coordinator holds all that came up in a round. It is of even data: under strong label skew honest clients disagree as liars do, and no centre tells one from the other.

## Losses

What students minimise is data of a plan, terms that add up. Some terms come with a method by its name and keys; all others in the table are there for a `Method` of your own, which puts them into the phases that it
asks for (`Ask::phases`), each with a weight that may rise or fall over epochs (`Ramp`). Clients need not be changed for that.

| loss | by name and keys | by a plan |
|---|---|---|
| cross-entropy with private labels | every method; `label-smoothing` spreads a share of the label | yes |
| KL to what came down, T² | every method whose table says KL; `distillation-temperature` is T | yes |
| soft cross-entropy | `vote`; about classes, `fd` | yes |
| mean absolute error of logits | `fedmd` | yes |
| not-true distillation | `fedntd`, of what the student said before | yes |
| mean squared error of features | `fedproto` and `fedtgp`, toward prototypes | also hints (FitNets), with a learnt map where widths differ |
| softmax over the classes that a client holds, restricted or balanced |  | yes |
| reverse KL, mean squared error of logits, decoupled distillation |  | yes |
| attention transfer, similarity-preserving, relational |  | yes, of features |

Terms of features hold a student's against prototypes of classes, against its own of before the phase, or against features that your `Method` sends down. Features are what goes into a model's last layer, a vector a sample: in nets that pool over space before it (ResNets, MobileNet), a
value a channel. So **attention transfer is here of feature vectors**: the squared distance of two such vectors, each scaled to length 1. Zagoruyko and Komodakis (2017) compare maps, sums over channels of squared activations at each place of an image, after several layers:
where a net looks. A pooled vector has no places left: here it is which features answer, relative to each other, and in one layer; both sides must have as many. Their results on images tell nothing of it.
";
