//! State in Redis (7 or later, or Valkey), shared by all hosts that use it.
//!
//! | key | type | lives | what |
//! |---|---|---|---|
//! | `P` | hash | as long as anything is in it | the partition's entries |
//! | `P:n` | sorted set | as `P` | their names, in byte order |
//! | `P:e` | sorted set | as `P` | those that expire, by when |
//! | `P:t` | sorted set | as long as there are any | timers, by when they are looked at |
//! | `P:c` | sorted set | a minute after the last | ids of the latest commits, so that none is done twice |
//! | `P:o:NODE` | hash | until sent | what the commits of a host want sent |
//! | `P:x` | string | within a script | scratch |
//! | `P:l` | string | 2 s, or until its owner has committed | for whom the partition is reserved |
//! | `PREFIX:timers:{PLUGIN}` | sorted set | as long as there are any | partitions with timers, by when they are looked at |
//! | `PREFIX:timers:{PLUGIN}:announced` | hash | the same | when each was announced last |
//! | `PREFIX:versions` | hash | for ever | the version of each plugin's state |
//! | `PREFIX:nodes` | set | for ever | hosts that may have left something unsent |
//! | `PREFIX:node:NODE` | string | 10 s | that a host lives |
//! | `PREFIX:sweep:NODE` | string | a minute | who sends what a host that ended has left |
//! | `PREFIX:out:NODE` | set | until a host that ended is swept | partitions in which it may have left something, in the last 20 minutes |
//!
//! `P` is `PREFIX:{PLUGIN:PARTITION}`: the keys of a partition share a slot of a cluster. A commit is
//! one script, which decides all before it writes anything. It carries an id, so that it can be
//! tried again where its answer was lost, and a time after which it is refused, so that one which
//! was stuck on its way does nothing after its sender was told that it failed.

mod outbox;
mod reservations;
mod scan;
#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
mod timers;

use crate::{
    core::{
        names::PluginName,
        state::{TIMER, Timer},
    },
    link::{Link, Script, config::RedisConfig, is_uncertain},
    ports::{
        Commit, CommitError, Committed, DueTimer, DueTimers, Fault, Growth, Owner, PartitionOf,
        Range, Seen, StateStore, StateVersions, Unsent, Version, Versioned, Visitor, Write,
    },
};
use dashmap::{DashMap, DashSet};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redis::{FromRedisValue, RedisError, Value};
use std::{
    collections::BTreeSet,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// The pause before a commit is tried again whose answer was lost.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How long it is found out what became of a commit, and how often that is tried.
const SETTLE: Duration = Duration::from_secs(600);
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

struct Scripts {
    commit: Script,
    list: Script,
    claim: Script,
    announce: Script,
    partitions: Script,
    looked: Script,
    postpone: Script,
    reserve: Script,
}

/// State in Redis.
pub struct RedisStore(Arc<Inner>);

struct Inner {
    link: Link,
    scripts: Scripts,
    prefix: String,
    timeout: Duration,
    /// This host, as long as it runs.
    node: String,
    /// How far the clock of Redis is ahead, in milliseconds.
    ahead_ms: AtomicI64,
    versions: DashMap<PluginName, u32>,
    /// Versions that Redis has not been told.
    untold: DashSet<PluginName>,
    /// Partitions that are known as those in which this host may leave something unsent.
    registered: DashSet<String>,
    /// Those of the round before, unless they are registered again.
    retiring: Mutex<Vec<String>>,
    /// The keys under which others' unsent commits are, by partition and place.
    swept: DashMap<(String, u64), String>,
    sent: mpsc::UnboundedSender<outbox::Sent>,
    /// What was committed after its sender had been told that this failed.
    orphans: Mutex<Vec<Unsent>>,
}

impl RedisStore {
    /// Connects.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn open(config: &RedisConfig) -> Result<Self, RedisError> {
        let link = Link::open(config).await?;
        let (sent, told) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            link,
            scripts: Scripts {
                commit: Script::new(include_str!("redis/commit.lua")),
                list: Script::new(include_str!("redis/list.lua")),
                claim: Script::new(include_str!("redis/claim.lua")),
                announce: Script::new(include_str!("redis/announce.lua")),
                partitions: Script::new(include_str!("redis/partitions.lua")),
                looked: Script::new(include_str!("redis/looked.lua")),
                postpone: Script::new(include_str!("redis/postpone.lua")),
                reserve: Script::new(include_str!("redis/reserve.lua")),
            },
            prefix: config.prefix.clone(),
            timeout: config.timeout,
            node: Uuid::now_v7().simple().to_string(),
            ahead_ms: AtomicI64::new(0),
            versions: DashMap::new(),
            untold: DashSet::new(),
            registered: DashSet::new(),
            retiring: Mutex::default(),
            swept: DashMap::new(),
            sent,
            orphans: Mutex::default(),
        });
        // Before anything is stored: as what, and by whose clock.
        inner.beat().await?;
        tokio::spawn(outbox::keep_alive(Arc::downgrade(&inner)));
        tokio::spawn(outbox::tell_sent(Arc::downgrade(&inner), told));
        Ok(Self(inner))
    }
}

/// Returns the time of this host, in milliseconds since 1970 UTC.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// What a plugin is told, and perhaps a client by it. That Redis is in trouble is logged once, when
/// it begins.
fn out_of_reach(error: &RedisError) -> Fault {
    tracing::debug!(%error, "Redis failed");
    Fault::new("UNAVAILABLE", "state is out of reach")
}

fn texts(answer: Value) -> Result<Vec<String>, RedisError> {
    Ok(Vec::<String>::from_redis_value(answer)?)
}

fn version_text(version: Option<Version>) -> String {
    version.map_or_else(String::new, |version| {
        format!("{} {}", version.epoch, version.number)
    })
}

fn version_of(text: &str) -> Option<Version> {
    let (epoch, number) = text.split_once(' ')?;
    Some(Version {
        epoch: epoch.parse().ok()?,
        number: number.parse().ok()?,
    })
}

/// Returns an entry as it is stored: its number, whether it has expired by a time, and its text.
fn entry_of(entry: &str, at_ms: u64) -> Option<(u64, &str)> {
    let (head, text) = entry.split_once('\n')?;
    let (number, expiry) = head.split_once(' ')?;
    let is_live = expiry == "-" || expiry.parse::<u64>().is_ok_and(|expiry| expiry > at_ms);
    is_live.then_some(())?;
    Some((number.parse().ok()?, text))
}

fn bounds_of(range: &Range) -> (String, String) {
    let (min, max) = range.bounds();
    let text = |bound, unbounded: &str| match bound {
        Bound::Included(name) => format!("[{name}"),
        Bound::Excluded(name) => format!("({name}"),
        Bound::Unbounded => unbounded.to_owned(),
    };
    (text(min, "-"), text(max, "+"))
}

fn flag(value: bool) -> String {
    u8::from(value).to_string()
}

impl Inner {
    /// Returns what the keys of a partition begin with.
    fn base(&self, partition: PartitionOf<'_>) -> String {
        format!(
            "{}:{{{}:{}}}",
            self.prefix, partition.plugin, partition.name
        )
    }

    fn outgoing_key(&self, base: &str) -> String {
        format!("{base}:o:{}", self.node)
    }

    async fn read(
        &self,
        partition: PartitionOf<'_>,
        name: &str,
        at_ms: u64,
    ) -> Result<Option<Versioned>, RedisError> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.base(partition)).arg("").arg(name);
        let answer = self.link.run(&command).await?;
        let (head, entry) = <(Option<String>, Option<String>)>::from_redis_value(answer)?;
        let found = head.zip(entry).and_then(|(head, entry)| {
            let (number, text) = entry_of(&entry, at_ms)?;
            let epoch = head.split_once(' ')?.0.parse().ok()?;
            Some(Versioned {
                value: text.to_owned(),
                version: Version { epoch, number },
            })
        });
        Ok(found)
    }

    async fn list(
        &self,
        partition: PartitionOf<'_>,
        range: &Range,
        at_ms: u64,
    ) -> Result<Vec<(String, Versioned)>, RedisError> {
        let base = self.base(partition);
        let keys = [base.clone(), format!("{base}:n")];
        let (min, max) = bounds_of(range);
        let (at, limit) = (at_ms.to_string(), range.limit.to_string());
        let backwards = flag(range.backwards);
        let arguments = [&at, &min, &max, &limit, &backwards];
        let arguments = arguments.into_iter().map(String::as_str);
        let answer = self
            .link
            .script(&self.scripts.list, &keys, arguments)
            .await?;
        let mut found = Vec::new();
        let mut parts = texts(answer)?.into_iter();
        while let (Some(name), Some(version), Some(value)) =
            (parts.next(), parts.next(), parts.next())
        {
            let version = version_of(&version).unwrap_or(Version {
                epoch: 0,
                number: 0,
            });
            found.push((name, Versioned { value, version }));
        }
        Ok(found)
    }

    async fn commit(self: &Arc<Self>, commit: Commit<'_>) -> Result<Committed, CommitError> {
        let (end, late_ms) = (Instant::now() + self.timeout, self.late_ms());
        let base = self.base(commit.partition);
        let unavailable = |error: RedisError| CommitError::Unavailable(format!("Redis: {error}"));
        let due = commit
            .writes
            .iter()
            .filter_map(|(name, write)| match write {
                Write::Set(text, _) if name.starts_with(TIMER) => Timer::due_of(text),
                _ => None,
            });
        let due = due.min();
        // Before, so that no timer is there that nobody knows of; and after, for what is looked at
        // in between.
        if let Some(due) = due {
            self.announce(commit.partition, due)
                .await
                .map_err(unavailable)?;
        }
        if commit.outgoing.is_some() {
            self.register(commit.partition).await.map_err(unavailable)?;
        }
        let keys = ["", ":n", ":e", ":t", ":c"].map(|suffix| format!("{base}{suffix}"));
        let mut keys: Vec<String> = keys.into();
        keys.push(self.outgoing_key(&base));
        keys.push(format!("{base}:x"));
        keys.push(format!("{base}:l"));
        let mut arguments = arguments_of(&commit, late_ms);
        let patience = Instant::now() + reservations::PATIENCE;
        loop {
            let answer = self.link.script(
                &self.scripts.commit,
                &keys,
                arguments.iter().map(String::as_str),
            );
            let answer = match answer.await {
                Ok(answer) => texts(answer).map_err(unavailable)?,
                // Done or not: the id tells, as soon as Redis is there again.
                Err(error) if is_uncertain(&error) => {
                    mark_as_tried(&mut arguments);
                    if Instant::now() + RETRY_PAUSE < end {
                        tokio::time::sleep(RETRY_PAUSE).await;
                        continue;
                    }
                    if let Some(outgoing) = commit.outgoing {
                        let unsent = Unsent {
                            plugin: commit.partition.plugin.clone(),
                            partition: commit.partition.name.to_owned(),
                            place: 0,
                            outgoing: outgoing.to_owned(),
                        };
                        tokio::spawn(self.clone().settle(keys, arguments, unsent));
                    }
                    return Err(unavailable(error));
                }
                Err(error) => return Err(unavailable(error)),
            };
            if answer.first().is_some_and(|word| word == "reserved") && Instant::now() < patience {
                reservations::pause().await;
                arguments = retimed(arguments, self.late_ms());
                continue;
            }
            let mut parts = answer.iter().map(String::as_str);
            let outcome = match (parts.next(), parts.next()) {
                (Some("ok"), Some(place)) => {
                    let mut number = || parts.next().and_then(|number| number.parse().ok());
                    let growth = Growth {
                        entries: number().unwrap_or(0),
                        bytes: number().unwrap_or(0),
                    };
                    let place = place.parse().unwrap_or(0);
                    Ok(Committed { place, growth })
                }
                (Some("conflict"), _) => Err(CommitError::Conflict),
                (Some("reserved"), _) => Err(CommitError::Unavailable(
                    "other hosts keep the partition for themselves".to_owned(),
                )),
                (Some("invalid"), Some(why)) => Err(CommitError::Invalid(why.to_owned())),
                (Some("late"), _) => Err(CommitError::Unavailable(
                    "Redis took too long to answer".to_owned(),
                )),
                _ => Err(CommitError::Unavailable(format!(
                    "Redis answered what was not expected: {answer:?}"
                ))),
            };
            if let (Ok(_), Some(due)) = (&outcome, due) {
                // It is known already, only perhaps looked at late.
                if let Err(error) = self.announce(commit.partition, due).await {
                    tracing::debug!(%error, "a timer was not announced again");
                }
            }
            return outcome;
        }
    }

    /// Returns when a commit that begins now is too late, by the clock of Redis.
    fn late_ms(&self) -> i64 {
        let timeout = i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX);
        now_ms() + self.ahead_ms.load(Ordering::Relaxed) + timeout
    }

    /// Finds out what became of a commit whose sender was told that it failed: too late to be done
    /// now, it was done or it never will be. What it wants sent is sent then.
    async fn settle(self: Arc<Self>, keys: Vec<String>, arguments: Vec<String>, unsent: Unsent) {
        let end = Instant::now() + SETTLE;
        while Instant::now() < end {
            tokio::time::sleep(SETTLE_PAUSE).await;
            let arguments = arguments.iter().map(String::as_str);
            let answer = self.link.script(&self.scripts.commit, &keys, arguments);
            let Ok(Ok(answer)) = answer.await.map(texts) else {
                continue;
            };
            if let [done, place, ..] = answer.as_slice()
                && done == "ok"
            {
                let place = place.parse().unwrap_or(0);
                self.orphans.lock().push(Unsent { place, ..unsent });
            }
            return;
        }
    }
}

/// Gives a commit that has not been decided upon more time.
fn retimed(mut arguments: Vec<String>, late_ms: i64) -> Vec<String> {
    if let Some(late) = arguments.get_mut(1) {
        *late = late_ms.to_string();
    }
    arguments
}

/// Says that a commit has been tried before.
fn mark_as_tried(arguments: &mut [String]) {
    if let Some(tried) = arguments.get_mut(2) {
        *tried = flag(true);
    }
}

fn arguments_of(commit: &Commit<'_>, late_ms: i64) -> Vec<String> {
    let mut arguments = vec![
        Uuid::now_v7().simple().to_string(),
        late_ms.to_string(),
        flag(false),
        commit.at_ms.to_string(),
        rand::random::<u64>().to_string(),
        commit.outgoing.unwrap_or_default().to_owned(),
        commit
            .owner
            .map_or_else(String::new, |owner| owner.to_string()),
        commit.seen.len().to_string(),
    ];
    for seen in commit.seen {
        match seen {
            Seen::Key(name, version) => {
                arguments.extend(["k".to_owned(), name.clone(), version_text(*version)]);
            }
            Seen::Range(range, names) => {
                let (min, max) = bounds_of(range);
                arguments.extend(["r".to_owned(), min, max, range.limit.to_string()]);
                arguments.extend([flag(range.backwards), names.len().to_string()]);
                for (name, version) in names {
                    arguments.extend([name.clone(), version_text(Some(*version))]);
                }
            }
        }
    }
    arguments.push(commit.writes.len().to_string());
    for (name, write) in commit.writes {
        match write {
            Write::Set(text, expiry) => {
                let expiry = expiry.map_or_else(|| "-".to_owned(), |at| at.to_string());
                arguments.extend(["s".to_owned(), name.clone(), text.clone(), expiry]);
            }
            Write::Delete => arguments.extend(["d".to_owned(), name.clone()]),
            Write::Add(delta) => {
                arguments.extend(["a".to_owned(), name.clone(), delta.to_string()]);
            }
        }
    }
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |some| some.to_string());
    let retention = commit
        .history
        .retention
        .map(|retention| format!("{} {}", number(retention.count), number(retention.age_ms)));
    arguments.push(retention.unwrap_or_default());
    arguments.push(commit.history.appends.len().to_string());
    for (id, key, record) in &commit.history.appends {
        arguments.extend([id.clone(), key.clone().unwrap_or_default(), record.clone()]);
    }
    arguments
}

impl StateStore for RedisStore {
    fn read<'a>(
        &'a self,
        partition: PartitionOf<'a>,
        name: &'a str,
        at_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Versioned>, Fault>> {
        Box::pin(async move {
            let found = self.0.read(partition, name, at_ms).await;
            found.map_err(|error| out_of_reach(&error))
        })
    }

    fn list<'a>(
        &'a self,
        partition: PartitionOf<'a>,
        range: &'a Range,
        at_ms: u64,
    ) -> BoxFuture<'a, Result<Vec<(String, Versioned)>, Fault>> {
        Box::pin(async move {
            let found = self.0.list(partition, range, at_ms).await;
            found.map_err(|error| out_of_reach(&error))
        })
    }

    fn commit<'a>(&'a self, commit: Commit<'a>) -> BoxFuture<'a, Result<Committed, CommitError>> {
        Box::pin(self.0.commit(commit))
    }

    fn reserve<'a>(
        &'a self,
        partition: PartitionOf<'a>,
        owner: Owner,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let reserved = self.0.reserve(partition, owner).await;
            reserved.map_err(|error| out_of_reach(&error))
        })
    }

    fn give_up(&self, partition: PartitionOf<'_>, owner: Owner) {
        self.0.give_up(partition, owner);
    }

    fn outlives_the_host(&self) -> bool {
        true
    }

    fn sent(&self, partition: PartitionOf<'_>, place: u64) {
        self.0.note_sent(partition, place);
    }

    fn unsent(&self) -> BoxFuture<'_, Result<Vec<Unsent>, Fault>> {
        Box::pin(async move {
            let unsent = self.0.unsent().await;
            unsent.map_err(|error| out_of_reach(&error))
        })
    }

    fn due<'a>(
        &'a self,
        plugins: &'a BTreeSet<PluginName>,
        now_ms: u64,
        until_ms: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<DueTimers, Fault>> {
        Box::pin(async move {
            let due = self.0.due(plugins, now_ms, until_ms, limit).await;
            due.map_err(|error| out_of_reach(&error))
        })
    }

    fn postpone<'a>(&'a self, timer: &'a DueTimer, until_ms: u64) -> BoxFuture<'a, ()> {
        Box::pin(self.0.postpone(timer, until_ms))
    }

    fn each<'a>(
        &'a self,
        plugin: Option<&'a PluginName>,
        at_ms: u64,
        visitor: &'a mut Visitor<'_>,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.0.each(plugin, at_ms, visitor))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.close())
    }
}

impl StateVersions for RedisStore {
    fn stored(&self, plugin: &PluginName) -> Option<u32> {
        self.0.versions.get(plugin).map(|version| *version)
    }

    fn all_stored(&self) -> Vec<(PluginName, u32)> {
        let all = self.0.versions.iter();
        all.map(|entry| (entry.key().clone(), *entry.value()))
            .collect()
    }

    fn record(&self, plugin: &PluginName, version: u32) {
        if self.0.versions.insert(plugin.clone(), version) == Some(version) {
            return;
        }
        self.0.untold.insert(plugin.clone());
        let inner = self.0.clone();
        tokio::spawn(async move {
            if let Err(error) = inner.tell_versions().await {
                tracing::warn!(%error, "the version of a plugin's state is not recorded yet");
            }
        });
    }
}
