//! A federation's coordinator, as a library.
//!
//! * [`Coordinator`]: opens rounds, drives the machine of each, lets the teacher learn.
//! * [`Teacher`]: what a user may bring of their own; a [`Learner`] is one.
//! * [`Labelled`]: samples by which a method may measure what the teacher is worth; [`stand_ins`]: what is
//!   said of those that it was trained on.
//! * [`config`], [`status`]: what the program reads, and what it tells; [`Ledger`]: what crosses.
//! * [`Store`]: what outlives the process: [`MemoryStore`] does not, [`FileStore`] does.
//!
//! [`Learner`]: fedistill_learning::Learner
#![forbid(unsafe_code)]

mod asking;
mod centre;
pub mod config;
mod connection;
mod drift;
mod error;
mod exchange;
mod federation;
mod hub;
mod intake;
mod ledger;
mod observer;
mod pace;
mod parked;
mod plan;
mod probes;
mod pulse;
mod settings;
pub mod stand_ins;
pub mod status;
mod store;
mod teacher;
mod trouble;

pub use drift::Drift;
pub use error::CoordinatorError;
pub use exchange::{Earlier, Exchange, Sent};
pub use federation::{Coordinator, Ended};
pub use ledger::{Entry, Ledger};
pub use observer::Observer;
pub use probes::Labelled;
pub use settings::Settings;
pub use store::{
    Closed, Epoch, FileStore, MemoryStore, OpenRound, Outcome, Saved, StateRecord, Store,
    StoreError, Subject,
};
pub use teacher::{NetTeacher, Teacher, TeacherError};
