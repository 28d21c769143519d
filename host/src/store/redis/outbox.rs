//! What hosts leave unsent in Redis, and how it is known that they have ended.

use super::{Inner, now_ms};
use crate::{
    core::names::PluginName,
    ports::{PartitionOf, Unsent},
};
use futures_util::future::try_join_all;
use redis::{Cmd, FromRedisValue, RedisResult};
use std::{
    collections::HashMap,
    sync::{Weak, atomic::Ordering},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// How often a host says that it lives, and how long it is believed, in milliseconds.
const BEAT: Duration = Duration::from_secs(2);
const BELIEVED_MS: u64 = 10_000;
/// How long one host has for sending what another has left, in milliseconds.
const SWEEP_MS: u64 = 60_000;
/// Partitions that are looked at together.
const PARTITIONS: usize = 256;

/// How long after a failure what was sent is noted again.
const NOTE_AGAIN: Duration = Duration::from_secs(2);

/// After how many beats partitions are looked at in which this host has left nothing for long.
const BEATS_OF_A_ROUND: u32 = 300;

/// What has been sent: where it is noted, and the place of its commit.
pub(super) enum Sent {
    Place(String, u64),
    /// Answered when all before it is written.
    Flush(oneshot::Sender<()>),
    /// What failed is to be tried again.
    Again,
}

impl Inner {
    fn key(&self, what: &str) -> String {
        format!("{}:{what}", self.prefix)
    }

    /// Says that this host lives, and learns what others have changed.
    pub(super) async fn beat(&self) -> RedisResult<()> {
        let before = now_ms();
        let time = self.link.run(&redis::cmd("TIME")).await?;
        let (seconds, micros) = <(i64, i64)>::from_redis_value(time)?;
        let here = before + (now_ms() - before) / 2;
        let ahead = seconds * 1_000 + micros / 1_000 - here;
        self.ahead_ms.store(ahead, Ordering::Relaxed);
        let mut alive = redis::cmd("SET");
        alive.arg(self.key(&format!("node:{}", self.node))).arg(1);
        alive.arg("PX").arg(BELIEVED_MS);
        self.link.run(&alive).await?;
        let mut known = redis::cmd("SADD");
        known.arg(self.key("nodes")).arg(&self.node);
        let is_new = bool::from_redis_value(self.link.run(&known).await?)?;
        let mut registered: Vec<String> = self.registered.iter().map(|one| one.clone()).collect();
        registered.extend(self.retiring.lock().iter().cloned());
        if is_new && !registered.is_empty() {
            // Others have taken this host for dead, or Redis has lost what it knew.
            let mut again = redis::cmd("SADD");
            again
                .arg(self.key(&format!("out:{}", self.node)))
                .arg(registered);
            self.link.run(&again).await?;
        }
        self.tell_versions().await?;
        let mut versions = redis::cmd("HGETALL");
        versions.arg(self.key("versions"));
        let versions = self.link.run(&versions).await?;
        for (plugin, version) in HashMap::<String, u32>::from_redis_value(versions)? {
            if let Ok(plugin) = PluginName::new(&plugin)
                && !self.untold.contains(&plugin)
            {
                self.versions.insert(plugin, version);
            }
        }
        Ok(())
    }

    pub(super) async fn tell_versions(&self) -> RedisResult<()> {
        let untold: Vec<PluginName> = self.untold.iter().map(|name| name.clone()).collect();
        for plugin in untold {
            let Some(version) = self.versions.get(&plugin).map(|version| *version) else {
                continue;
            };
            let mut command = redis::cmd("HSET");
            command
                .arg(self.key("versions"))
                .arg(plugin.as_str())
                .arg(version);
            self.link.run(&command).await?;
            self.untold.remove(&plugin);
        }
        Ok(())
    }

    /// Makes sure that it is known where this host may leave something unsent.
    pub(super) async fn register(&self, partition: PartitionOf<'_>) -> RedisResult<()> {
        let member = format!("{}\n{}", partition.plugin, partition.name);
        if self.registered.contains(&member) {
            return Ok(());
        }
        let mut command = redis::cmd("SADD");
        command
            .arg(self.key(&format!("out:{}", self.node)))
            .arg(&member);
        self.link.run(&command).await?;
        self.registered.insert(member);
        Ok(())
    }

    /// Begins to forget the partitions that are registered now, and forgets those of the round before
    /// in which nothing has been committed since, and nothing waits. A round is far longer than any
    /// commit takes.
    pub(super) async fn forget_registered(&self) -> RedisResult<()> {
        let out = self.key(&format!("out:{}", self.node));
        let retiring = std::mem::take(&mut *self.retiring.lock());
        for member in retiring {
            if self.registered.contains(&member) {
                continue;
            }
            if let Some((plugin, partition)) = member.split_once('\n')
                && let Ok(plugin) = PluginName::new(plugin)
            {
                let base = self.base(PartitionOf {
                    plugin: &plugin,
                    name: partition,
                });
                let mut waiting = redis::cmd("EXISTS");
                waiting.arg(self.outgoing_key(&base));
                if bool::from_redis_value(self.link.run(&waiting).await?)? {
                    self.retiring.lock().push(member);
                    continue;
                }
            }
            let mut command = redis::cmd("SREM");
            command.arg(&out).arg(&member);
            self.link.run(&command).await?;
            // It may have been registered in between.
            if self.registered.contains(&member) {
                let mut command = redis::cmd("SADD");
                command.arg(&out).arg(&member);
                self.link.run(&command).await?;
            }
        }
        let now: Vec<String> = self
            .registered
            .iter()
            .map(|member| member.clone())
            .collect();
        for member in &now {
            self.registered.remove(member);
        }
        self.retiring.lock().extend(now);
        Ok(())
    }

    pub(super) fn note_sent(&self, partition: PartitionOf<'_>, place: u64) {
        let base = self.base(partition);
        let swept = self.swept.remove(&(base.clone(), place));
        let key = swept.map_or_else(|| self.outgoing_key(&base), |(_, key)| key);
        // Nobody listens any more once the store is let go of.
        self.sent.send(Sent::Place(key, place)).ok();
    }

    /// Returns what hosts that have ended left, for this one to send.
    pub(super) async fn unsent(&self) -> RedisResult<Vec<Unsent>> {
        let mut nodes = redis::cmd("SMEMBERS");
        nodes.arg(self.key("nodes"));
        let nodes = Vec::<String>::from_redis_value(self.link.run(&nodes).await?)?;
        let mut unsent = std::mem::take(&mut *self.orphans.lock());
        for node in nodes {
            if node != self.node && !self.lives(&node).await? && self.may_sweep(&node).await? {
                let left = self.left_by(&node).await?;
                if left.is_empty() {
                    self.forget(&node).await?;
                }
                unsent.extend(left);
            }
        }
        Ok(unsent)
    }

    async fn lives(&self, node: &str) -> RedisResult<bool> {
        let mut command = redis::cmd("EXISTS");
        command.arg(self.key(&format!("node:{node}")));
        Ok(bool::from_redis_value(self.link.run(&command).await?)?)
    }

    async fn may_sweep(&self, node: &str) -> RedisResult<bool> {
        let mut command = redis::cmd("SET");
        command
            .arg(self.key(&format!("sweep:{node}")))
            .arg(&self.node);
        command.arg("NX").arg("PX").arg(SWEEP_MS);
        Ok(Option::<String>::from_redis_value(self.link.run(&command).await?)?.is_some())
    }

    async fn left_by(&self, node: &str) -> RedisResult<Vec<Unsent>> {
        let mut members = redis::cmd("SMEMBERS");
        members.arg(self.key(&format!("out:{node}")));
        let members = Vec::<String>::from_redis_value(self.link.run(&members).await?)?;
        let mut unsent = Vec::new();
        for members in members.chunks(PARTITIONS) {
            let left = members.iter().map(|member| self.left_in(node, member));
            for left in try_join_all(left).await? {
                unsent.extend(left);
            }
            // However many there are, nobody else begins in the meantime.
            let mut renew = redis::cmd("PEXPIRE");
            renew.arg(self.key(&format!("sweep:{node}"))).arg(SWEEP_MS);
            self.link.run(&renew).await?;
        }
        Ok(unsent)
    }

    /// Returns what a host left in one partition, in its order.
    async fn left_in(&self, node: &str, member: &str) -> RedisResult<Vec<Unsent>> {
        let whole = member.split_once('\n');
        let Some((Ok(plugin), partition)) =
            whole.map(|(plugin, partition)| (PluginName::new(plugin), partition))
        else {
            return Ok(Vec::new());
        };
        let base = self.base(PartitionOf {
            plugin: &plugin,
            name: partition,
        });
        let key = format!("{base}:o:{node}");
        let mut command = redis::cmd("HGETALL");
        command.arg(&key);
        let left = self.link.run(&command).await?;
        let mut left: Vec<(u64, String)> = HashMap::<u64, String>::from_redis_value(left)?
            .into_iter()
            .collect();
        left.sort_unstable_by_key(|(place, _)| *place);
        let unsent = left.into_iter().map(|(place, outgoing)| {
            self.swept.insert((base.clone(), place), key.clone());
            Unsent {
                plugin: plugin.clone(),
                partition: partition.to_owned(),
                place,
                outgoing,
            }
        });
        Ok(unsent.collect())
    }

    /// Forgets a host that has left nothing.
    async fn forget(&self, node: &str) -> RedisResult<()> {
        let mut out = redis::cmd("DEL");
        out.arg(self.key(&format!("out:{node}")));
        let mut known = redis::cmd("SREM");
        known.arg(self.key("nodes")).arg(node);
        let mut sweep = redis::cmd("DEL");
        sweep.arg(self.key(&format!("sweep:{node}")));
        for command in [out, known, sweep] {
            self.link.run(&command).await?;
        }
        Ok(())
    }

    /// Writes what is still to be written, and leaves.
    pub(super) async fn close(&self) {
        let (flushed, written) = oneshot::channel();
        if self.sent.send(Sent::Flush(flushed)).is_ok() {
            written.await.ok();
        }
        // What was left all the same is sent by others now, or by this host when it is back.
        let mut command = redis::cmd("DEL");
        command.arg(self.key(&format!("node:{}", self.node)));
        if let Err(error) = self.link.run(&command).await {
            tracing::debug!(%error, "Redis was not told that this host ends");
        }
    }
}

/// Says again and again that a host lives.
pub(super) async fn keep_alive(store: Weak<Inner>) {
    let mut reachable = true;
    let mut beats: u32 = 0;
    loop {
        tokio::time::sleep(BEAT).await;
        let Some(store) = store.upgrade() else { return };
        let mut beat = store.beat().await;
        beats = beats.wrapping_add(1);
        if beat.is_ok() && beats.is_multiple_of(BEATS_OF_A_ROUND) {
            beat = store.forget_registered().await;
        }
        match &beat {
            Ok(()) if !reachable => tracing::info!("Redis is there again"),
            Err(error) if reachable => tracing::error!(
                %error,
                "Redis cannot be used; what needs stored state fails until it can"
            ),
            _ => {}
        }
        reachable = beat.is_ok();
    }
}

/// Takes note in Redis of what was sent.
pub(super) async fn tell_sent(store: Weak<Inner>, mut told: mpsc::UnboundedReceiver<Sent>) {
    let mut places: HashMap<String, Vec<u64>> = HashMap::new();
    loop {
        // What could not be noted is tried again.
        let first = if places.is_empty() {
            told.recv().await
        } else {
            let next = tokio::time::timeout(NOTE_AGAIN, told.recv()).await;
            next.unwrap_or(Some(Sent::Again))
        };
        let Some(first) = first else { return };
        let mut flushes = Vec::new();
        let mut next = Some(first);
        while let Some(sent) = next {
            match sent {
                Sent::Place(key, place) => places.entry(key).or_default().push(place),
                Sent::Flush(flushed) => flushes.push(flushed),
                Sent::Again => {}
            }
            next = told.try_recv().ok();
        }
        let Some(store) = store.upgrade() else { return };
        for (key, noted) in std::mem::take(&mut places) {
            if let Err(error) = store.link.run(&Cmd::hdel(&key, &noted)).await {
                tracing::debug!(%error, "what was sent is not noted yet");
                places.insert(key, noted);
            }
        }
        for flushed in flushes {
            flushed.send(()).ok();
        }
    }
}
