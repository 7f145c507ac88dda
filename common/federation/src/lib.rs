//! The core of a federation, sans IO.
//!
//! * [`Round`]: the machine of one round. Time is an argument, outputs are pulled.
//! * [`Method`]: one federated-distillation algorithm; see [`method`] for those that come along.
//! * [`Partial`]: contributions added up so that neither order nor grouping changes a bit.
//! * [`select`]: who takes part in a round.
//!
//! Nothing here reads a clock, draws randomness of its own, or touches a file or a socket.
#![forbid(unsafe_code)]

mod cohort;
mod late;
pub mod method;
mod partial;
mod probes;
mod quorum;
mod robust;
mod round;
mod state;

pub use cohort::select;
pub use late::{Before, Folded, Folding, Late};
pub use method::{
    Ask, Asked, AtCentre, Centre, CentreError, Method, MethodError, Outlook, Setting, Taken,
    Training, Wanted,
};
pub use partial::{Partial, PartialError};
pub use probes::Probes;
pub use quorum::{Quorum, QuorumError};
pub use robust::Robust;
pub use round::{
    Committed, CorruptLog, Event, Fault, Input, Missed, Output, Round, RoundConfig, Ticket,
};
pub use state::{Lesson, State};
