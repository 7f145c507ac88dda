use thiserror::Error;

use crate::{AnswerKind, Digest, Version};

/// What can be wrong with bytes or values that cross the wire.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// An answer holds NaN or an infinity.
    #[error("value at row {row}, column {column} is not finite")]
    NotFinite {
        /// Row of the first bad value.
        row: usize,
        /// Column of the first bad value.
        column: usize,
    },
    /// A blob's bytes do not hash to its name.
    #[error("blob has digest {actual}, expected {expected}: fetch it again")]
    DigestMismatch {
        /// The digest that was announced.
        expected: Digest,
        /// The digest of the bytes that came.
        actual: Digest,
    },
    /// A frame, blob or answer is longer than its type may be.
    #[error("{what} of {actual} bytes exceeds its limit of {limit}")]
    TooLong {
        /// What was too long.
        what: &'static str,
        /// Its announced length in bytes.
        actual: u64,
        /// The most it may have.
        limit: u64,
    },
    /// Fewer bytes than announced.
    #[error("{what} has {actual} bytes, expected {expected}")]
    WrongLength {
        /// What had the wrong length.
        what: &'static str,
        /// Bytes that came.
        actual: u64,
        /// Bytes that should have come.
        expected: u64,
    },
    /// A chunk does not continue where the last one ended.
    #[error("chunk starts at offset {actual}, expected {expected}")]
    WrongOffset {
        /// Offset that came.
        actual: u64,
        /// Offset that should have come.
        expected: u64,
    },
    /// Bytes are left over after a message.
    #[error("{count} bytes follow the end of a {what}")]
    TrailingBytes {
        /// What was decoded.
        what: &'static str,
        /// How many bytes are left over.
        count: usize,
    },
    /// The peer speaks another version of the protocol.
    #[error("peer speaks protocol version {actual}, this side {expected}: update the older one")]
    Version {
        /// The peer's version.
        actual: u8,
        /// What is spoken here: the latest version, or that which the sides have agreed on.
        expected: Version,
    },
    /// No message has this number.
    #[error("unknown message kind {0}")]
    UnknownKind(u8),
    /// A message names something by a number that has no meaning here: a loss, a kind of answers, a
    /// precision that a newer version has added.
    #[error(
        "{what} names {of} number {number}, which this version does not know: update this side"
    )]
    UnknownNumber {
        /// Which message.
        what: &'static str,
        /// What is numbered.
        of: &'static str,
        /// The number.
        number: u32,
    },
    /// The bytes are no value of the expected type.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// What was being decoded.
        what: &'static str,
        /// The decoder's reason.
        why: String,
    },
    /// An answer has another shape than the plan asked for.
    #[error("answer has shape {actual_rows} x {actual_classes}, expected {rows} x {classes}")]
    WrongShape {
        /// Rows that came.
        actual_rows: u32,
        /// Classes that came.
        actual_classes: u32,
        /// Rows the plan asks for.
        rows: u32,
        /// Classes the plan asks for.
        classes: u32,
    },
    /// An answer is of another kind than the plan asked for.
    #[error("answer holds {actual:?}, expected {expected:?}")]
    WrongKind {
        /// Kind that came.
        actual: AnswerKind,
        /// Kind the plan asks for.
        expected: AnswerKind,
    },
    /// A name is not usable in certificates, paths and logs.
    #[error(
        "name {0:?} is not 1 to 64 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"
    )]
    BadName(String),
    /// A plan asks for something that no client could do.
    #[error("plan: {0}")]
    BadPlan(String),
}
