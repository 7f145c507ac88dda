mod version3;

use self::version3::{Goodbye3, Hello3, Rejected3, Welcome3};
use crate::codec::{self, Decode, Encode};
use crate::{Digest, Name, ProtocolError, RoundId, RoundPlan, Update, Version};

/// The first message of a client on a connection.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Hello {
    /// The federation it wants to take part in.
    pub federation: Name,
    /// Name and version of its software, for the coordinator's log; at most 64 bytes count.
    pub software: String,
    /// Its classes in the order of its outputs.
    pub classes: Vec<String>,
    /// The transfer set it already holds, so that none is sent twice.
    pub transfer: Option<Digest>,
    /// The latest epoch of this federation that it has seen, from 1; 0 if none. Since version 4.
    pub epoch: u64,
    /// Number of its student's parameters, which federated averaging would send each way; 0 where that
    /// is not known. Since version 4.
    pub parameters: u64,
}

/// The coordinator's answer to a [`Hello`] it accepts.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Welcome {
    /// The federation the client is now in.
    pub federation: Name,
    /// The transfer set every plan of this federation speaks about.
    pub transfer: TransferManifest,
    /// Longest silence of a client at work, in milliseconds, before it counts as gone.
    pub heartbeat_ms: u32,
    /// Which process this is of all that ever ran this federation, from 1; 0 where that is not known. A
    /// client takes no part under one that is below one it has seen. Since version 4.
    pub epoch: u64,
    /// The epoch in which the state was last put back, on purpose, to what it had been before; 0 if it
    /// never was. Rounds that were answered under an epoch before that one may be asked for again, all
    /// others may not. Since version 4.
    pub rolled_back: u64,
}

/// What the transfer set is, before its bytes are fetched.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct TransferManifest {
    /// Name of the blob that holds it.
    pub blob: Digest,
    /// Length of that blob in bytes.
    pub bytes: u64,
    /// Number of samples.
    pub samples: u32,
    /// Shape of one sample, outermost dimension first: `[1, 28, 28]` for a grey image.
    pub shape: Vec<u32>,
    /// Classes in the order of every answer's columns.
    pub classes: Vec<String>,
}

/// A client at work says that it still is.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Heartbeat {
    /// The round it works for.
    pub id: RoundId,
}

/// A client gives back what a plan asked for; the answers follow as a blob.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Contribution {
    /// The round it belongs to.
    pub id: RoundId,
    /// Name of the blob that holds the packed answers.
    pub blob: Digest,
    /// Length of that blob in bytes.
    pub bytes: u64,
    /// A shorter way to it, for a coordinator that holds what the client gave back before.
    pub update: Option<Update>,
}

/// A client's own policy does not allow what a plan asks.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Refusal {
    /// The round it will not take part in.
    pub id: RoundId,
    /// What its policy does not allow.
    pub why: String,
}

/// A contribution is counted, once, however often it was sent.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Receipt {
    /// The round it counts in.
    pub id: RoundId,
    /// Name of the blob that was taken in.
    pub blob: Digest,
}

/// Something of the client's is not accepted.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Rejected {
    /// Why.
    pub reason: RejectReason,
    /// One line for a person: what, where, what to do.
    pub detail: String,
    /// Milliseconds after which to come back, at the earliest; 0 where nothing is said. Since version 4.
    pub after_ms: u32,
    /// The round of what is not accepted, where it is a contribution. Since version 4.
    pub id: Option<RoundId>,
}

impl Rejected {
    /// One about no round, that says nothing of when to come back.
    pub const fn new(reason: RejectReason, detail: String) -> Self {
        Self {
            reason,
            detail,
            after_ms: 0,
            id: None,
        }
    }

    /// The same, about a contribution to this round.
    #[must_use]
    pub fn about(self, id: RoundId) -> Self {
        let id = Some(id);
        Self { id, ..self }
    }
}

/// Why the coordinator does not accept something. New reasons are only ever added at the end.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum RejectReason {
    /// It names another federation.
    WrongFederation,
    /// Its classes are not the federation's.
    WrongClasses,
    /// It belongs to a round or attempt that is not open.
    WrongRound,
    /// The client was not selected for this round.
    NotSelected,
    /// Another contribution of this client already counts.
    Conflict,
    /// The answers are malformed: wrong shape, kind, or not finite.
    Malformed,
    /// It came after the round had closed.
    TooLate,
    /// The client did something that the protocol does not allow.
    ProtocolViolation,
    /// The client has seen a later coordinator of this federation than this one. Since version 4.
    OldEpoch,
}

/// One side ends the conversation in good order.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Goodbye {
    /// One line for a person.
    pub why: String,
    /// Whether it will be back; a client of a stopped coordinator connects again.
    pub back: bool,
    /// Milliseconds after which to come back, at the earliest; 0 where nothing is said. Since version 4.
    pub after_ms: u32,
}

/// Writes the enum of messages, the enum of their kinds and what ties the two together.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident($type:ty $(, in version 3 $older:ty)?) = $number:literal, limit $limit:expr;)*) => {
        /// A control message.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Message { $($(#[$doc])* $name($type),)* }

        /// Which message a frame holds. A number is never used again for another message.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its number on the wire.
            pub const fn number(self) -> u8 { self as u8 }

            /// The kind with this number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The most bytes that a body of this kind may have.
            pub const fn limit(self) -> usize { match self { $(Self::$name => $limit,)* } }

            /// Its name, for messages to people.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }

        impl Message {
            /// Which message this is.
            pub const fn kind(&self) -> Kind { match self { $(Self::$name(_) => Kind::$name,)* } }

            pub(crate) fn encode_body(&self, version: Version) -> Result<Vec<u8>, ProtocolError> {
                match self { $(Self::$name(body) => {
                    $(if version == Version::OLDEST {
                        return codec::encode(stringify!($name), &<$older>::from(body));
                    })?
                    codec::encode(stringify!($name), body)
                })* }
            }

            pub(crate) fn decode_body(
                kind: Kind,
                version: Version,
                body: &[u8],
            ) -> Result<Self, ProtocolError> {
                match kind { $(Kind::$name => {
                    $(if version == Version::OLDEST {
                        let older = codec::decode::<$older, { 32 * $limit + 4096 }>(stringify!($name), body)?;
                        return Ok(Self::$name(older.into()));
                    })?
                    // A value may take more room than its bytes (a `String` of one byte does), so
                    // the decoder gets some more than the wire.
                    codec::decode::<$type, { 32 * $limit + 4096 }>(stringify!($name), body)
                        .map(Self::$name)
                })* }
            }
        }

        $(impl From<$type> for Message { fn from(body: $type) -> Self { Self::$name(body) } })*
    };
}

messages! {
    /// Client to coordinator: the first message.
    Hello(Hello, in version 3 Hello3) = 1, limit 64 * 1024;
    /// Coordinator to client: accepted.
    Welcome(Welcome, in version 3 Welcome3) = 2, limit 64 * 1024;
    /// Coordinator to client: what the round asks.
    Plan(RoundPlan) = 3, limit 1024 * 1024;
    /// Client to coordinator: still at work.
    Heartbeat(Heartbeat) = 4, limit 16;
    /// Client to coordinator: done, answers follow.
    Contribution(Contribution) = 5, limit 160;
    /// Client to coordinator: its policy forbids the plan.
    Refusal(Refusal) = 6, limit 1024;
    /// Coordinator to client: counted.
    Receipt(Receipt) = 7, limit 64;
    /// Coordinator to client: not accepted.
    Rejected(Rejected, in version 3 Rejected3) = 8, limit 1024;
    /// Either way: the end.
    Goodbye(Goodbye, in version 3 Goodbye3) = 9, limit 1024;
}
