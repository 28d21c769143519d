//! Taking other nodes for dead: one node at a time does it, under a lock in Redis, so that what has gone
//! with a dead node is told once also when several die together.

use super::{Cluster, leases::Wanted, letters::Said, others::Others};
use crate::{
    link::{Link, Script, is_passing},
    pipeline::{Pipeline, relayed::Gone},
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{FromRedisValue, RedisResult};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How long one node may bury before another one may, in milliseconds, and how often it says that it
/// still does.
const BURYING_MS: u64 = 30_000;
const PROLONG: Duration = Duration::from_secs(5);
/// Connections whose end is told of at once.
const AT_ONCE: usize = 32;
/// How long it is known in Redis who was buried, in seconds.
const REMEMBERED: u64 = 3_600;
/// How often it is tried to note that.
const NOTE: u32 = 3;

/// Where nodes are buried.
pub(super) struct Graveyard {
    cluster: Arc<Cluster>,
    pipeline: Arc<Pipeline>,
    link: Link,
    prefix: String,
    others: Arc<Mutex<Others>>,
    lock: Script,
    /// Whether it could be done the last time.
    is_open: AtomicBool,
}

impl Graveyard {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        pipeline: Arc<Pipeline>,
        link: Link,
        others: Arc<Mutex<Others>>,
    ) -> Self {
        Self {
            prefix: cluster.redis.prefix.clone(),
            cluster,
            pipeline,
            link,
            others,
            lock: Script::new(include_str!("lock.lua")),
            is_open: AtomicBool::new(true),
        }
    }

    fn buried_key(&self) -> String {
        format!("{}:buried", self.prefix)
    }

    fn lock_key(&self) -> String {
        format!("{}:burying", self.prefix)
    }

    /// Takes those for dead that are silent, and finds out whether this node was.
    pub(super) async fn look(&self) {
        let silent = self.others.lock().silent(Instant::now());
        let done = match silent.is_empty() {
            true => self.ask_for_self().await,
            false => self.bury().await,
        };
        match done {
            Ok(()) => self.is_open.store(true, Ordering::Relaxed),
            // That Redis is out of reach is said where it is found out.
            Err(error) if is_passing(&error) => {}
            Err(error) => {
                if self.is_open.swap(false, Ordering::Relaxed) {
                    tracing::warn!(%error, "hosts that die are not dealt with: Redis does not do what that takes");
                }
            }
        }
    }

    /// Returns who was buried, and as of how many changes.
    async fn buried(&self) -> RedisResult<HashMap<String, u64>> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.buried_key());
        Ok(HashMap::from_redis_value(self.link.run(&command).await?)?)
    }

    /// Finds out whether this node was taken for dead by some that are not there to tell it.
    async fn ask_for_self(&self) -> RedisResult<()> {
        let node = self.cluster.node.lock().clone();
        let mut command = redis::cmd("HGET");
        command.arg(self.buried_key()).arg(&node);
        let changes = self.link.run(&command).await?;
        if let Some(changes) = Option::<u64>::from_redis_value(changes)? {
            self.cluster.want(Wanted::Buried(node, changes));
        }
        Ok(())
    }

    async fn bury(&self) -> RedisResult<()> {
        let own = self.cluster.node.lock().clone();
        let mut lock = redis::cmd("SET");
        lock.arg(self.lock_key()).arg(&own);
        lock.arg("NX").arg("PX").arg(BURYING_MS);
        if Option::<String>::from_redis_value(self.link.run(&lock).await?)?.is_none() {
            return Ok(());
        }
        let done = tokio::select! {
            done = self.bury_all(&own) => done,
            // Somebody else does it now, and tells of all that is left.
            () = self.keep_lock(&own) => return Ok(()),
        };
        self.hold_lock(&own, 0).await?;
        done
    }

    /// Prolongs or gives up the lock; returns whether it was this node's.
    async fn hold_lock(&self, own: &str, ms: u64) -> RedisResult<bool> {
        let (keys, ms) = ([self.lock_key()], ms.to_string());
        let arguments = [own, ms.as_str()].into_iter();
        let answer = self.link.script(&self.lock, &keys, arguments).await?;
        let answer = Vec::<String>::from_redis_value(answer)?;
        Ok(answer.first().is_some_and(|answer| answer == "1"))
    }

    /// Prolongs the lock for as long as it is this node's. While Redis is away nobody else gets it.
    async fn keep_lock(&self, own: &str) {
        loop {
            tokio::time::sleep(PROLONG).await;
            if let Ok(false) = self.hold_lock(own, BURYING_MS).await {
                return;
            }
        }
    }

    async fn bury_all(&self, own: &str) -> RedisResult<()> {
        // What others have buried is not buried again, though they may not have been heard yet.
        let buried = self.buried().await?;
        if let Some(changes) = buried.get(own) {
            self.cluster.want(Wanted::Buried(own.to_owned(), *changes));
            return Ok(());
        }
        let silent = {
            let (mut others, now) = (self.others.lock(), Instant::now());
            for (node, changes) in &buried {
                others.bury(node, *changes, now);
            }
            others.silent(now)
        };
        for node in silent {
            let (changes, lost) = {
                let mut others = self.others.lock();
                let changes = others.known(&node);
                (changes, others.bury(&node, changes, Instant::now()))
            };
            tracing::warn!(node, connections = lost.len(), "a host is taken for dead");
            for gone in lost.chunks(AT_ONCE) {
                let told = gone.iter().cloned();
                join_all(told.map(|gone: Gone| self.pipeline.tell_gone(gone))).await;
            }
            let noted = self.note(&node, changes).await;
            self.cluster
                .want(Wanted::Say(Said::Buried { node, changes }));
            noted?;
        }
        Ok(())
    }

    async fn note(&self, node: &str, changes: u64) -> RedisResult<()> {
        let mut tries = 1;
        loop {
            let mut note = redis::cmd("HSET");
            note.arg(self.buried_key()).arg(node).arg(changes);
            match self.link.run(&note).await {
                Err(_) if tries < NOTE => tries += 1,
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        let mut forget = redis::cmd("EXPIRE");
        forget.arg(self.buried_key()).arg(REMEMBERED);
        self.link.run(&forget).await?;
        Ok(())
    }
}
