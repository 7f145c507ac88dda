use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fedistill_federation::{Lesson, State};
use fedistill_protocol::{About, AnswerKind, Answers, Name, Precision, Rows};
use serde::{Deserialize, Serialize};

use crate::{Earlier, Exchange, Sent};

/// What rounds hand on to each other, as files have it: beside this, one run of bytes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct StateRecord {
    common: Vec<LessonRecord>,
    personal: BTreeMap<String, Vec<LessonRecord>>,
    memory: u64,
    decided: BTreeMap<String, f64>,
    /// The last ones, then earlier ones as what has changed: a program that knows no earlier ones reads as many as it sends.
    sent: Vec<(String, LessonRecord)>,
    /// Who holds the last ones, and each of the earlier.
    held_by: Vec<BTreeSet<String>>,
    given: BTreeMap<String, (String, u64)>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct LessonRecord {
    kind: KindRecord,
    width: u32,
    rows: u32,
    /// Which transfer samples; of the classes where there are none.
    samples: Option<Vec<u32>>,
    bytes: u64,
}

/// A kind of answers, as files have it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KindRecord {
    Logits,
    Probabilities,
    Features,
}

impl From<AnswerKind> for KindRecord {
    fn from(kind: AnswerKind) -> Self {
        match kind {
            AnswerKind::Logits => Self::Logits,
            AnswerKind::Probabilities => Self::Probabilities,
            AnswerKind::Features => Self::Features,
        }
    }
}

impl From<KindRecord> for AnswerKind {
    fn from(kind: KindRecord) -> Self {
        match kind {
            KindRecord::Logits => Self::Logits,
            KindRecord::Probabilities => Self::Probabilities,
            KindRecord::Features => Self::Features,
        }
    }
}

/// Whatever is wrong with a record; who reads it names the file.
pub(super) type Fail = Box<dyn std::error::Error + Send + Sync>;

/// Bytes, one piece after the other.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> u64 {
        self.0.extend_from_slice(bytes);
        bytes.len() as u64
    }

    fn lesson(&mut self, Lesson { about, answers }: &Lesson) -> LessonRecord {
        LessonRecord {
            kind: answers.kind().into(),
            width: answers.classes(),
            rows: answers.rows(),
            samples: match about {
                About::Rows(rows) => Some(rows.iter().collect()),
                About::Classes => None,
            },
            // Exact.
            bytes: self.put(&answers.pack(Precision::F32)),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: u64) -> Result<&'a [u8], Fail> {
        let (piece, rest) = usize::try_from(bytes)
            .ok()
            .and_then(|bytes| self.0.split_at_checked(bytes))
            .ok_or("what rounds hand on is cut off")?;
        self.0 = rest;
        Ok(piece)
    }

    fn lesson(&mut self, record: LessonRecord) -> Result<Lesson, Fail> {
        let bytes = self.take(record.bytes)?;
        let answers = Answers::unpack(bytes, record.kind.into(), record.rows, record.width)?;
        let about = match record.samples {
            Some(samples) if samples.len() == record.rows as usize => {
                About::Rows(Rows::of(samples))
            }
            Some(_) => return Err("a lesson speaks about other samples than it has rows".into()),
            None => About::Classes,
        };
        Ok(Lesson { about, answers })
    }
}

impl StateRecord {
    /// The record of a state, and the bytes that belong to it.
    pub fn of(state: &State, exchange: &Exchange) -> (Self, Vec<u8>) {
        let mut writer = Writer::default();
        let record = Self {
            common: state.common.iter().map(|l| writer.lesson(l)).collect(),
            personal: state
                .personal
                .iter()
                .map(|(name, lessons)| {
                    let lessons = lessons.iter().map(|l| writer.lesson(l)).collect();
                    (name.to_string(), lessons)
                })
                .collect(),
            memory: writer.put(&state.memory),
            decided: state.decided.clone(),
            sent: exchange
                .sent
                .iter()
                .chain(exchange.earlier.iter().flat_map(|e| &e.changed))
                .map(|sent| (sent.blob.to_string(), writer.lesson(&sent.lesson)))
                .collect(),
            held_by: std::iter::once(&exchange.held_by)
                .chain(exchange.earlier.iter().map(|e| &e.held_by))
                .map(|held_by| held_by.iter().map(Name::to_string).collect())
                .collect(),
            given: exchange
                .given
                .iter()
                .map(|(name, (blob, packed))| {
                    (name.to_string(), (blob.to_string(), writer.put(packed)))
                })
                .collect(),
        };
        (record, writer.0)
    }

    /// The state again.
    ///
    /// # Errors
    /// Bytes that are not those of this record.
    pub fn restore(self, bytes: &[u8]) -> Result<(State, Exchange), Fail> {
        let mut reader = Reader(bytes);
        let mut state = State::default();
        for lesson in self.common {
            state.common.push(reader.lesson(lesson)?);
        }
        for (name, lessons) in self.personal {
            let lessons = lessons.into_iter().map(|lesson| reader.lesson(lesson));
            state
                .personal
                .insert(name.parse()?, lessons.collect::<Result<_, Fail>>()?);
        }
        state.memory = reader.take(self.memory)?.to_vec();
        state.decided = self.decided;
        let mut exchange = Exchange::default();
        let sent = self.sent.into_iter().map(|(blob, lesson)| {
            let blob = blob.parse()?;
            let lesson = reader.lesson(lesson)?;
            Ok(Sent { blob, lesson })
        });
        let mut sent = sent.collect::<Result<Vec<Sent>, Fail>>()?.into_iter();
        let held_by = self.held_by.into_iter().map(|held_by| {
            let names = held_by.iter().map(|name| name.parse());
            names.collect::<Result<BTreeSet<Name>, _>>()
        });
        let mut held_by = held_by.collect::<Result<Vec<_>, _>>()?.into_iter();
        // A program before this one has written of the last ones alone, and not who holds them.
        let lessons = sent.len() / held_by.len().max(1);
        exchange.sent = sent.by_ref().take(lessons).collect();
        exchange.held_by = held_by.next().unwrap_or_default();
        exchange.earlier = held_by
            .map(|held_by| Earlier {
                changed: sent.by_ref().take(lessons).collect(),
                held_by,
            })
            .collect();
        for (name, (blob, length)) in self.given {
            let packed: Arc<[u8]> = reader.take(length)?.into();
            let name: Name = name.parse()?;
            exchange.given.insert(name, (blob.parse()?, packed));
        }
        match reader.0 {
            [] => Ok((state, exchange)),
            rest => Err(format!("{} bytes follow what rounds hand on", rest.len()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use fedistill_protocol::Digest;

    use super::*;

    fn lesson(kind: AnswerKind, about: About) -> Lesson {
        let values = (0..4).map(|value| value as f32 / 8.0).collect();
        let answers = Answers::new(kind, 2, values).unwrap();
        Lesson { about, answers }
    }

    #[test]
    fn what_rounds_hand_on_comes_back() {
        let rows = || About::Rows(Rows::of(vec![3, 9]));
        let name: Name = "ward-1".parse().unwrap();
        let state = State {
            common: vec![
                lesson(AnswerKind::Probabilities, rows()),
                lesson(AnswerKind::Features, About::Classes),
            ],
            personal: [(name.clone(), vec![lesson(AnswerKind::Logits, rows())])].into(),
            memory: vec![1, 2, 3],
            decided: [("trust".to_owned(), 0.1)].into(),
        };
        let exchange = Exchange {
            sent: vec![Sent {
                blob: Digest::of(b"x"),
                lesson: lesson(AnswerKind::Logits, rows()),
            }],
            held_by: [name.clone()].into(),
            earlier: vec![Earlier {
                changed: vec![Sent {
                    blob: Digest::of(b"w"),
                    lesson: Lesson {
                        about: About::Rows(Rows::of(Vec::new())),
                        answers: Answers::new(AnswerKind::Logits, 2, Vec::new()).unwrap(),
                    },
                }],
                held_by: ["ward-2".parse().unwrap()].into(),
            }],
            given: [(name, (Digest::of(b"y"), Arc::from(&b"yy"[..])))].into(),
        };
        let (record, bytes) = StateRecord::of(&state, &exchange);
        assert_eq!(record.clone().restore(&bytes).unwrap(), (state, exchange));
        assert!(record.clone().restore(&bytes[1..]).is_err());
        assert!(record.restore(&[bytes, vec![0]].concat()).is_err());
    }
}
