//! State in a directory: what was acknowledged is there again after whatever ended the host.
//!
//! One thread writes. It takes all commits that wait, decides each upon what those before it left,
//! and makes them durable with one sync of the disk (group commit); nobody is answered before that.
//! Readers never wait for it.

mod writer;

use self::writer::Writer;
use crate::{
    core::names::PluginName,
    ports::{
        Commit, CommitError, Fault, PartitionOf, Range, Seen, StateStore, StateVersions, Version,
        Versioned, Write,
    },
};
use dashmap::DashMap;
use futures_util::future::{BoxFuture, ready};
use parking_lot::RwLock;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition,
};
use std::{
    collections::BTreeMap,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot};

/// The file in the directory.
const FILE: &str = "state.redb";
/// Memory for pages of the file, in bytes.
const CACHE_BYTES: usize = 64 << 20;
/// Commits that may wait for the writer.
const WAITING: usize = 4_096;
/// How long expired entries are kept, in milliseconds: an event that was received before may still
/// be handled, and is to see what it would have seen then.
const KEEP_EXPIRED_MS: u64 = 60_000;
/// An entry that never expires.
const NEVER: u64 = u64::MAX;

/// By the name of the partition and the key: the version's epoch and number, when it expires, and
/// the value.
const ENTRIES: TableDefinition<'_, &[u8], (u64, u64, u64, &str)> = TableDefinition::new("entries");
/// By the name of the partition: its epoch, the number of its last commit, and its entries.
const PARTITIONS: TableDefinition<'_, &[u8], (u64, u64, u64)> = TableDefinition::new("partitions");
/// When what expires: the partition's name is the first so many bytes of the entry's.
const EXPIRING: TableDefinition<'_, (u64, &[u8]), u32> = TableDefinition::new("expiring");
/// By plugin: the version of its state that was written last.
const VERSIONS: TableDefinition<'_, &str, u32> = TableDefinition::new("versions");

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the state in {0} is in use by another process; give each host a directory of its own (state.dir)"
    )]
    InUse(PathBuf),
    /// What is in the file is not what was written.
    #[error(
        "the state in {0} is damaged: {1}; nothing was changed. Put a backup in its place, or move it away to begin without state"
    )]
    Damaged(PathBuf, String),
    /// The directory or the file cannot be read or written.
    #[error("the state in {0} cannot be opened: {1}")]
    Io(PathBuf, String),
}

impl OpenError {
    fn of(file: &Path, error: redb::Error) -> Self {
        let file = file.to_owned();
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse(file),
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::RepairAborted
            | redb::Error::TableTypeMismatch { .. } => Self::Damaged(file, error.to_string()),
            // What is not a database at all is reported as data that is not valid.
            redb::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
                Self::Damaged(file, io.to_string())
            }
            error => Self::Io(file, error.to_string()),
        }
    }
}

/// The file; none while it is being opened again after a failure.
type Shared = Arc<RwLock<Option<Database>>>;

/// State in a directory.
pub struct EmbeddedStore {
    database: Shared,
    jobs: mpsc::Sender<Job>,
    versions: DashMap<PluginName, u32>,
}

enum Job {
    Commit(OwnedCommit, oneshot::Sender<Result<u64, CommitError>>),
    Version(PluginName, u32),
}

struct OwnedCommit {
    plugin: PluginName,
    partition: String,
    at_ms: u64,
    seen: Vec<Seen>,
    writes: BTreeMap<String, Write>,
}

impl EmbeddedStore {
    /// Opens the state in a directory, which is made if it is not there. After a crash of the host
    /// the file is checked and repaired first, which takes longer the larger it is.
    ///
    /// # Errors
    /// When another process uses it, or it cannot be used. Nothing in it is changed then.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_with(directory, Durability::Immediate)
    }

    fn open_with(directory: &Path, durability: Durability) -> Result<Self, OpenError> {
        let file = directory.join(FILE);
        std::fs::create_dir_all(directory)
            .map_err(|error| OpenError::Io(directory.to_owned(), error.to_string()))?;
        let failed = |error: redb::Error| OpenError::of(&file, error);
        let database = open_file(&file).map_err(|error| failed(error.into()))?;
        let versions = prepare(&database).map_err(failed)?;
        let database: Shared = Arc::new(RwLock::new(Some(database)));
        let (jobs, waiting) = mpsc::channel(WAITING);
        let writer = Writer {
            file: file.clone(),
            database: database.clone(),
            durability,
        };
        std::thread::Builder::new()
            .name("state writer".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(|error| OpenError::Io(file, error.to_string()))?;
        Ok(Self {
            database,
            jobs,
            versions,
        })
    }

    /// Runs a look at the entries.
    fn look<T>(
        &self,
        look: impl FnOnce(&redb::ReadOnlyTable<&[u8], (u64, u64, u64, &str)>) -> Result<T, StorageError>,
    ) -> Result<T, Fault> {
        let out_of_reach = |error: redb::Error| {
            Fault::new("UNAVAILABLE", format!("the state cannot be read: {error}"))
        };
        let database = self.database.read();
        let database = database
            .as_ref()
            .ok_or_else(|| out_of_reach(redb::Error::DatabaseClosed))?;
        let transaction = database
            .begin_read()
            .map_err(|error| out_of_reach(error.into()))?;
        let entries = transaction
            .open_table(ENTRIES)
            .map_err(|error| out_of_reach(error.into()))?;
        look(&entries).map_err(|error| out_of_reach(error.into()))
    }
}

fn open_file(file: &Path) -> Result<Database, DatabaseError> {
    let shown = file.display().to_string();
    Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_repair_callback(move |repair| {
            let percent = (repair.progress() * 100.0) as u32;
            tracing::info!(file = shown, percent, "checking the state after a crash");
        })
        .create(file)
}

/// Makes the tables, and returns the versions that were recorded.
fn prepare(database: &Database) -> Result<DashMap<PluginName, u32>, redb::Error> {
    let transaction = database.begin_write()?;
    let versions = DashMap::new();
    {
        transaction.open_table(ENTRIES)?;
        transaction.open_table(PARTITIONS)?;
        transaction.open_table(EXPIRING)?;
        for entry in transaction.open_table(VERSIONS)?.iter()? {
            let (plugin, version) = entry?;
            if let Ok(plugin) = PluginName::new(plugin.value()) {
                versions.insert(plugin, version.value());
            }
        }
    }
    transaction.commit()?;
    Ok(versions)
}

/// Returns the bytes that the names of a partition's entries begin with. The name of a plugin has no
/// zero, and that of a partition is preceded by its length, so that no two begin alike.
fn name_of(plugin: &PluginName, partition: &str) -> Vec<u8> {
    let length = u16::try_from(partition.len()).unwrap_or(u16::MAX);
    let mut name = Vec::with_capacity(plugin.as_str().len() + partition.len() + 64);
    name.extend(plugin.as_str().as_bytes());
    name.push(0);
    name.extend(length.to_be_bytes());
    name.extend(partition.as_bytes());
    name
}

fn with_key(partition: &[u8], key: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(partition.len() + key.len());
    name.extend(partition);
    name.extend(key.as_bytes());
    name
}

fn is_live(expires_at: u64, at_ms: u64) -> bool {
    expires_at > at_ms
}

/// Visits the entries of a range that have not expired, in order, until there are as many as it is
/// limited to or the visitor has seen enough.
fn visit(
    entries: &impl ReadableTable<&'static [u8], (u64, u64, u64, &'static str)>,
    partition: &[u8],
    range: &Range,
    at_ms: u64,
    mut visitor: impl FnMut(&str, Version, &str) -> bool,
) -> Result<(), StorageError> {
    let prefix = with_key(partition, &range.prefix);
    let start = match range.start() {
        Bound::Excluded(key) => Bound::Excluded(with_key(partition, key)),
        Bound::Included(key) => Bound::Included(with_key(partition, key)),
        Bound::Unbounded => Bound::Included(partition.to_vec()),
    };
    let start = start.as_ref().map(Vec::as_slice);
    let mut left = range.limit;
    for entry in entries.range::<&[u8]>((start, Bound::Unbounded))? {
        if left == 0 {
            break;
        }
        let (name, entry) = entry?;
        let name = name.value();
        if !name.starts_with(&prefix) {
            break;
        }
        let (epoch, number, expires_at, value) = entry.value();
        if !is_live(expires_at, at_ms) {
            continue;
        }
        let key = name.get(partition.len()..).unwrap_or_default();
        let key = std::str::from_utf8(key)
            .map_err(|_| StorageError::Corrupted("a key is not a text".to_owned()))?;
        left -= 1;
        if !visitor(key, Version { epoch, number }, value) {
            break;
        }
    }
    Ok(())
}

impl StateStore for EmbeddedStore {
    fn read<'a>(
        &'a self,
        partition: PartitionOf<'a>,
        key: &'a str,
        at_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Versioned>, Fault>> {
        let name = with_key(&name_of(partition.plugin, partition.name), key);
        let found = self.look(|entries| {
            let Some(entry) = entries.get(name.as_slice())? else {
                return Ok(None);
            };
            let (epoch, number, expires_at, value) = entry.value();
            Ok(is_live(expires_at, at_ms).then(|| Versioned {
                value: value.to_owned(),
                version: Version { epoch, number },
            }))
        });
        Box::pin(ready(found))
    }

    fn list<'a>(
        &'a self,
        partition: PartitionOf<'a>,
        range: &'a Range,
        at_ms: u64,
    ) -> BoxFuture<'a, Result<Vec<(String, Versioned)>, Fault>> {
        let name = name_of(partition.plugin, partition.name);
        let found = self.look(|entries| {
            let mut found = Vec::new();
            visit(entries, &name, range, at_ms, |key, version, value| {
                let value = value.to_owned();
                found.push((key.to_owned(), Versioned { value, version }));
                true
            })?;
            Ok(found)
        });
        Box::pin(ready(found))
    }

    fn commit<'a>(&'a self, commit: Commit<'a>) -> BoxFuture<'a, Result<u64, CommitError>> {
        let owned = OwnedCommit {
            plugin: commit.partition.plugin.clone(),
            partition: commit.partition.name.to_owned(),
            at_ms: commit.at_ms,
            seen: commit.seen.to_vec(),
            writes: commit.writes.clone(),
        };
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let ended = || CommitError::Unavailable("the state's writer has ended".to_owned());
            let job = Job::Commit(owned, answer);
            self.jobs.send(job).await.map_err(|_| ended())?;
            answered.await.unwrap_or_else(|_| Err(ended()))
        })
    }
}

impl StateVersions for EmbeddedStore {
    fn stored(&self, plugin: &PluginName) -> Option<u32> {
        self.versions.get(plugin).map(|version| *version)
    }

    fn record(&self, plugin: &PluginName, version: u32) {
        let before = self.versions.insert(plugin.clone(), version);
        // Durable before anything that the plugin writes from now on: jobs are done in order.
        if before != Some(version)
            && let Err(error) = self.jobs.try_send(Job::Version(plugin.clone(), version))
        {
            tracing::error!(%plugin, version, %error, "the version of a plugin's state was not recorded");
        }
    }
}

#[cfg(test)]
impl EmbeddedStore {
    /// Returns an empty one whose file is gone when it is, and which spares the disk.
    fn fleeting() -> Self {
        let directory = std::env::temp_dir().join(format!("switchboard-{}", uuid::Uuid::now_v7()));
        let store = Self::open_with(&directory, Durability::None).unwrap();
        std::fs::remove_dir_all(directory).unwrap();
        store
    }
}

#[cfg(test)]
super::suite::suite!(super::EmbeddedStore::fleeting());

#[cfg(test)]
mod tests;
