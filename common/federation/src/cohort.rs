use fedistill_protocol::Name;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// The `count` clients that take part in `round`, in the order of their names.
///
/// A uniform choice without replacement that depends on the seed, the round and the set of
/// candidates alone: not on the order in which they connected.
pub fn select(seed: u64, round: u32, candidates: &[Name], count: usize) -> Vec<Name> {
    let mut pool = candidates.to_vec();
    pool.sort_unstable();
    pool.dedup();
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(round));
    let count = count.min(pool.len());
    for index in 0..count {
        let other = rng.random_range(index..pool.len());
        pool.swap(index, other);
    }
    pool.truncate(count);
    pool.sort_unstable();
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<Name> {
        (0..count)
            .map(|index| format!("client-{index:03}").parse().unwrap())
            .collect()
    }

    #[test]
    fn order_of_candidates_does_not_matter() {
        let mut candidates = names(50);
        let chosen = select(7, 3, &candidates, 10);
        candidates.reverse();
        candidates.push(candidates[0].clone());
        assert_eq!(select(7, 3, &candidates, 10), chosen);
        assert_eq!(chosen.len(), 10);
        assert!(chosen.is_sorted_by(|a, b| a < b));
        assert_ne!(select(7, 4, &candidates, 10), chosen);
        assert_ne!(select(8, 3, &candidates, 10), chosen);
    }

    #[test]
    fn everyone_gets_a_fair_share() {
        let candidates = names(20);
        let mut counts = vec![0; 20];
        for round in 0..2000 {
            for name in select(1, round, &candidates, 5) {
                counts[candidates.binary_search(&name).unwrap()] += 1;
            }
        }
        // 500 each on average, standard deviation 19.4: five of them either way.
        assert!(
            counts.iter().all(|count| (403..597).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_small_federation_takes_part_whole() {
        assert_eq!(select(1, 0, &names(3), 10), names(3));
    }
}
