use fedistill_protocol::{About, AnswerKind, Answers, Phase, Rows};

use super::catalogue::Entry;
use super::ds_fl::Reduction;
use super::parameter::{Given, Parameter};
use super::{
    Ask, Centre, Method, MethodError, Outlook, Taken, Wanted, as_kind, distil, mean, private,
    take_probabilities,
};
use crate::{Partial, State};

/// SCARLET (Azuma et al. 2025): soft labels are kept for some rounds, and only those that are missing
/// or too old are asked for and sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scarlet {
    duration: u32,
    reduction: Reduction,
    /// Whether only what is new comes down.
    delta: bool,
    name: String,
}

pub(super) const ENTRY: Entry = Entry {
    name: "scarlet",
    variants: &[],
    source: "SCARLET, Azuma et al. 2025",
    summary: "Soft labels are kept for D rounds on both sides: only those of samples that are missing or too old go up, and only what is new comes down.",
    up: "probabilities on those of N samples that are not kept: 4NC / (1 + (D - 1) N / P) in the long run, P the size of the transfer set",
    down: "what has changed since a client last took part, and which rows that is: where all take part as many bytes again, where one in K does K times as many in the long run, all P labels at the most",
    loss: "KL to the N samples' labels, kept or new; then cross-entropy",
    good: "long federations on a transfer set of a few times N",
    bad: "a transfer set so large that samples hardly come again, or labels that change fast; few of many clients a round: beyond K = 1 + (D - 1) N / P more comes down than DS-FL sends (at D = 20, N / P = 1 / 15, in 60 rounds: with 5 of 10 clients 0.97 of its bytes, with 2 of 20 4.1 times as many)",
    differs: "a label that is too old is replaced at once and kept anew, where the authors' code sends it and forgets it: 1 / (1 + (D - 1) N / P) of the bytes instead of 2 / (2 + (D - 1) N / P); who was started anew, or away for longer than is remembered (32 rounds, or changes of twice the table), fetches all labels",
    parameters: &[
        Parameter {
            key: "duration",
            symbol: "D",
            what: "the round in which a label is asked for again, counted from the one in which it was made: 1 keeps nothing",
            default: 50.0,
            range: (1.0, 100_000.0),
            one_of: &[],
            whole: true,
            source: "the paper",
        },
        Parameter {
            key: "beta",
            symbol: "β",
            what: "power of enhanced entropy-reduction aggregation; 1 is the mean",
            default: 1.0,
            range: (0.1, 20.0),
            one_of: &[],
            whole: false,
            source: "the paper, for mild skew; 2 for strong",
        },
        Parameter {
            key: "delta",
            symbol: "",
            what: "1: only what is new comes down; 0: all kept labels each round, to the same students",
            default: 1.0,
            range: (0.0, 1.0),
            one_of: &[],
            whole: true,
            source: "the paper",
        },
    ],
    make: |given| Box::new(Scarlet::new(given)),
};

/// What is noted between rounds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Notes {
    /// For each transfer sample, the round after the one in which its label was made; 0 for none.
    made: Vec<u32>,
    /// The samples that were chosen last.
    chosen: Vec<u32>,
}

impl Notes {
    fn read(bytes: &[u8], samples: u32, name: &str) -> Result<Self, MethodError> {
        let samples = samples as usize;
        if bytes.is_empty() {
            return Ok(Self {
                made: vec![0; samples],
                chosen: Vec::new(),
            });
        }
        let (words, rest) = bytes.as_chunks::<4>();
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        match words.split_at_checked(samples) {
            Some((made, chosen)) if rest.is_empty() => Ok(Self {
                made: made.to_vec(),
                chosen: chosen.to_vec(),
            }),
            _ => Err(MethodError::Memory(name.to_owned())),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let words = self.made.iter().chain(&self.chosen);
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Of these samples, those whose labels are missing or too old in a round.
    fn stale(&self, rows: &Rows, round: u32, duration: u32) -> Vec<u32> {
        let is_stale = |row: &u32| match self.made.get(*row as usize) {
            None | Some(0) => true,
            Some(made) => made.saturating_add(duration) <= round.saturating_add(1),
        };
        rows.iter().filter(is_stale).collect()
    }
}

impl Scarlet {
    fn new(given: &Given) -> Self {
        Self {
            duration: given.get("duration") as u32,
            reduction: Reduction::Enhanced {
                beta: given.get("beta") as f32,
            },
            delta: given.get("delta") == 1.0,
            name: given.name(),
        }
    }

    fn notes(&self, outlook: &Outlook<'_>, state: &State) -> Result<Notes, MethodError> {
        Notes::read(&state.memory, outlook.samples, &self.name)
    }

    /// Keeps the labels of these samples, made in a round; or of no client, and too old already.
    fn keep(
        outlook: &Outlook<'_>,
        state: &mut State,
        mut notes: Notes,
        made: Option<u32>,
        rows: &Rows,
        labels: &Answers,
    ) -> Result<(), MethodError> {
        let classes = labels.classes() as usize;
        let mut kept = match state.common.first() {
            Some(lesson) => lesson.answers.values().to_vec(),
            None => vec![0.0; outlook.samples as usize * classes],
        };
        for (row, label) in rows.iter().zip(labels.iter()) {
            let at = row as usize * classes;
            let spoken = label.iter().any(|p| *p != 0.0);
            if let (Some(place), true) = (kept.get_mut(at..at + classes), spoken) {
                place.copy_from_slice(label);
                notes.made[row as usize] = made.map_or(0, |round| round + 1);
            }
        }
        let all = Rows::Range {
            start: 0,
            count: outlook.samples,
        };
        let kept = Answers::new(AnswerKind::Probabilities, labels.classes(), kept)?;
        state.teach(About::Rows(all), kept);
        state.memory = notes.bytes();
        Ok(())
    }
}

impl Method for Scarlet {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn teaches(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Probabilities)
    }

    /// A trained teacher's labels come down first, and no client need wait for them to grow old.
    fn begin(
        &self,
        outlook: &Outlook<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        if let Some(centre) = centre
            && centre.is_trained()
        {
            let labels = as_kind(AnswerKind::Probabilities, centre.answer(outlook.fresh)?)?;
            let mut notes = self.notes(outlook, state)?;
            notes.chosen = outlook.fresh.iter().collect();
            Self::keep(outlook, state, notes, None, outlook.fresh, &labels)?;
        }
        Ok(())
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        let notes = self.notes(outlook, state).unwrap_or_default();
        let distil = Phase {
            only: Some(Rows::of(notes.chosen.clone())),
            ..distil(outlook.training)
        };
        let distil = state.teaches().then_some(distil).into_iter();
        let phases = distil.chain([private(outlook.training)]).collect();
        let stale = notes.stale(outlook.fresh, outlook.round, self.duration);
        let ask = Ask {
            updates: self.delta,
            ..Ask::train(phases, true)
        };
        match stale.is_empty() {
            true => ask,
            false => ask.report(Wanted::on(AnswerKind::Probabilities, &Rows::of(stale))),
        }
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        take_probabilities(sum, weight, answers)
    }

    fn conclude(
        &self,
        outlook: &Outlook<'_>,
        taken: Taken<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        let mut notes = self.notes(outlook, state)?;
        notes.chosen = outlook.fresh.iter().collect();
        match (taken.about, mean(taken, AnswerKind::Probabilities)?) {
            (Some(About::Rows(rows)), Some(mean)) => {
                let labels = self.reduction.apply(mean)?;
                Self::keep(outlook, state, notes, Some(outlook.round), rows, &labels)?;
            }
            _ => state.memory = notes.bytes(),
        }
        if let (Some(centre), Some(lesson)) = (centre, state.common.first()) {
            let rows: Vec<u32> = outlook.fresh.iter().collect();
            let values = rows
                .iter()
                .filter_map(|row| lesson.answers.iter().nth(*row as usize));
            let values = values.flatten().copied().collect();
            let kind = AnswerKind::Probabilities;
            let labels = Answers::new(kind, lesson.answers.classes(), values)?;
            centre.learn(outlook.fresh, &labels)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fedistill_protocol::{Optimiser, Precision};

    use super::*;
    use crate::method::{CentreError, Training, by_name};

    #[test]
    fn notes_come_back_and_others_are_refused() {
        let notes = Notes {
            made: vec![0, 3, 1],
            chosen: vec![1, 2],
        };
        assert_eq!(Notes::read(&notes.bytes(), 3, "scarlet").unwrap(), notes);
        assert!(Notes::read(&[0; 8], 3, "scarlet").is_err());
        assert!(Notes::read(&[0; 13], 3, "scarlet").is_err());
    }

    #[test]
    fn a_label_is_asked_for_again_after_its_time() {
        let notes = Notes {
            // Never, in round 4, in round 0.
            made: vec![0, 5, 1],
            chosen: Vec::new(),
        };
        let all = Rows::Range { start: 0, count: 3 };
        assert_eq!(notes.stale(&all, 5, 10), [0]);
        assert_eq!(notes.stale(&all, 9, 10), [0]);
        assert_eq!(notes.stale(&all, 10, 10), [0, 2]);
        assert_eq!(notes.stale(&all, 14, 10), [0, 1, 2]);
    }

    /// Says the same of every sample.
    struct Teacher;

    impl Centre for Teacher {
        fn answer(&mut self, rows: &Rows) -> Result<Answers, CentreError> {
            let values = rows.iter().flat_map(|_| [2.0, -2.0]).collect();
            Ok(Answers::new(AnswerKind::Logits, 2, values)?)
        }

        fn learn(&mut self, _: &Rows, _: &Answers) -> Result<(), CentreError> {
            Ok(())
        }

        fn is_trained(&self) -> bool {
            true
        }
    }

    #[test]
    fn what_the_teacher_said_first_keeps_no_client_from_speaking() {
        let method = by_name("scarlet").unwrap();
        let fresh = Rows::Range { start: 0, count: 4 };
        let outlook = Outlook {
            round: 0,
            training: &Training {
                private_epochs: 1,
                distillation_epochs: 1,
                batch: 1,
                optimiser: Optimiser::Sgd {
                    learning_rate: 0.1,
                    momentum: 0.0,
                },
                distillation_temperature: Training::TEMPERATURE,
                label_smoothing: Training::SMOOTHING,
            },
            fresh: &fresh,
            fixed: &fresh,
            samples: 9,
            probes: None,
            precision: Precision::F32,
            seed: 1,
        };
        let mut state = State::default();
        method
            .begin(&outlook, Some(&mut Teacher), &mut state)
            .unwrap();
        assert!(state.teaches());
        let asked = method.ask(&outlook, &state).report.unwrap().about;
        assert_eq!(asked, About::Rows(fresh.clone()));
    }
}
