//! Events of the open round, as lines of JSON.

use std::collections::BTreeMap;

use fedistill_federation::{Before, Event, Folded};
use fedistill_protocol::frame::{self, HEADER_BYTES, Header};
use fedistill_protocol::{Answers, Message, Precision, RoundId, RoundPlan};
use serde::{Deserialize, Serialize};

use super::record::{Fail, KindRecord};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    Opened {
        round: u32,
        attempt: u32,
    },
    Taken {
        client: String,
        blob: String,
        answers: Option<Shape>,
    },
    /// With the plan of the round before in place of answers.
    Awaits {
        missing: BTreeMap<String, u32>,
    },
    Folded {
        client: String,
        round: u32,
        attempt: u32,
        blob: String,
        parts: u32,
        answers: Shape,
    },
    Extended {
        number: u32,
    },
    Committed {
        contributors: Vec<String>,
    },
    Aborted,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
pub(super) struct Shape {
    kind: KindRecord,
    rows: u32,
    classes: u32,
}

impl Shape {
    fn of(answers: &Answers) -> Self {
        Self {
            kind: answers.kind().into(),
            rows: answers.rows(),
            classes: answers.classes(),
        }
    }

    fn unpack(self, bytes: &[u8]) -> Result<Answers, Fail> {
        let kind = self.kind.into();
        Ok(Answers::unpack(bytes, kind, self.rows, self.classes)?)
    }
}

impl Line {
    /// The line of an event, and what goes beside it.
    ///
    /// # Errors
    /// A plan that cannot be written.
    pub(super) fn of(event: &Event) -> Result<(Self, Option<Vec<u8>>), Fail> {
        Ok(match event {
            Event::Opened(id) => {
                let line = Self::Opened {
                    round: id.round,
                    attempt: id.attempt,
                };
                (line, None)
            }
            Event::Taken {
                client,
                blob,
                answers,
            } => {
                let line = Self::Taken {
                    client: client.to_string(),
                    blob: blob.to_string(),
                    answers: answers.as_ref().map(Shape::of),
                };
                (line, answers.as_ref().map(|a| a.pack(Precision::F32)))
            }
            Event::Awaits(before) => {
                let missing = before.missing.iter();
                let line = Self::Awaits {
                    missing: missing.map(|(n, w)| (n.to_string(), *w)).collect(),
                };
                let plan = frame::encode(&Message::Plan(before.plan.clone()))?;
                (line, Some(plan))
            }
            Event::Folded {
                client,
                folded: Folded { of, blob },
                parts,
                answers,
            } => {
                let line = Self::Folded {
                    client: client.to_string(),
                    round: of.round,
                    attempt: of.attempt,
                    blob: blob.to_string(),
                    parts: *parts,
                    answers: Shape::of(answers),
                };
                (line, Some(answers.pack(Precision::F32)))
            }
            Event::Extended(number) => (Self::Extended { number: *number }, None),
            Event::Committed(contributors) => {
                let contributors = contributors.iter().map(ToString::to_string).collect();
                (Self::Committed { contributors }, None)
            }
            Event::Aborted => (Self::Aborted, None),
        })
    }

    /// The event that this line, and what was beside it, tell of.
    ///
    /// # Errors
    /// What is damaged, or not there.
    pub(super) fn event(self, packed: Option<Vec<u8>>) -> Result<Event, Fail> {
        Ok(match self {
            Self::Opened { round, attempt } => Event::Opened(RoundId { round, attempt }),
            Self::Taken {
                client,
                blob,
                answers,
            } => {
                let answers = match (answers, packed) {
                    (Some(shape), Some(bytes)) => Some(shape.unpack(&bytes)?),
                    (None, None) => None,
                    _ => return Err("a contribution's answers are missing".into()),
                };
                Event::Taken {
                    client: client.parse()?,
                    blob: blob.parse()?,
                    answers,
                }
            }
            Self::Awaits { missing } => {
                let plan = packed.ok_or("the plan of the round before is missing")?;
                let missing = missing.into_iter();
                let missing = missing.map(|(name, weight)| Ok((name.parse()?, weight)));
                Event::Awaits(Box::new(Before {
                    plan: read_plan(&plan)?,
                    missing: missing.collect::<Result<_, Fail>>()?,
                }))
            }
            Self::Folded {
                client,
                round,
                attempt,
                blob,
                parts,
                answers,
            } => {
                let packed = packed.ok_or("a late contribution's answers are missing")?;
                Event::Folded {
                    client: client.parse()?,
                    folded: Folded {
                        of: RoundId { round, attempt },
                        blob: blob.parse()?,
                    },
                    parts,
                    answers: answers.unpack(&packed)?,
                }
            }
            Self::Extended { number } => Event::Extended(number),
            Self::Committed { contributors } => Event::Committed(
                contributors
                    .iter()
                    .map(|name| name.parse())
                    .collect::<Result<_, _>>()?,
            ),
            Self::Aborted => Event::Aborted,
        })
    }
}

/// The plan in a frame, as it is kept.
///
/// # Errors
/// A frame that holds something else.
pub(super) fn read_plan(bytes: &[u8]) -> Result<RoundPlan, Fail> {
    let (header, body) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or("a plan is cut off")?;
    match frame::decode(Header::parse(*header)?, body)? {
        Message::Plan(plan) => Ok(plan),
        _ => Err("a plan is none".into()),
    }
}
