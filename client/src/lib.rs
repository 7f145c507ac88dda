//! A device of a federation, as a library.
//!
//! * [`Student`] and [`PrivateData`]: what a user brings of their own; a [`Learner`] and a
//!   [`Dataset`] are one of each.
//! * [`Agent`]: the sans-IO machine that follows the protocol. It holds plans against the device's
//!   own [`Policy`] and never touches a sample.
//! * [`Client`]: drives the machine: connects for ever, trains, gives back.
//!
//! [`Keeper`] has the student on disk; [`config`] is what the program reads.
//!
//! Samples go from [`PrivateData`] into [`Student::step`] and nowhere else.
//!
//! [`Learner`]: fedistill_learning::Learner
//! [`Dataset`]: fedistill_learning::Dataset
#![forbid(unsafe_code)]

mod agent;
mod backoff;
mod blob_folder;
mod card;
pub mod config;
mod driver;
mod held;
pub mod journal;
mod keeper;
mod policy;
mod private;
mod student;
mod train;

pub use agent::{Agent, AgentConfig, Blob, Input, Job, Output, Stop};
pub use backoff::Backoff;
pub use blob_folder::BlobFolder;
pub use card::ModelCard;
pub use driver::{Client, ClientError, Ended, Event};
pub use held::{Blobs, Held, Wanted};
pub use keeper::{Keeper, kept};
pub use policy::Policy;
pub use private::PrivateData;
pub use student::{Student, StudentError};
pub use train::{Carried, Watcher, carry_out};
