//! Blobs in the form in which they are used, which clients of one process may share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use fedistill_learning::Samples;
use fedistill_protocol::{AnswerKind, Answers, Digest, Precision, ProtocolError, TransferSet};
use fedistill_transport::TransportError;
use tokio::sync::{OnceCell, Semaphore};

/// A blob that was fetched, verified and unpacked.
#[derive(Clone, Debug)]
pub enum Held {
    /// The public samples.
    Transfer(Arc<Samples>),
    /// Soft labels that came with a plan.
    Knowledge(Arc<Answers>),
}

/// What a blob is to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The public samples.
    Transfer,
    /// Answers of this kind and shape.
    Knowledge {
        /// What the values are.
        kind: AnswerKind,
        /// Number of rows.
        rows: u32,
        /// Values of a row.
        width: u32,
    },
    /// What leads from some answers to others.
    Update {
        /// Those that are here.
        base: Arc<Answers>,
        /// The name of those that it leads to, packed.
        blob: Digest,
        /// How they are packed.
        precision: Precision,
    },
}

impl Wanted {
    /// What the bytes hold.
    ///
    /// # Errors
    /// Bytes that hold something else.
    pub fn unpack(self, bytes: &[u8]) -> Result<Held, ProtocolError> {
        Ok(match self {
            Self::Transfer => Held::Transfer(Arc::new(TransferSet::unpack(bytes)?.into())),
            Self::Knowledge { kind, rows, width } => {
                Held::Knowledge(Arc::new(Answers::unpack(bytes, kind, rows, width)?))
            }
            Self::Update {
                base,
                blob,
                precision,
            } => {
                let answers = base.updated(bytes)?;
                if answers.packed_as(precision, blob).is_none() {
                    return Err(ProtocolError::DigestMismatch {
                        expected: blob,
                        actual: Digest::of(&answers.pack(precision)),
                    });
                }
                Held::Knowledge(Arc::new(answers))
            }
        })
    }

    /// The name of what comes of a blob: many ways lead to the same answers, which are held once.
    fn leads_to(&self, blob: Digest) -> Digest {
        match self {
            Self::Transfer | Self::Knowledge { .. } => blob,
            Self::Update { blob, .. } => *blob,
        }
    }

    /// Whether answers are such as are wanted.
    pub(crate) fn fits(&self, answers: &Answers) -> bool {
        let actual = (answers.kind(), answers.rows(), answers.classes());
        match self {
            Self::Transfer => false,
            Self::Knowledge { kind, rows, width } => actual == (*kind, *rows, *width),
            Self::Update { base, .. } => actual == (base.kind(), base.rows(), base.classes()),
        }
    }
}

/// Blobs that the clients of one process hold together, unpacked once.
#[derive(Debug)]
pub struct Blobs {
    recent: Mutex<VecDeque<(Digest, Arc<OnceCell<Held>>)>>,
    /// Where each client fetches for itself: how many may at a time.
    pub(crate) turns: Option<Semaphore>,
}

/// Why a blob cannot be shared.
pub(crate) enum Unshared {
    /// It did not come.
    Transport(TransportError),
    /// It came, and is not what was wanted.
    Bytes(Vec<u8>),
}

impl Blobs {
    /// A transfer set, and the soft labels of two rounds: older ones are nobody's concern.
    const MOST: usize = 3;

    /// Clients that fetch at a time, where each does: what they hold meanwhile does not grow with
    /// their number.
    pub const TURNS: usize = 8;

    /// Each client fetches a blob for itself, over its own connection, [`Self::TURNS`] at a time;
    /// only what it was unpacked to is shared.
    pub fn fetched_by_each() -> Self {
        Self {
            recent: Mutex::default(),
            turns: Some(Semaphore::new(Self::TURNS)),
        }
    }

    /// A blob is fetched by one client. What the others would have fetched still counts on their
    /// meters: for transports within a process, where fetching is but copying.
    pub fn fetched_once() -> Self {
        Self {
            recent: Mutex::default(),
            turns: None,
        }
    }

    /// The blob, and whether it was `fetch` that got it.
    pub(crate) async fn get(
        &self,
        blob: Digest,
        wanted: Wanted,
        fetch: impl Future<Output = Result<Vec<u8>, TransportError>>,
    ) -> Result<(Held, bool), Unshared> {
        let cell = self.cell(wanted.leads_to(blob));
        let mut fetched = false;
        let held = cell
            .get_or_try_init(|| async {
                fetched = true;
                let bytes = fetch.await.map_err(Unshared::Transport)?;
                wanted.unpack(&bytes).map_err(|_| Unshared::Bytes(bytes))
            })
            .await?;
        Ok((held.clone(), fetched))
    }

    fn cell(&self, blob: Digest) -> Arc<OnceCell<Held>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.iter().position(|(digest, _)| *digest == blob);
        let entry = at.and_then(|at| recent.remove(at));
        let entry = entry.unwrap_or_else(|| (blob, Arc::default()));
        let cell = Arc::clone(&entry.1);
        recent.push_front(entry);
        recent.truncate(Self::MOST);
        cell
    }
}
