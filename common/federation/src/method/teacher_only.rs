use fedistill_protocol::{AnswerKind, Answers};

use super::{Ask, Method, MethodError, Training, distil_then_train, expect_kind};
use crate::Partial;

/// The teacher's soft labels come down, nothing goes up (Hinton et al. 2015, at a distance). The
/// baseline that tells what clients know apart from what the teacher knew.
#[derive(Clone, Copy, Debug)]
pub struct TeacherOnly;

impl Method for TeacherOnly {
    fn name(&self) -> String {
        "teacher-only".to_owned()
    }

    fn ask(&self, training: &Training, labels: bool) -> Ask {
        Ask {
            knowledge: labels.then_some(AnswerKind::Logits),
            phases: distil_then_train(training, labels),
            report: None,
        }
    }

    fn take(&self, _: &mut Partial, _: u32, _: &Answers) -> Result<(), MethodError> {
        Err(MethodError::TakesNothing(self.name()))
    }

    /// The teacher's logits as they are.
    fn aggregate(
        &self,
        _: &Partial,
        teacher: Option<&Answers>,
        _: u32,
    ) -> Result<Option<Answers>, MethodError> {
        teacher
            .map(|t| expect_kind(t, AnswerKind::Logits).map(|()| t.clone()))
            .transpose()
            .map_err(Into::into)
    }

    fn teacher_learns(&self) -> bool {
        false
    }

    fn needs_teacher(&self) -> bool {
        true
    }
}
