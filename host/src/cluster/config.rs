//! The section `[cluster]`.

use crate::core::names::RoomPrefix;
use serde::{Deserialize, Serialize};

/// How hosts that share a Redis reach each other's connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Whether they do, where a Redis is configured.
    pub enabled: bool,
    /// What the channels' names begin with: the `key` of Node.js' `@socket.io/redis-adapter` and
    /// `@socket.io/redis-emitter`, which reach the same connections.
    pub key: String,
    /// Which of Node.js' adapters they speak with, and speak like.
    pub mode: Mode,
    /// In the sharded mode: which channels are listened to.
    pub subscriptions: Subscriptions,
    /// Bytes that may wait to be published, such as while Redis is away; and as many of what plugins
    /// publish to channels. What comes beyond is lost to other nodes, or listeners, and counted.
    pub queue_bytes: usize,
    /// Whether who is connected, where, and seen as what is kept in Redis for other services to read.
    pub view: bool,
    /// What the keys of that begin with; `redis.prefix`, then `:view:`, when unset.
    pub view_prefix: Option<String>,
    /// The prefix of the rooms that are in it, by the rest of their names; all, by their whole names, when
    /// unset.
    pub view_rooms: Option<RoomPrefix>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            key: "socket.io".to_owned(),
            mode: Mode::Classic,
            subscriptions: Subscriptions::Dynamic,
            queue_bytes: 16 << 20,
            view: false,
            view_prefix: None,
            view_rooms: None,
        }
    }
}

/// Which of Node.js' adapters hosts speak with, and speak like. All of a cluster do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `createAdapter`: every message goes to every node, by channels that a Redis Cluster takes to all
    /// of its nodes, too.
    Classic,
    /// `createShardedAdapter`: channels belong to shards of a Redis Cluster, and a message to a room goes
    /// to those nodes only that have somebody in it.
    Sharded,
}

/// Which sharded channels are listened to: the `subscriptionMode` of Node.js. All of a cluster do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subscriptions {
    /// One for each room that somebody is in.
    Dynamic,
    /// One for all of a namespace.
    Static,
}
