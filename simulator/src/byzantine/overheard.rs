//! What honest clients say in a round, for liars that know it before they speak.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fedistill_client::{Student, StudentError};
use fedistill_learning::{Objective, Samples, softmax};
use fedistill_protocol::{Optimiser, Start};
use rand_chacha::ChaCha20Rng;

/// What all honest clients of a federation say, each time that clients are asked about samples.
pub(crate) struct Overheard {
    /// How many are honest, and how many lie.
    honest: usize,
    liars: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By how often clients had been asked before; until all liars have heard it.
    times: BTreeMap<usize, Time>,
    /// Whether an honest client has left.
    over: bool,
}

#[derive(Default)]
struct Time {
    said: BTreeMap<usize, (About, Vec<f32>)>,
    heard: usize,
}

/// The samples that somebody was asked about: their places, and the values of the first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct About(Vec<usize>, Vec<f32>);

impl About {
    pub(crate) fn of(samples: &Samples, rows: &[usize]) -> Self {
        let mut first = Vec::new();
        samples.gather(rows.get(..1).unwrap_or(rows), &mut first);
        Self(rows.to_vec(), first)
    }
}

impl Overheard {
    /// Of so many honest clients, before so many liars.
    pub(crate) fn new(honest: usize, liars: usize) -> Self {
        Self {
            honest,
            liars,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes logits of a client that was asked for the `time`th time, from 0.
    fn tell(&self, time: usize, client: usize, about: About, logits: Vec<f32>) {
        let mut state = self.state();
        let time = state.times.entry(time).or_default();
        time.said.insert(client, (about, logits));
        self.changed.notify_all();
    }

    fn leave(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }

    /// The logarithm of what honest clients hold likely on average, as they were asked for the `time`th time; waits
    /// until all have spoken. `None` where they were asked about other samples than these: their own, say.
    ///
    /// # Errors
    /// One of them has left without a word.
    pub(crate) fn mean(
        &self,
        time: usize,
        about: &About,
        classes: usize,
    ) -> Result<Option<Vec<f32>>, StudentError> {
        let mut state = self.state();
        loop {
            let told = state.times.get(&time).map_or(0, |time| time.said.len());
            if told == self.honest {
                break;
            }
            if state.over {
                return Err("an honest client has left, and liars wait for all".into());
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        let Some(found) = state.times.get_mut(&time) else {
            // Nobody is honest.
            return Ok(None);
        };
        let same = found.said.values().all(|(other, _)| other == about);
        let mean = same.then(|| mean_of(found.said.values().map(|(_, logits)| logits), classes));
        found.heard += 1;
        if found.heard == self.liars {
            state.times.remove(&time);
        }
        Ok(mean)
    }
}

fn mean_of<'a>(all: impl Iterator<Item = &'a Vec<f32>>, classes: usize) -> Vec<f32> {
    let (mut sums, mut count) = (Vec::new(), 0.0);
    for logits in all {
        let likely = softmax(logits, classes);
        sums.resize(likely.len(), 0.0);
        let pairs = sums.iter_mut().zip(&likely);
        pairs.for_each(|(sum, p)| *sum += f64::from(*p));
        count += 1.0;
    }
    let likely = sums.into_iter().map(|sum| (sum / count) as f32);
    likely.map(|p| p.max(f32::MIN_POSITIVE).ln()).collect()
}

/// An honest student that liars overhear.
pub(crate) struct Honest<S> {
    student: S,
    client: usize,
    asked: usize,
    overheard: Arc<Overheard>,
}

impl<S> Honest<S> {
    pub(crate) fn new(student: S, client: usize, overheard: Arc<Overheard>) -> Self {
        Self {
            student,
            client,
            asked: 0,
            overheard,
        }
    }
}

impl<S> Drop for Honest<S> {
    fn drop(&mut self) {
        self.overheard.leave();
    }
}

impl<S: Student> Student for Honest<S> {
    fn begin(&mut self, start: Start, optimiser: Optimiser) -> Result<(), StudentError> {
        self.student.begin(start, optimiser)
    }

    fn step(
        &mut self,
        samples: &[f32],
        objective: &Objective<'_>,
        rng: &mut ChaCha20Rng,
    ) -> Result<f32, StudentError> {
        self.student.step(samples, objective, rng)
    }

    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, StudentError> {
        self.student.logits(samples)
    }

    fn logits_of(&mut self, samples: &Samples, rows: &[usize]) -> Result<Vec<f32>, StudentError> {
        let logits = self.student.logits_of(samples, rows)?;
        let about = About::of(samples, rows);
        let (time, client) = (self.asked, self.client);
        self.overheard.tell(time, client, about, logits.clone());
        self.asked += 1;
        Ok(logits)
    }

    fn features_of(
        &mut self,
        samples: &Samples,
        rows: &[usize],
    ) -> Result<(Vec<f32>, usize), StudentError> {
        self.student.features_of(samples, rows)
    }

    fn wake(&mut self) -> Result<(), StudentError> {
        self.student.wake()
    }

    fn undo(&mut self) -> Result<bool, StudentError> {
        self.student.undo()
    }

    fn rest(&mut self) -> Result<(), StudentError> {
        self.student.rest()
    }

    fn parameters(&self) -> &[f32] {
        self.student.parameters()
    }
}

#[cfg(test)]
mod tests {
    use fedistill_protocol::Elements;

    use super::*;

    fn about(first: u8) -> About {
        let samples = Samples::new(vec![2], Elements::U8(vec![first, 0, 5, 5])).unwrap();
        About::of(&samples, &[0, 1])
    }

    #[test]
    fn liars_hear_the_mean_of_all_that_are_honest_whoever_is_first() {
        let overheard = Arc::new(Overheard::new(2, 2));
        let hear = |time| {
            let overheard = Arc::clone(&overheard);
            std::thread::spawn(move || overheard.mean(time, &about(1), 2).unwrap())
        };
        let early = hear(0);
        overheard.tell(0, 4, about(1), vec![0.0, 0.0]);
        overheard.tell(1, 4, about(1), vec![0.0, 0.0]);
        overheard.tell(0, 2, about(1), vec![60.0, 0.0]);
        let late = hear(0);
        let expected = Some(vec![0.75f32.ln(), 0.25f32.ln()]);
        assert_eq!(early.join().unwrap(), expected);
        assert_eq!(late.join().unwrap(), expected);
        // Nobody needs it any more; of the next time one has not spoken yet.
        assert_eq!(overheard.state().times.keys().collect::<Vec<_>>(), [&1]);
    }

    #[test]
    fn nobody_hears_of_other_samples_nor_waits_for_who_has_left() {
        let overheard = Overheard::new(1, 1);
        overheard.tell(0, 0, about(1), vec![1.0, 0.0]);
        assert_eq!(overheard.mean(0, &about(2), 2).unwrap(), None);
        overheard.leave();
        assert!(overheard.mean(1, &about(1), 2).is_err());
        assert_eq!(Overheard::new(0, 1).mean(0, &about(1), 2).unwrap(), None);
    }
}
