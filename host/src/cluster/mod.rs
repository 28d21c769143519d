//! What crosses nodes: hosts that share a Redis reach each other's connections, and those of Node.js
//! servers with `@socket.io/redis-adapter`.
//!
//! | module | what it does |
//! |---|---|
//! | [`wire`] | the messages |
//! | [`msgpack`] | JSON with attachments, as Node.js writes it |
//! | [`publisher`] | the way out |
//! | [`inbox`] | the way in |
//! | [`letters`] | what hosts tell each other about their connections |
//! | [`own`], [`others`] | what this one tells, and what others have told |
//! | [`leases`] | that this one lives, and who else does |
//! | [`burial`] | who is taken for dead, by whom |
//! | [`status`] | all that, for operators |
//!
//! | in Redis | type | lives | what |
//! |---|---|---|---|
//! | `PREFIX:nodes` | channel | | letters of hosts |
//! | `KEY#…`, `KEY-request#…`, `KEY-response#…` | channels | | see [`wire`] |
//! | `PREFIX:burying` | string | 30 s, or until done | who takes others for dead |
//! | `PREFIX:buried` | hash | an hour after the last | who was taken for dead, as of how many changes |
//!
//! It stands beside the Socket.IO library and not under it as its adapter: who is in which room is
//! `rooms`' business, and frames are handed to each connection apart. Nothing of this node ever waits
//! for Redis, or fails because of it.

mod burial;
pub mod config;
mod inbox;
mod leases;
mod letters;
mod msgpack;
mod others;
mod own;
mod publisher;
pub mod status;
mod wire;

use self::{
    burial::Graveyard,
    config::ClusterConfig,
    inbox::Inbox,
    leases::{Lease, Telling, Wanted, fresh_node},
    letters::{Letter, Said},
    others::Others,
    own::Own,
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
    ports::{Journal, Moved, Relay, Relayed},
};
use anyhow::{Context, Result};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot, watch};

/// How long a start waits for others to be heard.
const HEARD: Duration = Duration::from_secs(10);

/// This node's place among the others.
pub struct Cluster {
    /// Its name in Node.js' messages.
    uid: String,
    /// Its name among hosts, until it is taken for dead.
    node: Mutex<String>,
    /// The channel for hosts' letters.
    letters: String,
    channels: Vec<Channels>,
    publisher: Publisher,
    health: watch::Receiver<Health>,
    /// When this node heard itself last, and when it began: a message that comes back says that those
    /// of others would come, too.
    echo: Mutex<Instant>,
    /// What is taken when listening begins.
    prepared: Mutex<Option<Prepared>>,
    moved: mpsc::UnboundedSender<Moved>,
    wanted: mpsc::UnboundedSender<Wanted>,
    redis: RedisConfig,
    metrics: Arc<Metrics>,
}

struct Prepared {
    /// To what is kept in Redis; to a cluster of them as a whole.
    link: Link,
    listening: watch::Sender<Health>,
    moved: mpsc::UnboundedReceiver<Moved>,
    wanted: mpsc::UnboundedReceiver<Wanted>,
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
        let (place, keys) = (redis.place(), redis.keys());
        let cannot = || format!("Redis at {place} cannot be used ({keys})");
        // By one connection, since that keeps the order.
        let way_out = Link::open_single(redis).await.with_context(cannot)?;
        let link = Link::open(redis).await.with_context(cannot)?;
        tracing::info!(
            redis = place,
            key = config.key,
            "other hosts are reached by Redis"
        );
        let (listening, health) = watch::channel(Health::Starting);
        let (moved, moves) = mpsc::unbounded_channel();
        let (wanted, wants) = mpsc::unbounded_channel();
        let publisher =
            Publisher::start(way_out, health.clone(), config.queue_bytes, metrics.clone());
        Ok(Arc::new(Self {
            uid: fresh_node(),
            node: Mutex::new(fresh_node()),
            letters: letters_channel(redis),
            channels: namespaces
                .iter()
                .map(|namespace| Channels::new(&config.key, namespace))
                .collect(),
            publisher,
            health,
            echo: Mutex::new(Instant::now()),
            prepared: Mutex::new(Some(Prepared {
                link,
                listening,
                moved: moves,
                wanted: wants,
            })),
            moved,
            wanted,
            redis: redis.clone(),
            metrics,
        }))
    }

    /// Begins to do what others want done here, and to tell them of this node's connections.
    pub fn listen(self: &Arc<Self>, pipeline: &Arc<Pipeline>, address: SocketAddr) {
        let Some(prepared) = self.prepared.lock().take() else {
            return;
        };
        let others = Arc::new(Mutex::new(Others::new(pipeline.executor.rooms.clone())));
        let graveyard = Graveyard::new(
            self.clone(),
            pipeline.clone(),
            prepared.link,
            others.clone(),
        );
        let lease = Lease {
            cluster: self.clone(),
            pipeline: pipeline.clone(),
            moved: prepared.moved,
            wanted: prepared.wanted,
            others: others.clone(),
            graveyard: Arc::new(graveyard),
            own: Own::default(),
            address,
            since: Instant::now(),
            telling: Telling::default(),
        };
        let inbox = Inbox {
            cluster: self.clone(),
            pipeline: pipeline.clone(),
            others,
        };
        let topics = inbox.topics();
        tokio::spawn(listen(
            self.redis.clone(),
            topics,
            prepared.listening,
            move |channel, bytes| inbox.take(channel, bytes),
        ));
        tokio::spawn(lease.live());
        tokio::spawn(tell_health(self.health.clone()));
    }

    /// Waits until others are heard, for a while: without them the host serves as well, and says so.
    pub async fn heard(&self) {
        let mut health = self.health.clone();
        let heard = health.wait_for(|health| *health == Health::Listening);
        if tokio::time::timeout(HEARD, heard).await.is_err() {
            tracing::error!("other hosts are not heard; going on alone until they are");
        }
    }

    /// Says something to the other hosts.
    fn say(&self, said: Said) {
        let node = self.node.lock().clone();
        match serde_json::to_vec(&Letter { node, said }) {
            Ok(letter) => self.publisher.give(self.letters.clone(), letter, false),
            Err(why) => tracing::error!(%why, "a letter to other hosts cannot be written"),
        }
    }

    /// Takes note that something which this node has said came back to it.
    fn heard_itself(&self, now: Instant) {
        *self.echo.lock() = now;
    }

    /// Tells whether this node has heard itself within a time.
    fn hears_itself(&self, now: Instant, within: Duration) -> bool {
        now < *self.echo.lock() + within
    }

    fn want(&self, wanted: Wanted) {
        // Only when the runtime ends is nobody there.
        self.wanted.send(wanted).ok();
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

fn letters_channel(redis: &RedisConfig) -> String {
    format!("{}:nodes", redis.prefix)
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

impl Journal for Cluster {
    fn note(&self, moved: Moved) {
        // Only when the runtime ends is nobody there.
        self.moved.send(moved).ok();
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
        Box::pin(async {
            let (done, said) = oneshot::channel();
            self.want(Wanted::Bye(done));
            said.await.ok();
            self.publisher.flush().await;
        })
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
