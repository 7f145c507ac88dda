mod identity;
mod knowledge;

pub use self::knowledge::{About, Knowledge, Update};

use crate::codec::{Decode, Encode};
use crate::{
    AnswerKind, Answers, Digest, LossTerm, Name, Precision, ProtocolError, RoundId, Rounding, Rows,
    Silence, Toward,
};

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
    /// What comes down with this plan.
    pub knowledge: Vec<Knowledge>,
    /// What to train, in this order.
    pub phases: Vec<Phase>,
    /// What to give back; nothing where there is none.
    pub report: Option<Report>,
    /// Milliseconds from the plan's arrival after which a contribution may come too late.
    pub deadline_ms: u64,
    /// Clients that were asked the same: how many contributions an aggregate may hide one among.
    pub cohort: u32,
}

/// One stretch of training.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub struct Phase {
    /// With which parameters it starts.
    pub start: Start,
    /// On which samples it trains.
    pub data: PhaseData,
    /// Of transfer samples, only these; all that something is known of where nothing is said.
    pub only: Option<Rows>,
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
    /// Drawn anew under this seed: equal students of all clients start equally.
    Seeded(u64),
}

/// On which samples a phase trains.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum PhaseData {
    /// The client's own labelled samples.
    Private,
    /// The transfer samples that the plan's knowledge speaks about.
    Transfer,
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

/// What a client gives back: its student's outputs on transfer samples, or their means over its
/// private samples of each class.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub struct Report {
    /// What the values are.
    pub kind: AnswerKind,
    /// About what. A row about a class that the client does not hold is silent.
    pub about: About,
    /// Values of a row: classes, or the width of features.
    pub width: u32,
    /// How they are packed.
    pub precision: Precision,
    /// What becomes of values between two that can be packed.
    pub rounding: Rounding,
    /// Of logits, and before a softmax: so many times the logarithm of the client's own label
    /// frequencies is taken off, so that what it holds much of does not speak louder; 0 to 4.
    pub adjust: f32,
    /// On which samples a client is to stay silent.
    pub silence: Silence,
    /// Whether it may come as an update of what the client gave back before.
    pub update: bool,
}

impl Report {
    /// Bytes of the same answers whole and uncoded: 4 a value.
    pub fn raw_bytes(&self, classes: u32) -> u64 {
        4 * u64::from(self.about.count(classes)) * u64::from(self.width)
    }

    /// The most bytes that a contribution may have: a function of the plan, never of the model.
    pub fn most_bytes(&self, classes: u32) -> u64 {
        let rows = self.about.count(classes);
        Answers::most_bytes(self.kind, rows, self.width, self.precision)
    }

    fn fault(&self, classes: u32) -> Option<String> {
        if let Some(fault) = self.precision.fault() {
            return Some(fault);
        }
        let silent = self.silence != Silence::Never;
        let values = u64::from(self.about.count(classes)) * u64::from(self.width);
        match &self.about {
            _ if values > Answers::MOST_VALUES => Some(format!(
                "asks for {values} values, more than {}",
                Answers::MOST_VALUES
            )),
            _ if self.kind != AnswerKind::Features && self.width != classes => {
                Some(format!("has {} columns for {classes} classes", self.width))
            }
            _ if self.kind == AnswerKind::Features && self.width > Knowledge::MOST_FEATURES => {
                Some(format!(
                    "asks for features {} wide, which may be at most {}",
                    self.width,
                    Knowledge::MOST_FEATURES
                ))
            }
            _ if !self.silence.is_within() => Some(format!("has {:?} out of range", self.silence)),
            About::Classes if silent => Some(format!("has {:?} about classes", self.silence)),
            _ if !(0.0..=4.0).contains(&self.adjust) => {
                Some(format!("is adjusted {} times", self.adjust))
            }
            About::Rows(_) if self.kind == AnswerKind::Features => {
                Some("asks for features of transfer samples".to_owned())
            }
            _ => None,
        }
    }
}

impl RoundPlan {
    /// The most phases: a device looks over its samples once in each, whatever it has of epochs.
    pub const MOST_PHASES: usize = 16;

    /// Holds the plan against the transfer set it speaks about, and the number of classes.
    ///
    /// # Errors
    /// [`ProtocolError::BadPlan`] with the first thing that no client could do.
    pub fn check(&self, transfer: Digest, samples: u32, classes: u32) -> Result<(), ProtocolError> {
        self.find_fault(transfer, samples, classes)
            .map_err(ProtocolError::BadPlan)
    }

    fn find_fault(&self, transfer: Digest, samples: u32, classes: u32) -> Result<(), String> {
        if self.transfer != transfer {
            return Err(format!(
                "it speaks about transfer set {:?}, this side holds {transfer:?}",
                self.transfer
            ));
        }
        for knowledge in &self.knowledge {
            knowledge
                .check(samples, classes)
                .map_err(|why| format!("knowledge {why}"))?;
        }
        // A device holds all of it before it trains, however little of it crosses.
        let values = self.knowledge.iter().map(|one| one.values(classes));
        let values = values.fold(0, u64::saturating_add);
        if values > Answers::MOST_VALUES {
            return Err(format!(
                "all its knowledge is of {values} values, more than {}",
                Answers::MOST_VALUES
            ));
        }
        if let Some(report) = &self.report {
            let fault = report.fault(classes).map_or(Ok(()), Err);
            fault
                .and_then(|()| report.about.check(samples))
                .map_err(|why| format!("report {why}"))?;
        }
        if self.phases.len() > Self::MOST_PHASES {
            return Err(format!(
                "it has {} phases, more than {}",
                self.phases.len(),
                Self::MOST_PHASES
            ));
        }
        for (index, phase) in self.phases.iter().enumerate() {
            phase
                .check(&self.knowledge, samples)
                .map_err(|why| format!("phase {index} {why}"))?;
        }
        Ok(())
    }

    /// Whether a client takes the samples of the transfer set to carry it out, and not only what is
    /// known of them.
    pub fn needs_samples(&self) -> bool {
        let asked = self.report.as_ref().map(|report| &report.about);
        let trained = |phase: &Phase| phase.data == PhaseData::Transfer;
        matches!(asked, Some(About::Rows(_))) || self.phases.iter().any(trained)
    }

    /// What is known of transfer samples.
    pub fn of_samples(&self) -> impl Iterator<Item = (usize, &Knowledge, &Rows)> {
        let all = self.knowledge.iter().enumerate();
        all.filter_map(|(index, knowledge)| match &knowledge.about {
            About::Rows(rows) => Some((index, knowledge, rows)),
            About::Classes => None,
        })
    }
}

impl Phase {
    /// The most samples of a batch in which each is held against all others: memory grows with their square, and the work
    /// of a step with their cube.
    pub const MOST_PAIRED: u16 = 512;
    /// The most work of a step by a loss of angles, in triples of samples times width: half a minute, or a minute.
    pub const MOST_TRIPLED: u64 = 1 << 36;
    /// The most terms of a loss.
    pub const MOST_TERMS: usize = 16;

    fn check(&self, knowledge: &[Knowledge], samples: u32) -> Result<(), String> {
        if self.batch == 0 {
            return Err("has a batch of no samples".to_owned());
        }
        if self.objective.is_empty() {
            return Err("has no loss".to_owned());
        }
        if self.objective.len() > Self::MOST_TERMS {
            return Err(format!(
                "has a loss of {} terms, more than {}",
                self.objective.len(),
                Self::MOST_TERMS
            ));
        }
        if let Some(only) = &self.only {
            only.check(samples)?;
            if self.data == PhaseData::Private {
                return Err("chooses among private samples".to_owned());
            }
        }
        for term in &self.objective {
            if let Some(fault) = term.fault() {
                return Err(fault);
            }
            if term.loss.is_of_pairs() && self.batch > Self::MOST_PAIRED {
                return Err(format!(
                    "has {:?} on batches of {}, which may have at most {}",
                    term.loss,
                    self.batch,
                    Self::MOST_PAIRED
                ));
            }
            let served = match term.toward {
                Toward::Labels => self.data == PhaseData::Private,
                // As wide as the student's own features, which no plan knows: widths bound nothing here.
                Toward::Before => true,
                Toward::Knowledge | Toward::Classes => {
                    let serving = knowledge
                        .iter()
                        .filter(|known| known.serves(self.data, term));
                    let widest = serving.map(|known| known.width).max();
                    let values = u64::from(self.batch) * u64::from(widest.unwrap_or(0));
                    if values > Answers::MOST_VALUES {
                        return Err(format!(
                            "holds {values} values at a time, more than {}: it has a batch of {}",
                            Answers::MOST_VALUES,
                            self.batch
                        ));
                    }
                    let tripled = u64::from(self.batch).pow(2) * values;
                    if term.loss.is_of_triples() && tripled > Self::MOST_TRIPLED {
                        return Err(format!(
                            "has {:?} on batches of {} and features {} wide: make either smaller",
                            term.loss,
                            self.batch,
                            widest.unwrap_or(0)
                        ));
                    }
                    widest.is_some()
                }
            };
            if !served {
                return Err(format!(
                    "has {:?} toward {:?} on {:?} samples, but no such knowledge comes with the plan",
                    term.loss, term.toward, self.data
                ));
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
