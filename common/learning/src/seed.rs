//! Where randomness comes from: streams of ChaCha20, named by what they are for.

use fedistill_protocol::Digest;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// The generator of `purpose` under `seed`: other purposes and other seeds give streams that have
/// nothing to do with it.
///
/// `purpose` is a path such as `"shuffle/client-3/7"`.
pub fn stream(seed: u64, purpose: &str) -> ChaCha20Rng {
    let mut name = seed.to_le_bytes().to_vec();
    name.extend(purpose.as_bytes());
    ChaCha20Rng::from_seed(*Digest::of(&name).as_bytes())
}

/// `0..count`, shuffled.
pub fn permutation(count: usize, rng: &mut ChaCha20Rng) -> Vec<usize> {
    use rand::seq::SliceRandom;
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(rng);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_seeds_lead_apart() {
        let order = |seed, purpose| permutation(100, &mut stream(seed, purpose));
        assert_eq!(order(1, "a"), order(1, "a"));
        assert_ne!(order(1, "a"), order(1, "b"));
        assert_ne!(order(1, "a"), order(2, "a"));
        let mut sorted = order(3, "c");
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
