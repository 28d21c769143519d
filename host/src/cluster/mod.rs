//! What crosses nodes: hosts that share a Redis reach each other's connections, and those of Node.js
//! servers with `@socket.io/redis-adapter`.
//!
//! | module | what it does |
//! |---|---|
//! | [`wire`] | the messages |
//! | [`msgpack`] | JSON with attachments, as Node.js writes it |
//! | [`publisher`] | the way out |
//! | [`inbox`] | the way in |
//!
//! It stands beside the Socket.IO library and not under it as its adapter: who is in which room is
//! `rooms`' business, and frames are handed to each connection apart. Nothing of this node ever waits
//! for Redis, or fails because of it.

pub mod config;
mod inbox;
mod msgpack;
mod publisher;
mod wire;

use self::{
    config::ClusterConfig,
    inbox::Inbox,
    publisher::Publisher,
    wire::{Change, Channels},
};
use crate::{
    core::{
        names::{Namespace, RoomName},
        recipient::Who,
    },
    link::{
        Link,
        config::RedisConfig,
        listener::{Health, listen},
    },
    metrics::Metrics,
    pipeline::Pipeline,
    ports::{Relay, Relayed},
};
use anyhow::{Context, Result};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

/// This node's place among the others.
pub struct Cluster {
    uid: String,
    channels: Vec<Channels>,
    publisher: Publisher,
    health: watch::Receiver<Health>,
    listening: parking_lot::Mutex<Option<watch::Sender<Health>>>,
    redis: RedisConfig,
    metrics: Arc<Metrics>,
}

impl Cluster {
    /// Connects to others by Redis. They are heard once [`listen`](Self::listen) is called.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn join(
        config: &ClusterConfig,
        redis: &RedisConfig,
        namespaces: &[Namespace],
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>> {
        let (host, port) = (redis.host(), redis.port());
        let link = Link::open_single(redis).await.with_context(|| {
            format!(
                "Redis at {host}:{port} cannot be used (redis.host, redis.port, redis.password)"
            )
        })?;
        let (listening, health) = watch::channel(Health::Starting);
        Ok(Arc::new(Self {
            uid: Uuid::now_v7().simple().to_string(),
            channels: namespaces
                .iter()
                .map(|namespace| Channels::new(&config.key, namespace))
                .collect(),
            publisher: Publisher::start(link, health.clone(), config.queue_bytes, metrics.clone()),
            health,
            listening: parking_lot::Mutex::new(Some(listening)),
            redis: redis.clone(),
            metrics,
        }))
    }

    /// Begins to do what others want done here.
    pub fn listen(self: &Arc<Self>, pipeline: &Arc<Pipeline>) {
        let Some(listening) = self.listening.lock().take() else {
            return;
        };
        let inbox = Inbox {
            cluster: self.clone(),
            pipeline: pipeline.clone(),
        };
        let topics = inbox.topics();
        let listener = listen(
            self.redis.clone(),
            topics,
            listening,
            move |channel, bytes| {
                inbox.take(channel, bytes);
            },
        );
        tokio::spawn(
            pipeline
                .stopping
                .clone()
                .run_until_cancelled_owned(listener),
        );
        tokio::spawn(tell_health(self.health.clone()));
    }

    /// Waits until others are heard.
    pub async fn heard(&self) {
        // It is only dropped with the runtime.
        self.health
            .clone()
            .wait_for(|health| *health == Health::Listening)
            .await
            .ok();
    }

    fn of(&self, namespace: &Namespace) -> Option<&Channels> {
        let mut channels = self.channels.iter();
        channels.find(|channels| channels.namespace == *namespace)
    }

    fn change(&self, namespace: &Namespace, who: &Who, change: Change<'_>) {
        if let Some(channels) = self.of(namespace) {
            let message = wire::write_change(&self.uid, who, change);
            self.publisher
                .give(channels.request.clone(), message, false);
        }
    }
}

/// Says once that other nodes are out of reach, and once that they are not.
async fn tell_health(mut health: watch::Receiver<Health>) {
    let mut reached = true;
    while health.changed().await.is_ok() {
        match &*health.borrow_and_update() {
            Health::Lost(why) if reached => {
                reached = false;
                tracing::error!(why, "Redis is out of reach, and with it other nodes");
            }
            Health::Listening if !reached => {
                reached = true;
                tracing::info!("Redis is there again, and with it other nodes");
            }
            _ => {}
        }
    }
}

impl Relay for Cluster {
    fn emit(&self, emission: Relayed<'_>) {
        let Some(channels) = self.of(emission.namespace) else {
            return;
        };
        match wire::write_emission(channels, &self.uid, emission) {
            Ok((channel, message)) => self.publisher.give(channel, message, emission.volatile),
            Err(why) => tracing::error!(%why, "an emission cannot be relayed"),
        }
    }

    fn join(&self, namespace: &Namespace, who: &Who, room: &RoomName) {
        self.change(namespace, who, Change::Join(room));
    }

    fn leave(&self, namespace: &Namespace, who: &Who, room: &RoomName) {
        self.change(namespace, who, Change::Leave(room));
    }

    fn disconnect(&self, namespace: &Namespace, who: &Who, transport: bool) {
        self.change(namespace, who, Change::Disconnect { transport });
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.publisher.flush())
    }

    fn trouble(&self) -> Option<String> {
        match &*self.health.borrow() {
            Health::Listening => None,
            Health::Starting | Health::Lost(_) => {
                Some("Redis is out of reach, and with it other nodes".to_owned())
            }
        }
    }
}
