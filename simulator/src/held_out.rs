//! What of a client's own samples is set apart to measure by.

use std::sync::Arc;

use fedistill_learning::seed;

use crate::{SimulationError, View, World};

impl World {
    /// Notes which test samples are each client's own, by their places in the test set; none where
    /// nobody says it.
    ///
    /// # Errors
    /// None of places in the test set.
    pub(crate) fn with_own_tests(mut self, own: Vec<Vec<usize>>) -> Result<Self, SimulationError> {
        let own = own.into_iter().map(|places| {
            View::new(Arc::clone(&self.test), places)
                .ok_or_else(|| SimulationError::Internal("a place beyond the tests".to_owned()))
        });
        self.held_out = own.collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Sets a share of each client's private samples apart, 0 up to but not 1: by chance, at least one
    /// of two, and never the last one. They are in `held_out` from then on, and in `private` no more, so
    /// nothing learns from them. What was in `held_out` before is not. With a share of 0 the world stays
    /// as it is.
    ///
    /// # Errors
    /// None that settings can bring about.
    pub fn set_apart(mut self, share: f64, seed: u64) -> Result<Self, SimulationError> {
        if share == 0.0 {
            return Ok(self);
        }
        let (mut private, mut held_out) = (Vec::new(), Vec::new());
        for (client, view) in self.private.iter().enumerate() {
            let most = view.len().saturating_sub(1);
            let count = ((view.len() as f64 * share).round() as usize)
                .max(1)
                .min(most);
            let mut rng = seed::stream(seed, &format!("held-out/{client}"));
            let mut is_apart = vec![false; view.len()];
            for &place in &seed::permutation(view.len(), &mut rng)[..count] {
                is_apart[place] = true;
            }
            let part = |wanted: bool| {
                let places = view.places().zip(&is_apart);
                let places = places.filter(|(_, apart)| **apart == wanted);
                view.part(places.map(|(place, _)| place))
                    .ok_or_else(|| SimulationError::Internal("a part beyond the data".to_owned()))
            };
            held_out.push(part(true)?);
            private.push(part(false)?);
        }
        (self.private, self.held_out) = (private, held_out);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use fedistill_learning::Dataset;

    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_set_apart_is_nobody_s_to_learn_from() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fashion-mnist-mini");
        let (train, test) = Dataset::mnist(&fixtures).unwrap();
        let (train, config) = (Arc::new(train), Config::default());
        let sizes = config.sizes();
        let whole = World::share_out(&train, test, sizes, config.partition, config.seed).unwrap();
        let same = whole.clone().set_apart(0.0, 1).unwrap();
        assert!(same.held_out.is_empty());
        let digest = |world: &World| world.digest(&config.teacher).unwrap();
        assert_eq!(digest(&same), digest(&whole));
        let world = whole.clone().set_apart(0.2, 1).unwrap();
        assert_ne!(digest(&world), digest(&whole));
        let other = whole.clone().set_apart(0.2, 2).unwrap();
        assert_ne!(digest(&world), digest(&other));
        for (client, all) in whole.private.iter().enumerate() {
            let (learnt, kept) = (&world.private[client], &world.held_out[client]);
            let share = kept.len() as f64 / all.len() as f64;
            assert!((share - 0.2).abs() < 0.5 / all.len() as f64, "{share}");
            assert!(
                learnt
                    .places()
                    .is_sorted_by_key(|at| all.places().position(|p| p == at))
            );
            let mut parts: Vec<usize> = learnt.places().chain(kept.places()).collect();
            let mut places: Vec<usize> = all.places().collect();
            parts.sort_unstable();
            places.sort_unstable();
            assert_eq!(parts, places);
        }
        // Of two samples one is left, of one sample it is.
        let few = |count: usize| World {
            private: vec![
                whole.private[0]
                    .part(whole.private[0].places().take(count))
                    .unwrap(),
            ],
            ..whole.clone()
        };
        for (count, apart) in [(0, 0), (1, 0), (2, 1), (3, 2)] {
            let world = few(count).set_apart(0.9, 1).unwrap();
            assert_eq!(world.held_out[0].len(), apart);
            assert_eq!(world.private[0].len(), count - apart);
        }
    }
}
