//! Every decoder of bytes from outside, as a function of any bytes: it reads them, and where they are
//! something, holds that against the laws of its format. A law that is broken is a panic.
//!
//! `fuzz/` runs each as a target of libFuzzer; `tests/mutated.rs` runs all of them on stable Rust, on seeds that
//! are changed at random. Both begin with the files in `fuzz/seeds/TARGET/`, which
//! `cargo run -p fedistill-decoders --example seeds` writes.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken law is told by a panic, as fuzzers have it"
)]

mod files;
mod mutate;
mod streams;
mod wire;

pub use files::{parted, stand_ins_about};
pub use mutate::Mutator;
pub use wire::base;

/// A decoder, and the name of its target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of its fuzz target and of its folder of seeds.
    pub name: &'static str,
    /// Reads any bytes; whether they were something.
    pub read: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frame",
        read: wire::frame,
    },
    Target {
        name: "plan",
        read: wire::plan,
    },
    Target {
        name: "answers",
        read: wire::answers,
    },
    Target {
        name: "update",
        read: wire::update,
    },
    Target {
        name: "symbols",
        read: wire::symbols,
    },
    Target {
        name: "blob",
        read: wire::blob,
    },
    Target {
        name: "streams",
        read: streams::streams,
    },
    Target {
        name: "transfer_set",
        read: wire::transfer_set,
    },
    Target {
        name: "idx",
        read: files::idx,
    },
    Target {
        name: "table",
        read: files::table,
    },
    Target {
        name: "image",
        read: files::image,
    },
    Target {
        name: "checkpoint",
        read: files::checkpoint,
    },
    Target {
        name: "probes",
        read: files::stand_ins_said,
    },
    Target {
        name: "state",
        read: files::state,
    },
    Target {
        name: "config",
        read: files::config,
    },
];

/// The target of this name.
///
/// # Panics
/// Where there is none: a fuzz target that is named otherwise here.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    *found.expect("a target of this name")
}
