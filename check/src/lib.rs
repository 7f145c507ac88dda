//! Holds what the processes of a federation have kept against each other, after any run and any fault.
//!
//! * [`Records`]: what is read from state folders, coordinators' and clients'.
//! * [`verify`]: which promises were broken, if any, and how much was looked at.
//!
//! Nothing here knows how rounds are run: it reads what was promised and what became of it.
#![forbid(unsafe_code)]

mod records;
mod verify;

pub use records::{ClientRecord, CoordinatorRecord, ReadError, Records};
pub use verify::{Broken, Invariant, Liveness, Report, verify};
