//! Who sees what a federation comes to, round by round.

use std::collections::BTreeMap;

use fedistill_protocol::{Name, RejectReason, RoundId};
use fedistill_transport::{BoxFuture, Traffic};

use crate::drift::Drift;
use crate::{StoreError, Teacher};

/// Sees each round's end, on the coordinator's own thread.
pub trait Observer: Send {
    /// Before the first round: the teacher as it begins, and the round that comes first.
    fn started(&mut self, round: u32, teacher: Option<&mut dyn Teacher>) {
        let _ = (round, teacher);
    }

    /// A round is over, with these contributors, and the teacher has learnt from it.
    fn round_done(
        &mut self,
        id: RoundId,
        contributors: &[Name],
        teacher: Option<&mut dyn Teacher>,
    ) {
        let _ = (id, contributors, teacher);
    }

    /// A round is over and the observer has seen it: the next one opens once this is done.
    ///
    /// # Errors
    /// What the observer keeps of a round cannot be kept, which ends the run.
    fn before_next(&mut self, id: RoundId) -> BoxFuture<'_, Result<(), StoreError>> {
        let _ = id;
        Box::pin(std::future::ready(Ok(())))
    }

    /// A round is over: `traffic` tells what has crossed for each client since the coordinator began;
    /// what is still under way counts for the next round. Comes before [`Self::round_done`].
    fn crossed(&mut self, id: RoundId, traffic: &dyn Fn() -> BTreeMap<Name, Traffic>) {
        let _ = (id, traffic);
    }

    /// The run ends before its last round is over, and clients have been sent away: `traffic` tells what has crossed
    /// for each since the coordinator began. Nothing else follows.
    fn broken_off(&mut self, traffic: &dyn Fn() -> BTreeMap<Name, Traffic>) {
        let _ = traffic;
    }

    /// How many parameters each client's student has, where it says so. Comes before [`Self::crossed`].
    fn models(&mut self, parameters: &BTreeMap<Name, u64>) {
        let _ = parameters;
    }

    /// What the method has decided by itself so far, by name. Comes before [`Self::started`] and
    /// before each [`Self::round_done`].
    fn decided(&mut self, decided: &BTreeMap<String, f64>) {
        let _ = decided;
    }

    /// What clients said in a round was held against the teacher; [`Self::round_done`] follows.
    fn drifted(&mut self, id: RoundId, drift: Drift) {
        let _ = (id, drift);
    }

    /// A try at a round has missed its quorum and goes on with what it has: for the how many-th time,
    /// from 1.
    fn round_extended(&mut self, id: RoundId, number: u32) {
        let _ = (id, number);
    }

    /// A try at a round has missed its quorum and is over with so many contributions;
    /// [`Self::round_done`] follows.
    fn round_settled(&mut self, id: RoundId, contributions: usize) {
        let _ = (id, contributions);
    }

    /// So many late contributions to the round before count in this one, which is over;
    /// [`Self::round_done`] follows.
    fn late_folded(&mut self, id: RoundId, contributions: usize) {
        let _ = (id, contributions);
    }

    /// A client's contribution is refused: another one than it gave to the same round before, one that is late, or one
    /// that cannot be used.
    fn refused(&mut self, client: &Name, reason: RejectReason) {
        let _ = (client, reason);
    }

    /// All rounds are done; the process may stay for a while, to tell whoever comes.
    fn finished(&mut self) {}

    /// A try at a round has missed its quorum and is given up.
    fn round_aborted(&mut self, id: RoundId) {
        let _ = id;
    }
}

/// Nobody looks.
impl Observer for () {}
