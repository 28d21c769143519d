//! What the host counts, for `/metrics` in Prometheus' text format. Names begin with `switchboard_`.

mod sharded;

pub use self::sharded::{Durations, Number};

use crate::core::code::Code;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{borrow::Cow, time::Duration};

type Text = Cow<'static, str>;

/// A counter of what happens with every event.
pub type Count = Counter<u64, Number>;

/// The label of a family with one dimension.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Of {
    /// What the family is divided by; its name says what that is.
    pub kind: Text,
}

/// The labels of what concerns one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfPlugin {
    /// The plugin.
    pub plugin: Text,
    /// `ok`, or what went wrong.
    pub outcome: Text,
}

/// The labels of what concerns one channel of Redis.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfChannel {
    /// The channel.
    pub channel: Text,
    /// `ok`, or what went wrong.
    pub outcome: Text,
}

/// The label of what concerns one channel of Redis as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Channel {
    /// The channel.
    pub channel: Text,
}

/// The label of what concerns one plugin as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Plugin {
    /// The plugin.
    pub plugin: Text,
}

/// Every metric of the host. Cheap to share by `Arc`; handles of single metrics may be kept by who
/// counts often.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Connections now.
    pub connections: Gauge,
    /// Handshakes refused, by code.
    pub refused: Family<Of, Counter>,
    /// Connections ended, by reason.
    pub disconnects: Family<Of, Counter>,
    /// Clients' and backends' events handled, by `ok` or the code of the failure.
    events: Family<Of, Count>,
    /// That of those that went well, which nearly all do.
    events_ok: Count,
    /// Frames queued for clients.
    pub frames: Count,
    /// Frames that were not queued, by reason.
    pub frames_lost: Family<Of, Counter>,
    /// Other hosts that live.
    pub other_hosts: Gauge,
    /// Their connections.
    pub other_connections: Gauge,
    /// Messages published for other nodes.
    pub relayed: Counter,
    /// Messages that did not reach other nodes, or came from them and were not understood, by reason.
    pub relay_lost: Family<Of, Counter>,
    /// Messages of channels that became server events here, by `ok` or why not, or not well.
    pub channel_messages: Family<OfChannel, Counter>,
    /// Whether this host is the one that handles a channel's messages.
    pub channel_held: Family<Channel, Gauge>,
    /// Messages that plugins published.
    pub published: Counter,
    /// Messages of plugins that were not published, by reason.
    pub publish_lost: Family<Of, Counter>,
    /// Calls of plugins.
    pub calls: Family<OfPlugin, Count>,
    /// How long calls took, in seconds.
    pub call_seconds: Family<Plugin, Durations>,
    /// Attempts to load a plugin.
    pub loads: Family<OfPlugin, Counter>,
    /// Whether a plugin is quarantined now.
    pub quarantined: Family<Plugin, Gauge>,
    /// Handlers run again because what they had read had changed.
    pub conflicts: Family<Plugin, Counter>,
    /// How long after they were due timers were handled, in seconds.
    pub timer_delay: Durations,
    /// What state refused to handlers, by plugin and code.
    pub state_refused: Family<OfPlugin, Counter>,
    /// Events refused because their plugin stores as much as it may.
    pub state_full: Family<Plugin, Counter>,
    /// Lines of plugins' logs that were dropped, being too many.
    pub log_lines_dropped: Family<Plugin, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("switchboard");
        macro_rules! register {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let events = register!(
            "events",
            "Events handled, by ok or the failure's code",
            Family::<Of, Count>::default()
        );
        let ok = Of { kind: "ok".into() };
        let events_ok = events.get_or_create(&ok).clone();
        Self {
            events_ok,
            events,
            connections: register!("connections", "Connections now", Gauge::default()),
            refused: register!(
                "handshakes_refused",
                "Handshakes refused, by code",
                Family::default()
            ),
            disconnects: register!(
                "disconnects",
                "Connections ended, by reason",
                Family::default()
            ),
            frames: register!("frames", "Frames queued for clients", Count::default()),
            frames_lost: register!(
                "frames_lost",
                "Frames not queued, by reason",
                Family::default()
            ),
            other_hosts: register!("other_hosts", "Other hosts that live", Gauge::default()),
            other_connections: register!(
                "other_connections",
                "Connections of other hosts",
                Gauge::default()
            ),
            relayed: register!(
                "relayed",
                "Messages published for other nodes",
                Counter::default()
            ),
            relay_lost: register!(
                "relay_lost",
                "Messages between nodes that were lost, by reason",
                Family::default()
            ),
            channel_messages: register!(
                "channel_messages",
                "Messages of channels handled here, by ok or what went wrong",
                Family::default()
            ),
            channel_held: register!(
                "channel_held",
                "Whether this host handles the messages of a channel",
                Family::default()
            ),
            published: register!(
                "published",
                "Messages that plugins published to channels",
                Counter::default()
            ),
            publish_lost: register!(
                "publish_lost",
                "Messages of plugins that were not published, by reason",
                Family::default()
            ),
            calls: register!(
                "plugin_calls",
                "Calls of plugins, by outcome",
                Family::default()
            ),
            call_seconds: register!(
                "plugin_call_seconds",
                "How long calls of plugins took",
                Family::<Plugin, Durations>::new_with_constructor(|| {
                    Durations::from_shortest(Duration::from_micros(2))
                })
            ),
            loads: register!(
                "plugin_loads",
                "Attempts to load plugins, by outcome",
                Family::default()
            ),
            quarantined: register!(
                "plugin_quarantined",
                "Whether a plugin is quarantined",
                Family::default()
            ),
            conflicts: register!(
                "state_conflicts",
                "Handlers run again after a conflict",
                Family::default()
            ),
            timer_delay: register!(
                "timer_delay_seconds",
                "How long after they were due timers were handled",
                Durations::from_shortest(Duration::from_millis(1))
            ),
            state_refused: register!(
                "state_refused",
                "Reads and writes of state refused to handlers, by code",
                Family::default()
            ),
            state_full: register!(
                "state_full",
                "Events refused because their plugin stores as much as it may",
                Family::default()
            ),
            log_lines_dropped: register!(
                "plugin_log_lines_dropped",
                "Log lines of plugins dropped",
                Family::default()
            ),
            registry,
        }
    }
}

impl Metrics {
    /// Returns all metrics in Prometheus' text format.
    ///
    /// # Errors
    /// When formatting fails, which writing into a text does not.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Metrics {
    /// Counts an event that was handled; codes that are not the host's are counted together.
    pub fn count_event(&self, failure: Option<&str>) {
        match failure {
            None => self.events_ok.inc(),
            Some(code) => {
                // Plugins may make any code they like, even of what clients sent.
                let known = Code::of(code).map_or("OTHER", Code::as_str);
                self.events.get_or_create(&Of { kind: known.into() }).inc()
            }
        };
    }
}

/// Counts one under a family's single label.
pub fn count(family: &Family<Of, Counter>, kind: impl Into<Text>) {
    family.get_or_create(&Of { kind: kind.into() }).inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered() {
        let metrics = Metrics::default();
        count(&metrics.refused, "AUTH_FAILED");
        let text = metrics.render().unwrap();
        assert!(
            text.contains(r#"switchboard_handshakes_refused_total{kind="AUTH_FAILED"} 1"#),
            "{text}"
        );
    }
}
