use fedistill_protocol::Answers;

use super::{Ask, Method, MethodError, Training, private};
use crate::Partial;

/// No exchange: every client learns from its own data alone. The baseline of every comparison.
#[derive(Clone, Copy, Debug)]
pub struct Local;

impl Method for Local {
    fn name(&self) -> String {
        "local".to_owned()
    }

    fn ask(&self, training: &Training, _: bool) -> Ask {
        Ask {
            knowledge: None,
            phases: vec![private(training)],
            report: None,
        }
    }

    fn take(&self, _: &mut Partial, _: u32, _: &Answers) -> Result<(), MethodError> {
        Err(MethodError::TakesNothing(self.name()))
    }

    fn aggregate(
        &self,
        _: &Partial,
        _: Option<&Answers>,
        _: u32,
    ) -> Result<Option<Answers>, MethodError> {
        Ok(None)
    }

    fn teacher_learns(&self) -> bool {
        false
    }
}
