use fedistill_protocol::{AnswerKind, Answers};

use super::catalogue::Entry;
use super::{Ask, Centre, Method, MethodError, Outlook, Setting, Taken, private};
use crate::{Partial, State};

/// No exchange: every client learns from its own data alone. The baseline of every comparison.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local;

pub(super) const ENTRY: Entry = Entry {
    name: "local",
    variants: &[],
    source: "a baseline",
    summary: "No exchange: every client learns from its own data alone.",
    up: "nothing",
    down: "nothing",
    loss: "cross-entropy on private samples",
    good: "to know what a federation is worth",
    bad: "",
    differs: "",
    parameters: &[],
    make: |_| Box::new(Local),
};

impl Method for Local {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        None
    }

    fn uses_teacher(&self) -> bool {
        false
    }

    /// Nothing crosses, and nothing is distilled.
    fn heeds(&self, setting: Setting) -> bool {
        setting == Setting::PrivateEpochs
    }

    fn ask(&self, outlook: &Outlook<'_>, _: &State) -> Ask {
        Ask::train(vec![private(outlook.training)], false)
    }

    fn take(&self, _: &mut Partial, _: u32, _: &Answers) -> Result<(), MethodError> {
        Err(MethodError::TakesNothing(self.name()))
    }

    fn conclude(
        &self,
        _: &Outlook<'_>,
        _: Taken<'_>,
        _: Option<&mut dyn Centre>,
        _: &mut State,
    ) -> Result<(), MethodError> {
        Ok(())
    }
}
