//! Handlers are transactions: reads are noted, writes are staged, and a commit happens only when
//! what was read is still true.
//!
//! The first run of a handler is optimistic. When its commit fails, or when it reads a key that
//! others already queue for, it is run again, and that run waits for its turn on the keys which the
//! failed one read. So writers of one key go one after the other instead of undoing each other's
//! work, and those of different keys do not wait at all.

mod locks;

pub use self::locks::Held;

use self::locks::{LockName, Locks};
use crate::{
    core::names::PluginName,
    ports::{
        Commit, CommitError, Fault, KvTransaction, PartitionOf, Range, Seen, StateStore, Version,
        Versioned, Write,
    },
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Bytes of the name of a partition or a key.
const NAME_BYTES: usize = 512;
/// Bytes of a value.
const VALUE_BYTES: usize = 65_536;
/// Reads and writes of one event; a page of keys counts as one read for each key in it.
const READS: usize = 1_000;
const WRITES: usize = 1_000;
/// Bytes that one event may write, names included.
const WRITTEN_BYTES: usize = 4 << 20;
/// How often a handler is run again. Queues make more than two runs rare; this only keeps a defect
/// from running for ever.
const ATTEMPTS: u32 = 50;

/// Makes transactions over a store.
pub struct Transactions {
    store: Arc<dyn StateStore>,
    locks: Arc<Locks>,
}

impl Transactions {
    /// Returns transactions over a store.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self {
            store,
            locks: Arc::new(Locks::default()),
        }
    }

    /// Returns how often a handler may be run again.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        ATTEMPTS
    }

    /// Begins the first run of a handler.
    #[must_use]
    pub fn begin(&self, plugin: &PluginName, at_ms: u64) -> Arc<Transaction> {
        self.transaction(plugin, at_ms, true)
    }

    /// Begins another run of a handler, whose turn it is by now.
    #[must_use]
    pub fn begin_again(&self, plugin: &PluginName, at_ms: u64) -> Arc<Transaction> {
        self.transaction(plugin, at_ms, false)
    }

    fn transaction(&self, plugin: &PluginName, at_ms: u64, optimistic: bool) -> Arc<Transaction> {
        Arc::new(Transaction {
            store: self.store.clone(),
            locks: self.locks.clone(),
            plugin: plugin.clone(),
            at_ms,
            optimistic,
            work: Mutex::default(),
        })
    }

    /// Commits what was staged, if what was read in the partition that is written is still true.
    /// Returns the place in the order of the partition's commits; none where nothing was staged,
    /// which costs nothing.
    ///
    /// # Errors
    /// See [`CommitError`]. Nothing has been committed then.
    pub async fn commit(&self, transaction: &Transaction) -> Result<Option<u64>, CommitError> {
        let (partition, seen, writes) = {
            let mut work = transaction.work.lock();
            if work.contended.is_some() {
                return Err(CommitError::Conflict);
            }
            let Some(partition) = work.written.clone() else {
                return Ok(None);
            };
            let seen = work.seen.get(&partition).cloned().unwrap_or_default();
            (partition, seen, std::mem::take(&mut work.writes))
        };
        let commit = Commit {
            partition: PartitionOf {
                plugin: &transaction.plugin,
                name: &partition,
            },
            at_ms: transaction.at_ms,
            seen: &seen,
            writes: &writes,
        };
        self.store.commit(commit).await.map(Some)
    }

    /// Waits for the turn of a handler that is to be run again, on what its failed run read. What is
    /// returned must be held until the next run has committed.
    pub async fn turn(&self, failed: &Transaction) -> Held {
        let names: BTreeSet<LockName> = {
            let work = failed.work.lock();
            let contended = work.contended.clone();
            let read = work
                .written
                .iter()
                .filter_map(|partition| Some((partition, work.seen.get(partition)?)))
                .flat_map(|(partition, seen)| {
                    seen.iter().map(|seen| {
                        let key = match seen {
                            Seen::Key(key, _) => Some(key.as_str()),
                            Seen::Range(..) => None,
                        };
                        failed.lock_name(partition, key)
                    })
                });
            contended.into_iter().chain(read).collect()
        };
        self.locks.lock(names).await
    }
}

#[derive(Default)]
struct Work {
    /// What was read, by partition.
    seen: BTreeMap<String, Vec<Seen>>,
    /// Values read, so that a handler sees the same again.
    values: BTreeMap<(String, String), Option<Versioned>>,
    /// The one partition that is written.
    written: Option<String>,
    writes: BTreeMap<String, Write>,
    reads: usize,
    bytes: usize,
    /// What the first run wanted to read while others queued for it.
    contended: Option<LockName>,
}

/// One run of a handler. See [`KvTransaction`].
pub struct Transaction {
    store: Arc<dyn StateStore>,
    locks: Arc<Locks>,
    plugin: PluginName,
    at_ms: u64,
    optimistic: bool,
    work: Mutex<Work>,
}

fn check_name(what: &str, name: &str) -> Result<(), Fault> {
    if (1..=NAME_BYTES).contains(&name.len()) {
        return Ok(());
    }
    Err(Fault::new(
        "INVALID",
        format!(
            "{what}: expected 1 to {NAME_BYTES} bytes, got {}",
            name.len()
        ),
    ))
}

impl Transaction {
    /// Tells whether this run was in vain before it ended: what it read is queued for. Its verdict
    /// does not count.
    #[must_use]
    pub fn is_in_vain(&self) -> bool {
        self.work.lock().contended.is_some()
    }

    fn lock_name(&self, partition: &str, key: Option<&str>) -> LockName {
        LockName {
            plugin: self.plugin.clone(),
            partition: partition.to_owned(),
            key: key.map(str::to_owned),
        }
    }

    /// Ends a first run early that would read what others queue for.
    fn check_queue(&self, partition: &str, key: Option<&str>) -> Result<(), Fault> {
        if !self.optimistic {
            return Ok(());
        }
        let name = self.lock_name(partition, key);
        if !self.locks.is_contended(&name) {
            return Ok(());
        }
        self.work.lock().contended = Some(name);
        Err(Fault::new(
            "CONFLICT",
            "others are changing this; the event is run again",
        ))
    }

    fn count_reads(&self, count: usize) -> Result<(), Fault> {
        let mut work = self.work.lock();
        work.reads += count;
        if work.reads > READS {
            return Err(Fault::new(
                "TOO_MANY",
                format!("more than {READS} reads in one event"),
            ));
        }
        Ok(())
    }

    fn partition<'a>(&'a self, name: &'a str) -> PartitionOf<'a> {
        PartitionOf {
            plugin: &self.plugin,
            name,
        }
    }

    fn stage(
        &self,
        partition: &str,
        key: &str,
        bytes: usize,
        write: impl FnOnce(Option<&Write>) -> Result<Write, Fault>,
    ) -> Result<(), Fault> {
        check_name("partition", partition)?;
        check_name("key", key)?;
        let mut work = self.work.lock();
        match &work.written {
            Some(written) if written != partition => {
                return Err(Fault::new(
                    "INVALID",
                    format!(
                        "a transaction writes one partition; this one writes `{written}` already"
                    ),
                ));
            }
            Some(_) => {}
            None => work.written = Some(partition.to_owned()),
        }
        work.bytes += bytes + key.len();
        if work.bytes > WRITTEN_BYTES {
            return Err(Fault::new(
                "TOO_LARGE",
                format!("more than {WRITTEN_BYTES} bytes written in one event"),
            ));
        }
        if work.writes.len() >= WRITES && !work.writes.contains_key(key) {
            return Err(Fault::new(
                "TOO_MANY",
                format!("more than {WRITES} keys written in one event"),
            ));
        }
        let staged = write(work.writes.get(key))?;
        work.writes.insert(key.to_owned(), staged);
        Ok(())
    }

    /// Returns a committed value as this transaction first saw it.
    async fn committed(&self, partition: &str, key: &str) -> Result<Option<Versioned>, Fault> {
        let place = (partition.to_owned(), key.to_owned());
        if let Some(known) = self.work.lock().values.get(&place) {
            return Ok(known.clone());
        }
        self.check_queue(partition, Some(key))?;
        let value = self
            .store
            .read(self.partition(partition), key, self.at_ms)
            .await?;
        let mut work = self.work.lock();
        let version = value.as_ref().map(|value| value.version);
        work.seen
            .entry(partition.to_owned())
            .or_default()
            .push(Seen::Key(key.to_owned(), version));
        work.values.insert(place, value.clone());
        Ok(value)
    }

    /// Returns a value with a staged write over it.
    fn overlay(&self, committed: Option<&str>, write: &Write) -> Result<Option<String>, Fault> {
        Ok(match write {
            Write::Set(value, expires_at) => {
                let live = expires_at.is_none_or(|at| at > self.at_ms);
                live.then(|| value.clone())
            }
            Write::Delete => None,
            Write::Add(delta) => {
                Some(added(committed, *delta).map_err(|why| Fault::new("INVALID", why))?)
            }
        })
    }
}

/// Returns a whole number with another added to it, absent counting as 0.
///
/// # Errors
/// When it is not a whole number, or the sum is beyond 64 bits.
pub fn added(value: Option<&str>, delta: i64) -> Result<String, String> {
    let number: i64 = match value {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| "add: the value is not a whole number of 64 bits".to_owned())?,
    };
    number
        .checked_add(delta)
        .map(|sum| sum.to_string())
        .ok_or_else(|| "add: the sum is beyond 64 bits".to_owned())
}

impl KvTransaction for Transaction {
    fn get<'a>(
        &'a self,
        partition: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, Fault>> {
        Box::pin(async move {
            check_name("partition", partition)?;
            check_name("key", key)?;
            self.count_reads(1)?;
            let staged = {
                let work = self.work.lock();
                let here = work.written.as_deref() == Some(partition);
                here.then(|| work.writes.get(key).cloned()).flatten()
            };
            match staged {
                None => Ok(self
                    .committed(partition, key)
                    .await?
                    .map(|found| found.value)),
                Some(write @ Write::Add(_)) => {
                    let committed = self.committed(partition, key).await?;
                    self.overlay(committed.as_ref().map(|found| found.value.as_str()), &write)
                }
                Some(write) => self.overlay(None, &write),
            }
        })
    }

    fn set(
        &self,
        partition: &str,
        key: &str,
        value: String,
        ttl_ms: Option<u64>,
    ) -> Result<(), Fault> {
        if value.len() > VALUE_BYTES {
            return Err(Fault::new(
                "TOO_LARGE",
                format!("a value of {} bytes, of at most {VALUE_BYTES}", value.len()),
            ));
        }
        if ttl_ms == Some(0) {
            return Err(Fault::new("INVALID", "ttl-ms: expected at least 1"));
        }
        let expires_at = ttl_ms.map(|ttl| self.at_ms.saturating_add(ttl));
        self.stage(partition, key, value.len(), |_| {
            Ok(Write::Set(value, expires_at))
        })
    }

    fn delete(&self, partition: &str, key: &str) -> Result<(), Fault> {
        self.stage(partition, key, 0, |_| Ok(Write::Delete))
    }

    fn add(&self, partition: &str, key: &str, delta: i64) -> Result<(), Fault> {
        let invalid = |why| Fault::new("INVALID", why);
        self.stage(partition, key, 8, |staged| match staged {
            None => Ok(Write::Add(delta)),
            Some(Write::Add(before)) => before
                .checked_add(delta)
                .map(Write::Add)
                .ok_or_else(|| invalid("add: the sum is beyond 64 bits".to_owned())),
            Some(Write::Delete) => Ok(Write::Set(delta.to_string(), None)),
            Some(Write::Set(value, expires_at)) => added(Some(value), delta)
                .map(|sum| Write::Set(sum, *expires_at))
                .map_err(invalid),
        })
    }

    fn list<'a>(
        &'a self,
        partition: &'a str,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, Fault>> {
        Box::pin(async move {
            check_name("partition", partition)?;
            if prefix.len() > NAME_BYTES || after.is_some_and(|after| after.len() > NAME_BYTES) {
                return Err(Fault::new(
                    "INVALID",
                    format!("prefix, after: at most {NAME_BYTES} bytes"),
                ));
            }
            self.check_queue(partition, None)?;
            let limit = limit as usize;
            let staged: BTreeMap<String, Write> = {
                let work = self.work.lock();
                let here = work.written.as_deref() == Some(partition);
                let inside =
                    |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
                work.writes
                    .iter()
                    .filter(|(key, _)| here && inside(key))
                    .map(|(key, write)| (key.clone(), write.clone()))
                    .collect()
            };
            // Staged deletions may take as many out as there are staged keys.
            let range = Range {
                prefix: prefix.to_owned(),
                after: after.map(str::to_owned),
                limit: limit + staged.len(),
            };
            let found = self
                .store
                .list(self.partition(partition), &range, self.at_ms)
                .await?;
            self.count_reads(found.len().max(1))?;
            let versions: Vec<(String, Version)> = found
                .iter()
                .map(|(key, value)| (key.clone(), value.version))
                .collect();
            // Behind the last key of a full page there may be committed keys that were not read.
            let end = (found.len() == range.limit)
                .then(|| found.last().map(|(key, _)| key.clone()))
                .flatten();
            let mut page: BTreeMap<String, String> = found
                .into_iter()
                .map(|(key, found)| (key, found.value))
                .collect();
            for (key, write) in staged {
                if end.as_ref().is_some_and(|end| key > *end) {
                    continue;
                }
                match self.overlay(page.get(&key).map(String::as_str), &write)? {
                    Some(value) => page.insert(key, value),
                    None => page.remove(&key),
                };
            }
            self.work
                .lock()
                .seen
                .entry(partition.to_owned())
                .or_default()
                .push(Seen::Range(range, versions));
            Ok(page.into_iter().take(limit).collect())
        })
    }
}
