//! What the operator sets for plugins: `[plugins]` for all of them, `[plugin.NAME]` for one.

use super::quarantine::QuarantineConfig;
use crate::core::{
    channel::ChannelGrant,
    manifest::{ALWAYS_GRANTED, GRANTABLE},
    names::{Namespace, PluginName, RoomPrefix, USER_PREFIX},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// The section `[plugins]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginsConfig {
    /// The folder whose `.wasm` files are served and watched.
    pub dir: PathBuf,
    /// The order in which plugins that subscribe to the same event see it; others follow by name.
    pub order: Vec<PluginName>,
    /// Where compiled code is kept; a folder of the user's cache when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_dir: Option<PathBuf>,
    /// How much of the processor's time a plugin may take for one event.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// Megabytes of memory that one instance may use.
    pub memory_mb: u32,
    /// Elements that one table of an instance may have.
    pub max_table_elements: usize,
    /// Instances that there may be at once, of all plugins together. One plugin may use an eighth.
    pub max_instances: u32,
    /// `pool` for warm instances that are used again, `event` for a fresh instance for each event.
    pub isolation: Isolation,
    /// After how many events a warm instance is thrown away.
    pub recycle_after_events: u32,
    /// At how many megabytes of memory a warm instance is thrown away.
    pub recycle_memory_mb: u32,
    /// Bytes that a plugin's file may have.
    pub max_file_bytes: u64,
    /// Bytes that the reply to one event may have.
    pub max_reply_bytes: usize,
    /// Instructions that one reply may have.
    pub max_instructions: usize,
    /// When a plugin that fails is given no more events.
    pub quarantine: QuarantineConfig,
    /// Whether there is a Redis that plugins can publish to: no setting of its own, but what follows
    /// from those of Redis.
    #[serde(skip)]
    pub has_redis: bool,
}

impl Default for PluginsConfig {
    fn default() -> Self {
        Self {
            dir: "plugins".into(),
            order: Vec::new(),
            cache_dir: None,
            deadline: Duration::from_secs(1),
            memory_mb: 64,
            max_table_elements: 20_000,
            max_instances: 512,
            isolation: Isolation::Pool,
            recycle_after_events: 1_000,
            recycle_memory_mb: 16,
            max_file_bytes: 64 << 20,
            max_reply_bytes: 8 << 20,
            max_instructions: 10_000,
            quarantine: QuarantineConfig::default(),
            has_redis: false,
        }
    }
}

impl PluginsConfig {
    /// Returns what is wrong with these values, each with the key that is to be changed.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = [
            ("memory_mb", self.memory_mb as usize),
            ("max_table_elements", self.max_table_elements),
            ("recycle_after_events", self.recycle_after_events as usize),
            ("max_reply_bytes", self.max_reply_bytes),
            ("max_instructions", self.max_instructions),
            ("quarantine.faults", self.quarantine.faults),
        ]
        .into_iter()
        .filter(|(_, value)| *value == 0)
        .map(|(key, _)| format!("plugins.{key}: expected at least 1"))
        .collect();
        if !(8..=10_000).contains(&self.max_instances) {
            problems.push(format!(
                "plugins.max_instances: expected 8 to 10000, got {}",
                self.max_instances
            ));
        }
        // A 32-bit memory has no more.
        if self.memory_mb > 4_096 {
            problems.push(format!(
                "plugins.memory_mb: expected at most 4096, got {}",
                self.memory_mb
            ));
        }
        if self.deadline.is_zero() {
            problems.push("plugins.deadline: expected more than 0".to_owned());
        }
        for (place, name) in self.order.iter().enumerate() {
            if self.order.iter().take(place).any(|before| before == name) {
                problems.push(format!("plugins.order: `{name}` is there twice"));
            }
        }
        problems
    }

    /// Returns how many bytes of memory one instance may use.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        (self.memory_mb as usize) << 20
    }
}

/// Whether instances are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Warm instances, each used for one event at a time.
    Pool,
    /// A fresh instance for each event.
    Event,
}

/// The section `[plugin.NAME]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginConfig {
    /// Whether it is loaded.
    pub enabled: bool,
    /// The namespace that it is mounted on.
    pub namespace: Namespace,
    /// The room prefixes that it is granted, without the `:`; those of its manifest when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<Vec<RoomPrefix>>,
    /// The capabilities that it is granted; those of its manifest when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// The channels of Redis that it may publish to: names, or with a `*` at the end what they begin
    /// with. None unless they are said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelGrant>,
    /// What the plugin reads as its settings.
    pub settings: toml::Table,
    /// Its own deadline.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Its own isolation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// How many entries it may store: keys, timers, and two for each entry of a history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_state_entries: Option<u64>,
    /// How many bytes it may store, names included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_state_bytes: Option<u64>,
}

impl Default for PluginConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            namespace: Namespace::root(),
            rooms: None,
            capabilities: None,
            channels: Vec::new(),
            settings: toml::Table::new(),
            deadline: None,
            isolation: None,
            max_state_entries: None,
            max_state_bytes: None,
        }
    }
}

impl PluginConfig {
    /// Returns what is wrong with these values, each with the key that is to be changed.
    #[must_use]
    pub fn problems(&self, plugin: &PluginName) -> Vec<String> {
        let mut problems = Vec::new();
        let known: Vec<&str> = ALWAYS_GRANTED.into_iter().chain(GRANTABLE).collect();
        for name in self.capabilities.iter().flatten() {
            if !known.contains(&name.as_str()) {
                problems.push(format!(
                    "plugin.{plugin}.capabilities: there is no capability `{name}`; expected some of {}",
                    known.join(", ")
                ));
            }
        }
        let mut rooms = self.rooms.iter().flatten();
        if rooms.any(|prefix| prefix.as_str() == USER_PREFIX) {
            problems.push(format!(
                "plugin.{plugin}.rooms: `{USER_PREFIX}` is the host's own; plugins emit to users without it"
            ));
        }
        problems
    }
}

/// The sections of single plugins.
pub type PluginConfigs = BTreeMap<PluginName, PluginConfig>;
