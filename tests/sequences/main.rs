//! Sequences of operations over the machines of a federation, on a virtual clock: what Janus does for
//! DAP. The coordinator's `Round` and the clients' `Agent` are the real ones, and so is the store;
//! between them is a network that breaks, and processes are killed where it hurts the most. Each client
//! says a one of its own and nothing else, so that a two anywhere in an aggregate is a double count.
//!
//! A sequence that fails is made as short as it can be and told as code: put it into `reproduction.rs`.
//! `cargo test -p fedistill-tests --test sequences -- --ignored --nocapture` lives through 100,000.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod book;
mod centre;
mod device;
mod op;
mod plan;
mod reproduction;
mod world;

use std::time::Instant;

use fedistill_learning::seed;
use proptest::prelude::*;
use rand::RngExt;

use crate::book::Tally;
use crate::op::{Op, Setup};
use crate::world::{Disk, live};

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_invariants_hold(
        setup in Setup::any(), ops in prop::collection::vec(Op::any(), 0..60),
    ) {
        prop_assert_eq!(live(setup, &ops, Disk::Memory).map(drop), Ok(()));
    }
}

/// The sequence of this number: always the same.
fn sequence(number: u64) -> (Setup, Vec<Op>) {
    let mut rng = seed::stream(number, "sequence");
    let setup = Setup::draw(&mut rng);
    let length = rng.random_range(1..=60);
    (setup, (0..length).map(|_| Op::draw(&mut rng)).collect())
}

/// A shorter sequence that fails as well: none of its operations can be left out.
fn shortened(setup: Setup, mut ops: Vec<Op>) -> Vec<Op> {
    let mut at = 0;
    while at < ops.len() {
        let mut fewer = ops.clone();
        fewer.remove(at);
        match live(setup, &fewer, Disk::Memory) {
            Err(_) => {
                ops = fewer;
                at = 0;
            }
            Ok(_) => at += 1,
        }
    }
    ops
}

fn live_through(numbers: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    for number in numbers {
        let (setup, ops) = sequence(number);
        match live(setup, &ops, Disk::Memory) {
            Ok(one) => tally += one,
            Err(_) => {
                let ops = shortened(setup, ops);
                let why = live(setup, &ops, Disk::Memory).map(drop);
                panic!("sequence {number}: {why:?}\nlet setup = {setup:?};\nlet ops = {ops:?};");
            }
        }
    }
    tally
}

#[test]
fn thousands_of_sequences_keep_the_invariants() {
    let tally = live_through(0..5000);
    // Each thing that is to be seen was seen, and often.
    let Tally {
        committed,
        aborted,
        extended,
        settled,
        acknowledged,
        restored,
        conflicts,
        late,
    } = tally;
    let counts = [
        committed,
        aborted,
        extended,
        settled,
        acknowledged,
        restored,
        conflicts,
        late,
    ];
    assert!(counts.iter().all(|count| *count > 50), "{tally:?}");
}

#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_sequences_keep_the_invariants() {
    let begun = Instant::now();
    let tally = live_through(0..100_000);
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "came to: 100000 sequences in {seconds:.1} s, {:.0} a second: {tally:?}",
        1e5 / seconds
    );
}

/// The same over files, which take longer.
#[test]
fn sequences_over_files_come_to_the_same() {
    for number in 0..60 {
        let (setup, ops) = sequence(number);
        let folder = tempfile::tempdir().unwrap();
        let file = Disk::File(folder.path().join("rounds.redb"));
        let over_file = live(setup, &ops, file);
        assert_eq!(over_file, live(setup, &ops, Disk::Memory), "{number}");
    }
}
