//! The section `[socket]`.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where the host answers requests that are not Socket.IO's.
const OWN_PATHS: [&str; 4] = ["/api/v1", "/healthz", "/readyz", "/metrics"];

/// How Socket.IO is served.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketConfig {
    /// The path that it is served under.
    pub path: String,
    /// The web pages' origins that may read the answers (CORS), such as `https://example.org`; `*` for all.
    pub cors_origin: Vec<String>,
    /// How often a client is asked whether it is there.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// How long it may take to answer.
    #[serde(with = "humantime_serde")]
    pub ping_timeout: Duration,
    /// Bytes of one message, attachments included, after decoding; but for 32 KiB of text beside attachments.
    pub max_message_bytes: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// Connection attempts a second of one address.
    pub handshakes_per_second: u32,
    /// Connection attempts at once of one address.
    pub handshake_burst: u32,
    /// Packets that wait to be written to one client, at about which it is closed.
    pub outgoing_queue: usize,
    /// Bytes that wait for one client, at about which it is closed.
    pub outgoing_bytes: usize,
    /// How long clients have to acknowledge what asks for it.
    #[serde(with = "humantime_serde")]
    pub ack_timeout: Duration,
    /// Whether the last entry of `X-Forwarded-For` is the client's address: only behind a proxy of
    /// one's own.
    pub trust_forwarded_for: bool,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            path: "/socket.io".to_owned(),
            cors_origin: Vec::new(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(60),
            max_message_bytes: 1_000_000,
            max_connections: 10_000,
            handshakes_per_second: 20,
            handshake_burst: 100,
            outgoing_queue: 8_192,
            outgoing_bytes: 16 << 20,
            ack_timeout: Duration::from_secs(10),
            trust_forwarded_for: false,
        }
    }
}

impl SocketConfig {
    /// Returns what is wrong with these values, each with the key that is to be changed.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.path.starts_with('/') || self.path.len() < 2 || self.path.ends_with('/') {
            problems.push(format!(
                "socket.path: expected a path such as `/socket.io`, got `{}`",
                self.path
            ));
        }
        if let Some(own) = OWN_PATHS.iter().find(|own| own.starts_with(&self.path)) {
            problems.push(format!(
                "socket.path: `{}` would hide the host's own `{own}`",
                self.path
            ));
        }
        for origin in &self.cors_origin {
            let whole = origin == "*"
                || origin.split_once("://").is_some_and(|(scheme, host)| {
                    !scheme.is_empty()
                        && !host.is_empty()
                        && !host.trim_end_matches('/').contains('/')
                });
            if !whole {
                problems.push(format!(
                    "socket.cors_origin: expected origins such as `https://example.org`, or `*`, got `{origin}`"
                ));
            }
        }
        for (key, value) in [
            ("max_message_bytes", self.max_message_bytes),
            ("max_connections", self.max_connections),
            ("handshakes_per_second", self.handshakes_per_second as usize),
            ("handshake_burst", self.handshake_burst as usize),
            ("outgoing_queue", self.outgoing_queue),
            ("outgoing_bytes", self.outgoing_bytes),
        ] {
            if value == 0 {
                problems.push(format!("socket.{key}: expected at least 1"));
            }
        }
        for (key, value) in [
            ("ping_interval", self.ping_interval),
            ("ping_timeout", self.ping_timeout),
            ("ack_timeout", self.ack_timeout),
        ] {
            if value.is_zero() {
                problems.push(format!("socket.{key}: expected more than 0"));
            }
        }
        problems
    }
}
