//! A federation as the method sees it: who answers, and the teacher beside it.

use std::collections::BTreeMap;

use fedistill_protocol::Optimiser;

use super::*;
use crate::method::{Asked, CentreError, Training, by_name};

const TRAINING: Training = Training {
    private_epochs: 1,
    distillation_epochs: 1,
    batch: 10,
    optimiser: Optimiser::Sgd {
        learning_rate: 0.1,
        momentum: 0.0,
    },
    distillation_temperature: Training::TEMPERATURE,
    label_smoothing: Training::SMOOTHING,
};
pub(in crate::method::adaptive) const CLASSES: u32 = 3;
/// Samples of the transfer set; the class of each is its row modulo 3.
pub(in crate::method::adaptive) const SAMPLES: u32 = 60;

/// Logits of somebody who is right about these rows, and sure of the next class elsewhere.
pub(super) fn said(rows: &Rows, is_right: impl Fn(u32) -> bool) -> Answers {
    let values = rows.iter().flat_map(|row| {
        let class = match is_right(row) {
            true => row % CLASSES,
            false => (row + 1) % CLASSES,
        };
        let mut logits = [-1.0; CLASSES as usize];
        logits[class as usize] = 2.0;
        logits
    });
    Answers::new(AnswerKind::Logits, CLASSES, values.collect()).unwrap()
}

/// A teacher that is right about so many of every 10 samples until it is taught; then about none.
pub(in crate::method::adaptive) struct Teacher {
    right: u32,
    pub(super) taught: Vec<(Rows, Answers)>,
}

impl Teacher {
    pub(in crate::method::adaptive) fn knows(right: u32) -> Self {
        Self {
            right,
            taught: Vec::new(),
        }
    }
}

impl Centre for Teacher {
    fn answer(&mut self, rows: &Rows) -> Result<Answers, CentreError> {
        let right = if self.taught.is_empty() {
            self.right
        } else {
            0
        };
        Ok(said(rows, |row| row * 7 % 10 < right))
    }

    fn learn(&mut self, rows: &Rows, labels: &Answers) -> Result<(), CentreError> {
        self.taught.push((rows.clone(), labels.clone()));
        Ok(())
    }

    fn is_trained(&self) -> bool {
        true
    }
}

pub(super) fn fresh() -> Rows {
    Rows::Range {
        start: 0,
        count: 20,
    }
}

/// A federation of [`SAMPLES`] samples and [`CLASSES`] classes as its method sees it, round after round.
pub(in crate::method::adaptive) struct Federation<'a> {
    method: Box<dyn Method>,
    fresh: Rows,
    probes: Option<&'a Probes>,
    pub(super) precision: Precision,
    teacher: Option<&'a mut Teacher>,
    round: u32,
    asked: Asked,
    pub(in crate::method::adaptive) state: State,
}

impl<'a> Federation<'a> {
    /// Before it begins.
    pub(in crate::method::adaptive) fn of(name: &str) -> Self {
        Self {
            method: by_name(name).unwrap(),
            fresh: fresh(),
            probes: None,
            precision: Precision::F32,
            teacher: None,
            round: 0,
            asked: Asked::All,
            state: State::default(),
        }
    }

    pub(super) fn probed(self, probes: Option<&'a Probes>) -> Self {
        Self { probes, ..self }
    }

    pub(super) fn packed(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Where rounds ask some of its clients.
    pub(super) fn sampled(self) -> Self {
        let asked = Asked::Some;
        Self { asked, ..self }
    }

    /// Begins it, beside this teacher or none.
    pub(in crate::method::adaptive) fn begun(mut self, teacher: Option<&'a mut Teacher>) -> Self {
        self.teacher = teacher;
        let outlook = outlook(self.round, &self.fresh, self.probes, self.precision);
        let centre = self.teacher.as_deref_mut();
        let centre = centre.map(|teacher| teacher as &mut dyn Centre);
        let begun = self.method.begin(&outlook, centre, &mut self.state);
        begun.unwrap();
        self
    }

    pub(in crate::method::adaptive) fn ask(&self) -> Ask {
        let outlook = outlook(self.round, &self.fresh, self.probes, self.precision);
        self.method.ask(&outlook, &self.state)
    }

    /// What a round asks for, and about which samples.
    pub(in crate::method::adaptive) fn wanted(&self) -> (Wanted, Rows) {
        let wanted = self.ask().report.unwrap();
        let About::Rows(rows) = wanted.about.clone() else {
            panic!("it asks about classes")
        };
        (wanted, rows)
    }

    /// A round to which clients answer so.
    pub(in crate::method::adaptive) fn answered(&mut self, all: &[Answers]) {
        let (wanted, rows) = self.wanted();
        let mut sum = Partial::new(rows.count() as usize, CLASSES as usize);
        let mut each = BTreeMap::new();
        for (client, answers) in all.iter().enumerate() {
            self.method.take(&mut sum, 1, answers).unwrap();
            each.insert(format!("c{client}").parse().unwrap(), answers.clone());
        }
        let taken = Taken {
            sum: &sum,
            each: &each,
            about: Some(&wanted.about),
            classes: CLASSES,
            asked: self.asked,
        };
        let outlook = outlook(self.round, &self.fresh, self.probes, self.precision);
        let centre = self.teacher.as_deref_mut();
        let centre = centre.map(|teacher| teacher as &mut dyn Centre);
        let ended = self
            .method
            .conclude(&outlook, taken, centre, &mut self.state);
        ended.unwrap();
        self.round += 1;
    }

    /// A round of one client that is right about so many of every 10 samples; what it was asked about.
    pub(super) fn answered_by(&mut self, right: u32) -> Rows {
        let (_, rows) = self.wanted();
        self.answered(&[said(&rows, |row| row * 3 % 10 < right)]);
        rows
    }

    pub(super) fn teacher_weight(&self) -> f64 {
        self.state.decided["teacher weight"]
    }
}

fn outlook<'a>(
    round: u32,
    fresh: &'a Rows,
    probes: Option<&'a Probes>,
    precision: Precision,
) -> Outlook<'a> {
    Outlook {
        round,
        training: &TRAINING,
        fresh,
        fixed: fresh,
        samples: SAMPLES,
        probes,
        precision,
        seed: 1,
    }
}
