//! The training of a plan's phases, a batch after the other.

use std::sync::atomic::{AtomicBool, Ordering};

use fedistill_learning::{Objective, Samples, Schedule, Soft, Targets, seed};
use fedistill_protocol::{Answers, Name, Phase, PhaseData, RoundPlan, Rounding, Toward};
use rand::RngExt;

use super::gauge::Gauge;
use super::lessons::{ClassLessons, Lessons, Picked};
use super::report::Reporting;
use super::{Checkpoints, Likeness, check};
use crate::journal::Progress;
use crate::{PrivateData, Student, StudentError};

/// All that phases of one plan draw on.
pub(super) struct Table<'a> {
    pub(super) plan: &'a RoundPlan,
    /// There where the plan needs it.
    pub(super) transfer: Option<&'a Samples>,
    pub(super) private: &'a dyn PrivateData,
    pub(super) classes: usize,
    pub(super) lessons: Lessons<'a>,
    pub(super) of_classes: ClassLessons<'a>,
    /// The client's label frequencies, once they are known.
    pub(super) held: Option<Vec<f32>>,
}

/// The transfer set, which a plan that needs it does not come without.
pub(super) fn here(transfer: Option<&Samples>) -> Result<&Samples, StudentError> {
    transfer.ok_or_else(|| "the transfer set is not here".into())
}

/// A phase, and where it goes on.
pub(super) struct Stint<'a> {
    pub(super) index: usize,
    pub(super) phase: &'a Phase,
    pub(super) resumed: Option<Progress>,
    pub(super) checkpoints: &'a mut dyn Checkpoints,
}

/// Values of one batch, to be filled again for the next.
#[derive(Default)]
struct Batch {
    samples: Vec<f32>,
    labels: Vec<u32>,
    soft: [Vec<f32>; 2],
    before: [Vec<f32>; 2],
}

impl Table<'_> {
    /// What the plan asks for, once all its phases are done.
    pub(super) fn answers(
        &mut self,
        name: &Name,
        student: &mut dyn Student,
        likeness: &mut Likeness,
    ) -> Result<Option<Answers>, StudentError> {
        let plan = self.plan;
        let Some(report) = &plan.report else {
            return Ok(None);
        };
        let frequencies = self.frequencies()?.to_vec();
        let reporting = Reporting {
            report,
            frequencies: &frequencies,
            lessons: &self.lessons,
            set: (plan.transfer, self.transfer),
            private: self.private,
            name,
        };
        let answers = reporting.answer(student, likeness)?;
        Ok(Some(match report.rounding {
            Rounding::Nearest => answers,
            Rounding::Stochastic => {
                let mut rng = seed::stream(plan.seed, &format!("rounding/{name}"));
                answers.rounded_by_chance(report.precision, || rng.random())
            }
        }))
    }

    /// The client's label frequencies, one a class.
    fn frequencies(&mut self) -> Result<&[f32], StudentError> {
        if self.held.is_none() {
            let mut counts = vec![0u32; self.classes];
            for label in self.private.labels()? {
                let count = counts.get_mut(label as usize);
                *count.ok_or("a private label is beyond the classes")? += 1;
            }
            let all = self.private.len().max(1) as f32;
            self.held = Some(counts.iter().map(|count| *count as f32 / all).collect());
        }
        Ok(self.held.as_deref().unwrap_or_default())
    }

    /// Trains one phase; whether it came to its end.
    pub(super) fn phase(
        &mut self,
        stint: &mut Stint<'_>,
        name: &Name,
        student: &mut dyn Student,
        cancelled: &AtomicBool,
    ) -> Result<bool, StudentError> {
        let (index, phase) = (stint.index, stint.phase);
        // One without epochs looks over its samples all the same.
        if cancelled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let resumed = stint.resumed.take();
        if let Some(progress) = &resumed {
            student.restore(match progress.epochs {
                0 => &progress.now,
                _ => &progress.began,
            })?;
        }
        let began = match phase.epochs {
            // There is nothing to go on with in the middle of it.
            0 | 1 => None,
            _ => stint.checkpoints.snapshot(student),
        };
        student.begin(phase.start, phase.optimiser)?;
        let stream = |what: &str| seed::stream(self.plan.seed, &format!("{what}/{name}/{index}"));
        let (mut order, mut noise) = (stream("order"), stream("noise"));
        let picked = match phase.data {
            PhaseData::Private => Picked::default(),
            PhaseData::Transfer => self.lessons.pick(phase, student, here(self.transfer)?)?,
        };
        let count = match phase.data {
            PhaseData::Private => self.private.len(),
            PhaseData::Transfer => picked.samples.len(),
        };
        let before = self.before(phase, &picked, student)?;
        let held = match phase.data {
            PhaseData::Private => self.frequencies()?.to_vec(),
            PhaseData::Transfer => Vec::new(),
        };
        let schedule = Schedule {
            epochs: 1,
            batch: phase.batch.into(),
        };
        let mut batch = Batch::default();
        let mut first = 0;
        if let Some(progress) = resumed.filter(|progress| progress.epochs > 0) {
            // What the passes before have drawn is drawn again, and their steps are not taken.
            first = usize::from(progress.epochs);
            for _ in 0..first {
                schedule.batches(count, &mut order).for_each(drop);
            }
            noise.set_word_pos(progress.noise);
            student.restore(&progress.now)?;
        }
        for epoch in first..usize::from(phase.epochs) {
            for indices in schedule.batches(count, &mut order) {
                if cancelled.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                batch.samples.clear();
                batch.labels.clear();
                let mut targets = Targets::default();
                match phase.data {
                    PhaseData::Private => {
                        let Batch {
                            samples, labels, ..
                        } = &mut batch;
                        self.private.batch(&indices, samples, labels)?;
                        self.of_classes.gather(&batch.labels, &mut batch.soft);
                        targets = targets.labels(&batch.labels).held(&held);
                        for (soft, of) in batch.soft.iter().zip(self.of_classes.each()) {
                            if let Some(of) = of {
                                let soft = Soft::new(of.kind(), of.classes() as usize, soft);
                                targets = targets.toward(Toward::Classes, soft);
                            }
                        }
                    }
                    PhaseData::Transfer => {
                        let rows: Vec<usize> =
                            indices.iter().map(|&at| picked.samples[at]).collect();
                        here(self.transfer)?.gather(&rows, &mut batch.samples);
                        self.lessons.gather(&picked, &indices, &mut batch.soft);
                        for (soft, of) in batch.soft.iter().zip(self.lessons.shapes()) {
                            if let Some((kind, width)) = of {
                                let soft = Soft::new(kind, width, soft);
                                targets = targets.toward(Toward::Knowledge, soft);
                            }
                        }
                    }
                }
                for (gauge, values) in before.iter().zip(&mut batch.before) {
                    if let Some(gauge) = gauge {
                        gauge.gather(&indices, values);
                        let soft = Soft::new(gauge.kind, gauge.width, values);
                        targets = targets.toward(Toward::Before, soft);
                    }
                }
                let objective = Objective::new(&phase.objective, targets).at_epoch(epoch);
                student.step(&batch.samples, &objective, &mut noise)?;
            }
            if epoch + 1 < usize::from(phase.epochs)
                && stint.checkpoints.due()
                && let Some(began) = &began
                && let Some(now) = stint.checkpoints.snapshot(student)
            {
                check(student)?;
                let progress = Progress {
                    phase: index as u32,
                    epochs: epoch as u16 + 1,
                    noise: noise.get_word_pos(),
                    began: began.clone(),
                    now,
                };
                stint
                    .checkpoints
                    .keep(self.plan, &progress, false, cancelled);
            }
        }
        Ok(true)
    }

    /// What the student says of the phase's samples as it begins: logits and features, where a term is
    /// toward them.
    fn before(
        &self,
        phase: &Phase,
        picked: &Picked,
        student: &mut dyn Student,
    ) -> Result<[Option<Gauge>; 2], StudentError> {
        let wants = |features: bool| {
            phase
                .objective
                .iter()
                .any(|term| term.toward == Toward::Before && term.loss.is_of_features() == features)
        };
        let mut take = |features: bool| match (wants(features), phase.data) {
            (false, _) => Ok(None),
            (true, PhaseData::Private) => {
                Gauge::of_private(student, self.private, features, |_, _| ()).map(Some)
            }
            (true, PhaseData::Transfer) => {
                let transfer = here(self.transfer)?;
                Gauge::of_transfer(student, transfer, &picked.samples, features).map(Some)
            }
        };
        Ok([take(false)?, take(true)?])
    }
}
