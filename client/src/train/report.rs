//! What a client gives back once it has trained.

use fedistill_learning::{Samples, softmax};
use fedistill_protocol::{About, AnswerKind, Answers, Digest, Name, Report, Silence};

use super::gauge::Gauge;
use super::lessons::Lessons;
use super::likeness::Likeness;
use super::table::here;
use crate::{PrivateData, Student, StudentError};

/// A report that is asked for, and what it draws on.
pub(super) struct Reporting<'a> {
    pub(super) report: &'a Report,
    /// The client's label frequencies, one a class.
    pub(super) frequencies: &'a [f32],
    pub(super) lessons: &'a Lessons<'a>,
    /// The name of the transfer set, and the set where the plan needs it.
    pub(super) set: (Digest, Option<&'a Samples>),
    pub(super) private: &'a dyn PrivateData,
    pub(super) name: &'a Name,
}

impl Reporting<'_> {
    /// The answers that are asked for.
    ///
    /// # Errors
    /// What the student or the data report; features of another width than was asked for; answers that
    /// are not finite.
    pub(super) fn answer(
        &self,
        student: &mut dyn Student,
        likeness: &mut Likeness,
    ) -> Result<Answers, StudentError> {
        let (report, classes) = (self.report, self.frequencies.len());
        let adjust = Adjustment::new(report, self.frequencies, self.private.len());
        let values = match &report.about {
            About::Classes => class_means(report.kind, &adjust, student, self.private)?,
            About::Rows(rows) => {
                let rows: Vec<usize> = rows.iter().map(|row| row as usize).collect();
                let features = report.kind == AnswerKind::Features;
                let set = (self.set.0, here(self.set.1)?);
                let mut gauge = Gauge::of_transfer(student, set.1, &rows, features)?;
                let silent = self.silent(set, &rows, &gauge, likeness)?;
                adjust.apply(&mut gauge.values);
                let mut values = match report.kind {
                    AnswerKind::Probabilities => softmax(&gauge.values, classes),
                    AnswerKind::Logits | AnswerKind::Features => gauge.values,
                };
                let all = values.chunks_exact_mut(gauge.width.max(1)).zip(silent);
                for (row, _) in all.filter(|(_, silent)| *silent) {
                    row.fill(0.0);
                }
                values
            }
        };
        let rows = report.about.count(classes as u32) as usize;
        let width = report.width as usize;
        if values.len() != rows * width {
            let actual = values.len() / rows.max(1);
            return Err(format!(
                "the student's features have width {actual}, the plan asks for {width}: set the method's width, or give all clients such students"
            )
            .into());
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err("the student's answers are not finite: lower the learning rate".into());
        }
        Ok(Answers::new(report.kind, report.width, values)?)
    }

    /// On which samples the client stays silent.
    fn silent(
        &self,
        set: (Digest, &Samples),
        rows: &[usize],
        gauge: &Gauge,
        likeness: &mut Likeness,
    ) -> Result<Vec<bool>, StudentError> {
        Ok(match self.report.silence {
            Silence::Never => vec![false; rows.len()],
            Silence::Foreign => {
                let own = (0..rows.len()).map(|at| largest(gauge.row(at)));
                let believed = rows.iter().zip(own);
                let class =
                    |(row, own): (&usize, usize)| self.lessons.class_of(*row).unwrap_or(own);
                let held = believed
                    .map(class)
                    .map(|class| self.frequencies[class] > 0.0);
                held.map(|held| !held).collect()
            }
            Silence::Unsure { least } => {
                let probabilities = softmax(&gauge.values, gauge.width);
                let rows = probabilities.chunks_exact(gauge.width.max(1));
                rows.map(|row| row[largest(row)] < least).collect()
            }
            rule @ (Silence::Far { .. } | Silence::Unlike { .. } | Silence::UnlikeBy { .. }) => {
                let like = likeness.of(rule, set, rows, self.private, self.name)?;
                like.into_iter().map(|like| !like).collect()
            }
        })
    }
}

/// What is taken off logits so that frequent labels do not speak louder.
struct Adjustment(Vec<f32>);

impl Adjustment {
    fn new(report: &Report, frequencies: &[f32], samples: usize) -> Self {
        let classes = frequencies.len() as f32;
        let samples = samples as f32;
        // With one more sample of each class, so that none is infinitely rare.
        let logarithm = |f: &f32| ((f * samples + 1.0) / (samples + classes)).ln();
        Self(
            match report.adjust > 0.0 && report.kind != AnswerKind::Features {
                true => frequencies
                    .iter()
                    .map(|f| report.adjust * logarithm(f))
                    .collect(),
                false => Vec::new(),
            },
        )
    }

    fn apply(&self, logits: &mut [f32]) {
        if self.0.is_empty() {
            return;
        }
        for row in logits.chunks_exact_mut(self.0.len()) {
            row.iter_mut().zip(&self.0).for_each(|(z, off)| *z -= off);
        }
    }
}

/// Means over private samples, a row a class; zeros for a class without samples.
fn class_means(
    kind: AnswerKind,
    adjust: &Adjustment,
    student: &mut dyn Student,
    private: &dyn PrivateData,
) -> Result<Vec<f32>, StudentError> {
    let classes = private.classes().len();
    let mut sums: Vec<Vec<f64>> = vec![Vec::new(); classes];
    let mut counts = vec![0u64; classes];
    let see = |labels: &[u32], values: &[f32]| {
        let width = values.len() / labels.len().max(1);
        let mut values = values.to_vec();
        adjust.apply(&mut values);
        if kind == AnswerKind::Probabilities {
            values = softmax(&values, width);
        }
        for (label, row) in labels.iter().zip(values.chunks_exact(width.max(1))) {
            let label = *label as usize;
            if label >= classes {
                continue;
            }
            counts[label] += 1;
            sums[label].resize(width, 0.0);
            let sums = sums[label].iter_mut().zip(row);
            sums.for_each(|(sum, value)| *sum += f64::from(*value));
        }
    };
    let features = kind == AnswerKind::Features;
    let width = Gauge::of_private(student, private, features, see)?.width;
    let rows = sums.iter().zip(&counts);
    let means = rows.flat_map(|(sums, count)| {
        let count = (*count).max(1) as f64;
        (0..width).map(move |at| (sums.get(at).copied().unwrap_or(0.0) / count) as f32)
    });
    Ok(means.collect())
}

fn largest(row: &[f32]) -> usize {
    let most = |best: usize, class: usize| if row[class] > row[best] { class } else { best };
    (1..row.len()).fold(0, most)
}
