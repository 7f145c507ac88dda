//! Receipts for contributions to a round that is over.

use std::collections::BTreeMap;

use fedistill_federation::{Folded, Round};
use fedistill_protocol::{Digest, Name, Receipt, RoundId};

use super::Coordinator;
use crate::Closed;
use crate::hub::{Arrival, Hub};

/// Which contributions count in the last round that came about: who sends one again, as its receipt was lost, gets the
/// same receipt.
#[derive(Debug, Default)]
pub(super) struct Counted(BTreeMap<(Name, RoundId), Digest>);

impl Counted {
    /// As a round has them that is about to be written down.
    pub(super) fn of(round: &Round) -> Self {
        let own = round.contributions();
        Self::new(
            own.map(|(name, blob)| (name.clone(), blob)),
            round.id(),
            round.late(),
        )
    }

    fn new(
        own: impl Iterator<Item = (Name, Digest)>,
        id: RoundId,
        late: BTreeMap<Name, Folded>,
    ) -> Self {
        let late = late.into_iter();
        let late = late.map(|(name, folded)| ((name, folded.of), folded.blob));
        Self(
            own.map(|(name, blob)| ((name, id), blob))
                .chain(late)
                .collect(),
        )
    }
}

impl From<Closed> for Counted {
    fn from(closed: Closed) -> Self {
        Self::new(closed.acknowledged.into_iter(), closed.id, closed.late)
    }
}

impl Coordinator {
    /// Gives its receipt to who sends a contribution again that counts in the last round; whether this is one.
    pub(super) fn acknowledges_again(&self, hub: &Hub, arrival: &Arrival) -> bool {
        let Arrival::Contributed {
            client, id, blob, ..
        } = arrival
        else {
            return false;
        };
        let counts = self.counted.0.get(&(client.clone(), *id)) == Some(blob);
        if counts {
            let (id, blob) = (*id, *blob);
            hub.send(client, &Receipt { id, blob }.into());
        }
        counts
    }
}
