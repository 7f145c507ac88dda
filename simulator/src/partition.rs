use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fedistill_learning::seed;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, Gamma};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How private samples are spread over clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Partition {
    /// Evenly, whatever the label.
    Iid,
    /// Each class by shares drawn from a symmetric Dirichlet distribution (Hsu et al. 2019): the
    /// smaller alpha, the fewer classes a client has.
    Dirichlet(f64),
    /// Sorted by label and cut into so many pieces a client (McMahan et al. 2017).
    Shards(usize),
    /// Exactly so many classes a client; a class is shared evenly among those that hold it, whose
    /// numbers differ by one at most.
    Classes(usize),
    /// As the data is: each client is one of the people, devices or sites that it comes from, with all
    /// and only what is its own; some of them, whole, are public. It needs data that says whose a
    /// sample is.
    Natural,
}

/// A partition that cannot be made.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum PartitionError {
    /// No partition is written like this.
    #[error(
        "no partition {0:?}: write iid, dirichlet:ALPHA, shards:K, classes:K or natural, with ALPHA above 0 and K 1 to 1000"
    )]
    Unknown(String),
    /// Nobody says whose samples are.
    #[error(
        "partition natural needs to know whose each sample is: add train-groups-idx1-ubyte, a number for each, to the data, or choose another partition"
    )]
    NoGroups,
    /// All samples are of one group.
    #[error(
        "partition natural needs samples of two groups at the least, one of them public: choose another partition"
    )]
    OneGroup,
    /// Another number of clients than there are groups for.
    #[error(
        "{clients} clients cannot be made of {groups} groups, {public} of them public: take {makes} clients, or leave their number out"
    )]
    Groups {
        /// Clients that are asked for.
        clients: usize,
        /// Groups that training samples are of.
        groups: usize,
        /// Groups that are public.
        public: usize,
        /// Clients that the others make.
        makes: usize,
    },
    /// No test samples but of public groups.
    #[error(
        "all test samples are of public groups: add some of the others to the data, or leave out whose test samples are"
    )]
    Untested,
    /// Fewer samples than every client needs.
    #[error(
        "{samples} private samples are too few for {clients} clients of at least {least}: take fewer clients or more data"
    )]
    TooFew {
        /// Private samples.
        samples: usize,
        /// Clients.
        clients: usize,
        /// The least that each must have.
        least: usize,
    },
    /// More classes a client than there are.
    #[error(
        "no client can have {each} classes: private samples are of {classes}, give classes:K a smaller K"
    )]
    TooFewClasses {
        /// Classes a client.
        each: usize,
        /// Classes that private samples are of.
        classes: usize,
    },
    /// Samples of some class would go to nobody.
    #[error(
        "{clients} clients with {each} of {classes} classes each do not hold them all: take more clients, or give classes:K a larger K"
    )]
    Uncovered {
        /// Clients.
        clients: usize,
        /// Classes a client.
        each: usize,
        /// Classes that private samples are of.
        classes: usize,
    },
    /// A client that holds a class would have no sample of it.
    #[error(
        "class {class} has {samples} private samples, too few for the {holders} clients that hold it: take fewer clients, or give classes:K a smaller K"
    )]
    ClassTooSmall {
        /// Which class, from 0.
        class: u32,
        /// Its private samples.
        samples: usize,
        /// Clients that hold it.
        holders: usize,
    },
}

/// The least samples that a client gets, where there are enough for all.
const LEAST: usize = 10;

/// The least samples that each of so many clients gets: half an even share where [`LEAST`] is more
/// than that share, so that parts still differ.
fn least(samples: usize, clients: usize) -> usize {
    match samples / clients.max(1) {
        share if share >= LEAST => LEAST,
        share => (share / 2).max(1),
    }
}

impl Partition {
    /// Which of the samples with these labels each of `clients` clients gets, in ascending order.
    /// Every sample is given to exactly one.
    ///
    /// # Errors
    /// Too few samples, classes that cannot be dealt out as asked, or [`Self::Natural`], which labels
    /// know nothing of.
    pub fn split(
        self,
        labels: &[u32],
        classes: usize,
        clients: usize,
        seed: u64,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        let pieces = match self {
            Self::Shards(count) | Self::Classes(count) => count,
            _ => 1,
        };
        let least = least(labels.len(), clients);
        if clients == 0 || labels.len() < clients * least.max(pieces) {
            return Err(PartitionError::TooFew {
                samples: labels.len(),
                clients,
                least: least.max(pieces),
            });
        }
        let mut rng = seed::stream(seed, "partition");
        let order = seed::permutation(labels.len(), &mut rng);
        let mut parts = vec![Vec::new(); clients];
        match self {
            Self::Iid => {
                for (place, index) in order.into_iter().enumerate() {
                    parts[place % clients].push(index);
                }
            }
            Self::Shards(count) => {
                let mut sorted = order;
                sorted.sort_by_key(|&index| labels[index]);
                let shards = clients * count;
                let owners = seed::permutation(shards, &mut rng);
                for (shard, owner) in owners.into_iter().enumerate() {
                    let range = shard * sorted.len() / shards..(shard + 1) * sorted.len() / shards;
                    parts[owner % clients].extend(&sorted[range]);
                }
            }
            Self::Classes(each) => deal_classes(&mut parts, each, labels, &order, &mut rng)?,
            Self::Natural => return Err(PartitionError::NoGroups),
            Self::Dirichlet(alpha) => {
                let gamma = Gamma::new(alpha, 1.0)
                    .map_err(|_| PartitionError::Unknown(self.to_string()))?;
                for class in 0..classes as u32 {
                    let shares: Vec<f64> = (0..clients)
                        .map(|_| gamma.sample(&mut rng).max(1e-12))
                        .collect();
                    let total: f64 = shares.iter().sum();
                    let of_class: Vec<usize> = order
                        .iter()
                        .copied()
                        .filter(|&i| labels[i] == class)
                        .collect();
                    let (mut sum, mut start) = (0.0, 0);
                    for (part, share) in parts.iter_mut().zip(shares) {
                        sum += share;
                        let end = (sum / total * of_class.len() as f64).round() as usize;
                        part.extend(&of_class[start..end.max(start)]);
                        start = end.max(start);
                    }
                }
                // A client of no samples is none: the largest gives to the smallest.
                while let Some(small) = parts.iter().position(|part| part.len() < least) {
                    let large = (0..clients).max_by_key(|&p| parts[p].len()).unwrap_or(0);
                    let at = rng.random_range(0..parts[large].len());
                    let moved = parts[large].swap_remove(at);
                    parts[small].push(moved);
                }
            }
        }
        parts.iter_mut().for_each(|part| part.sort_unstable());
        Ok(parts)
    }
}

/// Deals `each` classes to every part, of those that fewest have so far, and shares the samples of a
/// class, which come in this order, among the parts that have it.
fn deal_classes(
    parts: &mut [Vec<usize>],
    each: usize,
    labels: &[u32],
    order: &[usize],
    rng: &mut ChaCha20Rng,
) -> Result<(), PartitionError> {
    // A class that no private sample is of is nobody's.
    let mut samples: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &index in order {
        samples.entry(labels[index]).or_default().push(index);
    }
    let (clients, classes) = (parts.len(), samples.len());
    if each > classes {
        return Err(PartitionError::TooFewClasses { each, classes });
    }
    if clients * each < classes {
        return Err(PartitionError::Uncovered {
            clients,
            each,
            classes,
        });
    }
    let mut holders = vec![Vec::new(); classes];
    for client in seed::permutation(clients, rng) {
        // Ties go by chance: this sort keeps the order of what is equal.
        let mut deck = seed::permutation(classes, rng);
        deck.sort_by_key(|&class| holders[class].len());
        for class in deck.into_iter().take(each) {
            holders[class].push(client);
        }
    }
    for ((class, samples), holders) in samples.into_iter().zip(holders) {
        let (count, shares) = (samples.len(), holders.len());
        if count < shares {
            return Err(PartitionError::ClassTooSmall {
                class,
                samples: count,
                holders: shares,
            });
        }
        for (share, holder) in holders.into_iter().enumerate() {
            let range = share * count / shares..(share + 1) * count / shares;
            parts[holder].extend(&samples[range]);
        }
    }
    Ok(())
}

impl FromStr for Partition {
    type Err = PartitionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pieces = |count: &str| {
            let count: Option<usize> = count.parse().ok();
            count.filter(|count| (1..=1000).contains(count))
        };
        let parsed = match text.split_once(':') {
            None if text == "iid" => Some(Self::Iid),
            None if text == "natural" => Some(Self::Natural),
            Some(("dirichlet", alpha)) => {
                let alpha: Option<f64> = alpha.parse().ok();
                alpha
                    .filter(|a| *a > 0.0 && a.is_finite())
                    .map(Self::Dirichlet)
            }
            Some(("shards", count)) => pieces(count).map(Self::Shards),
            Some(("classes", count)) => pieces(count).map(Self::Classes),
            _ => None,
        };
        parsed.ok_or_else(|| PartitionError::Unknown(text.to_owned()))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iid => f.write_str("iid"),
            Self::Dirichlet(alpha) => write!(f, "dirichlet:{alpha}"),
            Self::Shards(count) => write!(f, "shards:{count}"),
            Self::Classes(count) => write!(f, "classes:{count}"),
            Self::Natural => f.write_str("natural"),
        }
    }
}

impl Serialize for Partition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Partition {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn classes_of(part: &[usize], labels: &[u32]) -> usize {
        let mut seen: Vec<u32> = part.iter().map(|&index| labels[index]).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.len()
    }

    proptest! {
        #[test]
        fn every_sample_goes_to_exactly_one_client(
            which in 0usize..5, clients in 1usize..12, seed: u64,
        ) {
            let labels: Vec<u32> = (0..600).map(|i| i * i % 7).collect();
            let partition = ["iid", "dirichlet:0.1", "dirichlet:5", "shards:2", "shards:5"][which];
            let partition: Partition = partition.parse().unwrap();
            let parts = partition.split(&labels, 7, clients, seed).unwrap();
            let mut all: Vec<usize> = parts.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..600).collect::<Vec<_>>());
            prop_assert!(parts.iter().all(|part| part.len() >= 10));
            prop_assert_eq!(partition.split(&labels, 7, clients, seed).unwrap(), parts);
        }
    }

    #[test]
    fn skew_is_as_asked() {
        let labels: Vec<u32> = (0..10_000).map(|i| i % 10).collect();
        let mean = |text: &str| {
            let partition: Partition = text.parse().unwrap();
            let parts = partition.split(&labels, 10, 10, 3).unwrap();
            parts
                .iter()
                .map(|part| classes_of(part, &labels))
                .sum::<usize>()
        };
        assert_eq!(mean("iid"), 100);
        assert!(mean("shards:2") <= 40, "{}", mean("shards:2"));
        assert!(mean("dirichlet:0.05") < mean("dirichlet:1"));
    }

    proptest! {
        #[test]
        fn each_client_holds_so_many_classes_and_a_class_is_shared_evenly(
            each in 1usize..=7, more in 0usize..12, seed: u64,
        ) {
            // As many clients as it takes, and some; one class is of a label that nobody has.
            let clients = 7usize.div_ceil(each) + more;
            let labels: Vec<u32> = (0..700).map(|i| [0, 1, 2, 4, 5, 6, 7][i % 7]).collect();
            let partition: Partition = format!("classes:{each}").parse().unwrap();
            prop_assert_eq!(partition.to_string(), format!("classes:{each}"));
            let parts = partition.split(&labels, 8, clients, seed).unwrap();
            let mut all: Vec<usize> = parts.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..700).collect::<Vec<_>>());
            prop_assert!(parts.iter().all(|part| classes_of(part, &labels) == each));
            let mut holders = Vec::new();
            for class in [0, 1, 2, 4, 5, 6, 7] {
                let of_class = |part: &Vec<usize>| part.iter().filter(|&&i| labels[i] == class).count();
                let shares: Vec<usize> = parts.iter().map(of_class).filter(|&count| count > 0).collect();
                let even = 100 / shares.len();
                prop_assert!(shares.iter().all(|&share| share == even || share == even + 1));
                holders.push(shares.len());
            }
            let most = holders.iter().max().unwrap();
            prop_assert!(holders.iter().all(|count| count + 1 >= *most), "{:?}", holders);
            prop_assert_eq!(partition.split(&labels, 8, clients, seed).unwrap(), parts);
        }
    }

    #[test]
    fn which_classes_a_client_holds_is_chance() {
        let labels: Vec<u32> = (0..1000).map(|i| i % 10).collect();
        let held = |seed| -> Vec<Vec<u32>> {
            let parts = Partition::Classes(2).split(&labels, 10, 5, seed).unwrap();
            let held = parts.into_iter().map(|part| {
                let mut held: Vec<u32> = part.into_iter().map(|index| labels[index]).collect();
                held.sort_unstable();
                held.dedup();
                held
            });
            held.collect()
        };
        assert_ne!(held(1), held(2));
    }

    #[test]
    fn classes_that_cannot_be_dealt_out_are_refused() {
        let labels: Vec<u32> = (0..100).map(|i| i % 10).collect();
        let refused = |each, clients| {
            let split = Partition::Classes(each).split(&labels, 10, clients, 1);
            split.unwrap_err()
        };
        let uncovered = PartitionError::Uncovered {
            clients: 3,
            each: 3,
            classes: 10,
        };
        assert_eq!(refused(3, 3), uncovered);
        let (each, classes) = (11, 10);
        assert_eq!(
            refused(11, 2),
            PartitionError::TooFewClasses { each, classes }
        );
        let small: Vec<u32> = (0..100).map(|i| u32::from(i % 50 == 0)).collect();
        let error = Partition::Classes(2).split(&small, 2, 3, 1).unwrap_err();
        let (class, samples, holders) = (1, 2, 3);
        let expected = PartitionError::ClassTooSmall {
            class,
            samples,
            holders,
        };
        assert_eq!(error, expected);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in [
            "",
            "iid:1",
            "dirichlet",
            "dirichlet:0",
            "dirichlet:NaN",
            "shards:0",
            "classes",
            "classes:0",
            "classes:1001",
            "even",
        ] {
            assert!(text.parse::<Partition>().is_err(), "{text}");
        }
        let natural: Partition = "natural".parse().unwrap();
        assert_eq!(natural.to_string(), "natural");
        let split = natural.split(&[0; 100], 1, 10, 1);
        assert_eq!(split, Err(PartitionError::NoGroups));
        let error = Partition::Iid
            .split(&[0; 9], 1, 10, 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("9 private samples"), "{error}");
    }

    #[test]
    fn many_clients_share_few_samples() {
        let labels: Vec<u32> = (0..70).map(|i| i % 7).collect();
        let parts = Partition::Dirichlet(0.3).split(&labels, 7, 10, 1).unwrap();
        assert!(parts.iter().all(|part| part.len() >= 3), "{parts:?}");
        let parts = Partition::Dirichlet(0.3).split(&labels, 7, 20, 1).unwrap();
        assert!(parts.iter().all(|part| !part.is_empty()), "{parts:?}");
    }
}
