//! Everything that is stored in Redis, for operators.

use super::{Inner, out_of_reach};
use crate::{
    core::names::PluginName,
    link::Link,
    ports::{Fault, Stored, Visitor},
};
use redis::{
    Cmd, FromRedisValue, RedisResult, Value,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
};

/// Keys, and entries of a partition, that are asked for together.
const COUNT: usize = 1_000;

/// One of the servers that hold keys.
enum Node {
    Only,
    Master { host: String, port: u16 },
}

impl Link {
    /// Returns the servers that hold keys.
    async fn nodes(&self) -> RedisResult<Vec<Node>> {
        let Self::Cluster(_) = self else {
            return Ok(vec![Node::Only]);
        };
        let mut command = redis::cmd("CLUSTER");
        command.arg("NODES");
        let lines = String::from_redis_value(self.run(&command).await?)?;
        let masters = lines.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let (_, address, flags) = (words.next()?, words.next()?, words.next()?);
            let is_master = flags.split(',').any(|flag| flag == "master");
            // Host and port stand before the port of the cluster's own bus.
            let (host, port) = address.split('@').next()?.rsplit_once(':')?;
            is_master.then_some(())?;
            Some(Node::Master {
                host: host.to_owned(),
                port: port.parse().ok()?,
            })
        });
        Ok(masters.collect())
    }

    async fn run_on(&self, node: &Node, command: Cmd) -> RedisResult<Value> {
        match (self.clone(), node) {
            (Self::Cluster(mut connection), Node::Master { host, port }) => {
                let routing = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress {
                    host: host.clone(),
                    port: *port,
                });
                let answer = connection.route_command(command, routing).await;
                answer.and_then(Value::extract_error)
            }
            _ => self.run(&command).await,
        }
    }
}

impl Inner {
    pub(super) async fn each(
        &self,
        plugin: Option<&PluginName>,
        at_ms: u64,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Fault> {
        let failed = |error| out_of_reach(&error);
        // In a pattern only these characters are special, and no plugin's name has any.
        let escaped: String = self
            .prefix
            .chars()
            .flat_map(|c| "\\*?[]".contains(c).then_some('\\').into_iter().chain([c]))
            .collect();
        let of = plugin.map_or("", PluginName::as_str);
        let colon = if plugin.is_some() { ":" } else { "" };
        let pattern = format!("{escaped}:{{{of}{colon}*}}");
        for node in self.link.nodes().await.map_err(failed)? {
            let mut cursor = "0".to_owned();
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(&cursor).arg("MATCH").arg(&pattern);
                scan.arg("COUNT").arg(COUNT).arg("TYPE").arg("hash");
                let answer = self.link.run_on(&node, scan).await.map_err(failed)?;
                let (next, keys) = <(String, Vec<String>)>::from_redis_value(answer)
                    .map_err(|error| failed(error.into()))?;
                for key in keys {
                    self.each_of(&key, at_ms, visitor).await?;
                }
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn each_of(&self, key: &str, at_ms: u64, visitor: &mut Visitor<'_>) -> Result<(), Fault> {
        let failed = |error| out_of_reach(&error);
        let whole = key
            .strip_prefix(&self.prefix)
            .and_then(|rest| rest.strip_prefix(":{"))
            .and_then(|rest| rest.strip_suffix('}'))
            .and_then(|rest| rest.split_once(':'));
        let Some((Ok(plugin), partition)) =
            whole.map(|(plugin, partition)| (PluginName::new(plugin), partition))
        else {
            return Ok(());
        };
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(key).arg(&cursor).arg("COUNT").arg(COUNT);
            let answer = self.link.run(&scan).await.map_err(failed)?;
            let (next, parts) = <(String, Vec<String>)>::from_redis_value(answer)
                .map_err(|error| failed(error.into()))?;
            let mut parts = parts.into_iter();
            while let (Some(name), Some(entry)) = (parts.next(), parts.next()) {
                let parsed = entry.split_once('\n').and_then(|(head, text)| {
                    let expiry = head.split_once(' ')?.1;
                    Some((expiry.parse::<u64>().ok(), text))
                });
                let Some((expires_at, text)) = parsed else {
                    // The one without a name, which is the partition's own.
                    continue;
                };
                if expires_at.is_some_and(|expires_at| expires_at <= at_ms) {
                    continue;
                }
                let stored = Stored {
                    plugin: plugin.clone(),
                    partition: partition.to_owned(),
                    name,
                    text: text.to_owned(),
                    expires_at,
                };
                visitor(stored).map_err(|why| Fault::new("UNAVAILABLE", why))?;
            }
            cursor = next;
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}
