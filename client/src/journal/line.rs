use serde::{Deserialize, Serialize};

/// A line of a client's history: what it can be held to, and hold others to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// When, in milliseconds since 1970, by the device's clock.
    pub at: u64,
    /// The latest epoch that had been seen then.
    pub epoch: u64,
    /// The epoch of the coordinator that had asked for it, where that is not `epoch`: another one may be there by the
    /// time that it is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_in: Option<u64>,
    /// Which round.
    pub round: u32,
    /// Which try at it.
    pub attempt: u32,
    /// What happened.
    pub what: What,
    /// Digest of what was asked, where something is begun or answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Digest of the answer, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<String>,
}

/// What happened to a plan.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Training began.
    Begun,
    /// It went on after a break, from a checkpoint.
    Resumed,
    /// It was answered.
    Finished,
    /// The answer counts.
    Counted,
}
