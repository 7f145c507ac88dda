//! What crosses the wire between a coordinator and its clients.
//!
//! * [`Message`]: the control messages, one struct each, with a byte limit per [`Kind`].
//! * [`frame`]: how a message becomes bytes; a header is checked before a body is allocated.
//! * [`blob`]: bulk payloads named by their blake3 digest, in chunks, resumable by offset.
//! * [`RoundPlan`]: what a round asks of a client, as data.
//! * [`TransferSet`]: the public samples that plans speak about.
//! * [`Answers`]: soft labels or logits, and how they are packed.
//! * [`entropy`], [`ans`], [`simplex`]: symbols at their entropy, and probabilities as parts of a whole.
//!
//! Nothing here does IO, reads a clock or allocates more than the sender was allowed to send.
#![forbid(unsafe_code)]

pub mod ans;
pub mod blob;
mod codec;
pub mod entropy;
mod error;
pub mod frame;
mod ids;
mod labels;
mod message;
mod objective;
mod plan;
mod rows;
mod silence;
pub mod simplex;
mod transfer;
mod version;

pub use error::ProtocolError;
pub use ids::{Digest, Name, RoundId};
pub use labels::{AnswerKind, Answers, Precision, Rounding};
pub use message::{
    Contribution, Goodbye, Heartbeat, Hello, Kind, Message, Receipt, Refusal, RejectReason,
    Rejected, TransferManifest, Welcome,
};
pub use objective::{Loss, LossTerm, Ramp, Toward};
pub use plan::{About, Knowledge, Optimiser, Phase, PhaseData, Report, RoundPlan, Start, Update};
pub use rows::Rows;
pub use silence::{Density, Silence};
pub use transfer::{Elements, TransferSet};
pub use version::Version;
