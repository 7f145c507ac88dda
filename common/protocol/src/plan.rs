use crate::codec::{Decode, Encode};
use crate::{AnswerKind, Answers, Digest, Name, Precision, ProtocolError, RoundId};

/// What a round asks of a client. A plan is data: a client interprets it and knows no method.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub struct RoundPlan {
    /// The federation that asks.
    pub federation: Name,
    /// Which round, and which try at it.
    pub id: RoundId,
    /// The transfer set that [`Rows`] speak about.
    pub transfer: Digest,
    /// Seed of this round; a client derives its own stream from it and its name.
    pub seed: u64,
    /// Soft labels that come down with this plan.
    pub knowledge: Option<Knowledge>,
    /// What to train, in this order.
    pub phases: Vec<Phase>,
    /// What to give back; nothing where there is none.
    pub report: Option<Report>,
    /// Milliseconds from the plan's arrival after which a contribution may come too late.
    pub deadline_ms: u64,
    /// Clients that were asked the same: how many contributions an aggregate may hide one among.
    pub cohort: u32,
}

/// A choice of samples of the transfer set.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Rows {
    /// `start..start + count`.
    Range {
        /// First sample.
        start: u32,
        /// Number of samples, at least 1.
        count: u32,
    },
    /// These samples, ascending, each once.
    List(Vec<u32>),
}

impl Rows {
    /// These samples, ascending and each once, in the shorter form: the same choice always looks the
    /// same.
    pub fn of(rows: Vec<u32>) -> Self {
        let without_gaps = rows.is_sorted_by(|a, b| a.checked_add(1) == Some(*b));
        match rows.first() {
            Some(&start) if without_gaps => Self::Range {
                start,
                count: rows.len() as u32,
            },
            _ => Self::List(rows),
        }
    }

    /// Number of samples.
    pub fn count(&self) -> u32 {
        match self {
            Self::Range { count, .. } => *count,
            // A list is bounded by the frame that carried it.
            Self::List(rows) => rows.len() as u32,
        }
    }

    /// The samples, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let (range, list) = match self {
            Self::Range { start, count } => (*start..start.saturating_add(*count), &[][..]),
            Self::List(rows) => (0..0, rows.as_slice()),
        };
        range.chain(list.iter().copied())
    }

    fn check(&self, samples: u32) -> Result<(), String> {
        let fits = match self {
            Self::Range { start, count } => {
                *count > 0 && start.checked_add(*count).is_some_and(|end| end <= samples)
            }
            Self::List(rows) => {
                rows.is_sorted_by(|a, b| a < b) && rows.last().is_some_and(|last| *last < samples)
            }
        };
        match fits {
            true => Ok(()),
            false => Err(format!(
                "rows are empty, repeated, unsorted or beyond {samples} samples"
            )),
        }
    }
}

/// Soft labels of some transfer samples, as a blob of packed [`Answers`].
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Knowledge {
    /// Name of the blob.
    pub blob: Digest,
    /// Length of the blob in bytes.
    pub bytes: u64,
    /// What its values are.
    pub kind: AnswerKind,
    /// Which samples they speak about.
    pub rows: Rows,
}

/// One stretch of training.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub struct Phase {
    /// With which parameters it starts.
    pub start: Start,
    /// On which samples it trains.
    pub data: PhaseData,
    /// Passes over those samples.
    pub epochs: u16,
    /// Samples a step.
    pub batch: u16,
    /// The terms of the loss, added up.
    pub objective: Vec<LossTerm>,
    /// How steps are taken. Its state starts anew in each phase.
    pub optimiser: Optimiser,
}

/// With which parameters a phase starts.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Start {
    /// Those the student has.
    Continue,
    /// Those the student had before its first round.
    Reset,
}

/// On which samples a phase trains.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum PhaseData {
    /// The client's own labelled samples.
    Private,
    /// The transfer samples that the plan's knowledge speaks about.
    Transfer,
}

/// A loss with its weight.
#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub struct LossTerm {
    /// Which loss.
    pub loss: Loss,
    /// Its share of the sum; finite, above 0.
    pub weight: f32,
}

/// A loss of a student's logits against a target.
#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub enum Loss {
    /// Cross-entropy against hard labels.
    CrossEntropy,
    /// Cross-entropy against soft labels.
    SoftCrossEntropy,
    /// `T^2 KL(softmax(target / T) || softmax(z / T))` (Hinton et al. 2015).
    Kl {
        /// The temperature T, above 0.
        temperature: f32,
    },
    /// Mean absolute difference of logits (FedMD, Li and Wang 2019).
    L1,
    /// Mean squared difference of logits (Ba and Caruana 2014).
    Mse,
}

/// How parameters follow their gradients.
#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub enum Optimiser {
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// Step length, above 0.
        learning_rate: f32,
        /// 0 up to but not 1.
        momentum: f32,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    AdamW {
        /// Step length, above 0.
        learning_rate: f32,
        /// At least 0.
        weight_decay: f32,
    },
}

impl Optimiser {
    /// The length of a step.
    pub fn learning_rate(self) -> f32 {
        match self {
            Self::Sgd { learning_rate, .. } | Self::AdamW { learning_rate, .. } => learning_rate,
        }
    }
}

/// What a client gives back: its student's outputs on transfer samples.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Report {
    /// What the values are.
    pub kind: AnswerKind,
    /// On which samples.
    pub rows: Rows,
    /// How they are packed.
    pub precision: Precision,
}

impl Report {
    /// The most bytes that a contribution may have: a function of the plan, never of the model.
    pub fn most_bytes(&self, classes: u32) -> u64 {
        Answers::most_bytes(self.kind, self.rows.count(), classes, self.precision)
    }
}

impl RoundPlan {
    /// Holds the plan against the transfer set it speaks about.
    ///
    /// # Errors
    /// [`ProtocolError::BadPlan`] with the first thing that no client could do.
    pub fn check(&self, transfer: Digest, samples: u32) -> Result<(), ProtocolError> {
        self.find_fault(transfer, samples)
            .map_err(ProtocolError::BadPlan)
    }

    fn find_fault(&self, transfer: Digest, samples: u32) -> Result<(), String> {
        if self.transfer != transfer {
            return Err(format!(
                "it speaks about transfer set {:?}, this side holds {transfer:?}",
                self.transfer
            ));
        }
        if let Some(knowledge) = &self.knowledge {
            knowledge
                .rows
                .check(samples)
                .map_err(|why| format!("knowledge {why}"))?;
        }
        if let Some(report) = &self.report {
            report
                .rows
                .check(samples)
                .map_err(|why| format!("report {why}"))?;
        }
        for (index, phase) in self.phases.iter().enumerate() {
            phase
                .check(self.knowledge.is_some())
                .map_err(|why| format!("phase {index} {why}"))?;
        }
        Ok(())
    }
}

impl Phase {
    fn check(&self, knowledge: bool) -> Result<(), String> {
        if self.batch == 0 {
            return Err("has a batch of no samples".to_owned());
        }
        if self.objective.is_empty() {
            return Err("has no loss".to_owned());
        }
        if self.data == PhaseData::Transfer && !knowledge {
            return Err("distils, but no knowledge comes with the plan".to_owned());
        }
        for term in &self.objective {
            if !(term.weight.is_finite() && term.weight > 0.0) {
                return Err(format!("has a loss of weight {}", term.weight));
            }
            let hard = term.loss == Loss::CrossEntropy;
            if hard != (self.data == PhaseData::Private) {
                return Err(format!("has {:?} on {:?} samples", term.loss, self.data));
            }
            if let Loss::Kl { temperature } = term.loss
                && !(temperature.is_finite() && temperature > 0.0)
            {
                return Err(format!("has temperature {temperature}"));
            }
        }
        let within = match self.optimiser {
            Optimiser::Sgd {
                learning_rate,
                momentum,
            } => learning_rate.is_finite() && learning_rate > 0.0 && (0.0..1.0).contains(&momentum),
            Optimiser::AdamW {
                learning_rate,
                weight_decay,
            } => {
                learning_rate.is_finite()
                    && learning_rate > 0.0
                    && weight_decay.is_finite()
                    && weight_decay >= 0.0
            }
        };
        match within {
            true => Ok(()),
            false => Err(format!("has {:?} out of range", self.optimiser)),
        }
    }
}
