//! The teacher as methods see it.

use std::sync::Arc;

use fedistill_federation::{Centre, CentreError, Training};
use fedistill_learning::Samples;
use fedistill_protocol::{AnswerKind, Answers, Rows};

use crate::Teacher;

/// A teacher with the transfer set in hand, for the time between two rounds.
pub(crate) struct TeacherCentre<'a> {
    pub(crate) teacher: &'a mut dyn Teacher,
    pub(crate) transfer: Arc<Samples>,
    pub(crate) classes: u32,
    pub(crate) training: Training,
    /// All randomness of this time follows from it.
    pub(crate) seed: u64,
}

impl TeacherCentre<'_> {
    fn select<'r>(&self, rows: impl Iterator<Item = &'r u32>) -> Samples {
        let rows: Vec<usize> = rows.map(|row| *row as usize).collect();
        self.transfer.select(&rows)
    }
}

impl Centre for TeacherCentre<'_> {
    fn answer(&mut self, rows: &Rows) -> Result<Answers, CentreError> {
        let rows: Vec<u32> = rows.iter().collect();
        let logits = self.teacher.logits(&self.select(rows.iter()))?;
        Ok(Answers::new(AnswerKind::Logits, self.classes, logits)?)
    }

    fn learn(&mut self, rows: &Rows, labels: &Answers) -> Result<(), CentreError> {
        let rows: Vec<u32> = rows.iter().collect();
        let speaks: Vec<bool> = labels.speaks().collect();
        let spoken = rows.iter().zip(&speaks).filter(|(_, speaks)| **speaks);
        let samples = self.select(spoken.map(|(row, _)| row));
        let said = labels.iter().zip(&speaks).filter(|(_, speaks)| **speaks);
        let values = said.flat_map(|(row, _)| row.iter().copied()).collect();
        let labels = Answers::new(labels.kind(), labels.classes(), values)?;
        if samples.is_empty() {
            return Ok(());
        }
        self.teacher
            .learn(&samples, &labels, &self.training, self.seed)
    }

    fn is_trained(&self) -> bool {
        self.teacher.is_trained()
    }
}
