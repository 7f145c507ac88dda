//! Messages as version 3 had them: what has been added since is missing.

use crate::codec::{Decode, Encode};
use crate::{Digest, Goodbye, Hello, Name, RejectReason, Rejected, TransferManifest, Welcome};

#[derive(Decode, Encode)]
pub(super) struct Hello3 {
    federation: Name,
    software: String,
    classes: Vec<String>,
    transfer: Option<Digest>,
}

#[derive(Decode, Encode)]
pub(super) struct Welcome3 {
    federation: Name,
    transfer: TransferManifest,
    heartbeat_ms: u32,
}

#[derive(Decode, Encode)]
pub(super) struct Rejected3 {
    reason: RejectReason,
    detail: String,
}

#[derive(Decode, Encode)]
pub(super) struct Goodbye3 {
    why: String,
    back: bool,
}

impl From<&Hello> for Hello3 {
    fn from(hello: &Hello) -> Self {
        Self {
            federation: hello.federation.clone(),
            software: hello.software.clone(),
            classes: hello.classes.clone(),
            transfer: hello.transfer,
        }
    }
}

impl From<Hello3> for Hello {
    fn from(hello: Hello3) -> Self {
        Self {
            federation: hello.federation,
            software: hello.software,
            classes: hello.classes,
            transfer: hello.transfer,
            epoch: 0,
            parameters: 0,
        }
    }
}

impl From<&Welcome> for Welcome3 {
    fn from(welcome: &Welcome) -> Self {
        Self {
            federation: welcome.federation.clone(),
            transfer: welcome.transfer.clone(),
            heartbeat_ms: welcome.heartbeat_ms,
        }
    }
}

impl From<Welcome3> for Welcome {
    fn from(welcome: Welcome3) -> Self {
        Self {
            federation: welcome.federation,
            transfer: welcome.transfer,
            heartbeat_ms: welcome.heartbeat_ms,
            epoch: 0,
            rolled_back: 0,
        }
    }
}

impl From<&Rejected> for Rejected3 {
    fn from(rejected: &Rejected) -> Self {
        let reason = match rejected.reason {
            // It did not know of epochs; the line for a person says all the same what is wrong.
            RejectReason::OldEpoch => RejectReason::ProtocolViolation,
            reason => reason,
        };
        let detail = rejected.detail.clone();
        Self { reason, detail }
    }
}

impl From<Rejected3> for Rejected {
    fn from(Rejected3 { reason, detail }: Rejected3) -> Self {
        Self {
            reason,
            detail,
            after_ms: 0,
            id: None,
        }
    }
}

impl From<&Goodbye> for Goodbye3 {
    fn from(goodbye: &Goodbye) -> Self {
        Self {
            why: goodbye.why.clone(),
            back: goodbye.back,
        }
    }
}

impl From<Goodbye3> for Goodbye {
    fn from(Goodbye3 { why, back }: Goodbye3) -> Self {
        Self {
            why,
            back,
            after_ms: 0,
        }
    }
}
