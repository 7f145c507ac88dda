//! What tests of whole federations share: small data, and programs as processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub mod clinic;
mod diary;
mod faults;
mod federation;
mod handmade;
mod heard;
#[path = "../papers/mod.rs"]
pub mod papers;
mod process;
mod proof;
mod puppet;
mod relay;
mod scripted;
mod storm;
mod vitals;
mod wire;

use std::path::{Path, PathBuf};

use fedistill_learning::idx::{self, Idx};

pub use diary::Diary;
pub use faults::Faults;
pub use federation::Deployment;
pub use handmade::{Device, Handmade, Hosted};
pub use heard::{entropy_bytes, heard, likely};
pub use process::{Ended, Running, program, run};
pub use proof::{Quiet, judge, sound};
pub use puppet::Puppet;
pub use relay::{Relay, Weather};
pub use scripted::Scripted;
pub use storm::{Aftermath, Storm};
pub use vitals::Vitals;
pub use wire::Wire;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The data set that the repository has.
pub fn fixture() -> PathBuf {
    root().join("fixtures/fashion-mnist-mini")
}

/// Writes a folder of four IDX files with the first images of the fixture.
pub fn small_data(folder: &Path, train: usize, test: usize) {
    cut_data(&fixture(), folder, train, test);
}

/// Writes a folder of four IDX files with the first images of another.
pub fn cut_data(source: &Path, folder: &Path, train: usize, test: usize) {
    std::fs::create_dir_all(folder).unwrap();
    for (prefix, count) in [("train", train), ("t10k", test)] {
        for (kind, dimensions) in [("images-idx3", 3), ("labels-idx1", 1)] {
            let name = format!("{prefix}-{kind}-ubyte");
            let raw = source.join(&name);
            let packed = format!("{name}.gz");
            let found = if raw.exists() {
                raw
            } else {
                source.join(&packed)
            };
            let mut idx = idx::read(&found, dimensions).unwrap();
            idx.values
                .truncate(count * (idx.values.len() / idx.shape[0] as usize));
            idx.shape[0] = count as u32;
            idx::write(&folder.join(&packed), &idx.into()).unwrap();
        }
    }
}

/// Writes labels to an IDX file.
pub fn write_labels(path: &Path, labels: Vec<u8>) {
    let shape = vec![labels.len() as u32];
    let idx = Idx {
        shape,
        values: labels,
    };
    idx::write(path, &idx.into()).unwrap();
}
