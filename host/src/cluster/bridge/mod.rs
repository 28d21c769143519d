//! Channels of Redis and plugins: messages on channels that the operator maps become server events,
//! each on one host; and what plugins publish goes out.
//!
//! | module | what it does |
//! |---|---|
//! | [`lane`] | one channel: claims messages and hands them to the pipeline |
//! | [`waiting`] | the messages that are nobody's yet, by their positions |
//! | [`lease`] | who handles them, and how far they are, in Redis |
//! | [`silence`] | what to do when Redis does not answer |
//!
//! All hosts listen, and the one with the lease of a channel handles its messages. The others keep what
//! it has not claimed yet; so a hand-over skips nothing and doubles nothing:
//!
//! | the host with the lease | what becomes of messages |
//! |---|---|
//! | stops | it ends what it has begun; another one goes on with the next at once |
//! | dies | up to 16 of a channel that it had claimed are lost; another one goes on within 10 s |
//! | is frozen, or cut off from Redis | what it has begun it ends when it can; another one goes on within 10 s; it cannot claim any more |
//! | gets no answer from Redis, which hears it | it gives the lease back within 10 s; up to 16 that it had claimed are lost |
//! | loses its connection for a moment | it hands over to a host that has missed nothing |
//!
//! What is published while no host listens, as while Redis is away, is heard by nobody.

pub mod config;
mod lane;
mod lease;
mod silence;
mod waiting;

use self::{
    config::{ChannelsConfig, is_own},
    lane::{Ear, Lane, Parts},
    lease::{Lease, News, read_news},
    waiting::{Bounds, Waiting},
};
use super::{
    HEARD,
    complaints::SharedComplaints,
    config::ClusterConfig,
    packets::Outgoing,
    publisher::{Counters, Publisher, Ways},
};
use crate::{
    core::channel::ChannelName,
    link::{
        Link, Script,
        config::RedisConfig,
        listener::{Health, Topic, listen},
    },
    metrics::{Metrics, count},
    pipeline::Pipeline,
    ports::Channels,
};
use anyhow::{Context, Result};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU32},
};
use tokio::sync::{Notify, watch};

/// Messages of one channel that may wait, and their bytes.
const WAITING: usize = 10_000;
const WAITING_BYTES: usize = 16 << 20;

/// See the module's page.
pub struct Bridge {
    channels: ChannelsConfig,
    redis: RedisConfig,
    /// What the channels of Node.js' adapter begin with.
    key: String,
    link: Link,
    publisher: Publisher,
    listening: Mutex<Option<watch::Sender<Health>>>,
    health: watch::Receiver<Health>,
    metrics: Arc<Metrics>,
    settled: Mutex<Vec<watch::Receiver<bool>>>,
    complaints: SharedComplaints,
}

impl Bridge {
    /// Connects to Redis. Channels are heard once [`listen`](Self::listen) is called.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn open(
        channels: &ChannelsConfig,
        cluster: &ClusterConfig,
        redis: &RedisConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>> {
        let (place, keys) = (redis.place(), redis.keys());
        let cannot = || format!("Redis at {place} cannot be used for channels ({keys})");
        let link = Link::open(redis).await.with_context(cannot)?;
        let ways = Ways {
            one: Link::open_single(redis).await.with_context(cannot)?,
            shards: None,
        };
        let (listening, health) = watch::channel(Health::Starting);
        let counters = Counters {
            published: metrics.published.clone(),
            lost: metrics.publish_lost.clone(),
        };
        let publisher = Publisher::start(ways, health.clone(), cluster.queue_bytes, counters);
        Ok(Arc::new(Self {
            channels: channels.clone(),
            redis: redis.clone(),
            key: cluster.key.clone(),
            link,
            publisher,
            listening: Mutex::new(Some(listening)),
            health,
            metrics,
            settled: Mutex::default(),
            complaints: SharedComplaints::new("publishing"),
        }))
    }

    /// Begins to handle messages, those of the channels whose lease this host gets. Messages may have
    /// so many bytes.
    pub fn listen(&self, pipeline: &Arc<Pipeline>, message_bytes: usize) {
        let Some(listening) = self.listening.lock().take() else {
            return;
        };
        let hosts = format!("{}:channels", self.redis.prefix);
        let script = Arc::new(Script::new(include_str!("lease.lua")));
        let held = Arc::new(AtomicU32::new(0));
        let mut ears = BTreeMap::new();
        for (channel, config) in &self.channels {
            // Without one the configuration is refused.
            let Some(event) = config.event.clone() else {
                continue;
            };
            let ear = Arc::new(Ear::new(message_bytes));
            ears.insert(channel.as_str().to_owned(), ear.clone());
            let (link, prefix) = (self.link.clone(), &self.redis.prefix);
            let (settled, settles) = watch::channel(false);
            self.settled.lock().push(settles);
            let lane = Lane::new(Parts {
                ear,
                channel: channel.clone(),
                config: config.clone(),
                event,
                pipeline: pipeline.clone(),
                health: self.health.clone(),
                lease: Lease::new(link, script.clone(), prefix, &hosts, channel),
                held: held.clone(),
                settled,
            });
            // A host that stops waits for it.
            pipeline.tasks.spawn_on(lane.work(), &pipeline.runtime);
        }
        let own = [Topic::Channel(hosts.clone())].into_iter();
        let mapped = ears.keys().cloned().map(Topic::Channel);
        let topics = own.chain(mapped).collect();
        let mut listener = Listener {
            hosts,
            ears,
            health: self.health.clone(),
        };
        tokio::spawn(listen(
            self.redis.clone(),
            topics,
            listening,
            move |channel, bytes| listener.take(channel, bytes),
        ));
    }

    /// Waits until every channel is heard, and handled by this host or another one, for a while.
    pub async fn heard(&self) {
        let settled = std::mem::take(&mut *self.settled.lock());
        let all = async {
            for mut settled in settled {
                // Only when the host stops is nobody there.
                settled.wait_for(|settled| *settled).await.ok();
            }
        };
        if tokio::time::timeout(HEARD, all).await.is_err() {
            tracing::error!(
                "channels of Redis are not heard; going on without them until they are"
            );
        }
    }
}

impl Ear {
    fn new(message_bytes: usize) -> Self {
        Self {
            waiting: Mutex::new(Waiting::new(Bounds {
                messages: WAITING,
                bytes: WAITING_BYTES.max(message_bytes.saturating_mul(2)),
                message_bytes,
            })),
            heard: Notify::new(),
            freed: Notify::new(),
        }
    }
}

/// What listens for all channels.
struct Listener {
    hosts: String,
    ears: BTreeMap<String, Arc<Ear>>,
    health: watch::Receiver<Health>,
}

impl Listener {
    fn take(&mut self, channel: &str, bytes: &[u8]) {
        // Each connection says so before its first message.
        if self.health.has_changed().unwrap_or(true) {
            self.health.borrow_and_update();
            for ear in self.ears.values() {
                ear.waiting.lock().cut();
            }
        }
        if channel == self.hosts {
            let news = std::str::from_utf8(bytes).ok().and_then(read_news);
            if let Some((news, channel)) = news
                && let Some(ear) = self.ears.get(channel)
            {
                ear.tell(news);
            }
        } else if let Some(ear) = self.ears.get(channel)
            && ear.waiting.lock().hear(bytes)
        {
            ear.heard.notify_one();
        }
    }
}

impl Ear {
    fn tell(&self, news: News) {
        match news {
            News::Mark(mark) => {
                self.waiting.lock().mark(mark);
                self.heard.notify_one();
            }
            News::Claimed(position) => self.waiting.lock().claimed(position),
            News::Free => self.freed.notify_one(),
        }
    }
}

impl Channels for Bridge {
    fn publish(&self, channel: &ChannelName, payload: String) {
        if is_own(channel.as_str(), &self.redis.prefix, &self.key) {
            count(&self.metrics.publish_lost, "reserved");
            self.complaints.complain(
                "a plugin may publish where hosts themselves speak, and has; it was not published (plugin.NAME.channels)",
                format!("channel {channel}"),
            );
            return;
        }
        let message = Outgoing {
            channel: channel.as_str().to_owned(),
            bytes: payload.into_bytes(),
            sharded: false,
        };
        self.publisher.give(message, false);
    }

    fn trouble(&self) -> Option<String> {
        let is_lost = *self.health.borrow() != Health::Listening;
        is_lost.then(|| "Redis is out of reach, and with it channels".to_owned())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.publisher.flush())
    }
}
