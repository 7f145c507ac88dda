//! Bytes changed at random, as a fuzzer does it, under a seed.

/// Changes bytes; one seed, one sequence of changes.
#[derive(Debug)]
pub struct Mutator(u64);

/// Bytes at which formats change their mind.
const EDGES: [u8; 10] = [0, 1, 0x0f, 0x10, 0x7f, 0x80, 250, 251, 253, 255];

impl Mutator {
    /// The changes of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `SplitMix64` (Steele et al. 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `count`, which is above 0.
    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// One of `seeds`, of which there is one at least, changed in one to six places, or joined to another.
    pub fn change(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        if self.below(8) == 0 {
            let other = &seeds[self.below(seeds.len())];
            let (cut, from) = (self.below(bytes.len() + 1), self.below(other.len() + 1));
            bytes.truncate(cut);
            bytes.extend(&other[from..]);
        }
        for _ in 0..=self.below(6) {
            self.change_once(&mut bytes);
        }
        bytes
    }

    fn change_once(&mut self, bytes: &mut Vec<u8>) {
        let mut at = self.below(bytes.len() + 1);
        // Half of all changes hit the head, where lengths are.
        if self.below(2) == 0 {
            at %= 24;
        }
        let Some(&here) = bytes.get(at) else {
            return bytes.push(self.next() as u8);
        };
        let end = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(8) {
            0 => bytes[at] = here ^ 1 << self.below(8),
            1 => bytes[at] = EDGES[self.below(EDGES.len())],
            2 => bytes[at] = self.next() as u8,
            3 => bytes[at] = here.wrapping_add(1),
            4 => bytes.insert(at, EDGES[self.below(EDGES.len())]),
            5 => drop(bytes.drain(at..end)),
            6 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => bytes.truncate(at),
        }
    }
}
