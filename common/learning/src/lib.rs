//! What a device learns from and how well: so far the reader of IDX files.
#![forbid(unsafe_code)]

pub mod idx;
