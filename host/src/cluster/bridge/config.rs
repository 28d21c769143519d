//! The sections `[channels.NAME]`.

use crate::{
    core::{
        channel::ChannelName,
        names::{EventName, PluginName},
    },
    link::config::RedisConfig,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A channel of Redis whose messages become server events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelConfig {
    /// The name of the event; the channel's where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<EventName>,
    /// The plugin that it is for; every one that subscribed to the event where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginName>,
    /// The member of a message by whose value messages are in order. Where none is named all of the
    /// channel are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The sections of all channels.
pub type ChannelsConfig = BTreeMap<ChannelName, ChannelConfig>;

/// Gives every channel its event.
pub fn name_events(channels: &mut ChannelsConfig) {
    for (channel, config) in channels {
        if config.event.is_none() {
            config.event = EventName::new(channel.as_str()).ok();
        }
    }
}

/// Returns what is wrong with these sections, each with the key that is to be changed. `key` is what the
/// channels of Node.js' adapter begin with.
#[must_use]
pub fn problems(channels: &ChannelsConfig, redis: &RedisConfig, key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (channel, config) in channels {
        let section = format!("channels.\"{channel}\"");
        if !redis.is_set() {
            problems.push(format!(
                "{section}: channels need a Redis, and none is configured (redis.host, or REDIS_HOST)"
            ));
        }
        if redis.cluster && redis.nodes.len() > 1 {
            problems.push(format!(
                "{section}: hosts agree on who handles a message only where all listen at the same node of the \
                 Redis Cluster; name one in redis.nodes, the same for all hosts"
            ));
        }
        if is_own(channel.as_str(), &redis.prefix, key) {
            problems.push(format!(
                "{section}: hosts themselves speak on this channel (redis.prefix, cluster.key)"
            ));
        }
        if config.event.is_none() {
            problems.push(format!(
                "{section}.event: the channel's name cannot be an event's; say which event it becomes"
            ));
        }
    }
    problems
}

/// Tells whether a channel is one of those by which hosts, and servers of Node.js, reach each other.
pub(super) fn is_own(channel: &str, prefix: &str, key: &str) -> bool {
    let after = |start: &str| channel.strip_prefix(start);
    after(prefix).is_some_and(|rest| rest.starts_with(':'))
        || after(key).is_some_and(|rest| {
            let rest = rest.strip_prefix("-request").unwrap_or(rest);
            rest.strip_prefix("-response")
                .unwrap_or(rest)
                .starts_with('#')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_listened_to_at_one_node_of_a_cluster() {
        let mut channels: ChannelsConfig = toml::from_str("[a]\n[b]\nevent = 'c'").unwrap();
        name_events(&mut channels);
        for (toml, count) in [
            ("cluster = true\nnodes = ['a', 'b:1']", 2),
            ("cluster = true\nnodes = ['a']", 0),
            ("cluster = true\nhost = 'a'", 0),
        ] {
            let redis: RedisConfig = toml::from_str(toml).unwrap();
            let found = problems(&channels, &redis, "socket.io");
            assert_eq!(found.len(), count, "{toml}: {found:?}");
            let names_key = |problem: &String| problem.contains("redis.nodes");
            assert!(found.iter().all(names_key), "{found:?}");
        }
        let redis = toml::from_str("cluster = true\nnodes = ['a', 'b:1']").unwrap();
        assert!(problems(&BTreeMap::new(), &redis, "socket.io").is_empty());
    }

    #[test]
    fn channels_of_the_hosts_own_are_told_apart() {
        for own in [
            "switchboard:nodes",
            "socket.io#/#room#",
            "socket.io-request#/#",
            "socket.io-response#/#",
        ] {
            assert!(is_own(own, "switchboard", "socket.io"), "{own}");
        }
        for other in ["message:new", "switchboards", "socket.io", "socket.io-news"] {
            assert!(!is_own(other, "switchboard", "socket.io"), "{other}");
        }
    }
}
