//! What teachers and students learn with.
//!
//! * [`Samples`], [`Dataset`] and their readers: [`idx`] and folders of IDX files with MNIST's names,
//!   CSV, folders of images.
//! * [`Model`]: what can be trained. [`Net`] is one of ours (static buffers, backward passes by
//!   hand, no autograd graph); [`CandleModel`] makes one of any candle module.
//! * [`Objective`]: the losses of a plan, with their gradients.
//! * [`Learner`]: a model with its optimiser; what a client's student and a coordinator's teacher are.
//! * [`Evaluation`]: accuracy, loss, calibration.
//!
//! Everything random comes from [`seed::stream`]; a learner works on one thread. One seed gives
//! the same bits on the same machine, whatever else runs.
#![deny(unsafe_code)]

mod architecture;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod candle;
pub mod checkpoint;
mod data_folder;
mod dataset;
mod folder;
#[cfg(test)]
mod goldens;
pub mod idx;
mod kernels;
mod layer;
mod learner;
mod loss;
mod metrics;
mod model;
mod net;
mod optimiser;
mod samples;
pub mod seed;
mod source;
mod table;
mod zoo;

/// Grows whenever the same seed comes to other bits than before, so that a run is not ended by another
/// arithmetic than it was begun with.
pub const ARITHMETIC: u32 = 3;

pub use architecture::{Architecture, ArchitectureError};
pub use candle::{CandleModel, SeededInit};
pub use checkpoint::CheckpointError;
pub use data_folder::{DataFolder, Groups};
pub use dataset::{DataError, Dataset};
pub use learner::{LearnError, Learner, Schedule};
pub use loss::{Gradients, Objective, ObjectiveError, Outputs, Soft, Targets, softmax};
pub use metrics::{Evaluation, Recall};
pub use model::{Mode, Model, ModelError, Order, Parameter};
pub use net::Net;
pub use optimiser::OptimiserState;
pub use samples::{Samples, squared_distances};
pub use source::Source;
