//! What has come of contributions whose transfer broke off.

use std::collections::BTreeMap;

use fedistill_protocol::blob::Assembler;
use fedistill_protocol::{Digest, Name, RoundId};

/// One of each client, no longer than the plan of its round allows, until it comes again or its round is over.
#[derive(Debug, Default)]
pub(crate) struct Parked(BTreeMap<Name, (RoundId, Assembler)>);

impl Parked {
    /// Keeps what has come, unless more of the same is here: a connection that was replaced may end after the one
    /// that took its place.
    pub(crate) fn put(&mut self, client: &Name, id: RoundId, came: Assembler) {
        let name = |(id, parked): &(RoundId, Assembler)| (*id, parked.digest(), parked.length());
        let held = self.0.get(client);
        let same = held.filter(|held| name(held) == (id, came.digest(), came.length()));
        if same.is_none_or(|(_, parked)| parked.offset() < came.offset()) {
            self.0.insert(client.clone(), (id, came));
        }
    }

    /// What has come of this before; anything else of the client is dropped.
    pub(crate) fn take(
        &mut self,
        client: &Name,
        id: RoundId,
        blob: Digest,
        bytes: u64,
    ) -> Option<Assembler> {
        let (of, parked) = self.0.remove(client)?;
        ((of, parked.digest(), parked.length()) == (id, blob, bytes)).then_some(parked)
    }

    /// Drops all but what these rounds may still have.
    pub(crate) fn keep_only(&mut self, rounds: &[RoundId]) {
        self.0.retain(|_, (id, _)| rounds.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(of: &[u8], came: usize) -> Assembler {
        let bytes = of.len() as u64;
        let mut assembler = Assembler::new(Digest::of(of), bytes, bytes).unwrap();
        assembler.append(&of[..came]).unwrap();
        assembler
    }

    #[test]
    fn only_the_same_of_a_round_that_is_open_goes_on() {
        let ward: Name = "ward-1".parse().unwrap();
        let round = |round| RoundId { round, attempt: 0 };
        let (said, other) = (b"said".as_slice(), b"other".as_slice());
        let mut parked = Parked::default();
        let take = |parked: &mut Parked, id, of: &[u8]| {
            let taken = parked.take(&ward, id, Digest::of(of), of.len() as u64);
            taken.map(|part| part.offset())
        };
        parked.put(&ward, round(0), part(said, 3));
        // The connection before it ends later, and had less.
        parked.put(&ward, round(0), part(said, 1));
        assert_eq!(take(&mut parked, round(0), said), Some(3));
        assert_eq!(take(&mut parked, round(0), said), None);
        for (id, of) in [(round(1), said), (round(0), other)] {
            parked.put(&ward, round(0), part(said, 3));
            assert_eq!(take(&mut parked, id, of), None);
            assert_eq!(take(&mut parked, round(0), said), None);
        }
        parked.put(&ward, round(0), part(said, 3));
        parked.put(&ward, round(1), part(other, 1));
        assert_eq!(take(&mut parked, round(1), other), Some(1));
        for (rounds, left) in [
            ([round(0), round(1)], Some(2)),
            ([round(1), round(2)], None),
        ] {
            parked.put(&ward, round(0), part(said, 2));
            parked.keep_only(&rounds);
            assert_eq!(take(&mut parked, round(0), said), left);
        }
    }
}
