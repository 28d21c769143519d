//! The section `[limits]`: what clients, backends and plugins' replies may ask for.

use crate::{connections::Limits, core::rate::Rate};
use serde::{Deserialize, Serialize};

/// See the module's page.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Events a second of one connection.
    pub events_per_second: u32,
    /// Events at once of one connection.
    pub burst: u32,
    /// Events a second of all connections of one user.
    pub user_events_per_second: u32,
    /// Events at once of all connections of one user.
    pub user_burst: u32,
    /// Events of one connection that may wait.
    pub mailbox: usize,
    /// Bytes of events of one connection that may wait.
    pub mailbox_bytes: usize,
    /// How many more events may be refused than taken before a connection is closed.
    pub refusals: u32,
    /// Rooms of one connection, not counting its user's.
    pub rooms_per_connection: usize,
    /// Targets of all instructions in one reply of a plugin.
    pub targets_per_reply: usize,
    /// Events of plugins' making that may follow from one another.
    pub depth: u8,
    /// Server events that may wait for one key.
    pub server_events_per_key: usize,
    /// Bytes of one server event.
    pub server_event_bytes: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            events_per_second: 200,
            burst: 2_000,
            user_events_per_second: 400,
            user_burst: 4_000,
            mailbox: 2_048,
            mailbox_bytes: 4 << 20,
            refusals: 5_000,
            rooms_per_connection: 128,
            targets_per_reply: 10_000,
            depth: 8,
            server_events_per_key: 1_000,
            server_event_bytes: 1_000_000,
        }
    }
}

impl LimitsConfig {
    /// Returns what is wrong with these values, each with the key that is to be changed.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        [
            ("events_per_second", self.events_per_second as usize),
            ("burst", self.burst as usize),
            (
                "user_events_per_second",
                self.user_events_per_second as usize,
            ),
            ("user_burst", self.user_burst as usize),
            ("mailbox", self.mailbox),
            ("mailbox_bytes", self.mailbox_bytes),
            ("server_events_per_key", self.server_events_per_key),
            ("server_event_bytes", self.server_event_bytes),
        ]
        .into_iter()
        .filter(|(_, value)| *value == 0)
        .map(|(key, _)| format!("limits.{key}: expected at least 1"))
        .collect()
    }

    /// Returns what connections and users may send.
    #[must_use]
    pub fn of_connections(&self) -> Limits {
        let rate = |per_second: u32, burst: u32| Rate {
            per_second: f64::from(per_second),
            burst: f64::from(burst),
        };
        Limits {
            per_connection: rate(self.events_per_second, self.burst),
            per_user: rate(self.user_events_per_second, self.user_burst),
            mailbox_events: self.mailbox,
            mailbox_bytes: self.mailbox_bytes,
            refusals: self.refusals,
        }
    }
}
