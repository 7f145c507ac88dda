//! Sequences that have failed once, and must not again.

use fedistill_federation::Missed;

use crate::op::Op::*;
use crate::op::{Op, Setup};
use crate::world::{Disk, live};

fn holds(setup: Setup, ops: &[Op]) {
    assert_eq!(live(setup, ops, Disk::Memory).map(drop), Ok(()), "{ops:?}");
}

/// A rejection does not say which round it is about: a client that was told that an earlier one is over
/// took it for the open one, gave that up, and was not asked again as long as it was open.
#[test]
fn who_is_late_for_one_round_takes_part_in_the_next() {
    let setup = Setup {
        clients: 2,
        least: 2,
        most: 2,
        asked: 2,
        missed: Missed::Extend { most: 1 },
    };
    let ops = [
        Contribute(0),
        Contribute(1),
        AdvanceTime(5),
        CrashAfterPersist,
        AdvanceTime(6),
        Deliver(0),
        Replay(0),
    ];
    holds(setup, &ops);
}
