//! The life of a node among others: it says that it lives and what changes, takes those who say
//! nothing for dead, and learns when it was taken for dead itself.
//!
//! One node at a time buries, under a lock in Redis, so that what has gone with a dead node is dealt
//! with once also when several die together. Who cannot hear judges nobody.

use super::{
    Cluster,
    letters::{About, Change, Letter, Running, Said},
    others::{LEASE, Others},
    own::Own,
};
use crate::{
    link::{Link, listener::Health},
    pipeline::Pipeline,
    ports::Moved,
};
use parking_lot::Mutex;
use redis::{FromRedisValue, RedisResult};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// How often a node says that it lives, and looks who does not.
const BEAT: Duration = Duration::from_secs(2);
/// How long one node may bury before another one may, in milliseconds.
const BURYING_MS: u64 = 30_000;
/// Connections that are dealt with between two prolongations of that.
const AT_ONCE: usize = 100;
/// How long it is known in Redis who was buried, in seconds.
const REMEMBERED: u64 = 3_600;
/// Changes that are told of at once.
const CHANGES: usize = 512;

/// What is asked of the task that speaks for this node.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Somebody wants to know all of its connections.
    Whole,
    /// Somebody wants to know about this node.
    About,
    /// Something is said to others.
    Say(Said),
    /// This node, by the name it had, was taken for dead.
    Buried(String),
}

/// The task that speaks for this node.
pub(super) struct Lease {
    pub(super) cluster: Arc<Cluster>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) link: Link,
    pub(super) prefix: String,
    pub(super) moved: mpsc::UnboundedReceiver<Moved>,
    pub(super) wanted: mpsc::UnboundedReceiver<Wanted>,
    pub(super) others: Arc<Mutex<Others>>,
    pub(super) own: Own,
    /// Where it listens, and since when.
    pub(super) address: SocketAddr,
    pub(super) since: Instant,
}

impl Lease {
    /// Lives until the host ends.
    pub(super) async fn live(mut self) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut health = self.cluster.health.clone();
        let mut hears_since = None;
        loop {
            tokio::select! {
                Some(moved) = self.moved.recv() => self.tell(moved),
                Some(wanted) = self.wanted.recv() => self.serve(wanted),
                Ok(()) = health.changed() => {
                    if *health.borrow_and_update() == Health::Listening {
                        // What was said in the meantime was missed, here and there.
                        self.say(Said::Ask { of: None });
                        self.serve(Wanted::Whole);
                    }
                }
                _ = beat.tick() => {
                    self.say(self.own.alive());
                    self.count();
                    let now = Instant::now();
                    let hears = *health.borrow() == Health::Listening;
                    match (hears, hears_since) {
                        (false, _) => hears_since = None,
                        (true, None) => {
                            hears_since = Some(now);
                            self.others.lock().excuse(now);
                        }
                        (true, Some(since)) if now >= since + LEASE => self.judge(now),
                        (true, Some(_)) => {}
                    }
                }
            }
        }
    }

    fn count(&self) {
        let (hosts, connections) = self.others.lock().count();
        let metrics = &self.cluster.metrics;
        metrics.other_hosts.set(hosts as i64);
        metrics.other_connections.set(connections as i64);
    }

    fn say(&self, said: Said) {
        self.cluster.say(said);
    }

    fn about(&self) -> About {
        let table = self.pipeline.routes.snapshot();
        let plugins = table.plugins().iter().map(|plugin| {
            let info = plugin.info();
            Running {
                name: info.name().as_str().to_owned(),
                version: info.manifest.version.clone(),
                digest: info.digest.clone(),
            }
        });
        About {
            address: self.address.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seconds: self.since.elapsed().as_secs(),
            connections: self.pipeline.connections.len(),
            others: self.others.lock().count().0,
            plugins: plugins.collect(),
        }
    }

    fn tell(&mut self, first: Moved) {
        let mut changes: Vec<Change> = vec![first.into()];
        while changes.len() < CHANGES
            && let Ok(next) = self.moved.try_recv()
        {
            changes.push(next.into());
        }
        let said = self.own.change(changes);
        self.say(said);
    }

    fn serve(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Say(said) => self.say(said),
            Wanted::About => self.say(Said::Here(self.about())),
            Wanted::Whole => {
                for part in self.own.whole() {
                    self.say(part);
                }
            }
            Wanted::Buried(name) if name == *self.cluster.node.lock() => {
                tracing::error!(
                    "other hosts have taken this one for dead; its clients have to connect anew"
                );
                *self.cluster.node.lock() = fresh_node();
                self.own = Own::default();
                self.pipeline.end_swept();
            }
            Wanted::Buried(_) => {}
        }
    }

    /// Takes those for dead that say nothing, and asks whether it was itself.
    fn judge(&self, now: Instant) {
        let silent = self.others.lock().silent(now);
        let grave = Grave {
            cluster: self.cluster.clone(),
            pipeline: self.pipeline.clone(),
            link: self.link.clone(),
            prefix: self.prefix.clone(),
            others: self.others.clone(),
        };
        self.pipeline.tasks.spawn_on(
            async move {
                let done = match silent.is_empty() {
                    true => grave.ask_for_self().await,
                    false => grave.bury().await,
                };
                if let Err(error) = done {
                    tracing::debug!(%error, "it is not known who lives");
                }
            },
            &self.pipeline.runtime,
        );
    }
}

/// Returns the name of a node that nobody has taken for dead.
pub(super) fn fresh_node() -> String {
    Uuid::now_v7().simple().to_string()
}

/// Where nodes are buried.
struct Grave {
    cluster: Arc<Cluster>,
    pipeline: Arc<Pipeline>,
    link: Link,
    prefix: String,
    others: Arc<Mutex<Others>>,
}

impl Grave {
    fn buried_key(&self) -> String {
        format!("{}:buried", self.prefix)
    }

    fn lock_key(&self) -> String {
        format!("{}:burying", self.prefix)
    }

    /// Finds out whether this node was taken for dead by some that are not there to tell it.
    async fn ask_for_self(&self) -> RedisResult<()> {
        let node = self.cluster.node.lock().clone();
        let mut command = redis::cmd("ZSCORE");
        command.arg(self.buried_key()).arg(&node);
        let score = self.link.run(&command).await?;
        if Option::<f64>::from_redis_value(score)?.is_some() {
            self.cluster.want(Wanted::Buried(node));
        }
        Ok(())
    }

    async fn bury(&self) -> RedisResult<()> {
        let node = self.cluster.node.lock().clone();
        let mut lock = redis::cmd("SET");
        lock.arg(self.lock_key())
            .arg(&node)
            .arg("NX")
            .arg("PX")
            .arg(BURYING_MS);
        if Option::<String>::from_redis_value(self.link.run(&lock).await?)?.is_none() {
            return Ok(());
        }
        let done = self.bury_all(&node).await;
        // Whoever comes after a failure goes on when the lock has run out at the latest.
        let mut unlock = redis::cmd("DEL");
        unlock.arg(self.lock_key());
        self.link.run(&unlock).await?;
        done
    }

    async fn bury_all(&self, own: &str) -> RedisResult<()> {
        // What others have buried is not buried again, though they may not have been heard yet.
        let mut buried = redis::cmd("ZRANGE");
        buried.arg(self.buried_key()).arg(0).arg(-1);
        let buried = Vec::<String>::from_redis_value(self.link.run(&buried).await?)?;
        if buried.iter().any(|node| node == own) {
            self.cluster.want(Wanted::Buried(own.to_owned()));
            return Ok(());
        }
        let silent = {
            let (mut others, now) = (self.others.lock(), Instant::now());
            for node in &buried {
                others.bury(node, now);
            }
            others.silent(now)
        };
        for node in silent {
            let lost = self.others.lock().bury(&node, Instant::now());
            tracing::warn!(node, connections = lost.len(), "a host is taken for dead");
            for lost in lost.chunks(AT_ONCE) {
                let mut prolong = redis::cmd("PEXPIRE");
                prolong.arg(self.lock_key()).arg(BURYING_MS);
                // Without, another one may begin as well: better twice than never.
                self.link.run(&prolong).await.ok();
                for gone in lost {
                    self.pipeline.tell_gone(gone.clone()).await;
                }
            }
            let mut note = redis::cmd("ZADD");
            let seconds = crate::pipeline::now_ms() / 1_000;
            note.arg(self.buried_key()).arg(seconds).arg(&node);
            self.link.run(&note).await?;
            self.cluster.want(Wanted::Say(Said::Buried { node }));
            let mut old = redis::cmd("ZREMRANGEBYSCORE");
            old.arg(self.buried_key())
                .arg("-inf")
                .arg(seconds.saturating_sub(REMEMBERED));
            self.link.run(&old).await?;
        }
        Ok(())
    }
}

/// Takes a letter from another node.
pub(super) fn take(cluster: &Cluster, others: &Mutex<Others>, letter: Letter) {
    let own = cluster.node.lock().clone();
    if letter.node == own {
        return;
    }
    match &letter.said {
        Said::Ask { of } if of.as_ref().is_none_or(|of| *of == own) => cluster.want(Wanted::Whole),
        Said::Who => cluster.want(Wanted::About),
        Said::Buried { node } if *node == own => return cluster.want(Wanted::Buried(own)),
        _ => {}
    }
    if let Some(said) = others.lock().take(letter, Instant::now()) {
        cluster.want(Wanted::Say(said));
    }
}
