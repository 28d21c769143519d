//! One run of a handler: what it read, and what it staged.

use super::{
    bounds::{NAME_BYTES, READS, WRITES, WRITTEN_BYTES, check_name, check_page, check_value},
    locks::PartitionName,
};
use crate::{
    core::{
        names::PluginName,
        state::{Timer, key_name, timer_name},
    },
    ports::{
        Fault, HistoryWrites, KvAccess, Owner, PartitionOf, Range, Seen, StateStore, Version,
        Versioned, Write,
    },
};
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A time that never comes, in milliseconds since 1970 UTC: all stores hold those before exactly.
const FAR: u64 = 1 << 53;
/// What a run may count on.
pub(super) enum Standing {
    /// Nothing.
    First,
    /// That it is its turn on what the run before it read.
    Queued,
    /// That nobody else of this host commits in this partition, and as this owner nobody at all.
    Alone(String, Option<Owner>),
}

/// The timer that a handler is run for.
#[derive(Debug, Clone)]
pub(super) struct Firing {
    pub(super) partition: String,
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) timer: Timer,
}

impl Firing {
    /// Returns what this firing is known by in other partitions.
    pub(super) fn id(&self) -> String {
        let Version { epoch, number } = self.version;
        format!("{epoch:016x}{number:x} {}", self.name)
    }

    /// Returns what becomes of the timer: it is taken away, or set for the next time.
    pub(super) fn removal(&self, now_ms: u64) -> (String, Write) {
        let write = match self.timer.after_firing(now_ms) {
            Some(next) => Write::Set(next.to_string(), None),
            None => Write::Delete,
        };
        (timer_name(&self.name), write)
    }
}

/// What was read in one partition.
struct Reads {
    partition: String,
    /// So that a handler sees the same again.
    names: BTreeMap<String, Option<Versioned>>,
    pub(super) ranges: Vec<(Range, Vec<(String, Version)>)>,
}

#[derive(Default)]
pub(super) struct Work {
    /// By partition; there are few.
    reads: Vec<Reads>,
    /// The one partition that is written.
    pub(super) written: Option<String>,
    /// By name; see `core::state`.
    pub(super) writes: BTreeMap<String, Write>,
    pub(super) history: HistoryWrites,
    /// Those of the writes that take something away in its place.
    pub(super) redactions: BTreeSet<String>,
    /// Reads and bytes counted so far.
    read: usize,
    bytes: usize,
    /// What had been read when the commit was a conflict.
    pub(super) lost: Vec<Seen>,
}

impl Work {
    fn known(&self, partition: &str, name: &str) -> Option<&Option<Versioned>> {
        let reads = self.reads.iter().find(|reads| reads.partition == partition);
        reads?.names.get(name)
    }

    /// Notes a read, in the place that is chosen for it.
    fn note_read(&mut self, partition: &str, note: impl FnOnce(&mut Reads)) {
        let known = self
            .reads
            .iter_mut()
            .find(|reads| reads.partition == partition);
        if let Some(reads) = known {
            return note(reads);
        }
        let mut reads = Reads {
            partition: partition.to_owned(),
            names: BTreeMap::new(),
            ranges: Vec::new(),
        };
        note(&mut reads);
        self.reads.push(reads);
    }

    /// Returns what was read in a partition, and forgets it.
    pub(super) fn take_seen(&mut self, partition: &str) -> Vec<Seen> {
        let Some(place) = self
            .reads
            .iter()
            .position(|reads| reads.partition == partition)
        else {
            return Vec::new();
        };
        let reads = self.reads.swap_remove(place);
        let names = reads
            .names
            .into_iter()
            .map(|(name, value)| Seen::Key(name, value.map(|value| value.version)));
        let ranges = reads
            .ranges
            .into_iter()
            .map(|(range, names)| Seen::Range(range, names));
        names.chain(ranges).collect()
    }

    pub(super) fn count_reads(&mut self, count: usize) -> Result<(), Fault> {
        self.read += count;
        if self.read > READS {
            return Err(Fault::new(
                "TOO_MANY",
                format!("more than {READS} reads in one event"),
            ));
        }
        Ok(())
    }

    /// Counts one more key, timer or entry that is written.
    pub(super) fn count_write(&mut self) -> Result<(), Fault> {
        if self.writes.len() + self.history.appends.len() >= WRITES {
            return Err(Fault::new(
                "TOO_MANY",
                format!("more than {WRITES} keys, timers and entries written in one event"),
            ));
        }
        Ok(())
    }

    /// Returns the staged writes of a partition that a range covers, whatever its limit.
    pub(super) fn staged_in(&self, partition: &str, range: &Range) -> Vec<(String, Write)> {
        if self.written.as_deref() != Some(partition) {
            return Vec::new();
        }
        self.writes
            .range(range.bounds())
            .map(|(key, write)| (key.clone(), write.clone()))
            .collect()
    }
}

/// One run of a handler. See [`StateAccess`](crate::ports::StateAccess).
pub struct Transaction {
    pub(super) store: Arc<dyn StateStore>,
    pub(super) plugin: PluginName,
    pub(super) at_ms: u64,
    pub(super) standing: Standing,
    pub(super) firing: Option<Firing>,
    pub(super) work: Mutex<Work>,
}

impl Transaction {
    pub(super) fn partition_name(&self, name: &str) -> PartitionName {
        PartitionName {
            plugin: self.plugin.clone(),
            name: name.to_owned(),
        }
    }

    pub(super) fn is_alone_in(&self, partition: &str) -> bool {
        matches!(&self.standing, Standing::Alone(own, _) if own == partition)
    }

    /// Returns as whom it commits, where its partition is reserved for it.
    pub(super) fn owner(&self) -> Option<Owner> {
        match &self.standing {
            Standing::Alone(_, owner) => *owner,
            Standing::First | Standing::Queued => None,
        }
    }

    pub(super) fn partition<'a>(&'a self, name: &'a str) -> PartitionOf<'a> {
        PartitionOf {
            plugin: &self.plugin,
            name,
        }
    }

    /// Makes place for a write of so many bytes in a partition, and hands out the work.
    pub(super) fn work_on(
        &self,
        partition: &str,
        bytes: usize,
    ) -> Result<MutexGuard<'_, Work>, Fault> {
        check_name("partition", partition)?;
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
        work.bytes += bytes;
        if work.bytes > WRITTEN_BYTES {
            return Err(Fault::new(
                "TOO_LARGE",
                format!("more than {WRITTEN_BYTES} bytes written in one event"),
            ));
        }
        Ok(work)
    }

    /// Stages a write of a name.
    pub(super) fn stage(
        &self,
        partition: &str,
        name: String,
        bytes: usize,
        write: impl FnOnce(Option<&Write>) -> Result<Write, Fault>,
    ) -> Result<(), Fault> {
        let mut work = self.work_on(partition, bytes + name.len())?;
        if !work.writes.contains_key(&name) {
            work.count_write()?;
        }
        let staged = write(work.writes.get(&name))?;
        work.writes.insert(name, staged);
        Ok(())
    }

    /// Returns what is staged for a name of a partition.
    pub(super) fn staged(&self, partition: &str, name: &str) -> Option<Write> {
        let work = self.work.lock();
        let here = work.written.as_deref() == Some(partition);
        here.then(|| work.writes.get(name).cloned()).flatten()
    }

    /// Returns what a name has, with what is staged over it.
    pub(super) async fn current(
        &self,
        partition: &str,
        name: &str,
    ) -> Result<Option<String>, Fault> {
        match self.staged(partition, name) {
            None => self.committed(partition, name).await,
            Some(write @ Write::Add(_)) => {
                let committed = self.committed(partition, name).await?;
                self.overlay(committed.as_deref(), &write)
            }
            Some(write) => self.overlay(None, &write),
        }
    }

    /// Returns the committed names of a range.
    pub(super) async fn range(
        &self,
        partition: &str,
        range: Range,
    ) -> Result<Vec<(String, Versioned)>, Fault> {
        let found = self
            .store
            .list(self.partition(partition), &range, self.at_ms)
            .await?;
        let versions = found
            .iter()
            .map(|(name, value)| (name.clone(), value.version))
            .collect();
        self.work
            .lock()
            .note_read(partition, |reads| reads.ranges.push((range, versions)));
        Ok(found)
    }

    /// Returns a committed value as this transaction first saw it.
    async fn committed(&self, partition: &str, name: &str) -> Result<Option<String>, Fault> {
        let text = |value: &Option<Versioned>| value.as_ref().map(|value| value.value.clone());
        if let Some(known) = self.work.lock().known(partition, name) {
            return Ok(text(known));
        }
        let value = self
            .store
            .read(self.partition(partition), name, self.at_ms)
            .await?;
        let committed = text(&value);
        self.work.lock().note_read(partition, |reads| {
            reads.names.insert(name.to_owned(), value);
        });
        Ok(committed)
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
        // As it is written here and in every store: without a plus, and without leading zeros.
        Some(text) => text
            .parse()
            .ok()
            .filter(|number: &i64| number.to_string() == text)
            .ok_or_else(|| "add: the value is not a whole number of 64 bits".to_owned())?,
    };
    number
        .checked_add(delta)
        .map(|sum| sum.to_string())
        .ok_or_else(|| "add: the sum is beyond 64 bits".to_owned())
}

impl KvAccess for Transaction {
    fn get<'a>(
        &'a self,
        partition: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, Fault>> {
        Box::pin(async move {
            check_name("partition", partition)?;
            check_name("key", key)?;
            self.work.lock().count_reads(1)?;
            self.current(partition, &key_name(key)).await
        })
    }

    fn set(
        &self,
        partition: &str,
        key: &str,
        value: String,
        ttl_ms: Option<u64>,
    ) -> Result<(), Fault> {
        check_name("key", key)?;
        check_value("a value", &value)?;
        if ttl_ms == Some(0) {
            return Err(Fault::new("INVALID", "ttl-ms: expected at least 1"));
        }
        // What expires in hundreds of thousands of years does not.
        let expires_at = ttl_ms
            .map(|ttl| self.at_ms.saturating_add(ttl))
            .filter(|expires_at| *expires_at < FAR);
        self.stage(partition, key_name(key), value.len(), |_| {
            Ok(Write::Set(value, expires_at))
        })
    }

    fn delete(&self, partition: &str, key: &str) -> Result<(), Fault> {
        check_name("key", key)?;
        self.stage(partition, key_name(key), 0, |_| Ok(Write::Delete))
    }

    fn add(&self, partition: &str, key: &str, delta: i64) -> Result<(), Fault> {
        check_name("key", key)?;
        let invalid = |why| Fault::new("INVALID", why);
        self.stage(partition, key_name(key), 8, |staged| match staged {
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
            let limit = check_page(limit)?;
            let mut range = Range {
                prefix: key_name(prefix),
                after: after.map(key_name),
                limit,
                backwards: false,
            };
            let staged = self.work.lock().staged_in(partition, &range);
            // Staged deletions may take as many out as there are staged keys.
            range.limit += staged.len();
            let asked = range.limit;
            let found = self.range(partition, range).await?;
            self.work.lock().count_reads(found.len().clamp(1, limit))?;
            // Behind the last key of a full page there may be committed keys that were not read.
            let end = (found.len() == asked)
                .then(|| found.last().map(|(name, _)| name.clone()))
                .flatten();
            let mut page: BTreeMap<String, String> = found
                .into_iter()
                .map(|(name, found)| (name, found.value))
                .collect();
            for (name, write) in staged {
                if end.as_ref().is_some_and(|end| name > *end) {
                    break;
                }
                match self.overlay(page.get(&name).map(String::as_str), &write)? {
                    Some(value) => page.insert(name, value),
                    None => page.remove(&name),
                };
            }
            // The first character only tells that they are keys.
            let key = |name: String| name.chars().skip(1).collect::<String>();
            Ok(page
                .into_iter()
                .take(limit)
                .map(|(name, value)| (key(name), value))
                .collect())
        })
    }
}
