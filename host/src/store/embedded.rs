//! State in a directory: what was acknowledged is there again after whatever ended the host.
//!
//! One thread writes. It takes all commits that wait, decides each upon what those before it left,
//! and makes them durable with one sync of the disk (group commit); nobody is answered before that.
//! Readers never wait for it.

mod tables;
mod writer;

use self::{
    tables::{
        ENTRIES, EXPIRING, FORMAT, FORMATS, NEVER, OUTGOING, PARTITIONS, TIMERS, VERSIONS, is_live,
        name_of, parts_of, visit, whole_name, with_name,
    },
    writer::Writer,
};
use super::timers::TimerIndex;
use crate::{
    core::names::PluginName,
    ports::{
        Commit, CommitError, Committed, DueTimer, DueTimers, Fault, HistoryWrites, PartitionOf,
        Range, Seen, StateStore, StateVersions, Stored, Unsent, Version, Versioned, Visitor, Write,
    },
};
use dashmap::DashMap;
use futures_util::future::{BoxFuture, ready};
use parking_lot::{Mutex, RwLock};
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError};
use std::{
    collections::{BTreeMap, BTreeSet},
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
    /// Another version of the host wrote it.
    #[error(
        "the state in {0} has the format {1}, and this version reads format {FORMAT}; nothing was changed. Export it with the version that wrote it, or move it away to begin without state"
    )]
    Format(PathBuf, u64),
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
    /// Versions and places that the writer has not written yet.
    notes: Arc<Mutex<Notes>>,
    timers: Arc<TimerIndex>,
    /// What was found unsent when the file was opened.
    unsent: Arc<Mutex<Vec<Unsent>>>,
}

/// What is written along with the next commits.
#[derive(Debug, Clone, Default)]
struct Notes {
    versions: BTreeMap<PluginName, u32>,
    sent: BTreeSet<u64>,
}

enum Job {
    Commit(OwnedCommit, oneshot::Sender<Result<Committed, CommitError>>),
    /// There are notes to be written.
    Notes,
    /// Answered when all before it is written.
    Flush(oneshot::Sender<()>),
}

struct OwnedCommit {
    plugin: PluginName,
    partition: String,
    at_ms: u64,
    seen: Vec<Seen>,
    writes: BTreeMap<String, Write>,
    history: HistoryWrites,
    outgoing: Option<String>,
}

impl OwnedCommit {
    fn borrow(&self) -> Commit<'_> {
        Commit {
            partition: PartitionOf {
                plugin: &self.plugin,
                name: &self.partition,
            },
            at_ms: self.at_ms,
            seen: &self.seen,
            writes: &self.writes,
            history: &self.history,
            outgoing: self.outgoing.as_deref(),
            owner: None,
        }
    }
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
        let found = prepare(&database).map_err(failed)?;
        if found.format != FORMAT {
            return Err(OpenError::Format(file, found.format));
        }
        let next_place = found.unsent.last().map_or(0, |unsent| unsent.place) + 1;
        let database: Shared = Arc::new(RwLock::new(Some(database)));
        let (jobs, waiting) = mpsc::channel(WAITING);
        let notes: Arc<Mutex<Notes>> = Arc::default();
        let timers = Arc::new(found.timers);
        let unsent = Arc::new(Mutex::new(found.unsent));
        let mut writer = Writer {
            file: file.clone(),
            database: database.clone(),
            durability,
            notes: notes.clone(),
            timers: timers.clone(),
            unsent: unsent.clone(),
            next_place,
            doubtful: None,
        };
        std::thread::Builder::new()
            .name("state writer".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(|error| OpenError::Io(file, error.to_string()))?;
        Ok(Self {
            database,
            jobs,
            versions: found.versions,
            notes,
            timers,
            unsent,
        })
    }

    /// Runs a look at the entries.
    fn look<T>(
        &self,
        look: impl FnOnce(&redb::ReadOnlyTable<&[u8], (u64, u64, u64, &str)>) -> Result<T, StorageError>,
    ) -> Result<T, Fault> {
        let out_of_reach = |error: redb::Error| {
            tracing::error!(%error, "state cannot be read");
            Fault::new("UNAVAILABLE", "state is out of reach")
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

/// What there is in a file that is opened.
#[derive(Default)]
struct Found {
    format: u64,
    versions: DashMap<PluginName, u32>,
    timers: TimerIndex,
    unsent: Vec<Unsent>,
}

/// Makes the tables where there are none, and returns what the host has to know of what is in them.
fn prepare(database: &Database) -> Result<Found, redb::Error> {
    let transaction = database.begin_write()?;
    let mut found = Found::default();
    {
        let is_new = transaction.list_tables()?.next().is_none();
        let mut formats = transaction.open_table(FORMATS)?;
        if is_new {
            formats.insert("", FORMAT)?;
        }
        found.format = formats.get("")?.map_or(1, |format| format.value());
    }
    if found.format != FORMAT {
        transaction.abort()?;
        return Ok(found);
    }
    {
        let entries = transaction.open_table(ENTRIES)?;
        transaction.open_table(PARTITIONS)?;
        transaction.open_table(EXPIRING)?;
        for entry in transaction.open_table(VERSIONS)?.iter()? {
            let (plugin, version) = entry?;
            if let Ok(plugin) = PluginName::new(plugin.value()) {
                found.versions.insert(plugin, version.value());
            }
        }
        for entry in transaction.open_table(TIMERS)?.iter()? {
            let (name, partition_bytes) = entry?;
            let name = name.value();
            let split = name.split_at_checked(partition_bytes.value() as usize);
            let parts = split.and_then(|(partition, entry)| {
                let (plugin, partition) = parts_of(partition)?;
                Some((plugin, partition, std::str::from_utf8(entry).ok()?))
            });
            let text = entries.get(name)?;
            if let (Some((plugin, partition, entry)), Some(text)) = (parts, text) {
                let partition = PartitionOf {
                    plugin: &plugin,
                    name: partition,
                };
                found.timers.wrote(partition, entry, Some(text.value().3));
            }
        }
        for entry in transaction.open_table(OUTGOING)?.iter()? {
            let (place, entry) = entry?;
            let (plugin, partition, outgoing) = entry.value();
            if let Ok(plugin) = PluginName::new(plugin) {
                found.unsent.push(Unsent {
                    plugin,
                    partition: partition.to_owned(),
                    place: place.value(),
                    outgoing: outgoing.to_owned(),
                });
            }
        }
    }
    transaction.commit()?;
    Ok(found)
}

impl StateStore for EmbeddedStore {
    fn read<'a>(
        &'a self,
        partition: PartitionOf<'a>,
        name: &'a str,
        at_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Versioned>, Fault>> {
        let name = with_name(&name_of(partition.plugin, partition.name), name);
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

    fn commit<'a>(&'a self, commit: Commit<'a>) -> BoxFuture<'a, Result<Committed, CommitError>> {
        let owned = OwnedCommit {
            plugin: commit.partition.plugin.clone(),
            partition: commit.partition.name.to_owned(),
            at_ms: commit.at_ms,
            seen: commit.seen.to_vec(),
            writes: commit.writes.clone(),
            history: commit.history.clone(),
            outgoing: commit.outgoing.map(str::to_owned),
        };
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let ended = || CommitError::Unavailable("the state's writer has ended".to_owned());
            let job = Job::Commit(owned, answer);
            self.jobs.send(job).await.map_err(|_| ended())?;
            answered.await.unwrap_or_else(|_| Err(ended()))
        })
    }

    fn outlives_the_host(&self) -> bool {
        true
    }

    fn sent(&self, _: PartitionOf<'_>, place: u64) {
        self.note(|notes| {
            notes.sent.insert(place);
        });
    }

    fn unsent(&self) -> BoxFuture<'_, Result<Vec<Unsent>, Fault>> {
        Box::pin(ready(Ok(std::mem::take(&mut *self.unsent.lock()))))
    }

    fn due<'a>(
        &'a self,
        plugins: &'a BTreeSet<PluginName>,
        now_ms: u64,
        until_ms: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<DueTimers, Fault>> {
        Box::pin(self.timers.due(self, plugins, now_ms, until_ms, limit))
    }

    fn postpone<'a>(&'a self, timer: &'a DueTimer, until_ms: u64) -> BoxFuture<'a, ()> {
        Box::pin(self.timers.postpone(self, timer, until_ms))
    }

    fn each<'a>(
        &'a self,
        plugin: Option<&'a PluginName>,
        at_ms: u64,
        visitor: &'a mut Visitor<'_>,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        let mut stopped = None;
        let visited = self.look(|entries| {
            // The name of a plugin ends with a zero.
            let (start, end) = match plugin {
                Some(plugin) => {
                    let name = plugin.as_str().as_bytes();
                    ([name, &[0]].concat(), Some([name, &[1]].concat()))
                }
                None => (Vec::new(), None),
            };
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            for entry in entries.range::<&[u8]>((Bound::Included(start.as_slice()), end))? {
                let (name, entry) = entry?;
                let (_, _, expires_at, text) = entry.value();
                let Some((partition, of, name)) = whole_name(name.value()) else {
                    return Err(StorageError::Corrupted("a name is not a text".to_owned()));
                };
                if !is_live(expires_at, at_ms) || plugin.is_some_and(|plugin| *plugin != of) {
                    continue;
                }
                let entry = Stored {
                    plugin: of,
                    partition: partition.to_owned(),
                    name: name.to_owned(),
                    text: text.to_owned(),
                    expires_at: (expires_at != NEVER).then_some(expires_at),
                };
                if let Err(why) = visitor(entry) {
                    stopped = Some(why);
                    break;
                }
            }
            Ok(())
        });
        let stopped = stopped.map_or(Ok(()), |why| Err(Fault::new("UNAVAILABLE", why)));
        Box::pin(ready(visited.and(stopped)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let (flushed, written) = oneshot::channel();
            if self.jobs.send(Job::Flush(flushed)).await.is_ok() {
                written.await.ok();
            }
        })
    }
}

impl EmbeddedStore {
    /// Leaves something for the writer, and wakes it. It stays there until it is written.
    fn note(&self, note: impl FnOnce(&mut Notes)) {
        note(&mut self.notes.lock());
        // When so much waits that this does not fit, the writer is awake.
        self.jobs.try_send(Job::Notes).ok();
    }
}

impl StateVersions for EmbeddedStore {
    fn stored(&self, plugin: &PluginName) -> Option<u32> {
        self.versions.get(plugin).map(|version| *version)
    }

    fn all_stored(&self) -> Vec<(PluginName, u32)> {
        let all = self.versions.iter();
        all.map(|entry| (entry.key().clone(), *entry.value()))
            .collect()
    }

    fn record(&self, plugin: &PluginName, version: u32) {
        // Written with whatever the plugin writes from now on, or before.
        if self.versions.insert(plugin.clone(), version) != Some(version) {
            self.note(|notes| {
                notes.versions.insert(plugin.clone(), version);
            });
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
super::suite::suite!((super::EmbeddedStore::fleeting(), ()));

#[cfg(test)]
mod tests;
