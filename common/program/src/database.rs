//! A file with transactions (redb): after a crash it is as after the last one.

mod backend;

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::backends::FileBackend;
use redb::{
    Database, ReadTransaction, ReadableDatabase, StorageError, TableDefinition, WriteTransaction,
};
use thiserror::Error;

use self::backend::{Backend, Unsure};

/// Why a database cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// Another process has it open.
    #[error("{path} is in use by another process")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The disk, or this user's share of it, is full.
    #[error("{path}: there is no room left on its disk")]
    NoRoom {
        /// Which file.
        path: PathBuf,
    },
    /// The file cannot be made, read or written, or is damaged.
    #[error("{path}: {why}")]
    Failed {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}

/// Opens the database in `path`, or makes it, readable by its owner alone. It holds at most `cache`
/// bytes of it in memory.
///
/// One is made beside `path` and gets its name when it is whole, so that a file of that name which is
/// no database was damaged: that is never a reason to begin anew.
///
/// All of it is read and held against its checksums. After a crash it is as after the last transaction; one
/// that was changed otherwise, by a failing disk or a copy that was cut off, is refused. What is read comes from the disk:
/// a process before may have been told that what it wrote could not get there.
///
/// # Errors
/// A file that another process has open, or that cannot be used.
pub fn open(path: &Path, cache: usize) -> Result<Database, DatabaseError> {
    open_with(path, cache, true, &Unsure::default())
}

/// As [`open`]; where it is not `checked`, without reading all of it.
fn open_with(
    path: &Path,
    cache: usize,
    checked: bool,
    unsure: &Unsure,
) -> Result<Database, DatabaseError> {
    let failed = |error: &(dyn Error + 'static)| {
        let path = path.to_owned();
        match lacks_room(error) {
            true => DatabaseError::NoRoom { path },
            false => DatabaseError::Failed {
                path,
                why: error.to_string(),
            },
        }
    };
    if !path.try_exists().map_err(|error| failed(&error))? {
        match make(path) {
            // Another process was faster, or took this one's file for a leftover.
            Err(_) if path.exists() => {}
            made => made.map_err(|error| failed(error.as_ref()))?,
        }
        let named = File::open(folder(path)).and_then(|folder| folder.sync_all());
        named.map_err(|error| failed(&error))?;
    }
    let mut builder = Database::builder();
    builder.set_cache_size(cache);
    builder.set_check_integrity_on_open(checked);
    let open = || {
        if checked {
            backend::forget(path)?;
        }
        builder.create_with_backend(Backend::open(path, unsure.clone())?)
    };
    let database = open().map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => DatabaseError::InUse {
            path: path.to_owned(),
        },
        redb::DatabaseError::Storage(StorageError::Corrupted(what)) => damaged(path, what),
        redb::DatabaseError::Storage(StorageError::Io(io)) if is_cut_off(&io) => damaged(path, io),
        other => failed(&other),
    })?;
    sweep(path);
    Ok(database)
}

fn damaged(path: &Path, what: impl Display) -> DatabaseError {
    DatabaseError::Failed {
        path: path.to_owned(),
        why: format!(
            "it is damaged ({what}): put back a copy of it, or move it away to begin without what it holds"
        ),
    }
}

/// Whether a file ends too early, or does not begin as one of redb's.
fn is_cut_off(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData
    )
}

/// Whether this failed for want of room on the disk, or because something before it did.
pub fn lacks_room(error: &(dyn Error + 'static)) -> bool {
    if let Some(DatabaseError::NoRoom { .. }) = error.downcast_ref() {
        return true;
    }
    let io = match (storage(error), error.downcast_ref()) {
        // It does not say what failed before: whoever tries again will see.
        (Some(StorageError::PreviousIo), _) => return true,
        (Some(StorageError::Io(io)), _) | (None, Some(io)) => io,
        _ => return false,
    };
    matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// What is at the bottom of redb's errors, which do not name it as their source.
fn storage<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a StorageError> {
    if let Some(redb::TransactionError::Storage(storage)) = error.downcast_ref() {
        return Some(storage);
    }
    if let Some(redb::TableError::Storage(storage)) = error.downcast_ref() {
        return Some(storage);
    }
    if let Some(redb::CommitError::Storage(storage)) = error.downcast_ref() {
        return Some(storage);
    }
    if let Some(redb::DatabaseError::Storage(storage)) = error.downcast_ref() {
        return Some(storage);
    }
    error.downcast_ref()
}

/// A database that is opened again once it has failed: after a write that did not come about, for want of
/// room, redb refuses all others for good, and what is on disk is as after the last transaction, or as after the one
/// that failed: a system can say that it had no room for the last of its words and have written them.
#[derive(Debug)]
pub struct Handle {
    path: PathBuf,
    cache: usize,
    format: u64,
    database: Mutex<Option<Database>>,
    /// Whether what is read may not be what is on disk.
    unsure: Unsure,
}

/// `format`: of which version what the file holds is; 1 where it does not say.
const FORMAT: TableDefinition<'_, &str, u64> = TableDefinition::new("format");

impl Handle {
    /// As [`open`]; what the file holds may be of any format up to this one.
    ///
    /// # Errors
    /// As [`open`]; a file of a later format, which a newer version has written.
    pub fn open(path: &Path, cache: usize, format: u64) -> Result<Self, DatabaseError> {
        let unsure = Unsure::default();
        let database = open_with(path, cache, true, &unsure)?;
        let failed = |why: String| DatabaseError::Failed {
            path: path.to_owned(),
            why,
        };
        let found = format_of(&database).map_err(|error| failed(error.to_string()))?;
        if found > format {
            return Err(failed(format!(
                "a newer version has written it (format {found}, this program reads up to {format}): update this program, or put back a copy from before the other was updated"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            cache,
            format,
            database: Mutex::new(Some(database)),
            unsure,
        })
    }

    /// Says, with all else that a transaction writes, of which format the file is from then on.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn mark(&self, transaction: &WriteTransaction) -> Result<(), Box<dyn Error + Send + Sync>> {
        transaction
            .open_table(FORMAT)?
            .insert("format", self.format)?;
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to read.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn read(&self) -> Result<ReadTransaction, Box<dyn Error + Send + Sync>> {
        self.with(|database| Ok(database.begin_read()?))
    }

    /// Begins to write; waits for whoever else does.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn write(&self) -> Result<WriteTransaction, Box<dyn Error + Send + Sync>> {
        self.with(|database| Ok(database.begin_write()?))
    }

    /// Something has failed: whoever comes next opens the file again.
    pub fn failed(&self) {
        *self.database.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn with<T>(
        &self,
        begin: impl FnOnce(&Database) -> Result<T, Box<dyn Error + Send + Sync>>,
    ) -> Result<T, Box<dyn Error + Send + Sync>> {
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            // It was read through when it was opened first, and is tried often where a disk is full. After a sync that
            // failed, what is on disk may differ from what was read then.
            let checked = self.unsure.is_set();
            let database = open_with(&self.path, self.cache, checked, &self.unsure)?;
            self.unsure.clear();
            *slot = Some(database);
        }
        // It was filled just now.
        slot.as_ref()
            .map_or_else(|| Err("it is not open".into()), begin)
    }
}

fn format_of(database: &Database) -> Result<u64, Box<dyn Error + Send + Sync>> {
    match database.begin_read()?.open_table(FORMAT) {
        Ok(table) => Ok(table.get("format")?.map_or(1, |format| format.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(1),
        Err(error) => Err(error.into()),
    }
}

/// What an unfinished file's name ends with.
const UNFINISHED: &str = ".new";

/// What the names of a database's unfinished files begin with.
fn beginning(path: &Path) -> OsString {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// An empty database in `path`.
fn make(path: &Path) -> Result<(), Box<dyn Error>> {
    // Its owner's alone: so temporary files are made.
    let new = tempfile::Builder::new()
        .prefix(&beginning(path))
        .suffix(UNFINISHED)
        .tempfile_in(folder(path))?;
    let backend = FileBackend::new(new.reopen()?)?;
    drop(Database::builder().create_with_backend(backend)?);
    new.as_file().sync_all()?;
    new.persist_noclobber(path)?;
    Ok(())
}

/// Removes what processes left that ended while they made `path`. Only who holds it open may.
fn sweep(path: &Path) {
    let beginning = beginning(path);
    for entry in fs::read_dir(folder(path)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(beginning.as_encoded_bytes()) && name.ends_with(UNFINISHED.as_bytes()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
