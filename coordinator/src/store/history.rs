use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use fedistill_federation::{Event, Folded};
use fedistill_protocol::{Digest, Name, RoundId};
use serde::{Deserialize, Serialize};

use super::record::Fail;

/// A try at a round that is over: what a federation can be held to afterwards.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Closed {
    /// Which try.
    pub id: RoundId,
    /// The epoch of the coordinator that closed it.
    pub epoch: u64,
    /// When that was, in milliseconds since 1970, by the coordinator's clock; 0 where it is not known.
    pub at: u64,
    /// Whose contributions were acknowledged, and the digest of each.
    pub acknowledged: BTreeMap<Name, Digest>,
    /// Whose late contributions to the round before were acknowledged in this one: they count here.
    pub late: BTreeMap<Name, Folded>,
    /// What it came to; `None` of one that was given up, in which no contribution counts.
    pub outcome: Option<Outcome>,
}

/// What a round came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Whose contributions count, in the order of names.
    pub contributors: Vec<Name>,
    /// Digest of their exact sum.
    pub aggregate: Digest,
    /// Digest of the teacher that has learnt from it; `None` where there is none.
    pub teacher: Option<Digest>,
}

/// Whose contributions these events acknowledge, and the digest of each.
pub(super) fn acknowledged(events: &[Event]) -> BTreeMap<Name, Digest> {
    let taken = events.iter().filter_map(|event| match event {
        Event::Taken { client, blob, .. } => Some((client.clone(), *blob)),
        _ => None,
    });
    taken.collect()
}

/// Whose late contributions these events acknowledge.
pub(super) fn late(events: &[Event]) -> BTreeMap<Name, Folded> {
    let folded = events.iter().filter_map(|event| match event {
        Event::Folded { client, folded, .. } => Some((client.clone(), *folded)),
        _ => None,
    });
    folded.collect()
}

/// Now, in milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// As files have it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClosedRecord {
    epoch: u64,
    #[serde(default)]
    at: u64,
    acknowledged: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    late: BTreeMap<String, LateRecord>,
    outcome: Option<OutcomeRecord>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LateRecord {
    round: u32,
    attempt: u32,
    blob: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OutcomeRecord {
    contributors: Vec<String>,
    aggregate: String,
    teacher: Option<String>,
}

impl From<&Closed> for ClosedRecord {
    fn from(closed: &Closed) -> Self {
        let acknowledged = closed.acknowledged.iter();
        Self {
            epoch: closed.epoch,
            at: closed.at,
            acknowledged: acknowledged
                .map(|(name, blob)| (name.to_string(), blob.to_string()))
                .collect(),
            late: closed
                .late
                .iter()
                .map(|(name, Folded { of, blob })| {
                    let record = LateRecord {
                        round: of.round,
                        attempt: of.attempt,
                        blob: blob.to_string(),
                    };
                    (name.to_string(), record)
                })
                .collect(),
            outcome: closed.outcome.as_ref().map(|outcome| OutcomeRecord {
                contributors: outcome
                    .contributors
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                aggregate: outcome.aggregate.to_string(),
                teacher: outcome.teacher.map(|digest| digest.to_string()),
            }),
        }
    }
}

impl ClosedRecord {
    /// What it takes of a store's memory: one, and one for each contribution.
    pub(super) fn weight(&self) -> u64 {
        1 + (self.acknowledged.len() + self.late.len()) as u64
    }

    /// The try that this is about.
    pub(super) fn closed(self, id: RoundId) -> Result<Closed, Fail> {
        let acknowledged = self.acknowledged.iter();
        let acknowledged =
            acknowledged.map(|(name, blob)| Ok((name.parse::<Name>()?, blob.parse()?)));
        let late = self.late.iter().map(|(name, late)| {
            let LateRecord {
                round,
                attempt,
                blob,
            } = late;
            let of = RoundId {
                round: *round,
                attempt: *attempt,
            };
            let blob = blob.parse()?;
            Ok((name.parse::<Name>()?, Folded { of, blob }))
        });
        let outcome = self.outcome.map(|outcome| -> Result<Outcome, Fail> {
            let names = outcome.contributors.iter().map(|name| name.parse());
            Ok(Outcome {
                contributors: names.collect::<Result<_, _>>()?,
                aggregate: outcome.aggregate.parse()?,
                teacher: outcome.teacher.as_deref().map(str::parse).transpose()?,
            })
        });
        Ok(Closed {
            id,
            epoch: self.epoch,
            at: self.at,
            acknowledged: acknowledged.collect::<Result<_, Fail>>()?,
            late: late.collect::<Result<_, Fail>>()?,
            outcome: outcome.transpose()?,
        })
    }
}
