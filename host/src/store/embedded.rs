//! State in a directory: what was acknowledged is there again after whatever ended the host.
//!
//! One thread writes. It takes all commits that wait, decides each upon what those before it left,
//! and makes them durable with one sync of the disk (group commit); nobody is answered before that.
//! Readers never wait for it.

use super::decide::{Entries, Live, Undecided, decide};
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
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, Table,
    TableDefinition,
};
use std::{
    borrow::Cow,
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
/// Commits that one sync makes durable at most, so that none waits long for the others.
const BATCH: usize = 1_024;
/// How long expired entries are kept, in milliseconds: an event that was received before may still
/// be handled, and is to see what it would have seen then.
const KEEP_EXPIRED_MS: u64 = 60_000;
/// How many expired entries one batch removes.
const PURGE_ENTRIES: usize = 1_000;
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

/// The thread that writes.
struct Writer {
    file: PathBuf,
    database: Shared,
    durability: Durability,
}

type EntryTable<'t> = Table<'t, &'static [u8], (u64, u64, u64, &'static str)>;

struct Tables<'t> {
    entries: EntryTable<'t>,
    partitions: Table<'t, &'static [u8], (u64, u64, u64)>,
    expiring: Table<'t, (u64, &'static [u8]), u32>,
}

/// One partition within the writer's transaction.
struct OpenPartition<'a, 't> {
    name: &'a [u8],
    entries: &'a EntryTable<'t>,
}

impl Entries for OpenPartition<'_, '_> {
    type Error = StorageError;

    fn live(&self, key: &str, at_ms: u64) -> Result<Option<Live<'_>>, StorageError> {
        let name = with_key(self.name, key);
        let entry = self.entries.get(name.as_slice())?;
        Ok(entry.and_then(|entry| {
            let (epoch, number, expires_at, value) = entry.value();
            is_live(expires_at, at_ms).then(|| Live {
                value: Cow::Owned(value.to_owned()),
                version: Version { epoch, number },
                expires_at: (expires_at != NEVER).then_some(expires_at),
            })
        }))
    }

    fn range_is(
        &self,
        range: &Range,
        at_ms: u64,
        keys: &[(String, Version)],
    ) -> Result<bool, StorageError> {
        let mut expected = keys.iter();
        let mut same = true;
        visit(self.entries, self.name, range, at_ms, |key, version, _| {
            same = expected
                .next()
                .is_some_and(|(expected, seen)| expected == key && *seen == version);
            same
        })?;
        Ok(same && expected.next().is_none())
    }
}

type Answer = (
    oneshot::Sender<Result<u64, CommitError>>,
    Result<u64, CommitError>,
);

impl Writer {
    fn run(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = jobs.try_recv()
            {
                batch.push(next);
            }
            self.write(batch);
        }
        // Everybody has let go of the store: the file is closed with its last owner.
        self.database.write().take();
    }

    /// Writes a batch, and answers everybody in it.
    fn write(&self, batch: Vec<Job>) {
        let mut answers = Vec::with_capacity(batch.len());
        let written = self.try_write(batch, &mut answers);
        let failure = written.err().map(|error| {
            tracing::error!(file = %self.file.display(), %error, "state cannot be written");
            self.open_again();
            CommitError::Unavailable(format!("the state cannot be written: {error}"))
        });
        for (answer, outcome) in answers {
            // Nothing of the batch is there when the transaction as a whole has failed.
            let outcome = match (&failure, outcome) {
                (Some(failure), Ok(_)) => Err(failure.clone()),
                (_, outcome) => outcome,
            };
            answer.send(outcome).ok();
        }
    }

    fn try_write(&self, batch: Vec<Job>, answers: &mut Vec<Answer>) -> Result<(), redb::Error> {
        let mut commits = Vec::with_capacity(batch.len());
        let mut versions = Vec::new();
        for job in batch {
            match job {
                // Fails with the batch unless it is decided below.
                Job::Commit(commit, answer) => {
                    answers.push((answer, Ok(0)));
                    commits.push(commit);
                }
                Job::Version(plugin, version) => versions.push((plugin, version)),
            }
        }
        let database = self.database.read();
        let database = database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let mut transaction = database.begin_write()?;
        transaction
            .set_durability(self.durability)
            .map_err(redb::Error::from)?;
        let mut changed = !versions.is_empty();
        {
            let mut tables = Tables {
                entries: transaction.open_table(ENTRIES)?,
                partitions: transaction.open_table(PARTITIONS)?,
                expiring: transaction.open_table(EXPIRING)?,
            };
            for (commit, (_, outcome)) in commits.iter().zip(answers.iter_mut()) {
                *outcome = tables.apply(commit)?;
                changed |= outcome.is_ok();
            }
            let now = commits.iter().map(|commit| commit.at_ms).max();
            changed |= tables.purge(now.unwrap_or(0).saturating_sub(KEEP_EXPIRED_MS))?;
            let mut table = transaction.open_table(VERSIONS)?;
            for (plugin, version) in versions {
                table.insert(plugin.as_str(), version)?;
            }
        }
        if changed {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(())
    }

    /// After a failure to write, the file takes nothing more until it is opened anew.
    fn open_again(&self) {
        let mut database = self.database.write();
        database.take();
        match open_file(&self.file) {
            Ok(opened) => *database = Some(opened),
            Err(error) => {
                tracing::error!(file = %self.file.display(), %error, "state cannot be opened again");
            }
        }
    }
}

impl Tables<'_> {
    fn apply(&mut self, commit: &OwnedCommit) -> Result<Result<u64, CommitError>, StorageError> {
        let name = name_of(&commit.plugin, &commit.partition);
        let partition = OpenPartition {
            name: &name,
            entries: &self.entries,
        };
        let borrowed = Commit {
            partition: PartitionOf {
                plugin: &commit.plugin,
                name: &commit.partition,
            },
            at_ms: commit.at_ms,
            seen: &commit.seen,
            writes: &commit.writes,
        };
        let changes = match decide(&partition, &borrowed) {
            Ok(changes) => changes,
            Err(Undecided::Refused(error)) => return Ok(Err(error)),
            Err(Undecided::Failed(error)) => return Err(error),
        };
        let known = self.partitions.get(name.as_slice())?;
        let (epoch, number, mut count) =
            known.map_or_else(|| (rand::random(), 0, 0), |known| known.value());
        let number = number + 1;
        for (key, to) in changes {
            let entry = with_key(&name, key);
            let before = match &to {
                Some((value, expires_at)) => {
                    let expires_at = expires_at.unwrap_or(NEVER);
                    if expires_at != NEVER {
                        let partition_bytes = u32::try_from(name.len()).unwrap_or(u32::MAX);
                        self.expiring
                            .insert((expires_at, entry.as_slice()), partition_bytes)?;
                    }
                    self.entries
                        .insert(entry.as_slice(), (epoch, number, expires_at, &**value))?
                        .map(|before| before.value().2)
                }
                None => self
                    .entries
                    .remove(entry.as_slice())?
                    .map(|before| before.value().2),
            };
            count = count + u64::from(to.is_some()) - u64::from(before.is_some());
            let now = to.and_then(|(_, expires_at)| expires_at).unwrap_or(NEVER);
            if let Some(before) = before
                && before != NEVER
                && before != now
            {
                self.expiring.remove((before, entry.as_slice()))?;
            }
        }
        self.count(&name, epoch, number, count)?;
        Ok(Ok(number))
    }

    /// Notes how many entries a partition has. One without any begins anew, in another epoch.
    fn count(
        &mut self,
        name: &[u8],
        epoch: u64,
        number: u64,
        count: u64,
    ) -> Result<(), StorageError> {
        if count == 0 {
            self.partitions.remove(name)?;
        } else {
            self.partitions.insert(name, (epoch, number, count))?;
        }
        Ok(())
    }

    /// Removes some of what had expired by a time; tells whether there was anything.
    fn purge(&mut self, expired_by: u64) -> Result<bool, StorageError> {
        let mut expired = Vec::new();
        let end: (u64, &[u8]) = (expired_by.saturating_add(1), &[]);
        for entry in self.expiring.range(..end)?.take(PURGE_ENTRIES) {
            let (date, partition_bytes) = entry?;
            let (expires_at, name) = date.value();
            expired.push((expires_at, name.to_vec(), partition_bytes.value()));
        }
        for (expires_at, name, partition_bytes) in &expired {
            self.expiring.remove((*expires_at, name.as_slice()))?;
            self.entries.remove(name.as_slice())?;
            let partition = name.get(..*partition_bytes as usize).unwrap_or_default();
            let known = self.partitions.get(partition)?.map(|known| known.value());
            if let Some((epoch, number, count)) = known {
                self.count(partition, epoch, number, count.saturating_sub(1))?;
            }
        }
        Ok(!expired.is_empty())
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
mod tests {
    use super::*;

    /// A directory of a test's own, gone with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let name = format!("switchboard-{}", uuid::Uuid::now_v7());
            Self(std::env::temp_dir().join(name))
        }

        fn file(&self) -> PathBuf {
            self.0.join(FILE)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    fn plugin() -> PluginName {
        PluginName::new("p").unwrap()
    }

    async fn set(store: &EmbeddedStore, key: &str, at_ms: u64, expires_at: Option<u64>) -> u64 {
        let plugin = plugin();
        let commit = Commit {
            partition: PartitionOf {
                plugin: &plugin,
                name: "a",
            },
            at_ms,
            seen: &[],
            writes: &BTreeMap::from([(key.to_owned(), Write::Set(key.to_owned(), expires_at))]),
        };
        store.commit(commit).await.unwrap()
    }

    async fn get(store: &EmbeddedStore, key: &str) -> Option<Versioned> {
        let plugin = plugin();
        let partition = PartitionOf {
            plugin: &plugin,
            name: "a",
        };
        store.read(partition, key, 1).await.unwrap()
    }

    /// Lets go of a store, and waits until its writer has closed the file.
    async fn close(store: EmbeddedStore) {
        let database = store.database.clone();
        drop(store);
        let closed = async {
            while database.read().is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), closed)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_again() {
        let directory = Directory::new();
        let store = EmbeddedStore::open(&directory.0).unwrap();
        store.record(&plugin(), 7);
        let place = set(&store, "x", 1, None).await;
        let before = get(&store, "x").await;
        close(store).await;
        let store = EmbeddedStore::open(&directory.0).unwrap();
        assert_eq!(get(&store, "x").await, before);
        assert_eq!(store.stored(&plugin()), Some(7));
        assert_eq!(set(&store, "x", 1, None).await, place + 1);
    }

    #[tokio::test]
    async fn a_directory_has_one_user() {
        let directory = Directory::new();
        let store = EmbeddedStore::open(&directory.0).unwrap();
        let refused = EmbeddedStore::open(&directory.0).err().unwrap();
        assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
        set(&store, "x", 1, None).await;
        assert!(get(&store, "x").await.is_some());
    }

    #[tokio::test]
    async fn what_is_damaged_is_refused_and_left_as_it_is() {
        let directory = Directory::new();
        let store = EmbeddedStore::open(&directory.0).unwrap();
        set(&store, "x", 1, None).await;
        close(store).await;
        let whole = std::fs::read(directory.file()).unwrap();
        let mut headless = whole.clone();
        headless[..512].fill(0x5a);
        for damaged in [
            headless,
            whole[..whole.len() / 3].to_vec(),
            b"something else altogether".repeat(1_000),
        ] {
            std::fs::write(directory.file(), &damaged).unwrap();
            let refused = EmbeddedStore::open(&directory.0).err().unwrap();
            assert!(matches!(refused, OpenError::Damaged(..)), "{refused}");
            assert_eq!(std::fs::read(directory.file()).unwrap(), damaged);
        }
    }

    #[tokio::test]
    async fn what_expired_is_removed_and_a_partition_ends_with_its_last_entry() {
        let store = EmbeddedStore::fleeting();
        for number in 0..50 {
            set(&store, &format!("k{number}"), 1_000, Some(2_000)).await;
        }
        set(&store, "k1", 1_000, Some(9_000_000)).await;
        set(&store, "k2", 1_000, None).await;
        let rows = |store: &EmbeddedStore| {
            let database = store.database.read();
            let transaction = database.as_ref().unwrap().begin_read().unwrap();
            let entries = transaction.open_table(ENTRIES).unwrap();
            let expiring = transaction.open_table(EXPIRING).unwrap();
            let partitions = transaction.open_table(PARTITIONS).unwrap();
            let counted = partitions
                .iter()
                .unwrap()
                .map(|row| row.unwrap().1.value().2);
            (
                entries.iter().unwrap().count(),
                expiring.iter().unwrap().count(),
                counted.sum::<u64>(),
            )
        };
        set(&store, "k2", 61_999, None).await;
        assert_eq!(rows(&store), (50, 49, 50), "an older event may still come");
        set(&store, "k2", 62_000, None).await;
        assert_eq!(rows(&store), (2, 1, 2));
    }
}
