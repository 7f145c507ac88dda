//! Many methods, on many partitions, with many teachers and seeds: a federation for each, and one
//! table of all.
//!
//! A federation of a comparison is a [`Cell`]. What each came to is on disk as soon as it is over, in
//! a folder of its own; a comparison that was stopped goes on with the cell that was under way, and one
//! that is begun again with more methods or seeds runs what is new.

mod args;
mod cell;
mod entrant;
mod glance;
mod grid;
mod page;
mod results;
mod run;
mod store;
mod table;

pub use args::CompareArgs;
pub use cell::{Cell, CellBytes, CellResult, Done, Record};
pub use grid::{Comparison, Grid};
pub use results::{Results, Row, Spread};
pub use run::run;
