//! State in memory: gone when the host ends.

use crate::{
    core::names::PluginName,
    ports::{
        Commit, CommitError, Fault, PartitionOf, Range, Seen, StateStore, StateVersions, Version,
        Versioned, Write,
    },
    transactions::added,
};
use dashmap::DashMap;
use futures_util::future::{BoxFuture, ready};
use std::{collections::BTreeMap, ops::Bound};

struct Entry {
    value: String,
    version: u64,
    expires_at: Option<u64>,
}

impl Entry {
    fn is_live(&self, at_ms: u64) -> bool {
        self.expires_at.is_none_or(|expires_at| expires_at > at_ms)
    }
}

struct Partition {
    epoch: u64,
    number: u64,
    entries: BTreeMap<String, Entry>,
    /// Commits until expired entries are looked for.
    sweep_in: usize,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            epoch: rand::random(),
            number: 0,
            entries: BTreeMap::new(),
            sweep_in: SWEEP_EVERY,
        }
    }
}

/// Expired entries are removed after as many commits as there are entries, and at least so many: so
/// that looking at all of them costs each commit a constant.
const SWEEP_EVERY: usize = 64;

impl Partition {
    fn version(&self, number: u64) -> Version {
        Version {
            epoch: self.epoch,
            number,
        }
    }

    fn live(&self, key: &str, at_ms: u64) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.is_live(at_ms))
    }

    fn range<'a>(
        &'a self,
        range: &'a Range,
        at_ms: u64,
    ) -> impl Iterator<Item = (&'a String, &'a Entry)> {
        let start = match &range.after {
            Some(after) if *after >= range.prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(range.prefix.as_str()),
        };
        self.entries
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&range.prefix))
            .filter(move |(_, entry)| entry.is_live(at_ms))
            .take(range.limit)
    }

    fn is_still(&self, seen: &Seen, at_ms: u64) -> bool {
        match seen {
            Seen::Key(key, version) => {
                let now = self
                    .live(key, at_ms)
                    .map(|entry| self.version(entry.version));
                now == *version
            }
            Seen::Range(range, keys) => self
                .range(range, at_ms)
                .map(|(key, entry)| (key, self.version(entry.version)))
                .eq(keys.iter().map(|(key, version)| (key, *version))),
        }
    }

    fn apply(&mut self, commit: &Commit<'_>) -> Result<u64, CommitError> {
        if !commit
            .seen
            .iter()
            .all(|seen| self.is_still(seen, commit.at_ms))
        {
            return Err(CommitError::Conflict);
        }
        // Everything that can fail comes before anything is changed.
        let mut sums = BTreeMap::new();
        for (key, write) in commit.writes {
            if let Write::Add(delta) = write {
                let live = self.live(key, commit.at_ms);
                let sum = added(live.map(|entry| entry.value.as_str()), *delta)
                    .map_err(CommitError::Invalid)?;
                sums.insert(key, (sum, live.and_then(|entry| entry.expires_at)));
            }
        }
        self.number += 1;
        for (key, write) in commit.writes {
            let (value, expires_at) = match write {
                Write::Delete => {
                    self.entries.remove(key);
                    continue;
                }
                Write::Set(value, expires_at) => (value.clone(), *expires_at),
                Write::Add(_) => match sums.remove(key) {
                    Some(sum) => sum,
                    None => continue,
                },
            };
            let entry = Entry {
                value,
                version: self.number,
                expires_at,
            };
            self.entries.insert(key.clone(), entry);
        }
        self.sweep_in = self.sweep_in.saturating_sub(1);
        if self.sweep_in == 0 {
            // Only what expired well before: an event that was received earlier may still be
            // handled, and is to see what it would have seen then.
            let before = commit.at_ms.saturating_sub(KEEP_EXPIRED_MS);
            self.entries.retain(|_, entry| entry.is_live(before));
            self.sweep_in = self.entries.len().max(SWEEP_EVERY);
        }
        Ok(self.number)
    }
}

/// How long expired entries are kept at least, in milliseconds.
const KEEP_EXPIRED_MS: u64 = 60_000;

type PartitionName = (PluginName, String);

/// State in memory.
#[derive(Default)]
pub struct MemoryStore {
    partitions: DashMap<PartitionName, Partition>,
    versions: DashMap<PluginName, u32>,
}

fn name(partition: PartitionOf<'_>) -> PartitionName {
    (partition.plugin.clone(), partition.name.to_owned())
}

impl StateStore for MemoryStore {
    fn read<'a>(
        &'a self,
        partition: PartitionOf<'a>,
        key: &'a str,
        at_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Versioned>, Fault>> {
        let found = self.partitions.get(&name(partition)).and_then(|partition| {
            let entry = partition.live(key, at_ms)?;
            Some(Versioned {
                value: entry.value.clone(),
                version: partition.version(entry.version),
            })
        });
        Box::pin(ready(Ok(found)))
    }

    fn list<'a>(
        &'a self,
        partition: PartitionOf<'a>,
        range: &'a Range,
        at_ms: u64,
    ) -> BoxFuture<'a, Result<Vec<(String, Versioned)>, Fault>> {
        let found = self
            .partitions
            .get(&name(partition))
            .map(|partition| {
                partition
                    .range(range, at_ms)
                    .map(|(key, entry)| {
                        let found = Versioned {
                            value: entry.value.clone(),
                            version: partition.version(entry.version),
                        };
                        (key.clone(), found)
                    })
                    .collect()
            })
            .unwrap_or_default();
        Box::pin(ready(Ok(found)))
    }

    fn commit<'a>(&'a self, commit: Commit<'a>) -> BoxFuture<'a, Result<u64, CommitError>> {
        let name = name(commit.partition);
        let mut partition = self.partitions.entry(name.clone()).or_default();
        let done = partition.apply(&commit);
        let empty = partition.entries.is_empty();
        drop(partition);
        if empty {
            self.partitions
                .remove_if(&name, |_, partition| partition.entries.is_empty());
        }
        Box::pin(ready(done))
    }
}

impl StateVersions for MemoryStore {
    fn stored(&self, plugin: &PluginName) -> Option<u32> {
        self.versions.get(plugin).map(|version| *version)
    }

    fn record(&self, plugin: &PluginName, version: u32) {
        self.versions.insert(plugin.clone(), version);
    }
}

#[cfg(test)]
super::suite::suite!(super::MemoryStore::default());
