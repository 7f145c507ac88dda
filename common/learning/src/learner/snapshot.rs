//! A learner in the middle of its training, as bytes.
//!
//! `FDS1`, then lists of f32 (their number as u64, then their values, all little-endian): parameters; the
//! optimiser's steps as u64 and its two lists; the width of features and of hints as u64, both 0 where
//! there is no adaptor, else the adaptor's parameters and its optimiser likewise.

use fedistill_protocol::Optimiser;

use super::Learner;
use crate::OptimiserState;
use crate::loss::Adaptor;
use crate::model::ModelError;

const MAGIC: &[u8; 4] = b"FDS1";

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn floats(&mut self, values: &[f32]) {
        self.number(values.len() as u64);
        self.0
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    fn optimiser(&mut self, state: Option<&OptimiserState>) {
        self.number(state.map_or(0, OptimiserState::steps));
        self.floats(state.map_or(&[], |state| &state.first));
        self.floats(state.map_or(&[], |state| &state.second));
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn floats(&mut self) -> Option<Vec<f32>> {
        let bytes = usize::try_from(self.number()?).ok()?.checked_mul(4)?;
        let (values, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        let (values, _) = values.as_chunks::<4>();
        Some(
            values
                .iter()
                .map(|value| f32::from_le_bytes(*value))
                .collect(),
        )
    }

    /// The state of an optimiser of this kind; `None` where bytes are missing or are of another one.
    fn optimiser(&mut self, optimiser: Optimiser, parameters: usize) -> Option<OptimiserState> {
        let mut state = OptimiserState::new(optimiser, parameters);
        state.steps = self.number()?;
        let (first, second) = (self.floats()?, self.floats()?);
        if (first.len(), second.len()) != (state.first.len(), state.second.len()) {
            return None;
        }
        (state.first, state.second) = (first, second);
        Some(state)
    }
}

impl Learner {
    /// All that the next step depends on, but for what [`Self::reset`] leads back to.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer(MAGIC.to_vec());
        writer.floats(self.model.weights());
        writer.optimiser(self.optimiser.as_ref());
        let widths = self.adaptor.as_ref().map(|(adaptor, _)| adaptor.widths());
        let (from, to) = widths.unwrap_or_default();
        writer.number(from as u64);
        writer.number(to as u64);
        if let Some((adaptor, state)) = &self.adaptor {
            writer.floats(&adaptor.weights);
            writer.optimiser(Some(state));
        }
        writer.0
    }

    /// Goes back to a snapshot: to its parameters alone, or, where training has begun as it had then
    /// ([`Self::begin`]), to the very step.
    ///
    /// # Errors
    /// Bytes that are no snapshot of such a model or such a training; nothing is changed then.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), ModelError> {
        let wrong = |what: &str| ModelError::Other(format!("a snapshot of a student {what}"));
        let bytes = snapshot.strip_prefix(MAGIC);
        let mut reader = Reader(bytes.ok_or_else(|| wrong("is none"))?);
        let cut_off = || wrong("is cut off");
        let weights = reader.floats().ok_or_else(cut_off)?;
        if let Some(steps) = self.steps {
            let trainable = self.model.trainable();
            let other = || wrong("is of another training, or cut off");
            let optimiser = reader.optimiser(steps, trainable).ok_or_else(other)?;
            let widths = (reader.number(), reader.number());
            let adaptor = match widths {
                (Some(0), Some(0)) => None,
                (Some(from), Some(to)) => {
                    let weights = reader.floats().ok_or_else(cut_off)?;
                    let count = weights.len();
                    let adaptor = Adaptor::with_weights(from, to, weights);
                    let state = reader.optimiser(steps, count);
                    Some(adaptor.zip(state).ok_or_else(other)?)
                }
                _ => return Err(cut_off()),
            };
            if !reader.0.is_empty() {
                return Err(wrong("is followed by other bytes"));
            }
            self.model.set_weights(&weights)?;
            (self.optimiser, self.adaptor) = (Some(optimiser), adaptor);
            return Ok(());
        }
        self.model.set_weights(&weights)
    }
}

#[cfg(test)]
mod tests {
    use fedistill_protocol::{AnswerKind, Loss, LossTerm, Toward};

    use super::*;
    use crate::{Architecture, Objective, Soft, Targets, seed};

    const ADAMW: Optimiser = Optimiser::AdamW {
        learning_rate: 0.01,
        weight_decay: 0.1,
    };

    fn learner() -> Learner {
        Learner::new(Architecture::MlpS.build(&[6], 3, 7).unwrap())
    }

    /// Steps toward labels and a hint of another width, which needs an adaptor.
    fn walk(learner: &mut Learner, steps: usize, rng: &mut rand_chacha::ChaCha20Rng) {
        let terms = [
            LossTerm::new(Loss::CrossEntropy { smoothing: 0.0 }, Toward::Labels),
            LossTerm::new(Loss::Features, Toward::Knowledge),
        ];
        let samples: Vec<f32> = (0..12).map(|i| (i as f32 * 0.7).sin()).collect();
        let hints: Vec<f32> = (0..10).map(|i| (i as f32).cos()).collect();
        for _ in 0..steps {
            let targets = Targets::hard(&[0, 2]).toward(
                Toward::Knowledge,
                Soft::new(AnswerKind::Features, 5, &hints),
            );
            let objective = Objective::new(&terms, targets);
            learner.step(&samples, &objective, rng).unwrap();
        }
    }

    #[test]
    fn a_training_put_down_goes_on_as_if_it_never_was() {
        for optimiser in [
            ADAMW,
            Optimiser::Sgd {
                learning_rate: 0.1,
                momentum: 0.9,
            },
        ] {
            let rng = || seed::stream(1, "walk");
            let (mut whole, mut noise) = (learner(), rng());
            whole.begin(optimiser);
            walk(&mut whole, 5, &mut noise);
            let snapshot = whole.snapshot();
            walk(&mut whole, 5, &mut noise.clone());
            let mut resumed = learner();
            resumed.begin(optimiser);
            resumed.restore(&snapshot).unwrap();
            assert_eq!(resumed.snapshot(), snapshot);
            walk(&mut resumed, 5, &mut noise);
            assert_eq!(resumed.snapshot(), whole.snapshot());
            assert!(resumed.adaptor.is_some());
        }
    }

    #[test]
    fn without_a_training_only_parameters_come_back() {
        let mut trained = learner();
        trained.begin(ADAMW);
        walk(&mut trained, 3, &mut seed::stream(1, "walk"));
        let mut other = learner();
        other.restore(&trained.snapshot()).unwrap();
        assert_eq!(other.model().weights(), trained.model().weights());
        assert!(other.optimiser().is_none());
    }

    #[test]
    fn the_map_of_a_hint_follows_the_rate_whenever_it_is_drawn() {
        let at = |rates: &[f32]| {
            let (mut learner, mut noise) = (learner(), seed::stream(1, "walk"));
            learner.begin(ADAMW);
            for &rate in rates {
                learner.pace(rate);
                walk(&mut learner, 1, &mut noise);
            }
            let (adaptor, _) = learner.adaptor.expect("a hint of another width");
            (adaptor.weights, learner.model.weights().to_vec())
        };
        let (first, moved) = (at(&[0.0]), at(&[0.01]));
        assert_eq!(first.1, learner().model().weights(), "nothing was learnt");
        assert_ne!(first.0, moved.0, "the map");
        assert_ne!(first.1, moved.1, "the student");
        // Drawn alike, the map stands where it was drawn as long as the rate is 0, and goes on as fast as it says.
        assert_eq!(at(&[0.0, 0.0]).0, first.0);
        assert_ne!(at(&[0.0, 0.01]).0, first.0);
        assert_eq!(at(&[0.01, 0.0]).0, moved.0);
    }

    #[test]
    fn one_that_goes_back_is_as_if_it_had_never_trained() {
        let mut trained = learner();
        let before = trained.snapshot();
        trained.go_back().unwrap();
        assert_eq!(trained.snapshot(), before, "nothing is remembered");
        trained.remember();
        let ruinous = Optimiser::Sgd {
            learning_rate: 1e38,
            momentum: 0.9,
        };
        trained.begin(ruinous);
        walk(&mut trained, 1, &mut seed::stream(1, "walk"));
        assert_ne!(trained.snapshot(), before);
        trained.go_back().unwrap();
        assert_eq!(trained.snapshot(), before);
        trained.begin(ADAMW);
        walk(&mut trained, 2, &mut seed::stream(1, "walk"));
        let mut other = learner();
        other.begin(ADAMW);
        walk(&mut other, 2, &mut seed::stream(1, "walk"));
        assert_eq!(trained.snapshot(), other.snapshot());
        let now = trained.snapshot();
        trained.forget();
        trained.go_back().unwrap();
        assert_eq!(trained.snapshot(), now);
    }

    #[test]
    fn what_is_no_snapshot_of_it_changes_nothing() {
        let mut trained = learner();
        trained.begin(ADAMW);
        walk(&mut trained, 1, &mut seed::stream(1, "walk"));
        let snapshot = trained.snapshot();
        let mut other = learner();
        other.begin(ADAMW);
        let before = other.snapshot();
        for cut in 0..snapshot.len() {
            assert!(other.restore(&snapshot[..cut]).is_err(), "{cut}");
        }
        assert!(other.restore(&[&snapshot[..], &[0]].concat()).is_err());
        let mut huge = snapshot.clone();
        huge[4..12].fill(0xff);
        assert!(other.restore(&huge).is_err());
        assert_eq!(other.snapshot(), before);
        let mut wider = Learner::new(Architecture::MlpS.build(&[7], 3, 7).unwrap());
        assert!(wider.restore(&snapshot).is_err());
    }
}
