//! Which plugins an event goes to.
//!
//! The table is replaced as a whole when a plugin is loaded, swapped or removed. Whoever handles an
//! event takes its subscribers from it once and keeps them to the end, so that an event meets each plugin in one
//! version; and since the table only moves forward, versions are monotonic for each connection.

use crate::{
    core::{
        event::{Notice, Trigger},
        names::{EventName, Namespace, PluginName},
    },
    ports::Plugin,
};
use ahash::HashMap;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// Plugins in the configured order.
pub type Subscribers = Arc<[Arc<dyn Plugin>]>;

/// One snapshot of what is loaded.
#[derive(Default)]
pub struct RouteTable {
    plugins: Vec<Arc<dyn Plugin>>,
    messages: HashMap<Namespace, HashMap<EventName, Subscribers>>,
    server: HashMap<EventName, Subscribers>,
}

impl RouteTable {
    /// Returns the table for plugins that are listed in the configured order.
    #[must_use]
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        let mut messages: HashMap<Namespace, HashMap<EventName, Vec<Arc<dyn Plugin>>>> =
            HashMap::default();
        let mut server: HashMap<EventName, Vec<Arc<dyn Plugin>>> = HashMap::default();
        for plugin in &plugins {
            let info = plugin.info();
            let in_namespace = messages.entry(info.namespace.clone()).or_default();
            for name in &info.manifest.subscriptions.messages {
                in_namespace
                    .entry(name.clone())
                    .or_default()
                    .push(plugin.clone());
            }
            for name in &info.manifest.subscriptions.server {
                server.entry(name.clone()).or_default().push(plugin.clone());
            }
        }
        let freeze = |map: HashMap<EventName, Vec<Arc<dyn Plugin>>>| {
            map.into_iter()
                .map(|(name, plugins)| (name, plugins.into()))
                .collect()
        };
        Self {
            plugins,
            messages: messages
                .into_iter()
                .map(|(namespace, map)| (namespace, freeze(map)))
                .collect(),
            server: freeze(server),
        }
    }

    /// Returns who takes an event; nobody when that is unknown.
    #[must_use]
    pub fn subscribers(&self, namespace: &Namespace, trigger: &Trigger) -> Subscribers {
        let found = match trigger {
            Trigger::Message { name, .. } => self
                .messages
                .get(namespace)
                .and_then(|names| names.get(name)),
            Trigger::Server { name, .. } => self.server.get(name),
            Trigger::Notice(notice) => return self.subscribers_of_notice(namespace, notice),
        };
        found.cloned().unwrap_or_else(|| Arc::from([]))
    }

    fn subscribers_of_notice(&self, namespace: &Namespace, notice: &Notice) -> Subscribers {
        self.plugins
            .iter()
            .filter(|plugin| {
                let info = plugin.info();
                let concerned = match notice {
                    Notice::Connected | Notice::Disconnected { .. } | Notice::Presence { .. } => {
                        true
                    }
                    Notice::Joined { room, .. }
                    | Notice::Left { room, .. }
                    | Notice::Typing { room, .. } => info.may_use_prefix(room.prefix()),
                    Notice::Acknowledged { plugin, .. } => info.name().as_str() == &**plugin,
                    // Handed to the plugin whose timer it is, past this table.
                    Notice::Timer { .. } => false,
                };
                // A user is in all namespaces.
                let is_elsewhere = info.namespace != *namespace;
                concerned
                    && (!is_elsewhere || matches!(notice, Notice::Presence { .. }))
                    && info
                        .manifest
                        .subscriptions
                        .notices
                        .iter()
                        .any(|name| name == notice.name())
            })
            .cloned()
            .collect()
    }

    /// Returns a plugin by its name.
    #[must_use]
    pub fn plugin(&self, name: &PluginName) -> Option<&Arc<dyn Plugin>> {
        self.plugins
            .iter()
            .find(|plugin| plugin.info().name() == name)
    }

    /// Returns the plugins in the configured order.
    #[must_use]
    pub fn plugins(&self) -> &[Arc<dyn Plugin>] {
        &self.plugins
    }
}

/// The current table; readers never wait.
#[derive(Default)]
pub struct Routes(ArcSwap<RouteTable>);

impl Routes {
    /// Replaces the table: from now on events go to these plugins.
    pub fn publish(&self, plugins: Vec<Arc<dyn Plugin>>) {
        self.0.store(Arc::new(RouteTable::new(plugins)));
    }

    /// Returns who takes an event now; nobody when that is unknown.
    #[must_use]
    pub fn subscribers(&self, namespace: &Namespace, trigger: &Trigger) -> Subscribers {
        self.0.load().subscribers(namespace, trigger)
    }

    /// Returns the table as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<RouteTable> {
        self.0.load_full()
    }
}
