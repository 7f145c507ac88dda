//! What came down, in the order in which a phase needs it.

use std::collections::BTreeMap;
use std::sync::Arc;

use fedistill_learning::{Samples, softmax};
use fedistill_protocol::{About, AnswerKind, Answers, Phase, PhaseData, RoundPlan, Toward};

use crate::{Student, StudentError};

/// Place of logits and probabilities, and of features, in pairs of both.
const OUTPUTS: usize = 0;
const FEATURES: usize = 1;

fn place(kind: AnswerKind) -> usize {
    match kind {
        AnswerKind::Logits | AnswerKind::Probabilities => OUTPUTS,
        AnswerKind::Features => FEATURES,
    }
}

/// A row of one of several answers.
type At = (usize, usize);

/// What is known of transfer samples.
pub(super) struct Lessons<'a> {
    /// Those that speak about transfer samples, of outputs and of features.
    answers: [Vec<&'a Answers>; 2],
    /// Who says something of a sample.
    said: [BTreeMap<usize, Vec<At>>; 2],
}

/// The samples of a phase, and what is held against each.
#[derive(Default)]
pub(super) struct Picked {
    /// Their places in the transfer set.
    pub(super) samples: Vec<usize>,
    rows: [Vec<At>; 2],
}

impl<'a> Lessons<'a> {
    /// What comes with a plan.
    ///
    /// # Errors
    /// Several answers of different kinds about transfer samples.
    pub(super) fn of(plan: &RoundPlan, all: &'a [Arc<Answers>]) -> Result<Self, StudentError> {
        let mut lessons = Self {
            answers: Default::default(),
            said: Default::default(),
        };
        for (index, knowledge, rows) in plan.of_samples() {
            let answers: &Answers = &all[index];
            let place = place(knowledge.kind);
            if let Some(first) = lessons.answers[place].first()
                && (first.kind(), first.classes()) != (answers.kind(), answers.classes())
            {
                return Err("several lessons about transfer samples are of different kinds".into());
            }
            let which = lessons.answers[place].len();
            lessons.answers[place].push(answers);
            for ((at, speaks), sample) in answers.speaks().enumerate().zip(rows.iter()) {
                if speaks {
                    let said = lessons.said[place].entry(sample as usize);
                    said.or_default().push((which, at));
                }
            }
        }
        Ok(lessons)
    }

    /// Kind and width of outputs and of features.
    pub(super) fn shapes(&self) -> [Option<(AnswerKind, usize)>; 2] {
        self.answers.each_ref().map(|answers| {
            let first = answers.first()?;
            Some((first.kind(), first.classes() as usize))
        })
    }

    /// The most likely class of a sample, where something was said of it.
    pub(super) fn class_of(&self, sample: usize) -> Option<usize> {
        let (which, at) = *self.said[OUTPUTS].get(&sample)?.first()?;
        let row = self.row(OUTPUTS, (which, at));
        let most = |best: usize, class: usize| if row[class] > row[best] { class } else { best };
        Some((1..row.len()).fold(0, most))
    }

    fn row(&self, place: usize, (which, at): At) -> &[f32] {
        let answers = self.answers[place][which];
        let width = answers.classes() as usize;
        &answers.values()[at * width..(at + 1) * width]
    }

    /// The samples that a phase trains on: those that everything it needs is known of.
    ///
    /// # Errors
    /// What the student reports.
    pub(super) fn pick(
        &self,
        phase: &Phase,
        student: &mut dyn Student,
        transfer: &Samples,
    ) -> Result<Picked, StudentError> {
        debug_assert_eq!(phase.data, PhaseData::Transfer);
        let needs = |place: usize| {
            phase.objective.iter().any(|term| {
                term.toward == Toward::Knowledge && usize::from(term.loss.is_of_features()) == place
            })
        };
        let needed: Vec<usize> = [OUTPUTS, FEATURES]
            .into_iter()
            .filter(|p| needs(*p))
            .collect();
        let known = |sample: &usize| needed.iter().all(|p| self.said[*p].contains_key(sample));
        let samples: Vec<usize> = match &phase.only {
            Some(only) => only.iter().map(|row| row as usize).filter(known).collect(),
            // Where nothing is needed, all that anything is known of.
            None => {
                let place = needed.first().copied().unwrap_or(OUTPUTS);
                self.said[place].keys().copied().filter(known).collect()
            }
        };
        let mut picked = Picked {
            samples,
            rows: Default::default(),
        };
        for place in needed {
            picked.rows[place] = self.nearest(place, &picked.samples, student, transfer)?;
        }
        Ok(picked)
    }

    /// For each sample, who says what is closest to what the student says, where several do.
    fn nearest(
        &self,
        place: usize,
        samples: &[usize],
        student: &mut dyn Student,
        transfer: &Samples,
    ) -> Result<Vec<At>, StudentError> {
        let said = |sample: &usize| self.said[place].get(sample).map_or(&[][..], Vec::as_slice);
        let many = |sample: &&usize| said(sample).len() > 1;
        let doubtful: Vec<usize> = samples.iter().filter(many).copied().collect();
        let own = match (doubtful.is_empty(), place) {
            (true, _) => Vec::new(),
            (false, OUTPUTS) => {
                let logits = student.logits_of(transfer, &doubtful)?;
                softmax(&logits, logits.len() / doubtful.len())
            }
            (false, _) => student.features_of(transfer, &doubtful)?.0,
        };
        let mut own = own.chunks_exact((own.len() / doubtful.len().max(1)).max(1));
        let pick = |sample: &usize| {
            let said = said(sample);
            let first = said.first().copied().unwrap_or_default();
            if said.len() < 2 {
                return first;
            }
            let own = own.next().unwrap_or_default();
            let distance = |at: &At| {
                let row = self.row(place, *at);
                let other: Vec<f32> = match self.answers[place][at.0].kind() {
                    AnswerKind::Logits => softmax(row, row.len()),
                    _ => row.to_vec(),
                };
                let squares = own
                    .iter()
                    .zip(&other)
                    .map(|(a, b)| f64::from(a - b).powi(2));
                squares.sum::<f64>()
            };
            let nearer = |best: At, at: &At| match distance(at) < distance(&best) {
                true => *at,
                false => best,
            };
            said.iter().fold(first, nearer)
        };
        Ok(samples.iter().map(pick).collect())
    }

    /// What is held against the samples at `indices` of those picked.
    pub(super) fn gather(&self, picked: &Picked, indices: &[usize], into: &mut [Vec<f32>; 2]) {
        for (place, into) in into.iter_mut().enumerate() {
            into.clear();
            if picked.rows[place].is_empty() {
                continue;
            }
            for &index in indices {
                into.extend_from_slice(self.row(place, picked.rows[place][index]));
            }
        }
    }
}

/// What is known of the classes, of outputs and of features.
pub(super) struct ClassLessons<'a>([Option<&'a Answers>; 2]);

impl<'a> ClassLessons<'a> {
    /// What comes with a plan.
    ///
    /// # Errors
    /// Several of one kind.
    pub(super) fn of(plan: &RoundPlan, all: &'a [Arc<Answers>]) -> Result<Self, StudentError> {
        let mut found = [None; 2];
        for (knowledge, answers) in plan.knowledge.iter().zip(all) {
            if knowledge.about != About::Classes {
                continue;
            }
            if found[place(knowledge.kind)].replace(&**answers).is_some() {
                return Err("several lessons speak about the classes".into());
            }
        }
        Ok(Self(found))
    }

    pub(super) fn each(&self) -> [Option<&'a Answers>; 2] {
        self.0
    }

    /// The rows of these classes, one after the other.
    pub(super) fn gather(&self, labels: &[u32], into: &mut [Vec<f32>; 2]) {
        for (answers, into) in self.0.iter().zip(into) {
            into.clear();
            let Some(answers) = answers else {
                continue;
            };
            let width = answers.classes() as usize;
            for &label in labels {
                let at = label as usize * width;
                into.extend_from_slice(&answers.values()[at..at + width]);
            }
        }
    }
}
