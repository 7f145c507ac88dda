use std::borrow::Cow;

use fedistill_protocol::{AnswerKind, LossTerm, Toward};

use super::ObjectiveError;

/// What is known of each sample of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Soft<'a> {
    /// What the values are.
    pub kind: AnswerKind,
    /// Values of a row.
    pub width: usize,
    /// `samples x width`, row-major.
    pub values: &'a [f32],
}

impl<'a> Soft<'a> {
    /// Rows of `width` values.
    pub const fn new(kind: AnswerKind, width: usize, values: &'a [f32]) -> Self {
        Self {
            kind,
            width,
            values,
        }
    }

    pub(super) fn row(&self, sample: usize) -> &'a [f32] {
        &self.values[sample * self.width..(sample + 1) * self.width]
    }

    /// Whether some row is of zeros: nothing is known there.
    pub(super) fn is_partly_silent(&self) -> bool {
        let mut rows = self.values.chunks_exact(self.width.max(1));
        rows.any(|row| row.iter().all(|value| *value == 0.0))
    }
}

/// What a student's outputs are held against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Targets<'a> {
    labels: Option<&'a [u32]>,
    held: Option<&'a [f32]>,
    /// Of outputs and of features, toward each.
    soft: [[Option<Soft<'a>>; 2]; 3],
}

fn place(toward: Toward) -> usize {
    match toward {
        Toward::Knowledge | Toward::Labels => 0,
        Toward::Classes => 1,
        Toward::Before => 2,
    }
}

impl<'a> Targets<'a> {
    /// A class each.
    pub fn hard(labels: &'a [u32]) -> Self {
        Self::default().labels(labels)
    }

    /// Rows of outputs that came down, `samples x classes`.
    pub fn soft(kind: AnswerKind, classes: usize, values: &'a [f32]) -> Self {
        Self::default().toward(Toward::Knowledge, Soft::new(kind, classes, values))
    }

    /// And a class each.
    #[must_use]
    pub fn labels(self, labels: &'a [u32]) -> Self {
        let labels = Some(labels);
        Self { labels, ..self }
    }

    /// And the client's label frequencies, one a class.
    #[must_use]
    pub fn held(self, frequencies: &'a [f32]) -> Self {
        let held = Some(frequencies);
        Self { held, ..self }
    }

    /// And these rows.
    #[must_use]
    pub fn toward(mut self, toward: Toward, soft: Soft<'a>) -> Self {
        let features = usize::from(soft.kind == AnswerKind::Features);
        self.soft[place(toward)][features] = Some(soft);
        self
    }

    pub(super) fn hard_labels(&self) -> Option<&'a [u32]> {
        self.labels
    }

    pub(super) fn label(&self, sample: usize) -> Option<usize> {
        Some(*self.labels?.get(sample)? as usize)
    }

    fn missing(term: &LossTerm) -> ObjectiveError {
        ObjectiveError::Missing {
            loss: term.loss,
            toward: term.toward,
        }
    }

    pub(super) fn hard_of(&self, term: &LossTerm) -> Result<&'a [u32], ObjectiveError> {
        match term.toward {
            Toward::Labels => self.hard_labels().ok_or_else(|| Self::missing(term)),
            _ => Err(ObjectiveError::Targets {
                loss: term.loss,
                targets: "soft labels",
            }),
        }
    }

    fn find(&self, term: &LossTerm, features: bool) -> Result<Soft<'a>, ObjectiveError> {
        if term.toward == Toward::Labels {
            return Err(ObjectiveError::Targets {
                loss: term.loss,
                targets: "hard labels",
            });
        }
        self.soft[place(term.toward)][usize::from(features)].ok_or_else(|| Self::missing(term))
    }

    pub(super) fn outputs(&self, term: &LossTerm) -> Result<Soft<'a>, ObjectiveError> {
        self.find(term, false)
    }

    pub(super) fn features(&self, term: &LossTerm) -> Result<Soft<'a>, ObjectiveError> {
        self.find(term, true)
    }

    /// Logits plus so many times the logarithm of the client's label frequencies; those of classes that
    /// it does not hold are so low that no softmax hears them.
    pub(super) fn adjusted<'l>(
        &self,
        term: &LossTerm,
        logits: &'l [f32],
        classes: usize,
        adjust: f32,
    ) -> Result<Cow<'l, [f32]>, ObjectiveError> {
        let held = self.held.filter(|held| held.len() == classes);
        let held = held.ok_or_else(|| Self::missing(term))?;
        let absent = |label: &u32| held.get(*label as usize).is_none_or(|f| *f <= 0.0);
        let labels = self.labels.unwrap_or_default();
        if let Some(sample) = labels.iter().position(absent) {
            let label = labels[sample];
            return Err(ObjectiveError::NotHeld { label, sample });
        }
        if adjust == 0.0 && held.iter().all(|f| *f > 0.0) {
            return Ok(Cow::Borrowed(logits));
        }
        let off: Vec<Option<f32>> = held
            .iter()
            .map(|f| (*f > 0.0).then(|| adjust * f.ln()))
            .collect();
        let mut adjusted = logits.to_vec();
        for row in adjusted.chunks_exact_mut(classes.max(1)) {
            for (z, off) in row.iter_mut().zip(&off) {
                *z = off.map_or(UNHEARD, |off| *z + off);
            }
        }
        Ok(Cow::Owned(adjusted))
    }

    pub(super) fn check(&self, logits: usize, classes: usize) -> Result<(), ObjectiveError> {
        let shape = |targets| ObjectiveError::Shape {
            targets,
            logits,
            classes,
        };
        let samples = logits.checked_div(classes).unwrap_or(0);
        if samples * classes != logits {
            return Err(shape(0));
        }
        if let Some(labels) = self.labels {
            if labels.len() != samples {
                return Err(shape(labels.len()));
            }
            let beyond = |label: &u32| *label as usize >= classes;
            if let Some(sample) = labels.iter().position(beyond) {
                return Err(ObjectiveError::Label {
                    label: labels[sample],
                    sample,
                    classes,
                });
            }
        }
        for soft in self.soft.iter().flatten().flatten() {
            let is_output = soft.kind != AnswerKind::Features;
            if soft.values.len() != samples * soft.width || is_output && soft.width != classes {
                return Err(shape(soft.values.len()));
            }
        }
        Ok(())
    }
}

/// A logit that no softmax hears: far below all, and far from where arithmetic ends.
const UNHEARD: f32 = -1e30;
