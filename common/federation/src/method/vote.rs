use fedistill_protocol::{AnswerKind, Answers, Loss, Precision, Silence};

use super::catalogue::{Entry, Variant};
use super::parameter::{Given, Parameter};
use super::{
    Ask, Centre, Method, MethodError, Outlook, Setting, Taken, Wanted, by_row, distillation,
    largest, mean, pass_on, private, take_probabilities,
};
use crate::{Partial, State};

/// Hard labels, voted on: a class a sample, or nothing where a client stays silent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vote {
    silence: Silence,
    name: String,
}

pub(super) const ENTRY: Entry = Entry {
    name: "vote",
    variants: &[
        Variant {
            name: "ssfl",
            what: "a client votes only on samples that are like its own: no further from the nearest of them than a share of its own samples are from each other (after the discriminator of SSFL, Zhao et al. 2023)",
            own: &["quantile"],
        },
        Variant {
            name: "tally",
            what: "every client votes on every sample (TallyTrain 2026)",
            own: &[],
        },
        Variant {
            name: "sure",
            what: "a client votes where its largest probability is high enough",
            own: &["least"],
        },
    ],
    source: "SSFL, Zhao et al. 2023",
    summary: "Clients vote: a class a sample, or nothing. What most voted for comes down as a hard label.",
    up: "a class a sample, at one bit a class before coding: at most N log2(C + 1) / 8",
    down: "a class a sample",
    loss: "cross-entropy with the voted label; then with private labels",
    good: "very few bytes; clients that know what they know",
    bad: "`tally` and `sure` under label skew: those that never saw a class outvote those that did",
    differs: "abstention by distance to the client's own samples in place of a trained discriminator; samples nobody votes on come down silent and are not trained on; of classes with as many votes the first stands",
    parameters: &[
        Parameter {
            key: "quantile",
            symbol: "q",
            what: "of `ssfl`: share of a client's own samples that would be voted on",
            default: 0.75,
            range: (0.01, 1.0),
            one_of: &[],
            whole: false,
            source: "ours",
        },
        Parameter {
            key: "least",
            symbol: "θ",
            what: "of `sure`: smallest largest probability that is a vote",
            default: 0.9,
            range: (0.0, 1.0),
            one_of: &[],
            whole: false,
            source: "ours",
        },
    ],
    make: |given| Box::new(Vote::new(given)),
};

impl Vote {
    fn new(given: &Given) -> Self {
        let silence = match given.variant() {
            "tally" => Silence::Never,
            "sure" => Silence::Unsure {
                least: given.get("least") as f32,
            },
            _ => Silence::Far {
                quantile: given.get("quantile") as f32,
            },
        };
        Self {
            silence,
            name: given.name(),
        }
    }
}

/// All of a row's weight on its largest value.
pub(super) fn one_hot(row: &[f32]) -> Vec<f32> {
    let voted = largest(row);
    (0..row.len())
        .map(|class| f32::from(u8::from(class == voted)))
        .collect()
}

impl Method for Vote {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Probabilities)
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        let distil = distillation(outlook.training, Loss::SoftCrossEntropy);
        let distil = state.teaches().then_some(distil).into_iter();
        let phases = distil.chain([private(outlook.training)]).collect();
        let wanted = Wanted {
            precision: Some(Precision::U1),
            silence: self.silence,
            ..Wanted::on(AnswerKind::Probabilities, outlook.fresh)
        };
        Ask {
            precision: Some(Precision::U1),
            ..Ask::train(phases, true).report(wanted)
        }
    }

    /// What crosses are votes, and a vote has no temperature.
    fn heeds(&self, setting: Setting) -> bool {
        ![Setting::Packing, Setting::DistillationTemperature].contains(&setting)
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        take_probabilities(sum, weight, answers)
    }

    fn conclude(
        &self,
        _: &Outlook<'_>,
        taken: Taken<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        let rows = taken.rows()?;
        let Some(mean) = mean(taken, AnswerKind::Probabilities)? else {
            return Ok(());
        };
        let labels = by_row(AnswerKind::Probabilities, &mean, one_hot)?;
        pass_on(rows, labels, centre, state)
    }
}
