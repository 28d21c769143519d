//! The section `[redis]`.

use crate::core::secret::Secret;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The section `[redis]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// Its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The user of its access control list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The number of the database; a cluster has 0 only.
    pub database: i64,
    /// Whether it is a Redis Cluster, of which the host is one node.
    pub cluster: bool,
    /// How long one operation may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// What all keys begin with.
    pub prefix: String,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            username: None,
            password: None,
            database: 0,
            cluster: false,
            timeout: Duration::from_secs(2),
            prefix: "switchboard".to_owned(),
        }
    }
}

impl RedisConfig {
    /// Tells whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.host.is_some() || self.port.is_some() || self.password.is_some()
    }

    /// Returns its host; this machine where none is named.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("127.0.0.1")
    }

    /// Returns its port; the usual one where none is named.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(6379)
    }
}
