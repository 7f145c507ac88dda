//! Naturally federated data: people, devices or sites as they are, each with what is its own.
//!
//! Some of them are made public, whole: what the centre has comes from other people than its clients.
//! Each of the others is a client.

use std::collections::BTreeMap;

use fedistill_learning::{Groups, seed};

use crate::PartitionError;

/// How many of these are public: their share, but one at the least, and not all.
fn public_of(groups: usize, share: f64) -> usize {
    let public = (groups as f64 * share).round() as usize;
    public.clamp(1, groups.saturating_sub(1).max(1))
}

/// The clients that this data makes where so large a share of its groups is public.
///
/// # Errors
/// Fewer than two groups.
pub(crate) fn clients(groups: &Groups, share: f64) -> Result<usize, PartitionError> {
    let mut ids = groups.train.clone();
    ids.sort_unstable();
    ids.dedup();
    match ids.len() {
        groups @ 2.. => Ok(groups - public_of(groups, share)),
        _ => Err(PartitionError::OneGroup),
    }
}

/// Who has which samples, by their places; ascending, but for what is public.
#[derive(Debug, PartialEq)]
pub(crate) struct Natural {
    /// Training samples of all public groups, in an order by chance.
    pub(crate) public: Vec<usize>,
    /// Training samples of each other group: clients, in the order of their groups' numbers.
    pub(crate) clients: Vec<Vec<usize>>,
    /// Test samples; all where nobody says whose they are.
    pub(crate) test: Option<Tested>,
}

/// Test samples of whoever is not public.
#[derive(Debug, PartialEq)]
pub(crate) struct Tested {
    /// Their places in the test set, ascending.
    pub(crate) places: Vec<usize>,
    /// Each client's own, by their places in `places`; there may be some of nobody.
    pub(crate) own: Vec<Vec<usize>>,
}

impl Natural {
    /// Makes some of the groups public, by chance, and a client of each other one.
    ///
    /// # Errors
    /// Fewer than two groups, another number of clients than that makes, or no test samples but of
    /// public groups.
    pub(crate) fn of(
        groups: &Groups,
        share: f64,
        clients: usize,
        seed: u64,
    ) -> Result<Self, PartitionError> {
        let makes = self::clients(groups, share)?;
        let mut places: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (place, &id) in groups.train.iter().enumerate() {
            places.entry(id).or_default().push(place);
        }
        let public = places.len() - makes;
        if clients != makes {
            return Err(PartitionError::Groups {
                clients,
                groups: places.len(),
                public,
                makes,
            });
        }
        let mut rng = seed::stream(seed, "groups");
        let ids: Vec<i32> = places.keys().copied().collect();
        let drawn = seed::permutation(ids.len(), &mut rng);
        let mut known: Vec<i32> = drawn[..public].iter().map(|&place| ids[place]).collect();
        known.sort_unstable();
        let is_public = |id: &i32| known.binary_search(id).is_ok();
        let (open, own): (Vec<_>, Vec<_>) = places.into_iter().partition(|(id, _)| is_public(id));
        let open: Vec<usize> = open.into_iter().flat_map(|(_, places)| places).collect();
        let order = seed::permutation(open.len(), &mut rng);
        let test = groups.test.as_ref().map(|test| {
            let mut of_group: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
            let mut kept = Vec::new();
            for (place, id) in test.iter().enumerate() {
                if !is_public(id) {
                    of_group.entry(*id).or_default().push(kept.len());
                    kept.push(place);
                }
            }
            let own = own.iter().map(|(id, _)| of_group.remove(id));
            Tested {
                own: own.map(Option::unwrap_or_default).collect(),
                places: kept,
            }
        });
        if test.as_ref().is_some_and(|test| test.places.is_empty()) {
            return Err(PartitionError::Untested);
        }
        Ok(Self {
            public: order.into_iter().map(|place| open[place]).collect(),
            clients: own.into_iter().map(|(_, places)| places).collect(),
            test,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distinct(ids: impl IntoIterator<Item = i32>) -> Vec<i32> {
        let mut ids: Vec<i32> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    proptest! {
        #[test]
        fn a_client_is_one_group_and_no_group_is_in_two_places(
            ids in prop::collection::vec(-9i32..9, 2..200),
            tested in prop::collection::vec(-12i32..12, 1..50),
            share in 0.01f64..0.99,
            seed: u64,
        ) {
            let all = distinct(ids.iter().copied());
            prop_assume!(all.len() > 1);
            let groups = Groups { train: ids.clone(), test: Some(tested.clone()) };
            let clients = clients(&groups, share).unwrap();
            prop_assert!((1..all.len()).contains(&clients));
            let split = match Natural::of(&groups, share, clients, seed) {
                Err(error) => {
                    // Nobody is left to be tested only where all of those are training groups.
                    prop_assert_eq!(error, PartitionError::Untested);
                    prop_assert!(tested.iter().all(|id| all.contains(id)));
                    return Ok(());
                }
                Ok(split) => split,
            };
            let held: Vec<Vec<i32>> = split.clients.iter()
                .map(|places| distinct(places.iter().map(|&place| ids[place])))
                .collect();
            prop_assert!(held.iter().all(|ids| ids.len() == 1), "{:?}", held);
            let public = distinct(split.public.iter().map(|&place| ids[place]));
            // Each sample is in one place, each group with one owner.
            let mut places = [split.clients.concat(), split.public.clone()].concat();
            places.sort_unstable();
            prop_assert_eq!(places, (0..ids.len()).collect::<Vec<_>>());
            let owners: Vec<i32> = held.concat().into_iter().chain(public.iter().copied()).collect();
            prop_assert_eq!(owners.len(), all.len());
            prop_assert_eq!(distinct(owners), all);
            let expected: Vec<usize> =
                (0..tested.len()).filter(|&place| !public.contains(&tested[place])).collect();
            let test = split.test.as_ref().unwrap();
            prop_assert_eq!(&test.places, &expected);
            for (own, held) in test.own.iter().zip(&held) {
                let of_client: Vec<usize> =
                    (0..tested.len()).filter(|&place| held == &[tested[place]]).collect();
                let own: Vec<usize> = own.iter().map(|&place| test.places[place]).collect();
                prop_assert_eq!(own, of_client);
            }
            prop_assert_eq!(test.own.len(), clients);
            prop_assert_eq!(Natural::of(&groups, share, clients, seed), Ok(split));
        }
    }

    fn ten() -> Groups {
        Groups {
            train: (0..100).map(|place| place % 10).collect(),
            test: None,
        }
    }

    #[test]
    fn who_is_public_is_chance_and_how_many_is_their_share() {
        let public = |share, clients, seed| {
            let groups = ten();
            let split = Natural::of(&groups, share, clients, seed).unwrap();
            assert_eq!((split.clients.len(), split.test), (clients, None));
            distinct(split.public.iter().map(|&place| groups.train[place]))
        };
        assert_eq!(public(0.3, 7, 1).len(), 3);
        assert_eq!(public(0.001, 9, 1).len(), 1);
        assert_eq!(public(0.999, 1, 1).len(), 9);
        assert_ne!(public(0.3, 7, 1), public(0.3, 7, 2));
    }

    #[test]
    fn public_samples_are_not_in_the_order_of_groups() {
        // Or those with labels would be of one person.
        let split = Natural::of(&ten(), 0.5, 5, 1).unwrap();
        let groups: Vec<usize> = split.public[..10].iter().map(|place| place % 10).collect();
        assert!(groups.iter().any(|group| *group != groups[0]), "{groups:?}");
    }

    #[test]
    fn what_makes_no_clients_is_refused() {
        let error = Natural::of(&ten(), 0.3, 10, 1).unwrap_err();
        let (clients, groups, public, makes) = (10, 10, 3, 7);
        let expected = PartitionError::Groups {
            clients,
            groups,
            public,
            makes,
        };
        assert_eq!(error, expected);
        let text = error.to_string();
        assert!(text.contains("take 7 clients"), "{text}");
        let alone = Groups {
            train: vec![4; 9],
            test: None,
        };
        let error = Natural::of(&alone, 0.3, 1, 1);
        assert_eq!(error, Err(PartitionError::OneGroup));
        let two = |test| Groups {
            train: vec![1, 2],
            test: Some(test),
        };
        let error = Natural::of(&two(vec![]), 0.5, 1, 1);
        assert_eq!(error, Err(PartitionError::Untested));
        let left = Natural::of(&two(vec![1, 2]), 0.5, 1, 1).unwrap();
        assert_eq!(left.test.unwrap().places.len(), 1);
    }
}
