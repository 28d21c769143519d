//! Timers in Redis. Which partitions have any is known outside of them, where it cannot be changed in
//! the same step; so a partition is announced before a timer is committed in it, and taken off the
//! list only when it has none and was not announced for a while.

use super::{Inner, texts, version_of, version_text};
use crate::{
    core::{
        names::PluginName,
        state::{TIMER, Timer, timer_name},
    },
    ports::{DueTimer, DueTimers, PartitionOf},
};
use futures_util::future::join_all;
use redis::RedisError;
use std::collections::BTreeSet;

/// How long after it was announced a partition stays on the list, and how often it is looked at as
/// long, in milliseconds: a commit that was under way may have its timer there then.
const ANNOUNCED_MS: u64 = 60_000;
const LOOK_AGAIN_MS: u64 = 5_000;
/// Partitions that are looked at together.
const PARTITIONS: usize = 256;

impl Inner {
    fn timer_keys(&self, plugin: &PluginName) -> [String; 2] {
        let key = format!("{}:timers:{{{plugin}}}", self.prefix);
        let announced = format!("{key}:announced");
        [key, announced]
    }

    pub(super) async fn announce(
        &self,
        partition: PartitionOf<'_>,
        due_ms: u64,
    ) -> Result<(), RedisError> {
        let keys = self.timer_keys(partition.plugin);
        let (due, now) = (due_ms.to_string(), super::now_ms().to_string());
        let arguments = [partition.name, due.as_str(), now.as_str()];
        self.link
            .script(&self.scripts.announce, &keys, arguments.into_iter())
            .await?;
        Ok(())
    }

    pub(super) async fn due(
        &self,
        plugins: &BTreeSet<PluginName>,
        now_ms: u64,
        until_ms: u64,
        limit: usize,
    ) -> Result<DueTimers, RedisError> {
        let mut due = DueTimers::default();
        // None has to wait for those whose names come before its own.
        let share = limit.div_ceil(plugins.len().max(1));
        for plugin in plugins {
            let keys = self.timer_keys(plugin);
            let (now, most) = (now_ms.to_string(), PARTITIONS.to_string());
            let arguments = [now.as_str(), most.as_str()];
            let script = &self.scripts.partitions;
            let answer = self.link.script(script, &keys, arguments.into_iter());
            let mut parts = texts(answer.await?)?.into_iter();
            let later = parts.next().and_then(|later| later.parse().ok());
            due.next_ms = earlier(due.next_ms, later);
            let mut partitions = Vec::new();
            while let (Some(partition), Some(announced)) = (parts.next(), parts.next()) {
                partitions.push((partition, announced));
            }
            if partitions.len() >= PARTITIONS {
                due.next_ms = Some(now_ms);
            }
            let most = share.div_ceil(partitions.len().max(1));
            let looks = partitions.iter().map(|(partition, announced)| {
                self.look(plugin, partition, announced, now_ms, until_ms, most)
            });
            for found in join_all(looks).await {
                match found {
                    Ok(found) => {
                        due.timers.extend(found.timers);
                        due.next_ms = earlier(due.next_ms, found.next_ms);
                    }
                    // Those of others are not held up by one that cannot be looked at.
                    Err(error) => tracing::debug!(%error, %plugin, "timers were not looked at"),
                }
            }
        }
        due.timers.sort_by_key(|due| due.timer.due_ms);
        Ok(due)
    }

    /// Takes what is due in one partition.
    async fn look(
        &self,
        plugin: &PluginName,
        partition: &str,
        announced: &str,
        now_ms: u64,
        until_ms: u64,
        limit: usize,
    ) -> Result<DueTimers, RedisError> {
        let base = self.base(PartitionOf {
            plugin,
            name: partition,
        });
        let keys = [base.clone(), format!("{base}:t")];
        let (now, until) = (now_ms.to_string(), until_ms.max(now_ms + 1).to_string());
        let most = limit.to_string();
        let arguments = [now.as_str(), until.as_str(), most.as_str()];
        let answer = self
            .link
            .script(&self.scripts.claim, &keys, arguments.into_iter())
            .await?;
        let mut parts = texts(answer)?.into_iter();
        let mut next_ms: Option<u64> = parts.next().and_then(|next| next.parse().ok());
        let mut timers = Vec::new();
        while let (Some(name), Some(version), Some(text)) =
            (parts.next(), parts.next(), parts.next())
        {
            let name = name.strip_prefix(TIMER).map(str::to_owned);
            let found = name.zip(version_of(&version)).zip(Timer::parse(&text));
            // The clock of a test may have gone back; what was postponed is due in any case.
            if let Some(((name, version), timer)) = found
                && timer.due_ms <= now_ms
            {
                timers.push(DueTimer {
                    plugin: plugin.clone(),
                    partition: partition.to_owned(),
                    name,
                    version,
                    timer,
                });
            }
        }
        let is_recent = announced
            .parse::<u64>()
            .is_ok_and(|announced| announced + ANNOUNCED_MS > now_ms);
        if is_recent {
            next_ms = earlier(next_ms, Some(now_ms + LOOK_AGAIN_MS));
        }
        let keys = self.timer_keys(plugin);
        let next = next_ms.map_or_else(|| "-".to_owned(), |next| next.to_string());
        let arguments = [partition, announced, next.as_str()];
        self.link
            .script(&self.scripts.looked, &keys, arguments.into_iter())
            .await?;
        Ok(DueTimers { timers, next_ms })
    }

    pub(super) async fn postpone(&self, timer: &DueTimer, until_ms: u64) {
        let partition = PartitionOf {
            plugin: &timer.plugin,
            name: &timer.partition,
        };
        let base = self.base(partition);
        let keys = [base.clone(), format!("{base}:t")];
        let (name, until) = (timer_name(&timer.name), until_ms.to_string());
        let version = version_text(Some(timer.version));
        let arguments = [name.as_str(), version.as_str(), until.as_str()];
        let script = &self.scripts.postpone;
        let postponed = self.link.script(script, &keys, arguments.into_iter());
        let announced = match postponed.await {
            Ok(_) => self.announce(partition, until_ms).await,
            Err(error) => Err(error),
        };
        if let Err(error) = announced {
            // It is free again when the claim runs out.
            tracing::debug!(%error, timer = timer.name, "a timer was not postponed");
        }
    }
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
