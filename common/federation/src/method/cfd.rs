use fedistill_protocol::{About, AnswerKind, Answers, Precision, Start};

use super::catalogue::Entry;
use super::parameter::{Given, Parameter};
use super::{
    Ask, AtCentre, Centre, Method, MethodError, Outlook, Setting, Taken, Wanted, as_kind,
    distil_then_train, mean, take_probabilities,
};
use crate::{Partial, State};

/// CFD (Sattler et al. 2022): few bits each way, only what has changed, and dual distillation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cfd {
    up: Precision,
    down: Precision,
    delta: bool,
    start: Beginning,
    dual: bool,
    name: String,
}

/// The parameters that students begin a round with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Beginning {
    AsTheyWere,
    InCommon,
    TheirOwn,
}

/// Bits of a value that packing knows.
const BITS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

pub(super) const ENTRY: Entry = Entry {
    name: "cfd",
    variants: &[],
    source: "Sattler et al. 2022",
    summary: "Probabilities cross as parts of a whole of few bits, entropy-coded, and only where they have changed since the round before; students begin each round from common parameters.",
    up: "probabilities on N samples, always the same ones: at 1 bit N C / 8 before coding, and hardly more than N log2(C) / 8 coded",
    down: "what the server's model says of them once it has learnt their mean, in as few bits",
    loss: "from parameters that all share: KL to what came down; then cross-entropy",
    good: "very few bytes on even data, with `start=0` (docs/comparison.md)",
    bad: "the paper's own start in short federations: students that begin each round from common parameters ended below `local` on even data in our tables; label skew at 1 bit: votes of those that never saw a class outweigh the others, and more samples do not help",
    differs: "an adaptive binary coder in place of CABAC; which rows have changed is coded apart from what they have become; of classes that are equally likely the first stands, where the paper draws one; without a teacher the mean itself comes down",
    parameters: &[
        Parameter {
            key: "bits-up",
            symbol: "b_up",
            what: "bits of a value on its way up: up to 8 they count parts of a whole, as the paper's quantiser does; 16 and 32 are floats",
            default: 1.0,
            range: (1.0, 32.0),
            one_of: BITS,
            whole: true,
            source: "the paper's smallest",
        },
        Parameter {
            key: "bits-down",
            symbol: "b_down",
            what: "bits of a value on its way down: as `bits-up`",
            default: 1.0,
            range: (1.0, 32.0),
            one_of: BITS,
            whole: true,
            source: "the paper's smallest",
        },
        Parameter {
            key: "delta",
            symbol: "Δ",
            what: "1: only what has changed crosses",
            default: 1.0,
            range: (0.0, 1.0),
            one_of: &[],
            whole: true,
            source: "the paper",
        },
        Parameter {
            key: "start",
            symbol: "",
            what: "parameters that students begin a round with: 0 what they were, 1 those that all have in common, 2 each its own first ones",
            default: 1.0,
            range: (0.0, 2.0),
            one_of: &[],
            whole: true,
            source: "the paper (its table II compares the three)",
        },
        Parameter {
            key: "dual",
            symbol: "",
            what: "1: dual distillation, what comes down is what the server's model says; 0: the mean itself",
            default: 1.0,
            range: (0.0, 1.0),
            one_of: &[],
            whole: true,
            source: "the paper",
        },
    ],
    make: |given| Box::new(Cfd::new(given)),
};

fn precision(bits: f64) -> Precision {
    match bits as u32 {
        32 => Precision::F32,
        16 => Precision::F16,
        8 => Precision::U8,
        4 => Precision::U4,
        2 => Precision::U2,
        _ => Precision::U1,
    }
}

impl Cfd {
    fn new(given: &Given) -> Self {
        Self {
            up: precision(given.get("bits-up")),
            down: precision(given.get("bits-down")),
            delta: given.get("delta") > 0.0,
            start: match given.get("start") as u32 {
                0 => Beginning::AsTheyWere,
                2 => Beginning::TheirOwn,
                _ => Beginning::InCommon,
            },
            dual: given.get("dual") > 0.0,
            name: given.name(),
        }
    }
}

impl Method for Cfd {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Probabilities)
    }

    fn begin(
        &self,
        outlook: &Outlook<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        if let Some(centre) = centre
            && centre.is_trained()
        {
            let answers = centre.answer(outlook.fixed)?;
            let answers = as_kind(AnswerKind::Probabilities, answers)?;
            state.teach(About::Rows(outlook.fixed.clone()), answers);
        }
        Ok(())
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        // In the first round too, in which there may be nothing to distil.
        let mut phases = distil_then_train(outlook.training, state);
        if let Some(first) = phases.first_mut() {
            first.start = match self.start {
                Beginning::AsTheyWere => Start::Continue,
                Beginning::InCommon => Start::Seeded(outlook.seed),
                Beginning::TheirOwn => Start::Reset,
            };
        }
        let wanted = Wanted {
            precision: Some(self.up),
            updates: self.delta,
            ..Wanted::on(AnswerKind::Probabilities, outlook.fixed)
        };
        Ask {
            precision: Some(self.down),
            updates: self.delta,
            ..Ask::train(phases, true).report(wanted)
        }
    }

    /// Bits are keys of its own.
    fn heeds(&self, setting: Setting) -> bool {
        setting != Setting::Packing
    }

    /// Without a model at the centre, the mean itself comes down.
    fn idle(&self, at: AtCentre) -> Vec<&'static str> {
        match at {
            AtCentre::Nobody => vec!["dual"],
            _ => Vec::new(),
        }
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
        if let Some(mean) = mean(taken, AnswerKind::Probabilities)? {
            let labels = match centre {
                Some(centre) => {
                    centre.learn(rows, &mean)?;
                    match self.dual {
                        true => as_kind(AnswerKind::Probabilities, centre.answer(rows)?)?,
                        false => mean,
                    }
                }
                None => mean,
            };
            state.teach(About::Rows(rows.clone()), labels);
        }
        Ok(())
    }
}
