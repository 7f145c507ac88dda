//! What the three programs have in common.
//!
//! * [`config`]: TOML files in which nothing is ignored.
//! * [`database`]: a file with transactions.
//! * [`heap`]: how memory is handed out, where a process runs for weeks.
//! * [`Exit`], [`Failure`], [`OrExit`]: one line for a person, a documented number for a script.
//! * [`arguments()`]: what a process was started with, or a line of what is wrong with it.
//! * [`print()`]: what is told on standard output; [`size()`]: bytes as people read them.
//! * [`lock`]: one process at a time in a folder of state.
//! * [`log`]: what is told on standard error.
//! * [`told_to_stop()`], [`unless_stopped()`]: SIGTERM and Ctrl-C, from the first moment on.
#![deny(unsafe_code)]

pub mod config;
pub mod database;
mod exit;
pub mod heap;
pub mod lock;
pub mod log;
mod output;
mod size;
mod stop;

pub use config::ConfigError;
pub use exit::{Exit, Failure, OrExit, arguments, finish};
pub use output::print;
pub use size::size;
pub use stop::{told_to_stop, unless_stopped};
