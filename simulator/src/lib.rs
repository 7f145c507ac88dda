//! A whole federation on one machine, with the machines, drivers and wire bytes of a real one.
//!
//! * [`Data`]: a data set as it is read, with whose its samples are where it says that.
//! * [`World`]: one data set, split into what the teacher has, the transfer set, what each client has,
//!   and test samples that are only ever used to report.
//! * [`View`]: some samples of a shared set; clients' private data is held as this.
//! * [`Partition`]: how samples are spread over clients.
//! * [`Byzantine`]: clients that lie.
//! * [`share_out`]: the same split as files, for a federation of processes.
//! * [`simulate`]: runs a method in a world, over QUIC or in memory.
//! * [`average`]: methods that average parameters, to compare with.
//! * [`MemoryBound`]: what a run will hold at most.
//! * [`Journal`]: what of a run is on disk, so that it can go on after a stop.
//! * [`experiment`]: a federation and the baselines that it is compared with.
//! * [`ServerOnTest`], [`ClientOnTest`], [`ClientOnOwn`]: three measures that are never mixed.
//! * [`Ledger`]: what crosses in a round, of each client, by what it is for.
//! * [`compare`]: many methods under many conditions, and one table of all.
//! * [`Summary`], [`table`] and [`output`]: what came of it.
#![forbid(unsafe_code)]

mod averaging;
mod board;
mod byzantine;
pub mod compare;
pub mod config;
mod data;
mod decided;
mod engine;
mod error;
pub mod experiment;
mod held_out;
mod journal;
mod ledger;
mod memory;
mod metrics;
mod natural;
mod outcome;
pub mod output;
mod partition;
mod progress;
mod report;
mod run;
mod share_out;
mod students;
mod summary;
mod teacher_source;
mod view;
mod world;
mod yardstick;

pub use averaging::{Averaging, FEDDF, Fusion, average};
pub use byzantine::{Attack, Byzantine};
pub use data::Data;
pub use error::SimulationError;
pub use experiment::Experiment;
pub use journal::Journal;
pub use ledger::{Entries, FlowMeans, Ledger, LedgerMeans};
pub use memory::MemoryBound;
pub use metrics::{
    ClientOnOwn, ClientOnTest, ClientScore, Measure, Metrics, OverClients, ServerOnTest,
    ServerScore,
};
pub use outcome::{Outcome, RoundRow};
pub use partition::{Partition, PartitionError};
pub use progress::Progress;
pub use run::{Keep, Plan, Transport, pooled, simulate, simulate_with};
pub use share_out::share_out;
pub use summary::{Accuracy, Bytes, Ece, Scores, Seconds, Summary, table};
pub use teacher_source::TeacherSource;
pub use view::View;
pub use world::{Sizes, World};
