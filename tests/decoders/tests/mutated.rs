//! Every decoder, on its seeds and on thousands of changed ones.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fedistill_decoders::{Mutator, TARGETS, Target};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds")
}

fn seeds(target: Target) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder().join(target.name)).unwrap();
    let mut seeds: Vec<_> = files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

/// What is found is told as bytes, to become a test of its own.
fn read(target: Target, bytes: &[u8]) -> bool {
    let result = catch_unwind(AssertUnwindSafe(|| (target.read)(bytes)));
    result.unwrap_or_else(|_| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("target {} fails on {hex}", target.name)
    })
}

#[test]
fn every_seed_is_read() {
    for target in TARGETS {
        let seeds = seeds(*target);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for (name, bytes) in seeds {
            let is_read = read(*target, &bytes);
            let again = "cargo run -p fedistill-decoders --example seeds";
            assert!(
                is_read,
                "{} {name} is refused; after a change of format: {again}",
                target.name
            );
        }
    }
}

/// So many changes of each target's seeds: `CHANGES` in the environment, for who has more time.
fn changes() -> usize {
    let wish = std::env::var("CHANGES").ok();
    wish.map_or(4_000, |count| count.parse().unwrap())
}

#[test]
fn changed_seeds_are_read_or_refused() {
    for target in TARGETS {
        let seeds: Vec<Vec<u8>> = seeds(*target).into_iter().map(|(_, bytes)| bytes).collect();
        let mut mutator = Mutator::new(1);
        let inputs = (0..changes()).map(|_| mutator.change(&seeds));
        let refused = inputs.filter(|bytes| !read(*target, bytes)).count();
        assert!(
            10 * refused > changes(),
            "{} refuses hardly anything",
            target.name
        );
    }
}

#[test]
fn every_target_is_a_target_of_the_fuzzer() {
    let text = std::fs::read_to_string(folder().join("../Cargo.toml")).unwrap();
    for target in TARGETS {
        let name = target.name;
        assert!(
            text.contains(&format!("name = \"{name}\"")),
            "{name} is no [[bin]]"
        );
        let path = folder().join(format!("../targets/{name}.rs"));
        let body = std::fs::read_to_string(&path).unwrap();
        assert!(
            body.contains(&format!("target({name:?})")),
            "{}",
            path.display()
        );
    }
}
