//! Federated-distillation algorithms: what a round asks, how contributions add up, and what comes
//! down next. Each is in a file of its own name, `adaptive` in a folder beside it too, with what it measures by in `pool.rs` and
//! `thrift.rs`, as `fedtgp` has its trained prototypes in `prototypes.rs`. A client never learns which one runs.

mod adaptive;
mod catalogue;
mod cfd;
mod comet;
mod ds_fl;
mod fd;
mod fedmd;
mod fedntd;
mod fedproto;
mod fedtgp;
mod kt_pfl;
mod local;
mod logit_mean;
mod parameter;
mod pool;
mod prototypes;
mod robustly;
mod scarlet;
mod selective;
mod setting;
mod steps;
mod teacher_only;
mod thrift;
mod training;
mod vote;

use std::collections::BTreeMap;
use std::fmt;

use fedistill_protocol::{
    About, AnswerKind, Answers, Name, Phase, PhaseData, Precision, ProtocolError, Rows, Silence,
};
use thiserror::Error;

use steps::{
    as_kind, by_row, centred, distil, distil_by, distil_then_train, distillation, expect_kind,
    largest, matters_without_rows, mean, on_simplex, pass_on, private, softmax, take_logits,
    take_probabilities,
};

pub use catalogue::{DEFAULT, Entry, Variant, by_name, entries, markdown};
pub use parameter::{Given, Parameter, table};
pub use setting::{AtCentre, Setting, idle_packed, rounds_nothing};
pub use training::Training;

use crate::{Partial, PartialError, Probes, State};

/// What a method knows as a round is planned.
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    /// Which round, from 0.
    pub round: u32,
    /// How hard clients train.
    pub training: &'a Training,
    /// Transfer samples, chosen afresh for this round.
    pub fresh: &'a Rows,
    /// The same number of transfer samples, the same ones in every round.
    pub fixed: &'a Rows,
    /// Size of the transfer set.
    pub samples: u32,
    /// Labelled samples hidden in the transfer set, where there are some; `fresh` and `fixed` are
    /// never among them.
    pub probes: Option<&'a Probes>,
    /// How answers are packed, where the method does not say it: as the user says or, without a word, in
    /// [`Method::usual_precision`].
    pub precision: Precision,
    /// A seed that all rounds of the federation have in common.
    pub seed: u64,
}

/// What a method asks of a round; the driver makes a plan of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Whether the state's lessons come down.
    pub lessons: bool,
    /// How lessons are packed, where the method says so.
    pub precision: Option<Precision>,
    /// Whether lessons may come as updates of those before them.
    pub updates: bool,
    /// What clients train, in this order.
    pub phases: Vec<Phase>,
    /// What they give back; `None` where nothing goes up.
    pub report: Option<Wanted>,
}

/// What clients are to give back.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Kind of the answers.
    pub kind: AnswerKind,
    /// What they speak about.
    pub about: About,
    /// Values of a row of features; of other kinds, there are as many as classes.
    pub width: Option<u32>,
    /// How they are packed, where the method says so.
    pub precision: Option<Precision>,
    /// How often the logarithm of a client's label frequencies is taken off its logits.
    pub adjust: f32,
    /// Where clients stay silent.
    pub silence: Silence,
    /// Whether they may come as updates of those before them.
    pub updates: bool,
}

impl Wanted {
    /// Answers of this kind on these transfer samples, all of them, as they are.
    pub fn on(kind: AnswerKind, rows: &Rows) -> Self {
        Self {
            kind,
            about: About::Rows(rows.clone()),
            width: None,
            precision: None,
            adjust: 0.0,
            silence: Silence::Never,
            updates: false,
        }
    }

    /// Means over the private samples of each class.
    pub fn of_classes(kind: AnswerKind) -> Self {
        Self {
            about: About::Classes,
            ..Self::on(kind, &Rows::List(Vec::new()))
        }
    }
}

impl Ask {
    /// Nothing but these phases; lessons come down where there are some.
    pub fn train(phases: Vec<Phase>, lessons: bool) -> Self {
        Self {
            lessons,
            precision: None,
            updates: false,
            phases,
            report: None,
        }
    }

    /// The same, and these answers go up.
    #[must_use]
    pub fn report(self, wanted: Wanted) -> Self {
        Self {
            report: Some(wanted),
            ..self
        }
    }
}

/// Whom a round asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// All clients that were there.
    All,
    /// As many as it may ask at most, so that there may be others, who know other things.
    Some,
}

impl Asked {
    /// Of a round that asked so many clients, and may ask so many at most.
    pub fn of(asked: usize, most: usize) -> Self {
        match asked < most {
            true => Self::All,
            false => Self::Some,
        }
    }
}

/// What has come up in a round.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// The sum of contributions.
    pub sum: &'a Partial,
    /// Each of them, where [`Method::keeps_each`] says so.
    pub each: &'a BTreeMap<Name, Answers>,
    /// What was asked about; `None` where nothing was to go up.
    pub about: Option<&'a About>,
    /// Number of classes.
    pub classes: u32,
    /// Whom it was asked of.
    pub asked: Asked,
}

impl Taken<'_> {
    /// The rows of transfer samples that were asked about.
    fn rows(&self) -> Result<&Rows, MethodError> {
        match self.about {
            Some(About::Rows(rows)) => Ok(rows),
            _ => Err(MethodError::OtherRound),
        }
    }
}

/// The model at the centre, as a method sees it: the teacher.
pub trait Centre {
    /// Its logits on these transfer samples.
    ///
    /// # Errors
    /// What it reports.
    fn answer(&mut self, rows: &Rows) -> Result<Answers, CentreError>;

    /// Distils these answers, a row for each of these transfer samples; silent rows are left out.
    ///
    /// # Errors
    /// What it reports.
    fn learn(&mut self, rows: &Rows, labels: &Answers) -> Result<(), CentreError>;

    /// Whether it knew something before the federation began.
    fn is_trained(&self) -> bool;
}

/// What a centre reports.
pub type CentreError = Box<dyn std::error::Error + Send + Sync>;

/// One federated-distillation algorithm.
///
/// Contributions are taken in one by one and forgotten, and only their [`Partial`] sum is kept, unless
/// a method needs each of them.
pub trait Method: fmt::Debug + Send + Sync {
    /// Its name as a user writes it, with the parameters that are not as by default:
    /// `ds-fl:era,temperature=0.05` for example.
    fn name(&self) -> String;

    /// Notes what comes down in the first round. By default, what a trained teacher says about the
    /// samples of `outlook.fresh`, in the kind of [`Self::teaches`].
    ///
    /// # Errors
    /// What the teacher reports.
    fn begin(
        &self,
        outlook: &Outlook<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        let (Some(centre), Some(kind)) = (centre, self.teaches()) else {
            return Ok(());
        };
        if centre.is_trained() {
            let answers = as_kind(kind, centre.answer(outlook.fresh)?)?;
            state.teach(About::Rows(outlook.fresh.clone()), answers);
        }
        Ok(())
    }

    /// The kind of soft labels that come down; `None` where none do.
    fn teaches(&self) -> Option<AnswerKind>;

    /// What a round asks.
    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask;

    /// What is asked once after the last round, so that students hold the last aggregate: by
    /// default its distillation alone. `None` where there is nothing to ask.
    fn closing(&self, outlook: &Outlook<'_>, state: &State) -> Option<Ask> {
        let mut ask = self.ask(outlook, state);
        ask.report = None;
        ask.phases.retain(|phase| phase.data == PhaseData::Transfer);
        (state.teaches() && ask.lessons && !ask.phases.is_empty()).then_some(ask)
    }

    /// Whether each contribution is needed by itself once a round is over.
    fn keeps_each(&self) -> bool {
        false
    }

    /// Adds one client's answers, given with the client's weight, to the sum.
    ///
    /// # Errors
    /// Answers of another kind than was asked for, or that do not add to the sum.
    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError>;

    /// A round is over: the teacher learns what it is to learn, and `state` is what the next round
    /// begins with.
    ///
    /// # Errors
    /// What does not fit together, or what the teacher reports.
    fn conclude(
        &self,
        outlook: &Outlook<'_>,
        taken: Taken<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError>;

    /// Whether labelled samples are to be hidden in the transfer set, where there are some.
    fn wants_probes(&self) -> bool {
        false
    }

    /// Whether a teacher makes a difference: says something, or learns something.
    fn uses_teacher(&self) -> bool {
        true
    }

    /// Whether another value of this setting makes a difference: to what it asks, to what clients do
    /// about that, or to what a teacher learns.
    fn heeds(&self, setting: Setting) -> bool {
        let _ = setting;
        true
    }

    /// Keys of its own of which, beside the others as they are set, no value makes a difference where this stands at
    /// the centre. The better a teacher is known, the fewer there are; those that are left where it is measured are
    /// refused by [`by_name`].
    fn idle(&self, at: AtCentre) -> Vec<&'static str> {
        let _ = at;
        Vec::new()
    }

    /// Keys of its own of which no value makes a difference where answers are packed so.
    fn idle_packed(&self, precision: Precision) -> Vec<&'static str> {
        let _ = precision;
        Vec::new()
    }

    /// Whether it comes to nothing without a teacher.
    fn needs_teacher(&self) -> bool {
        false
    }

    /// Width of the features that clients are to give back, and so of those that all students must have; `None` where none
    /// are asked for.
    fn features(&self) -> Option<u32> {
        None
    }

    /// What whoever gave its own keys as they are, or left them out, should know where a round speaks about so many
    /// samples: one line.
    fn remark(&self, samples: u32) -> Option<String> {
        let _ = samples;
        None
    }

    /// How answers are packed where the user does not say it: [`Outlook::precision`] of such a run. By default in 16
    /// bits, in which methods of papers are held against each other.
    fn usual_precision(&self) -> Precision {
        Precision::F16
    }
}

/// Why answers cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MethodError {
    /// Answers that do not add up.
    #[error(transparent)]
    Partial(#[from] PartialError),
    /// Answers of another kind or shape.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A method that takes no contribution was given one.
    #[error("method {0} takes no contributions")]
    TakesNothing(String),
    /// A round asked for something else than its method would have.
    #[error("the round asked for something else than its method does")]
    OtherRound,
    /// What the method noted is not to be read.
    #[error(
        "what method {0} noted cannot be read, or is about another transfer set: go back to the one it began with, or begin the federation again"
    )]
    Memory(String),
    /// What the teacher reports.
    #[error(transparent)]
    Centre(#[from] CentreError),
    /// No method has this name.
    #[error("no method {name:?}: choose {}", catalogue::names())]
    Unknown {
        /// What was written.
        name: String,
    },
    /// A parameter that the method does not have, or a value that it cannot have.
    #[error("method {method}: {why}")]
    Parameter {
        /// Which method.
        method: String,
        /// What is wrong.
        why: String,
    },
}

#[cfg(test)]
mod tests;
