use fedistill_protocol::{AnswerKind, Answers};

use super::{Ask, Method, MethodError, Training, distil_then_train, expect_kind};
use crate::Partial;

/// The mean of centred, clipped logits, with the teacher's own vote, distilled into the students
/// and back into the teacher.
///
/// Logits rather than probabilities: under label skew a client that never saw a class says so by a
/// low logit, which a mean of probabilities cannot hear. Each row is centred (its mean taken off,
/// which no softmax notices) and clipped, so that no client can outweigh all others.
/// After FedMD (Li and Wang 2019), with distillation by KL in place of L1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitMean {
    /// Centred logits are clipped to this either way; above 0, at most [`Partial::BOUND`].
    pub clip: f32,
    /// The teacher votes as this many clients of weight 1 do.
    pub teacher_weight: u32,
}

impl Default for LogitMean {
    fn default() -> Self {
        Self {
            clip: 20.0,
            teacher_weight: 1,
        }
    }
}

impl LogitMean {
    fn centred(&self, answers: &Answers) -> Vec<f32> {
        let clip = self.clip.clamp(0.0, Partial::BOUND);
        let mut values = answers.values().to_vec();
        for row in values.chunks_mut(answers.classes().max(1) as usize) {
            let sum: f64 = row.iter().map(|&value| f64::from(value)).sum();
            let mean = sum / row.len() as f64;
            for value in row {
                *value = ((f64::from(*value) - mean) as f32).clamp(-clip, clip);
            }
        }
        values
    }
}

impl Method for LogitMean {
    fn name(&self) -> String {
        "logit-mean".to_owned()
    }

    fn ask(&self, training: &Training, labels: bool) -> Ask {
        Ask {
            knowledge: labels.then_some(AnswerKind::Logits),
            phases: distil_then_train(training, labels),
            report: Some(AnswerKind::Logits),
        }
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        expect_kind(answers, AnswerKind::Logits)?;
        Ok(sum.add(weight, &self.centred(answers))?)
    }

    fn aggregate(
        &self,
        sum: &Partial,
        teacher: Option<&Answers>,
        classes: u32,
    ) -> Result<Option<Answers>, MethodError> {
        let mut sum = sum.clone();
        if let Some(teacher) = teacher {
            self.take(&mut sum, self.teacher_weight, teacher)?;
        }
        let mean = sum
            .mean()
            .map(|mean| Answers::new(AnswerKind::Logits, classes, mean));
        Ok(mean.transpose()?)
    }

    fn teacher_learns(&self) -> bool {
        true
    }
}
