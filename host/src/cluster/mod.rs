//! What crosses nodes: hosts that share a Redis reach each other's connections, and those of Node.js
//! servers with `@socket.io/redis-adapter`.
//!
//! | module | what it does |
//! |---|---|
//! | [`wire`] | the messages of Node.js' adapter |
//! | [`sharded`] | those of its sharded adapter |
//! | [`packets`] | what both have in common |
//! | [`mod@format`] | which of both is spoken |
//! | [`subscriptions`] | which sharded channels are listened to |
//! | [`questions`] | what plugins have asked clients elsewhere |
//! | [`msgpack`] | JSON with attachments, as Node.js writes it |
//! | [`publisher`] | the way out |
//! | [`inbox`] | the way in |
//! | [`complaints`] | what goes wrong with messages, said now and then |
//! | [`letters`] | what hosts tell each other about their connections |
//! | [`own`], [`others`] | what this one tells, and what others have told |
//! | [`names`] | which hosts there are, and which of them tells of a user |
//! | [`leases`] | that this one lives, and who else does |
//! | [`burial`] | who is taken for dead, by whom |
//! | [`status`] | all that, for operators |
//! | [`view`] | who is connected and where, in Redis for other services to read |
//! | [`bridge`] | channels of Redis and plugins |
//!
//! | in Redis | type | lives | what |
//! |---|---|---|---|
//! | `PREFIX:nodes` | channel | | letters of hosts |
//! | `KEY#…`, `KEY-request#…`, `KEY-response#…` | channels | | see [`wire`] |
//! | `KEY#…` | sharded channels | | see [`sharded`] |
//! | `PREFIX:burying` | string | 30 s, or until done | who takes others for dead |
//! | `PREFIX:buried` | hash | an hour after the last | who was taken for dead, as of how many changes |
//! | `PREFIX:channels` | channel | | marks among the messages of mapped channels, and news of their leases |
//! | `PREFIX:channel:NAME` | hash | an hour after the last host | the lease of a mapped channel: see `bridge/lease.lua` |
//!
//! It stands beside the Socket.IO library and not under it as its adapter: who is in which room is
//! `rooms`' business, and frames are handed to each connection apart. Nothing of this node ever waits
//! for Redis, or fails because of it.

pub mod bridge;
mod burial;
mod complaints;
pub mod config;
mod format;
mod inbox;
mod leases;
mod letters;
mod msgpack;
mod names;
mod others;
mod own;
mod packets;
mod publisher;
mod questions;
mod sharded;
pub mod status;
mod subscriptions;
mod view;
mod wire;

use self::{
    burial::Graveyard,
    complaints::SharedComplaints,
    config::{ClusterConfig, Mode},
    format::Format,
    inbox::Inbox,
    leases::{AWAKE, Lease, Telling, Wanted, fresh_node},
    letters::{Letter, Said},
    names::Names,
    others::{Everyone, Others},
    own::Own,
    packets::{Change, Outgoing},
    publisher::{Counters, Publisher, Ways},
    questions::Questions,
    subscriptions::Subscriptions,
    view::{View, Writer},
};
use crate::{
    core::{
        names::{Namespace, RoomName, UserId},
        recipient::Who,
    },
    link::{
        Link,
        config::RedisConfig,
        listener::{Health, listen},
        shards::{self, Orders, Wanted as Channels},
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

/// How long it waits then for others to tell of their connections: they do so four times a second.
const INTRODUCED: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// This node's place among the others.
pub struct Cluster {
    /// Its name among hosts, until it is taken for dead.
    node: Mutex<String>,
    /// The others.
    names: Arc<Names>,
    /// When it began to listen, the last time.
    since: Mutex<Instant>,
    /// The channel for hosts' letters.
    letters: String,
    formats: Vec<Format>,
    /// In the sharded mode.
    subscriptions: Option<Subscriptions>,
    questions: Questions,
    /// What other services read, where that is wanted.
    view: Option<Arc<View>>,
    publisher: Publisher,
    health: watch::Receiver<Health>,
    /// When this node heard itself last, and when it began: a message that comes back says that those
    /// of others would come, too.
    echo: Mutex<Instant>,
    /// To what is kept in Redis; to a cluster of them as a whole.
    link: Link,
    /// What is taken when listening begins.
    prepared: Mutex<Option<Prepared>>,
    moved: mpsc::UnboundedSender<Moved>,
    wanted: mpsc::UnboundedSender<Wanted>,
    redis: RedisConfig,
    metrics: Arc<Metrics>,
}

struct Prepared {
    /// By which the writer of the view is asked for the last of it.
    view: Option<mpsc::UnboundedReceiver<oneshot::Sender<()>>>,
    listening: watch::Sender<Health>,
    orders: Orders,
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
        ack_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>> {
        let (place, keys) = (redis.place(), redis.keys());
        let cannot = || format!("Redis at {place} cannot be used ({keys})");
        let is_sharded = config.mode == Mode::Sharded;
        let link = Link::open(redis).await.with_context(cannot)?;
        let ways = Ways {
            one: Link::open_single(redis).await.with_context(cannot)?,
            shards: (is_sharded && redis.cluster).then(|| link.clone()),
        };
        tracing::info!(
            redis = place,
            key = config.key,
            mode = ?config.mode,
            "other hosts are reached by Redis"
        );
        let (listening, health) = watch::channel(Health::Starting);
        let (moved, moves) = mpsc::unbounded_channel();
        let (wanted, wants) = mpsc::unbounded_channel();
        let counters = Counters {
            published: metrics.relayed.clone(),
            lost: metrics.relay_lost.clone(),
        };
        let publisher = Publisher::start(ways, health.clone(), config.queue_bytes, counters);
        let own = fresh_node();
        let formats: Vec<_> = namespaces
            .iter()
            .map(|namespace| Format::new(config, namespace, &own))
            .collect();
        let (channels, orders) = Channels::new();
        let prefix = || format!("{}:view:", redis.prefix);
        let view = config.view.then(|| {
            let prefix = config.view_prefix.clone().unwrap_or_else(prefix);
            View::new(prefix, config.view_rooms.clone())
        });
        let (view, view_asked) = view.unzip();
        Ok(Arc::new(Self {
            node: Mutex::new(fresh_node()),
            names: Arc::default(),
            since: Mutex::new(Instant::now()),
            letters: letters_channel(redis),
            subscriptions: is_sharded.then(|| Subscriptions::new(&formats, channels)),
            formats,
            questions: Questions::new(ack_timeout),
            view,
            publisher,
            health,
            echo: Mutex::new(Instant::now()),
            link,
            prepared: Mutex::new(Some(Prepared {
                view: view_asked,
                listening,
                orders,
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
        let everyone = Everyone {
            rooms: pipeline.executor.rooms.clone(),
            presence: pipeline.executor.presence.clone(),
        };
        let others = Arc::new(Mutex::new(Others::new(
            everyone.clone(),
            self.names.clone(),
        )));
        let graveyard = Graveyard::new(
            self.clone(),
            pipeline.clone(),
            self.link.clone(),
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
            everyone,
            address,
            since: Instant::now(),
            telling: Telling::new(),
        };
        let inbox = Inbox {
            cluster: self.clone(),
            pipeline: pipeline.clone(),
            others,
            complaints: SharedComplaints::new("other hosts"),
        };
        let topics = inbox.topics();
        let inbox = Arc::new(inbox);
        let mut listening = prepared.listening;
        if self.subscriptions.is_some() {
            let (letters, letters_health) = watch::channel(Health::Starting);
            let (shards, shards_health) = watch::channel(Health::Starting);
            let both = std::mem::replace(&mut listening, letters);
            tokio::spawn(merge(letters_health, shards_health, both));
            let inbox = inbox.clone();
            let heard = move |channel: &str, bytes: &[u8]| inbox.take(channel, bytes);
            let redis = self.redis.clone();
            tokio::spawn(shards::listen(
                redis,
                prepared.orders,
                shards,
                Arc::new(heard),
            ));
        }
        tokio::spawn(listen(
            self.redis.clone(),
            topics,
            listening,
            move |channel, bytes| inbox.take(channel, bytes),
        ));
        tokio::spawn(lease.live());
        if let (Some(view), Some(asked)) = (self.view.clone(), prepared.view) {
            let (cluster, link) = (self.clone(), self.link.clone());
            let writer = Writer::new(view, cluster, pipeline.clone(), link);
            tokio::spawn(writer.write(asked));
        }
        tokio::spawn(tell_health(self.health.clone()));
    }

    /// Waits until others are heard, for a while: without them the host serves as well, and says so. Then
    /// waits until their connections are known, for a moment: who is on another host already would be
    /// taken for new here.
    pub async fn heard(&self) {
        let mut health = self.health.clone();
        let heard = health.wait_for(|health| *health == Health::Listening);
        if tokio::time::timeout(HEARD, heard).await.is_err() {
            tracing::error!("other hosts are not heard; going on alone until they are");
            return;
        }
        let introduced = async {
            while !self.knows_all().await {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        // Somebody may listen who is no host.
        tokio::time::timeout(INTRODUCED, introduced).await.ok();
    }

    /// Tells whether as many hosts are known as listen, where Redis can say that.
    async fn knows_all(&self) -> bool {
        if self.redis.cluster {
            // Each server knows of its own listeners only.
            return false;
        }
        let mut command = redis::cmd("PUBSUB");
        command.arg("NUMSUB").arg(&self.letters);
        let Ok(answer) = self.link.run(&command).await else {
            return false;
        };
        let listeners = redis::from_redis_value::<(String, usize)>(answer);
        listeners.is_ok_and(|(_, listeners)| self.names.known() + 1 >= listeners)
    }

    /// Says something to the other hosts.
    fn say(&self, said: Said) {
        let node = self.node.lock().clone();
        match serde_json::to_vec(&Letter { node, said }) {
            Ok(letter) => {
                let letter = Outgoing {
                    channel: self.letters.clone(),
                    bytes: letter,
                    sharded: false,
                };
                self.publisher.give(letter, false);
            }
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

    /// Tells whether others hear what this node says, as far as it can know. What is told while they are
    /// out of reach they would tell again; and one that has slept may have been taken for dead.
    fn is_heard(&self, now: Instant) -> bool {
        self.trouble().is_none() && self.hears_itself(now, AWAKE)
    }

    /// Tells whether it is known who tells of whom.
    fn may_speak(&self) -> bool {
        let now = Instant::now();
        self.is_heard(now) && self.names.is_settled(*self.since.lock(), now)
    }

    fn want(&self, wanted: Wanted) {
        // Only when the runtime ends is nobody there.
        self.wanted.send(wanted).ok();
    }

    fn of(&self, namespace: &Namespace) -> Option<&Format> {
        let mut formats = self.formats.iter();
        formats.find(|format| format.namespace() == namespace)
    }

    fn change(&self, namespace: &Namespace, who: &Who, change: Change<'_>) {
        if let Some(format) = self.of(namespace) {
            self.publisher.give(format.change(who, change), false);
        }
    }
}

fn letters_channel(redis: &RedisConfig) -> String {
    format!("{}:nodes", redis.prefix)
}

/// Tells of two kinds of channels that they are heard when both are.
async fn merge(
    mut letters: watch::Receiver<Health>,
    mut shards: watch::Receiver<Health>,
    both: watch::Sender<Health>,
) {
    loop {
        let one = letters.borrow_and_update().clone();
        let health = match (one, shards.borrow_and_update().clone()) {
            (Health::Listening, Health::Listening) => Health::Listening,
            (Health::Lost(why), _) | (_, Health::Lost(why)) => Health::Lost(why),
            _ => Health::Starting,
        };
        both.send_if_modified(|known| {
            let is_new = *known != health;
            *known = health;
            is_new
        });
        tokio::select! {
            Ok(()) = letters.changed() => {}
            Ok(()) = shards.changed() => {}
            () = both.closed() => return,
            else => return,
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

impl Journal for Cluster {
    fn note(&self, moved: Moved) {
        if let Some(subscriptions) = &self.subscriptions {
            subscriptions.note(&moved);
        }
        // Only when the runtime ends is nobody there.
        self.moved.send(moved).ok();
    }

    fn touched(&self, user: &UserId) {
        if let Some(view) = &self.view {
            view.touched(user);
        }
    }

    fn speaks_for(&self, user: &UserId) -> bool {
        let now = Instant::now();
        if !self.is_heard(now) {
            return false;
        }
        let (own, since) = (self.node.lock().clone(), *self.since.lock());
        self.names.speaks_for(&own, user, since, now)
    }

    fn is_alone(&self) -> bool {
        self.trouble().is_some() || self.names.is_empty()
    }
}

impl Relay for Cluster {
    fn emit(&self, emission: Relayed<'_>) {
        let Some(format) = self.of(emission.namespace) else {
            return;
        };
        let now = Instant::now();
        let to_all = self.subscriptions.as_ref().is_some_and(|subscriptions| {
            subscriptions.is_fresh(emission.namespace, emission.to, now)
        });
        match format.emission(emission, to_all) {
            Ok((message, id)) => {
                if let (Some(id), Some(asking)) = (id, emission.ask) {
                    self.questions.ask(id, emission.namespace, asking, now);
                }
                self.publisher.give(message, emission.volatile);
            }
            Err(why) => tracing::error!(%why, "an emission cannot be relayed"),
        }
    }

    fn join(&self, namespace: &Namespace, who: &Who, room: &RoomName) {
        if let Some(subscriptions) = &self.subscriptions {
            subscriptions.put(namespace, room, Instant::now());
        }
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
            if let Some(view) = &self.view {
                view.flush().await;
            }
            let (done, said) = oneshot::channel();
            self.want(Wanted::Bye(done));
            said.await.ok();
            self.publisher.flush().await;
        })
    }

    fn settled(&self) -> Option<BoxFuture<'static, ()>> {
        let settled = self.subscriptions.as_ref()?.wanted.settled()?;
        Some(Box::pin(settled))
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
