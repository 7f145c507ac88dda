use fedistill_protocol::{AnswerKind, Answers, Precision, ProtocolError, Rows};
use serde::{Deserialize, Serialize};

/// Soft labels and the samples that they speak about, as files have them: beside this, packed values.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LabelsRecord {
    probabilities: bool,
    classes: u32,
    rows: Vec<u32>,
}

impl LabelsRecord {
    /// The record of these labels, and their values, exact.
    pub fn of((rows, answers): &(Rows, Answers)) -> (Self, Vec<u8>) {
        let record = Self {
            probabilities: answers.kind() == AnswerKind::Probabilities,
            classes: answers.classes(),
            rows: rows.iter().collect(),
        };
        (record, answers.pack(Precision::F32))
    }

    /// The labels again.
    ///
    /// # Errors
    /// Values that are not those of this record.
    pub fn restore(self, packed: &[u8]) -> Result<(Rows, Answers), ProtocolError> {
        let kind = match self.probabilities {
            true => AnswerKind::Probabilities,
            false => AnswerKind::Logits,
        };
        let count = self.rows.len() as u32;
        let answers = Answers::unpack(packed, kind, count, self.classes)?;
        Ok((Rows::of(self.rows), answers))
    }
}
