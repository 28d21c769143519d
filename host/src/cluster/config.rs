//! The section `[cluster]`.

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
    /// Bytes that may wait to be published, such as while Redis is away; and as many of what plugins
    /// publish to channels. What comes beyond is lost to other nodes, or listeners, and counted.
    pub queue_bytes: usize,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            key: "socket.io".to_owned(),
            queue_bytes: 16 << 20,
        }
    }
}
