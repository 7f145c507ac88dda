use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fedistill_client::journal::{Journal, JournalError, Line};
use fedistill_coordinator::{Closed, FileStore, Store, StoreError};
use fedistill_federation::{Event, Folded};
use fedistill_program::lock;
use fedistill_protocol::{Digest, Name, RoundId};
use thiserror::Error;

/// What a coordinator has kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoordinatorRecord {
    /// Tries at rounds that are over, in the order of rounds and attempts.
    pub history: Vec<Closed>,
    /// The first round of which its history has forgotten nothing.
    pub begins: u32,
    /// The try that is under way, and whose contributions it has.
    pub open: Option<(RoundId, BTreeMap<Name, Digest>)>,
    /// Whose contribution to that try is written more than once: no coordinator goes on from there.
    pub again: BTreeSet<Name>,
    /// Whose late contributions to the round before it has.
    pub late: BTreeMap<Name, Folded>,
    /// The first round that is not over.
    pub round: u32,
    /// Whether the federation is.
    pub over: bool,
    /// The epoch of the process that ran last.
    pub epoch: u64,
    /// That of the process that made its state; 0 if it does not say, as one that an older version has made.
    pub first: u64,
    /// The epoch in which its state was last put back, on purpose; 0 if it never was.
    pub rolled_back: u64,
}

/// What a client has kept.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientRecord {
    /// Who it is.
    pub name: String,
    /// What has happened to it, in its order.
    pub lines: Vec<Line>,
}

/// What the processes of a federation have kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// The coordinator's, if it is there.
    pub coordinator: Option<CoordinatorRecord>,
    /// Those of clients.
    pub clients: Vec<ClientRecord>,
}

/// Why records cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A store that cannot be used, or is in use.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A journal that cannot be used, or is in use.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A folder whose process runs: what it writes cannot be read as a whole.
    #[error("{} is in use by another process: stop that one first", .0.display())]
    InUse(PathBuf),
    /// A folder with neither.
    #[error("{0} has neither rounds.redb nor journal.redb: name state folders")]
    Nothing(PathBuf),
    /// More than one coordinator's.
    #[error("{0} is a second coordinator's state: look at one federation at a time")]
    Second(PathBuf),
    /// A client's that was read already: the same folder, or a copy.
    #[error("{folder} is a second state of client {client}: name each client once, and no copies")]
    Again {
        /// Whose.
        client: String,
        /// The folder that was named later.
        folder: PathBuf,
    },
}

impl Records {
    /// Reads state folders. Their processes must have ended: each holds its file for itself.
    ///
    /// # Errors
    /// A folder of something else, a second one of the same process, or a file that cannot be read or is in use.
    pub fn read<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Result<Self, ReadError> {
        let mut records = Self::default();
        for folder in folders {
            let (store, journal) = (folder.join("rounds.redb"), folder.join("journal.redb"));
            let found = (store.exists(), journal.exists());
            if found == (false, false) {
                return Err(ReadError::Nothing(folder.to_owned()));
            }
            // While its disk is full a process keeps no file open that would say so.
            if lock::is_taken(folder) == Some(true) {
                return Err(ReadError::InUse(folder.to_owned()));
            }
            if found.0 {
                if records.coordinator.is_some() {
                    return Err(ReadError::Second(folder.to_owned()));
                }
                records.coordinator = Some(coordinator(&store)?);
            }
            if found.1 {
                let journal = Journal::look_at(&journal)?;
                let client = ClientRecord {
                    name: journal.client()?,
                    lines: journal.history()?,
                };
                if records
                    .clients
                    .iter()
                    .any(|other| other.name == client.name)
                {
                    return Err(ReadError::Again {
                        client: client.name,
                        folder: folder.to_owned(),
                    });
                }
                records.clients.push(client);
            }
        }
        Ok(records)
    }
}

fn coordinator(path: &Path) -> Result<CoordinatorRecord, StoreError> {
    let mut store = FileStore::look_at(path)?;
    let saved = store.load()?;
    let (mut again, mut late) = (BTreeSet::new(), BTreeMap::new());
    let open = saved.open.map(|open| {
        let mut taken = BTreeMap::new();
        for event in open.events {
            match event {
                Event::Taken { client, blob, .. } => {
                    let is_again = taken.insert(client.clone(), blob).is_some();
                    again.extend(is_again.then_some(client));
                }
                Event::Folded { client, folded, .. } => {
                    late.insert(client, folded);
                }
                _ => {}
            }
        }
        (open.plan.id, taken)
    });
    let epoch = store.epoch();
    Ok(CoordinatorRecord {
        history: store.history()?,
        begins: store.begins()?,
        open,
        again,
        late,
        round: saved.round,
        over: saved.over,
        epoch: epoch.number,
        first: epoch.first,
        rolled_back: epoch.rolled_back,
    })
}
