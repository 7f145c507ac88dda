use fedistill_learning::Samples;
use fedistill_protocol::{AnswerKind, Elements};

use crate::{PrivateData, Student, StudentError};

/// What a student says of some samples at one moment: logits or features, a row each.
pub(super) struct Gauge {
    pub(super) kind: AnswerKind,
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
}

/// Private samples that are held a second time at once.
const CHUNK: usize = 256;

impl Gauge {
    /// Of all private samples; `see` hears the labels and rows of each chunk as it comes.
    pub(super) fn of_private(
        student: &mut dyn Student,
        private: &dyn PrivateData,
        features: bool,
        mut see: impl FnMut(&[u32], &[f32]),
    ) -> Result<Self, StudentError> {
        let mut gauge = Self::blank(features, private.classes().len());
        let all: Vec<usize> = (0..private.len()).collect();
        for indices in all.chunks(CHUNK) {
            let (mut samples, mut labels) = (Vec::new(), Vec::new());
            private.batch(indices, &mut samples, &mut labels)?;
            let samples = Samples::new(private.shape().to_vec(), Elements::F32(samples))
                .ok_or("private samples have another shape than they say")?;
            let rows = gauge.ask(student, &samples, None)?;
            see(&labels, &gauge.values[rows..]);
        }
        Ok(gauge)
    }

    /// Of these transfer samples, in this order.
    pub(super) fn of_transfer(
        student: &mut dyn Student,
        transfer: &Samples,
        rows: &[usize],
        features: bool,
    ) -> Result<Self, StudentError> {
        let mut gauge = Self::blank(features, 0);
        gauge.ask(student, transfer, Some(rows))?;
        Ok(gauge)
    }

    fn blank(features: bool, classes: usize) -> Self {
        Self {
            kind: match features {
                true => AnswerKind::Features,
                false => AnswerKind::Logits,
            },
            width: classes,
            values: Vec::new(),
        }
    }

    /// Appends what the student says; where that begins.
    fn ask(
        &mut self,
        student: &mut dyn Student,
        samples: &Samples,
        rows: Option<&[usize]>,
    ) -> Result<usize, StudentError> {
        let at = self.values.len();
        let all: Vec<usize>;
        let rows = match rows {
            Some(rows) => rows,
            None => {
                all = (0..samples.len()).collect();
                &all
            }
        };
        match self.kind {
            AnswerKind::Features => {
                let (values, width) = student.features_of(samples, rows)?;
                self.width = width;
                self.values.extend(values);
            }
            _ => {
                let values = student.logits_of(samples, rows)?;
                self.width = values.len() / rows.len().max(1);
                self.values.extend(values);
            }
        }
        Ok(at)
    }

    /// The rows at `indices`, one after the other.
    pub(super) fn gather(&self, indices: &[usize], into: &mut Vec<f32>) {
        into.clear();
        for &index in indices {
            into.extend_from_slice(self.row(index));
        }
    }

    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }
}
