//! Sequences that have failed once, and must not again.

use fedistill_federation::Missed;

use crate::op::Op::*;
use crate::op::{Op, Setup};
use crate::world::{Disk, live};

fn holds(setup: Setup, ops: &[Op]) {
    assert_eq!(live(setup, ops, Disk::Memory).map(drop), Ok(()), "{ops:?}");
}

/// A contribution to round 0 was folded into the first try at round 1, which was given up, and another
/// one to round 0 into the second: both had their receipts.
#[test]
fn who_was_late_for_a_try_that_is_given_up_gives_nothing_else_to_the_next() {
    let setup = Setup {
        clients: 4,
        least: 1,
        most: 4,
        asked: 4,
        missed: Missed::Reopen,
        folds: true,
    };
    let ops = [
        AdvanceTime(37),
        AdvanceTime(25),
        Contribute(0),
        AdvanceTime(4),
        Contribute(3),
        AdvanceTime(58),
        AdvanceTime(3),
        Conflict(3),
    ];
    holds(setup, &ops);
}

/// A rejection did not say which round it is about: a client that was told that an earlier one is over
/// took it for the open one, gave that up, and was not asked again as long as it was open.
#[test]
fn who_is_late_for_one_round_takes_part_in_the_next() {
    let setup = Setup {
        clients: 2,
        least: 2,
        most: 2,
        asked: 2,
        missed: Missed::Extend { most: 1 },
        folds: false,
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
