use fedistill_protocol::{About, AnswerKind, Answers, Phase, Precision, Start};

use super::catalogue::{Entry, Given, Parameter};
use super::{
    Ask, Centre, KL, Method, MethodError, Outlook, Taken, Wanted, as_kind, distillation, mean,
    private, take_probabilities,
};
use crate::{Partial, State};

/// CFD (Sattler et al. 2022): few bits each way, only what has changed, and dual distillation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cfd {
    up: Precision,
    down: Precision,
    delta: bool,
    name: String,
}

/// Bits of a value that packing knows.
const BITS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

pub(super) const ENTRY: Entry = Entry {
    name: "cfd",
    variants: &[],
    source: "Sattler et al. 2022",
    summary: "Probabilities cross as parts of a whole of few bits, entropy-coded, and only where they have changed since the round before; students begin each round from common parameters.",
    up: "probabilities on N samples, always the same ones: at 1 bit at most N log2(C) / 8 before coding",
    down: "what the server's model says of them once it has learnt their mean, in as few bits",
    loss: "from parameters that all share: KL to what came down; then cross-entropy",
    good: "even data and very few bytes",
    bad: "label skew at 1 bit: votes of those that never saw a class outweigh the others, and more samples do not help",
    differs: "an adaptive binary coder in place of CABAC; which rows have changed is coded apart from what they have become; without a teacher the mean itself comes down",
    parameters: &[
        Parameter {
            key: "bits-up",
            symbol: "b_up",
            what: "bits of a value on its way up",
            default: 1.0,
            range: (1.0, 32.0),
            one_of: BITS,
            whole: true,
            source: "the paper's smallest",
        },
        Parameter {
            key: "bits-down",
            symbol: "b_down",
            what: "bits of a value on its way down",
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
        let distil = Phase {
            start: Start::Seeded(outlook.seed),
            ..distillation(outlook.training, KL)
        };
        let distil = state.teaches().then_some(distil).into_iter();
        let phases = distil.chain([private(outlook.training)]).collect();
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
                    as_kind(AnswerKind::Probabilities, centre.answer(rows)?)?
                }
                None => mean,
            };
            state.teach(About::Rows(rows.clone()), labels);
        }
        Ok(())
    }
}
