use fedistill_protocol::{AnswerKind, Answers, Loss, Optimiser, Phase};

use super::catalogue::Entry;
use super::parameter::{Given, Parameter};
use super::{
    Ask, Centre, Method, MethodError, Outlook, Setting, Taken, Wanted, by_row, distillation,
    expect_kind, mean, pass_on, private,
};
use crate::{Partial, State};

/// FedMD (Li and Wang 2019): the mean of logits, digested by their mean absolute error, then private
/// data revisited.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FedMd {
    rate: f32,
    batch: u16,
    epochs: u16,
    revisit: Revisit,
    name: String,
}

/// Steps of the authors' own digest: one pass of 5,000 samples by 256.
const AUTHORS_STEPS: u32 = 20;

/// What of private training is not as the user says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Revisit {
    batch: Option<u16>,
    epochs: Option<u16>,
}

pub(super) const ENTRY: Entry = Entry {
    name: "fedmd",
    variants: &[],
    source: "Li and Wang 2019",
    summary: "The mean of clients' logits is digested by mean absolute error, then private data is revisited.",
    up: "logits on N samples: 4NC",
    down: "their mean on the N samples of the round before: 4NC",
    loss: "digest: L1 of logits, by Adam; revisit: cross-entropy",
    good: "students of different architectures, label skew",
    bad: "clients whose logits differ in scale: L1 follows the largest; few transfer samples at the authors' digest, which is 20 steps of their 5,000 samples, by pretrained students, and 4 of 1,000, which teach next to nothing: `digest-batch=50,digest-epochs=10` there (`docs/papers.md`); below 20 steps a round the program says so",
    differs: "clients train neither on labelled public samples first, which clients here do not have, nor on their own to convergence: a trained teacher's logits come down in their place; the revisit takes the user's `steps`, `batch` and `private-epochs`, where the authors' code takes 4 passes of steps of 5 by Adam at 0.001 (`revisit-batch=5,revisit-epochs=4`); a model at the centre, of which the paper has none, distils the means by KL; logits beyond 64 either way are cut off, so that sums are exact",
    parameters: &[
        Parameter {
            key: "digest-rate",
            symbol: "η",
            what: "step length of Adam in the digest",
            default: 0.001,
            range: (1e-6, 1.0),
            one_of: &[],
            whole: false,
            source: "the authors' configuration",
        },
        Parameter {
            key: "digest-batch",
            symbol: "",
            what: "samples a step of the digest",
            default: 256.0,
            range: (1.0, 60_000.0),
            one_of: &[],
            whole: true,
            source: "the authors' configuration",
        },
        Parameter {
            key: "digest-epochs",
            symbol: "",
            what: "passes of the digest over what came down",
            default: 1.0,
            range: (1.0, 1000.0),
            one_of: &[],
            whole: true,
            source: "the authors' configuration",
        },
        Parameter {
            key: "revisit-batch",
            symbol: "",
            what: "samples a step of the revisit; 0: the user's `batch`",
            default: 0.0,
            range: (0.0, 60_000.0),
            one_of: &[],
            whole: true,
            source: "ours; the authors' configuration has 5",
        },
        Parameter {
            key: "revisit-epochs",
            symbol: "",
            what: "passes of the revisit over private data; 0: the user's `private-epochs`",
            default: 0.0,
            range: (0.0, 1000.0),
            one_of: &[],
            whole: true,
            source: "ours; the authors' configuration has 4",
        },
    ],
    make: |given| Box::new(FedMd::new(given)),
};

impl FedMd {
    fn new(given: &Given) -> Self {
        let told = |key| Some(given.get(key) as u16).filter(|value| *value > 0);
        Self {
            rate: given.get("digest-rate") as f32,
            batch: given.get("digest-batch") as u16,
            epochs: given.get("digest-epochs") as u16,
            revisit: Revisit {
                batch: told("revisit-batch"),
                epochs: told("revisit-epochs"),
            },
            name: given.name(),
        }
    }
}

impl Method for FedMd {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Logits)
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        let digest = Phase {
            epochs: self.epochs,
            batch: self.batch,
            optimiser: Optimiser::AdamW {
                learning_rate: self.rate,
                weight_decay: 0.0,
            },
            ..distillation(outlook.training, Loss::L1)
        };
        let digest = state.teaches().then_some(digest).into_iter();
        let as_told = private(outlook.training);
        let revisit = Phase {
            batch: self.revisit.batch.unwrap_or(as_told.batch),
            epochs: self.revisit.epochs.unwrap_or(as_told.epochs),
            ..as_told
        };
        let phases = digest.chain([revisit]).collect();
        Ask::train(phases, true).report(Wanted::on(AnswerKind::Logits, outlook.fresh))
    }

    /// A mean absolute error has no temperature; passes of the digest are a key of its own, but not those
    /// of a teacher.
    fn heeds(&self, setting: Setting) -> bool {
        match setting {
            Setting::DistillationTemperature => false,
            Setting::PrivateEpochs => self.revisit.epochs.is_none(),
            _ => true,
        }
    }

    fn remark(&self, samples: u32) -> Option<String> {
        let steps = u32::from(self.epochs) * samples.div_ceil(self.batch.into());
        let passes = match self.epochs {
            1 => "1 pass".to_owned(),
            passes => format!("{passes} passes"),
        };
        (steps < AUTHORS_STEPS).then(|| {
            format!(
                "the digest of {} is {steps} steps a round, {passes} of {samples} samples by {}; its authors' is {AUTHORS_STEPS}, and students learn next to nothing by few: lower digest-batch or raise digest-epochs",
                self.name, self.batch
            )
        })
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        expect_kind(answers, AnswerKind::Logits)?;
        let bound = Partial::BOUND;
        let cut = |row: &[f32]| row.iter().map(|z| z.clamp(-bound, bound)).collect();
        let answers = by_row(AnswerKind::Logits, answers, cut)?;
        Ok(sum.add(weight, answers.values())?)
    }

    fn conclude(
        &self,
        _: &Outlook<'_>,
        taken: Taken<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        let rows = taken.rows()?;
        match mean(taken, AnswerKind::Logits)? {
            Some(labels) => pass_on(rows, labels, centre, state),
            None => Ok(()),
        }
    }
}
