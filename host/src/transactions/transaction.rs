//! One run of a handler: what it read, and what it staged.

use super::locks::PartitionName;
use crate::{
    core::names::PluginName,
    ports::{
        Fault, KvTransaction, PartitionOf, Range, Seen, StateStore, Version, Versioned, Write,
    },
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// Bytes of the name of a partition or a key.
const NAME_BYTES: usize = 512;
/// Bytes of a value.
const VALUE_BYTES: usize = 65_536;
/// Reads and writes of one event; a page of keys counts as one read for each key in it.
const READS: usize = 1_000;
const WRITES: usize = 1_000;
/// Keys of a page.
const PAGE: u32 = 1_000;
/// Bytes that one event may write, names included.
const WRITTEN_BYTES: usize = 4 << 20;
/// What a run may count on.
pub(super) enum Standing {
    /// Nothing.
    First,
    /// That it is its turn on what the run before it read.
    Queued,
    /// That nobody else commits in this partition.
    Alone(String),
}

/// What was read in one partition.
struct Reads {
    partition: String,
    /// So that a handler sees the same again.
    keys: BTreeMap<String, Option<Versioned>>,
    ranges: Vec<(Range, Vec<(String, Version)>)>,
}

#[derive(Default)]
pub(super) struct Work {
    /// By partition; there are few.
    reads: Vec<Reads>,
    /// The one partition that is written.
    pub(super) written: Option<String>,
    pub(super) writes: BTreeMap<String, Write>,
    /// Reads and bytes counted so far.
    read: usize,
    bytes: usize,
    /// What had been read when the commit was a conflict.
    pub(super) lost: Vec<Seen>,
}

impl Work {
    fn known(&self, partition: &str, key: &str) -> Option<&Option<Versioned>> {
        let reads = self.reads.iter().find(|reads| reads.partition == partition);
        reads?.keys.get(key)
    }

    /// Notes a read, in the place that is chosen for it.
    fn note(&mut self, partition: &str, note: impl FnOnce(&mut Reads)) {
        let known = self
            .reads
            .iter_mut()
            .find(|reads| reads.partition == partition);
        if let Some(reads) = known {
            return note(reads);
        }
        let mut reads = Reads {
            partition: partition.to_owned(),
            keys: BTreeMap::new(),
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
        let keys = reads
            .keys
            .into_iter()
            .map(|(key, value)| Seen::Key(key, value.map(|value| value.version)));
        let ranges = reads
            .ranges
            .into_iter()
            .map(|(range, keys)| Seen::Range(range, keys));
        keys.chain(ranges).collect()
    }

    fn count_reads(&mut self, count: usize) -> Result<(), Fault> {
        self.read += count;
        if self.read > READS {
            return Err(Fault::new(
                "TOO_MANY",
                format!("more than {READS} reads in one event"),
            ));
        }
        Ok(())
    }

    /// Returns the staged writes of a partition that a range covers, whatever its limit.
    fn staged_in(&self, partition: &str, range: &Range) -> Vec<(String, Write)> {
        if self.written.as_deref() != Some(partition) {
            return Vec::new();
        }
        self.writes
            .range::<str, _>((range.start(), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&range.prefix))
            .map(|(key, write)| (key.clone(), write.clone()))
            .collect()
    }
}

/// One run of a handler. See [`KvTransaction`].
pub struct Transaction {
    pub(super) store: Arc<dyn StateStore>,
    pub(super) plugin: PluginName,
    pub(super) at_ms: u64,
    pub(super) standing: Standing,
    pub(super) work: Mutex<Work>,
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
    pub(super) fn partition_name(&self, name: &str) -> PartitionName {
        PartitionName {
            plugin: self.plugin.clone(),
            name: name.to_owned(),
        }
    }

    pub(super) fn is_alone_in(&self, partition: &str) -> bool {
        matches!(&self.standing, Standing::Alone(own) if own == partition)
    }

    pub(super) fn partition<'a>(&'a self, name: &'a str) -> PartitionOf<'a> {
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
    async fn committed(&self, partition: &str, key: &str) -> Result<Option<String>, Fault> {
        let text = |value: &Option<Versioned>| value.as_ref().map(|value| value.value.clone());
        if let Some(known) = self.work.lock().known(partition, key) {
            return Ok(text(known));
        }
        let value = self
            .store
            .read(self.partition(partition), key, self.at_ms)
            .await?;
        let committed = text(&value);
        self.work.lock().note(partition, |reads| {
            reads.keys.insert(key.to_owned(), value);
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
            let staged = {
                let mut work = self.work.lock();
                work.count_reads(1)?;
                let here = work.written.as_deref() == Some(partition);
                here.then(|| work.writes.get(key).cloned()).flatten()
            };
            match staged {
                None => self.committed(partition, key).await,
                Some(write @ Write::Add(_)) => {
                    let committed = self.committed(partition, key).await?;
                    self.overlay(committed.as_deref(), &write)
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
            if !(1..=PAGE).contains(&limit) {
                return Err(Fault::new(
                    "INVALID",
                    format!("limit: expected 1 to {PAGE}, got {limit}"),
                ));
            }
            let limit = limit as usize;
            let mut range = Range {
                prefix: prefix.to_owned(),
                after: after.map(str::to_owned),
                limit,
            };
            let staged = self.work.lock().staged_in(partition, &range);
            // Staged deletions may take as many out as there are staged keys.
            range.limit += staged.len();
            let found = self
                .store
                .list(self.partition(partition), &range, self.at_ms)
                .await?;
            let versions: Vec<(String, Version)> = found
                .iter()
                .map(|(key, value)| (key.clone(), value.version))
                .collect();
            // Behind the last key of a full page there may be committed keys that were not read.
            let end = (found.len() == range.limit)
                .then(|| found.last().map(|(key, _)| key.clone()))
                .flatten();
            {
                let mut work = self.work.lock();
                work.count_reads(found.len().clamp(1, limit))?;
                work.note(partition, |reads| reads.ranges.push((range, versions)));
            }
            let mut page: BTreeMap<String, String> = found
                .into_iter()
                .map(|(key, found)| (key, found.value))
                .collect();
            for (key, write) in staged {
                if end.as_ref().is_some_and(|end| key > *end) {
                    break;
                }
                match self.overlay(page.get(&key).map(String::as_str), &write)? {
                    Some(value) => page.insert(key, value),
                    None => page.remove(&key),
                };
            }
            Ok(page.into_iter().take(limit).collect())
        })
    }
}
