use fedistill_protocol::{AnswerKind, Answers, Density, Silence};

use super::catalogue::Entry;
use super::parameter::{Given, Parameter};
use super::{
    Ask, Centre, Method, MethodError, Outlook, Taken, Wanted, by_row, distil_then_train, mean,
    pass_on, take_probabilities,
};
use crate::{Partial, State};

/// Selective-FD (Shao et al. 2023): clients speak of samples that are like their own, and what they do
/// not agree on is left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Selective {
    silence: Silence,
    ambiguity: f32,
    name: String,
}

pub(super) const ENTRY: Entry = Entry {
    name: "selective",
    variants: &[],
    source: "Selective-FD, Shao et al. 2023",
    summary: "Clients speak only of samples that are like their own, by a density ratio; samples whose mean is ambiguous are left out.",
    up: "probabilities on those of N samples that a client thinks it knows: at most 4NC",
    down: "their mean over those that spoke, on those samples that are clear: at most 4NC",
    loss: "KL to what came down; then cross-entropy",
    good: "clients with classes of their own, data that lies apart as it is (digits)",
    bad: "samples that are not told apart by distance in their own space (photographs)",
    differs: "a part of a client's own samples makes the estimate; the density ratio uses the inverse of the kernel's matrix, as its paper has it and its code does not",
    parameters: &[
        Parameter {
            key: "width",
            symbol: "σ",
            what: "width of the Gaussian kernel",
            default: 5.0,
            range: (0.01, 1000.0),
            one_of: &[],
            whole: false,
            source: "the paper, for digits",
        },
        Parameter {
            key: "quantile",
            symbol: "τ_client",
            what: "share of a client's own held-out samples whose ratio is below the bar",
            default: 0.25,
            range: (0.0, 1.0),
            one_of: &[],
            whole: false,
            source: "the authors' code: the first quartile",
        },
        Parameter {
            key: "noise",
            symbol: "m",
            what: "points of even noise that densities are relative to",
            default: 250.0,
            range: (1.0, Density::MOST_NOISE as f64),
            one_of: &[],
            whole: true,
            source: "the paper",
        },
        Parameter {
            key: "share",
            symbol: "",
            what: "share of a client's own samples that is held out of the estimate and sets the bar; 0: all do both",
            default: 0.1,
            range: (0.0, 0.5),
            one_of: &[],
            whole: false,
            source: "ours; the paper makes the estimate of 5 % of a client's samples: of its 5,400 that is `cap=540,share=0.5`",
        },
        Parameter {
            key: "lambda",
            symbol: "λ",
            what: "what is added to the diagonal of the kernel's matrix; 0: 1 / sqrt(m)",
            default: 0.0,
            range: (0.0, Density::MOST_LAMBDA as f64),
            one_of: &[],
            whole: false,
            source: "the paper, which has 1 / sqrt(m)",
        },
        Parameter {
            key: "cap",
            symbol: "n",
            what: "own samples, chosen by chance, that a client with more takes, those held out among them",
            default: 600.0,
            range: (1.0, Density::MOST_OWN as f64),
            one_of: &[],
            whole: true,
            source: "ours",
        },
        Parameter {
            key: "ambiguity",
            symbol: "τ_server",
            what: "largest L1 distance of a mean from its most likely class; 2 keeps all",
            default: 1.0,
            range: (0.0, 2.0),
            one_of: &[],
            whole: false,
            source: "ours: a class that has half of it",
        },
    ],
    make: |given| Box::new(Selective::new(given)),
};

impl Selective {
    fn new(given: &Given) -> Self {
        let [width, quantile] = ["width", "quantile"].map(|key| given.get(key) as f32);
        let density = Density {
            noise: given.get("noise") as u16,
            held_out: given.get("share") as f32,
            lambda: given.get("lambda") as f32,
            own: given.get("cap") as u16,
        };
        Self {
            silence: match density == Density::default() {
                // What clients of older versions know too.
                true => Silence::Unlike { width, quantile },
                false => Silence::UnlikeBy {
                    width,
                    quantile,
                    density,
                },
            },
            ambiguity: given.get("ambiguity") as f32,
            name: given.name(),
        }
    }
}

impl Method for Selective {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Probabilities)
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        let wanted = Wanted {
            silence: self.silence,
            ..Wanted::on(AnswerKind::Probabilities, outlook.fresh)
        };
        Ask::train(distil_then_train(outlook.training, state), true).report(wanted)
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
        let clear = |row: &[f32]| {
            let most = row.iter().copied().fold(0.0, f32::max);
            // What is missing at the largest is spread over the others.
            match 2.0 * (1.0 - most) <= self.ambiguity {
                true => row.to_vec(),
                false => vec![0.0; row.len()],
            }
        };
        let labels = by_row(AnswerKind::Probabilities, &mean, clear)?;
        pass_on(rows, labels, centre, state)
    }
}
