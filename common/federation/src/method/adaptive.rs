use fedistill_protocol::{About, AnswerKind, Answers, Precision, Rows, Silence};

use super::parameter::Given;
use super::pool::Witnessed;
use super::vote::one_hot;
use super::{
    Ask, AtCentre, Centre, Method, MethodError, Outlook, Setting, Taken, Wanted, by_row, centred,
    distil_then_train, mean, pass_on, take_logits, take_probabilities, thrift,
};
use crate::{Partial, Probes, State};
pub(super) use entry::ENTRY;
use measuring::Measuring;
use notes::{Notes, Weight};

mod entry;
mod measuring;
mod notes;
mod silence;
mod votes;

/// Ours: the mean of logits of clients, pooled with what the teacher said before it learnt anything,
/// as far as it is to be believed. Clients speak of what is like their own, until that is worth nothing.
///
/// A teacher that learns an aggregate and then votes in the next one counts its own errors again and
/// again, which is how naive averages end below a good teacher. Here only the teacher's first answers
/// vote. How much they weigh is measured twice, on labelled samples that lie unmarked among those that
/// clients speak about ([`Probes`]).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Adaptive {
    /// Centred logits are clipped to this either way; above 0, at most [`Partial::BOUND`].
    clip: f32,
    /// Share of the logarithm of a client's label frequencies that is taken off its logits.
    adjust: f32,
    /// How many times the mean of clients the teacher weighs, before that is measured; 0: as the method decides.
    trust: f64,
    /// The first round, from 0, in which clients may be asked about labelled samples.
    census: u32,
    /// How a teacher's weight is measured.
    measuring: Measuring,
    /// Share of a client's own samples that it would vote on, where hard votes go up; 0: logits do.
    votes: f32,
    /// Share of a client's own samples that it would say logits about; 0: as the method decides.
    near: f32,
    /// What packing to few bits may lose, in nats a row.
    tolerance: f64,
    name: String,
}

/// How many times the mean of clients a teacher weighs that nothing measures: too much of a bad one, or of one from
/// elsewhere, would do harm for good.
const UNMEASURED: f64 = 0.3;

/// So many rounds before a teacher's weight is measured for good it is for the time being.
const FOR_NOW: u32 = 2;

/// How many times the mean of clients a teacher weighs until that is measured. Clients know little yet, so that a
/// federation that ends before is better off with the teacher, and what a bad one did is soon made good.
const UNTIL_MEASURED: f64 = 1.0;

impl Adaptive {
    fn new(given: &Given) -> Self {
        Self {
            clip: given.get("clip") as f32,
            adjust: given.get("adjust") as f32,
            trust: given.get("trust"),
            census: given.get("census") as u32,
            measuring: Measuring {
                prior: given.get("prior"),
                range: (given.get("least-trust"), given.get("most-trust")),
                caution: given.get("caution"),
            },
            votes: given.get("votes") as f32,
            near: given.get("near") as f32,
            tolerance: given.get("tolerance"),
            name: given.name(),
        }
    }

    /// Whether votes cross in place of logits.
    fn votes(&self) -> bool {
        self.votes > 0.0
    }

    /// What crosses, both ways.
    fn kind(&self) -> AnswerKind {
        match self.votes() {
            true => AnswerKind::Probabilities,
            false => AnswerKind::Logits,
        }
    }

    /// The mean of what clients say, as centred logits.
    fn heard(&self, taken: Taken<'_>) -> Result<Option<Answers>, MethodError> {
        let mean = mean(taken, self.kind())?;
        match (mean, self.votes()) {
            (Some(shares), true) => Ok(Some(votes::logits(&shares)?)),
            (mean, _) => Ok(mean),
        }
    }

    /// Logits that come down, as they do.
    fn taught(&self, labels: Answers) -> Result<Answers, MethodError> {
        match self.votes() {
            true => Ok(by_row(self.kind(), &labels, one_hot)?),
            false => Ok(labels),
        }
    }

    /// How many times the mean of clients the teacher weighs in a round.
    fn weight(&self, outlook: &Outlook<'_>, notes: &Notes) -> f64 {
        let decided = match outlook.probes {
            Some(_) => UNTIL_MEASURED,
            None => UNMEASURED,
        };
        let given = (self.trust > 0.0).then_some(self.trust);
        notes.weight.measured().or(given).unwrap_or(decided)
    }

    /// The labelled samples that this round also asks about: once when clients know little, as what is believed of a teacher
    /// until then may be far from what it is worth, and once for good.
    fn census<'a>(&self, outlook: &Outlook<'a>, notes: &Notes) -> Option<&'a Probes> {
        let due = match notes.weight {
            Weight::Open => self.census.saturating_sub(FOR_NOW),
            Weight::ForNow(_) => self.census,
            Weight::ForGood(_) => return None,
        };
        let due = outlook.round >= due && notes.first.is_some();
        outlook.probes.filter(|_| due)
    }

    /// Where clients stay silent.
    fn silence(&self, notes: &Notes) -> Silence {
        match self.votes() {
            true => votes::silence(self.votes),
            false => silence::of(self.near, notes.reach),
        }
    }

    /// Whether the method, and not the user, decides where clients are silent.
    fn silences(&self) -> bool {
        !self.votes() && self.near == 0.0
    }

    /// What a round asks about: the fresh samples, or as many, labelled ones among them.
    fn rows(&self, outlook: &Outlook<'_>, notes: &Notes) -> Rows {
        let Some(probes) = self.census(outlook, notes) else {
            return outlook.fresh.clone();
        };
        let fresh = outlook.fresh.count();
        // At least half of what is spoken about teaches; where it is for the time being, most of it.
        let share = match outlook.round < self.census {
            true => 5,
            false => 2,
        };
        let hidden = probes.rows.count().min(fresh / share);
        let hidden = probes.rows.iter().take(hidden as usize);
        let mut rows: Vec<u32> = hidden.collect();
        let others = outlook.fresh.iter().take(fresh as usize - rows.len());
        rows.extend(others);
        rows.sort_unstable();
        Rows::of(rows)
    }

    /// In what the next round's labels cross, where the user asks for few bits: no fewer than they bear.
    /// What comes down is what clients' answers were, but for noise that their mean has less of: labels
    /// that votes would spoil have come of answers that votes would spoil.
    fn precision(&self, outlook: &Outlook<'_>, state: &State) -> Option<Precision> {
        if self.votes() {
            return Some(Precision::U1);
        }
        let labels = state.common.first().map(|lesson| &lesson.answers)?;
        thrift::enough(labels, outlook.precision, self.tolerance)
    }

    /// Notes in what the labels that were just learnt cross, where that is not, or has not always been, in what it is
    /// by default or by the user's word: nothing was decided then.
    fn say_bits(&self, outlook: &Outlook<'_>, state: &mut State) {
        if let Some(precision) = self.precision(outlook, state).filter(|_| !self.votes())
            && (precision != outlook.precision || state.decided.contains_key("bits"))
        {
            state.decide("bits", thrift::bits(precision));
        }
    }

    /// How many times the clients' mean the teacher weighs, by what both say of labelled samples.
    fn measure(
        &self,
        probes: &Probes,
        notes: &Notes,
        taken: Taken<'_>,
        means: &Answers,
    ) -> Option<f64> {
        let rows = taken.rows().ok()?;
        let said: Vec<(Vec<f32>, &[f32], usize)> = rows
            .iter()
            .zip(means.iter().zip(means.speaks()))
            .filter(|(_, (_, speaks))| *speaks)
            .filter_map(|(row, (clients, _))| {
                let (class, teacher) = probes.of(row)?;
                let teacher = teacher.or_else(|| notes.teacher(row))?;
                Some((centred(teacher, self.clip), clients, class as usize))
            })
            .collect();
        let witnessed: Vec<Witnessed<'_>> = said
            .iter()
            .map(|(teacher, clients, class)| Witnessed {
                clients,
                teacher,
                class: *class,
            })
            .collect();
        self.measuring.ratio(&witnessed, taken.asked)
    }

    /// The mean of clients and what the teacher said first, at this ratio.
    fn pool(clients: &[f32], teacher: Option<&[f32]>, ratio: f64) -> Vec<f32> {
        let Some(teacher) = teacher else {
            return clients.to_vec();
        };
        if clients.iter().all(|value| *value == 0.0) {
            return teacher.to_vec();
        }
        let pooled = |(c, t): (&f32, &f32)| (f64::from(*c) + ratio * f64::from(*t)) / (1.0 + ratio);
        let pairs = clients.iter().zip(teacher);
        pairs.map(|pair| pooled(pair) as f32).collect()
    }
}

impl Method for Adaptive {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        Some(self.kind())
    }

    fn wants_probes(&self) -> bool {
        true
    }

    /// Half of 16 bits, which are worth no more (docs/comparison.md).
    fn usual_precision(&self) -> Precision {
        Precision::U8
    }

    fn begin(
        &self,
        outlook: &Outlook<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        let Some(centre) = centre.filter(|centre| centre.is_trained()) else {
            return Ok(());
        };
        let all = Rows::Range {
            start: 0,
            count: outlook.samples,
        };
        let first = centre.answer(&all)?;
        let first = by_row(AnswerKind::Logits, &first, |row| centred(row, self.clip))?;
        let classes = first.classes();
        let notes = Notes {
            first: Some(first),
            ..Notes::default()
        };
        state.memory = notes.bytes();
        // As all later rounds read it.
        let notes = Notes::read(&state.memory, outlook.samples, &self.name)?;
        let fresh = outlook.fresh.iter().filter_map(|row| notes.teacher(row));
        let labels = fresh.flatten().copied().collect();
        let labels = self.taught(Answers::new(AnswerKind::Logits, classes, labels)?)?;
        state.teach(About::Rows(outlook.fresh.clone()), labels);
        state.decide("teacher weight", self.weight(outlook, &notes));
        self.say_bits(outlook, state);
        Ok(())
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        // Notes that cannot be read are an error where the round is concluded.
        let notes = Notes::read(&state.memory, outlook.samples, &self.name).unwrap_or_default();
        let rows = self.rows(outlook, &notes);
        let precision = self.precision(outlook, state);
        let wanted = Wanted {
            adjust: self.adjust,
            precision,
            silence: self.silence(&notes),
            ..Wanted::on(self.kind(), &rows)
        };
        let phases = match self.votes() {
            true => votes::phases(outlook.training, state),
            false => distil_then_train(outlook.training, state),
        };
        let ask = Ask {
            precision,
            ..Ask::train(phases, true)
        };
        ask.report(wanted)
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        match self.votes() {
            true => take_probabilities(sum, weight, answers),
            false => take_logits(sum, weight, answers, self.clip),
        }
    }

    /// A vote is packed in one bit a class, and has no temperature.
    fn heeds(&self, setting: Setting) -> bool {
        !self.votes() || votes::heeds(setting)
    }

    /// Where clients vote, bits are not to be chosen; a weight is of a teacher that knows something, and measured by
    /// labelled samples.
    fn idle(&self, at: AtCentre) -> Vec<&'static str> {
        const MEASURED: [&str; 5] = ["census", "prior", "least-trust", "most-trust", "caution"];
        let mut idle = Vec::new();
        if self.votes() {
            idle.extend(["tolerance", "near"]);
        }
        if at < AtCentre::Trained {
            idle.push("trust");
        }
        if at < AtCentre::Measured {
            idle.extend(MEASURED);
        }
        idle
    }

    /// Bits are counted where few are asked for.
    fn idle_packed(&self, precision: Precision) -> Vec<&'static str> {
        match precision {
            Precision::U8 | Precision::U4 | Precision::U2 | Precision::U1 => Vec::new(),
            _ => vec!["tolerance"],
        }
    }

    fn conclude(
        &self,
        outlook: &Outlook<'_>,
        taken: Taken<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        let asked = taken.rows()?;
        let mut notes = Notes::read(&state.memory, outlook.samples, &self.name)?;
        let reach = notes.reach.after(taken.sum, notes.first.is_some());
        if self.silences() && reach != notes.reach {
            notes.reach = reach;
            state.memory = notes.bytes();
            state.decide("near", reach.share());
        }
        let Some(means) = self.heard(taken)? else {
            return Ok(());
        };
        let probes = self.census(outlook, &notes);
        if let Some(probes) = probes
            && let Some(measured) = self.measure(probes, &notes, taken, &means)
        {
            notes.weight = match outlook.round < self.census {
                true => Weight::ForNow(measured),
                false => Weight::ForGood(measured),
            };
            state.memory = notes.bytes();
            state.decide("teacher weight", measured);
        }
        let ratio = self.weight(outlook, &notes);
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for (row, clients) in asked.iter().zip(means.iter()) {
            // Nobody learns what is only there to measure by.
            if probes.is_none_or(|probes| probes.of(row).is_none()) {
                rows.push(row);
                labels.extend(Self::pool(clients, notes.teacher(row), ratio));
            }
        }
        let rows = Rows::of(rows);
        let labels = self.taught(Answers::new(AnswerKind::Logits, means.classes(), labels)?)?;
        pass_on(&rows, labels, centre, state)?;
        self.say_bits(outlook, state);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
