use fedistill_protocol::{About, AnswerKind, Answers};

use super::catalogue::Entry;
use super::{Ask, Centre, Method, MethodError, Outlook, Setting, Taken, distil_then_train};
use crate::{Partial, State};

/// The teacher's soft labels come down, nothing goes up (Hinton et al. 2015, at a distance). The
/// baseline that tells what clients know apart from what the teacher knew.
#[derive(Clone, Copy, Debug)]
pub(super) struct TeacherOnly;

pub(super) const ENTRY: Entry = Entry {
    name: "teacher-only",
    variants: &[],
    source: "Hinton et al. 2015, at a distance",
    summary: "The teacher's soft labels come down, nothing goes up.",
    up: "nothing",
    down: "logits of the teacher on N samples: 4NC",
    loss: "KL to what came down; then cross-entropy",
    good: "where nothing may leave a device, and to know what clients add to a teacher",
    bad: "with a weak teacher, or none: it is refused",
    differs: "",
    parameters: &[],
    make: |_| Box::new(TeacherOnly),
};

impl Method for TeacherOnly {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Logits)
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        Ask::train(distil_then_train(outlook.training, state), true)
    }

    fn take(&self, _: &mut Partial, _: u32, _: &Answers) -> Result<(), MethodError> {
        Err(MethodError::TakesNothing(self.name()))
    }

    /// The teacher's logits as they are.
    fn conclude(
        &self,
        outlook: &Outlook<'_>,
        _: Taken<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        if let Some(centre) = centre {
            let answers = centre.answer(outlook.fresh)?;
            state.teach(About::Rows(outlook.fresh.clone()), answers);
        }
        Ok(())
    }

    fn needs_teacher(&self) -> bool {
        true
    }

    /// Clients pack nothing.
    fn heeds(&self, setting: Setting) -> bool {
        setting != Setting::Rounding
    }
}
