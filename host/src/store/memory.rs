//! State in memory: gone when the host ends.

use super::{
    decide::{Entries, KEEP_EXPIRED_MS, Live, Undecided, decide},
    timers::TimerIndex,
};
use crate::{
    core::names::PluginName,
    ports::{
        Commit, CommitError, Committed, DueTimer, DueTimers, Fault, Growth, PartitionOf, Range,
        StateStore, StateVersions, Stored, Unsent, Version, Versioned, Visitor,
    },
};
use dashmap::DashMap;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
};

/// How many expired entries of a partition are removed at once, so that no commit takes long.
const PURGE_ENTRIES: usize = 1_000;
/// How many partitions a commit may purge. It makes at most one due, so that they do not pile up.
const PURGE_PARTITIONS: usize = 2;
/// Dates of the calendar below which none are thrown away.
const MIN_DATES: usize = 64;
/// The time at which nothing is due.
const NEVER: u64 = u64::MAX;

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
    /// The entries that expire, in the order in which they do.
    expiring: BTreeSet<(u64, String)>,
    /// When it is looked at next for expired entries.
    due: u64,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            epoch: rand::random(),
            number: 0,
            entries: BTreeMap::new(),
            expiring: BTreeSet::new(),
            due: NEVER,
        }
    }
}

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
        range: &Range,
        at_ms: u64,
    ) -> impl Iterator<Item = (&'a String, &'a Entry)> + use<'a> {
        let (mut entries, backwards) = (self.entries.range(range.bounds()), range.backwards);
        let next = move || match backwards {
            true => entries.next_back(),
            false => entries.next(),
        };
        std::iter::from_fn(next)
            .filter(move |(_, entry)| entry.is_live(at_ms))
            .take(range.limit)
    }

    fn put(&mut self, key: &str, entry: Option<Entry>, growth: &mut Growth) {
        let bytes = |entry: &Entry| key.len() + entry.value.len();
        growth.now(entry.as_ref().map(bytes));
        if let Some(expires_at) = entry.as_ref().and_then(|entry| entry.expires_at) {
            self.expiring.insert((expires_at, key.to_owned()));
        }
        let now = entry.as_ref().and_then(|entry| entry.expires_at);
        let before = match entry {
            Some(entry) => self.entries.insert(key.to_owned(), entry),
            None => self.entries.remove(key),
        };
        growth.before(before.as_ref().map(bytes));
        if let Some(before) = before.and_then(|entry| entry.expires_at)
            && now != Some(before)
        {
            self.expiring.remove(&(before, key.to_owned()));
        }
    }

    fn apply(&mut self, commit: &Commit<'_>, timers: &TimerIndex) -> Result<Growth, CommitError> {
        let changes = decide(self, commit).map_err(|undecided| match undecided {
            Undecided::Refused(error) => error,
            Undecided::Failed(never) => match never {},
        })?;
        self.number += 1;
        let version = self.number;
        let mut growth = Growth::default();
        for (name, to) in changes {
            timers.wrote(
                commit.partition,
                &name,
                to.as_ref().map(|(value, _)| &**value),
            );
            let entry = to.map(|(value, expires_at)| Entry {
                value: value.into_owned(),
                version,
                expires_at,
            });
            self.put(&name, entry, &mut growth);
        }
        Ok(growth)
    }

    /// Removes what had expired by a time, or a part of it where it is much.
    fn purge(&mut self, expired_by: u64) {
        for _ in 0..PURGE_ENTRIES {
            match self.expiring.pop_first() {
                Some((expires_at, key)) if expires_at <= expired_by => {
                    self.entries.remove(&key);
                }
                Some(later) => {
                    self.expiring.insert(later);
                    return;
                }
                None => return,
            }
        }
    }

    /// Returns when the partition has to be looked at, if that is earlier than was planned.
    fn plan(&mut self) -> Option<u64> {
        let (expires_at, _) = self.expiring.first()?;
        let due = expires_at.saturating_add(KEEP_EXPIRED_MS);
        (due < self.due).then(|| {
            self.due = due;
            due
        })
    }
}

impl Entries for Partition {
    type Error = Infallible;

    fn live(&self, key: &str, at_ms: u64) -> Result<Option<Live<'_>>, Infallible> {
        Ok(Partition::live(self, key, at_ms).map(|entry| Live {
            value: Cow::Borrowed(&entry.value),
            version: self.version(entry.version),
            expires_at: entry.expires_at,
        }))
    }

    fn range_is(
        &self,
        range: &Range,
        at_ms: u64,
        keys: &[(String, Version)],
    ) -> Result<bool, Infallible> {
        Ok(self
            .range(range, at_ms)
            .map(|(key, entry)| (key, self.version(entry.version)))
            .eq(keys.iter().map(|(key, version)| (key, *version))))
    }
}

type PartitionName = (PluginName, String);

/// When partitions have something to be removed, the earliest first. One that was planned anew or is
/// gone stays at its former time, until there are more of those than of the others.
struct Calendar {
    /// The time of the first, to be read without a lock.
    next: AtomicU64,
    dates: Mutex<Dates>,
}

#[derive(Default)]
struct Dates {
    dates: BinaryHeap<Reverse<(u64, PartitionName)>>,
    /// At how many dates those that do not hold any more are thrown away.
    tidy_at: usize,
}

impl Default for Calendar {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(NEVER),
            dates: Mutex::default(),
        }
    }
}

impl Calendar {
    /// Adds a date; `holds` tells whether one is still what is planned.
    fn add(&self, date: (u64, PartitionName), holds: impl Fn(u64, &PartitionName) -> bool) {
        let mut dates = self.dates.lock();
        self.next.fetch_min(date.0, Ordering::AcqRel);
        dates.dates.push(Reverse(date));
        if dates.dates.len() >= dates.tidy_at {
            dates.dates.retain(|Reverse((due, name))| holds(*due, name));
            dates.tidy_at = (dates.dates.len() * 2).max(MIN_DATES);
        }
    }

    fn take_due(&self, now: u64) -> Option<(u64, PartitionName)> {
        if now < self.next.load(Ordering::Acquire) {
            return None;
        }
        let mut dates = self.dates.lock();
        let is_due = |Reverse((due, _)): &Reverse<(u64, PartitionName)>| *due <= now;
        let due = dates
            .dates
            .peek()
            .is_some_and(is_due)
            .then(|| dates.dates.pop())
            .flatten();
        let next = dates.dates.peek().map_or(NEVER, |Reverse((due, _))| *due);
        self.next.store(next, Ordering::Release);
        due.map(|Reverse(date)| date)
    }
}

/// State in memory.
#[derive(Default)]
pub struct MemoryStore {
    partitions: DashMap<PartitionName, Partition>,
    calendar: Calendar,
    versions: DashMap<PluginName, u32>,
    timers: TimerIndex,
    commits: AtomicU64,
}

impl MemoryStore {
    /// Removes some of what expired well before.
    fn purge(&self, now: u64) {
        for _ in 0..PURGE_PARTITIONS {
            let Some((due, name)) = self.calendar.take_due(now) else {
                return;
            };
            let Some(mut partition) = self.partitions.get_mut(&name) else {
                continue;
            };
            if partition.due != due {
                continue;
            }
            partition.purge(now.saturating_sub(KEEP_EXPIRED_MS));
            partition.due = NEVER;
            let next = partition.plan();
            let is_empty = partition.entries.is_empty();
            drop(partition);
            if is_empty {
                self.forget_if_empty(&name);
            } else if let Some(next) = next {
                self.plan(next, name);
            }
        }
    }

    /// Plans a look at a partition. Must not be called while any partition is locked.
    fn plan(&self, due: u64, name: PartitionName) {
        self.calendar.add((due, name), |due, name| {
            let partition = self.partitions.get(name);
            partition.is_some_and(|partition| partition.due == due)
        });
    }

    fn forget_if_empty(&self, name: &PartitionName) {
        self.partitions
            .remove_if(name, |_, partition| partition.entries.is_empty());
    }
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

    fn commit<'a>(&'a self, commit: Commit<'a>) -> BoxFuture<'a, Result<Committed, CommitError>> {
        let name = name(commit.partition);
        let mut partition = self.partitions.entry(name.clone()).or_default();
        let done = partition
            .apply(&commit, &self.timers)
            .map(|growth| Committed {
                place: self.commits.fetch_add(1, Ordering::Relaxed) + 1,
                growth,
            });
        let next = partition.plan();
        let is_empty = partition.entries.is_empty();
        drop(partition);
        if is_empty {
            self.forget_if_empty(&name);
        } else if let Some(next) = next {
            self.plan(next, name);
        }
        self.purge(commit.at_ms);
        Box::pin(ready(done))
    }

    fn outlives_the_host(&self) -> bool {
        false
    }

    fn sent(&self, _: PartitionOf<'_>, _: u64) {}

    fn unsent(&self) -> BoxFuture<'_, Result<Vec<Unsent>, Fault>> {
        Box::pin(ready(Ok(Vec::new())))
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
        let names = self.partitions.iter().map(|entry| entry.key().clone());
        let names: Vec<PartitionName> = names
            .filter(|(of, _)| plugin.is_none_or(|plugin| plugin == of))
            .collect();
        for name in names {
            // No lock is held while somebody else's code runs.
            let entries: Vec<Stored> = match self.partitions.get(&name) {
                Some(partition) => partition
                    .entries
                    .iter()
                    .filter(|(_, entry)| entry.is_live(at_ms))
                    .map(|(entry_name, entry)| Stored {
                        plugin: name.0.clone(),
                        partition: name.1.clone(),
                        name: entry_name.clone(),
                        text: entry.value.clone(),
                        expires_at: entry.expires_at,
                    })
                    .collect(),
                None => continue,
            };
            for entry in entries {
                if let Err(why) = visitor(entry) {
                    return Box::pin(ready(Err(Fault::new("UNAVAILABLE", why))));
                }
            }
        }
        Box::pin(ready(Ok(())))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}

impl StateVersions for MemoryStore {
    fn stored(&self, plugin: &PluginName) -> Option<u32> {
        self.versions.get(plugin).map(|version| *version)
    }

    fn all_stored(&self) -> Vec<(PluginName, u32)> {
        let all = self.versions.iter();
        all.map(|entry| (entry.key().clone(), *entry.value()))
            .collect()
    }

    fn record(&self, plugin: &PluginName, version: u32) {
        self.versions.insert(plugin.clone(), version);
    }
}

#[cfg(test)]
super::suite::suite!((super::MemoryStore::default(), ()));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{HistoryWrites, Seen, Write};

    /// Sets a key of a partition at a time.
    async fn set(store: &MemoryStore, partition: &str, at_ms: u64, expires_at: Option<u64>) {
        let plugin = PluginName::new("p").unwrap();
        let writes = BTreeMap::from([("x".to_owned(), Write::Set("1".to_owned(), expires_at))]);
        let commit = Commit {
            partition: PartitionOf {
                plugin: &plugin,
                name: partition,
            },
            at_ms,
            seen: &[],
            writes: &writes,
            history: &HistoryWrites::default(),
            outgoing: None,
            owner: None,
        };
        store.commit(commit).await.unwrap();
    }

    #[tokio::test]
    async fn what_expired_is_forgotten_wherever_it_is() {
        let store = MemoryStore::default();
        set(&store, "lasting", 1, None).await;
        set(&store, "prolonged", 1_000, Some(2_000)).await;
        set(&store, "prolonged", 1_000, Some(9_000_000)).await;
        set(&store, "kept", 1_000, Some(2_000)).await;
        set(&store, "kept", 1_000, None).await;
        for number in 0..1_000 {
            set(&store, &format!("user {number}"), 1_000, Some(2_000)).await;
        }
        // An event that was received before the expiry may still come.
        for number in 0..1_000 {
            set(&store, "another", 61_000 + number % 999, None).await;
        }
        assert_eq!(store.partitions.len(), 1_004);
        for _ in 0..1_000 {
            set(&store, "another", 62_000, None).await;
        }
        assert_eq!(store.partitions.len(), 4);
        assert_eq!(store.calendar.dates.lock().dates.len(), 1);
        let prolonged = (PluginName::new("p").unwrap(), "prolonged".to_owned());
        let partition = store.partitions.get(&prolonged).unwrap();
        assert_eq!((partition.entries.len(), partition.expiring.len()), (1, 1));
    }

    #[tokio::test]
    async fn dates_that_do_not_hold_any_more_do_not_pile_up() {
        let store = MemoryStore::default();
        for number in 0..10_000 {
            set(&store, "a", 1_000, Some(9_000_000 - number)).await;
        }
        assert!(store.calendar.dates.lock().dates.len() <= MIN_DATES);
    }

    #[tokio::test]
    async fn a_partition_that_is_emptied_is_forgotten() {
        let store = MemoryStore::default();
        set(&store, "a", 1, None).await;
        let plugin = PluginName::new("p").unwrap();
        for (write, seen) in [
            (Write::Delete, Vec::new()),
            // Refused: it leaves nothing behind either.
            (
                Write::Set(String::new(), None),
                vec![Seen::Key(
                    "x".to_owned(),
                    Some(Version {
                        epoch: 0,
                        number: 1,
                    }),
                )],
            ),
        ] {
            let commit = Commit {
                partition: PartitionOf {
                    plugin: &plugin,
                    name: "a",
                },
                at_ms: 1,
                seen: &seen,
                writes: &BTreeMap::from([("x".to_owned(), write)]),
                history: &HistoryWrites::default(),
                outgoing: None,
                owner: None,
            };
            let done = store.commit(commit).await;
            assert_eq!(done.is_ok(), seen.is_empty());
            assert!(store.partitions.is_empty());
        }
    }
}
