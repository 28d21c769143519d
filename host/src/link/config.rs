//! The section `[redis]`.

use super::address::{self, Address, REDIS_PORT, RedisUrl, SENTINEL_PORT};
use crate::core::secret::{self, Secret};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// The section `[redis]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// Where it is and as whom one connects, in one text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<RedisUrl>,
    /// Its host.
    #[serde(
        deserialize_with = "address::host",
        skip_serializing_if = "Option::is_none"
    )]
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
    /// Whether it is reached by TLS.
    pub tls: bool,
    /// The file of certificates (PEM) of who signs those of Redis; otherwise the system's are trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The file of this host's own certificate (PEM), where Redis wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The file of its private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Whether it is a Redis Cluster, of which what is named is a node.
    pub cluster: bool,
    /// Nodes of the Redis Cluster; any of them that is there tells of the others.
    #[serde(
        deserialize_with = "secret::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub nodes: Vec<Address>,
    /// The Sentinels, which are asked for the master.
    #[serde(
        deserialize_with = "secret::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub sentinels: Vec<Address>,
    /// The name by which they know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// The user of the Sentinels' access control list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel_username: Option<String>,
    /// The Sentinels' password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel_password: Option<Secret>,
    /// How long one operation may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// What all keys begin with.
    pub prefix: String,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: None,
            host: None,
            port: None,
            username: None,
            password: None,
            database: 0,
            tls: false,
            ca: None,
            certificate: None,
            key: None,
            cluster: false,
            nodes: Vec::new(),
            sentinels: Vec::new(),
            master: None,
            sentinel_username: None,
            sentinel_password: None,
            timeout: Duration::from_secs(2),
            prefix: "switchboard".to_owned(),
        }
    }
}

impl RedisConfig {
    /// Tells whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        let place = self.url.is_some() || self.host.is_some() || self.port.is_some();
        let places = !self.nodes.is_empty() || !self.sentinels.is_empty();
        let how = self.cluster || self.is_encrypted() || self.database != 0;
        place || places || how || self.password.is_some()
    }

    /// Returns the addresses of Redis, or of nodes of the cluster. None where Sentinels know it.
    pub(super) fn addresses(&self) -> Vec<(String, u16)> {
        if !self.nodes.is_empty() {
            return with_port(&self.nodes, REDIS_PORT);
        }
        if !self.sentinels.is_empty() {
            return Vec::new();
        }
        if let Some(url) = &self.url {
            return with_port(std::slice::from_ref(&url.address), REDIS_PORT);
        }
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        vec![(host.to_owned(), self.port.unwrap_or(REDIS_PORT))]
    }

    /// Returns the addresses of the Sentinels.
    pub(super) fn sentinels(&self) -> Vec<(String, u16)> {
        with_port(&self.sentinels, SENTINEL_PORT)
    }

    /// Tells whether it is reached by TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.tls || self.url.as_ref().is_some_and(|url| url.tls)
    }

    /// Returns as whom, with which password, and to which database one connects.
    pub(super) fn login(&self) -> (Option<&str>, Option<&Secret>, i64) {
        let url = self.url.as_ref();
        let username = url.and_then(|url| url.username.as_deref());
        let password = url.and_then(|url| url.password.as_ref());
        let database = url.and_then(|url| url.database);
        (
            username.or(self.username.as_deref()),
            password.or(self.password.as_ref()),
            database.unwrap_or(self.database),
        )
    }

    /// Returns where it is, in words.
    #[must_use]
    pub fn place(&self) -> String {
        let list = |all: Vec<(String, u16)>| {
            let all = all.into_iter().map(|(host, port)| {
                let port = Some(port);
                Address { host, port }.to_string()
            });
            all.collect::<Vec<_>>().join(", ")
        };
        match &self.master {
            Some(master) => format!("the master `{master}` of {}", list(self.sentinels())),
            None => list(self.addresses()),
        }
    }

    /// Returns the keys that say where it is.
    #[must_use]
    pub fn keys(&self) -> &'static str {
        if !self.nodes.is_empty() {
            "redis.nodes"
        } else if !self.sentinels.is_empty() {
            "redis.sentinels, redis.master"
        } else if self.url.is_some() {
            "redis.url"
        } else {
            "redis.host, redis.port"
        }
    }

    /// Returns the keys that say as whom one connects.
    pub(super) fn login_keys(&self) -> &'static str {
        if !self.sentinels.is_empty() {
            "redis.username, redis.password, redis.sentinel_username, redis.sentinel_password"
        } else if self.url.as_ref().is_some_and(|url| url.password.is_some()) {
            "redis.url"
        } else {
            "redis.username, redis.password"
        }
    }

    /// Returns what is wrong with the values, such as that they contradict each other.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let url = self.url.as_ref();
        let (has_nodes, has_sentinels) = (!self.nodes.is_empty(), !self.sentinels.is_empty());
        let ways = [
            ("redis.url", url.is_some()),
            ("redis.nodes", has_nodes),
            ("redis.sentinels", has_sentinels),
            ("redis.host", self.host.is_some()),
            ("redis.port", self.port.is_some()),
        ];
        let said = ways.into_iter().filter(|(_, said)| *said);
        let said: Vec<&str> = said.map(|(key, _)| key).collect();
        let in_url = |key: &str| format!("redis.{key}: redis.url says it already; set one of them");
        let without =
            |key: &str, other: &str| format!("redis.{key}: means nothing without {other}");
        let file_without_tls = [
            ("ca", &self.ca),
            ("certificate", &self.certificate),
            ("key", &self.key),
        ]
        .into_iter()
        .filter(|(_, file)| file.is_some() && !self.is_encrypted())
        .map(|(key, _)| {
            (
                true,
                without(key, "redis.tls = true or rediss:// in redis.url"),
            )
        });
        let (_, _, database) = self.login();
        let problems = [
            (
                !(said.len() < 2 || said == ["redis.host", "redis.port"]),
                format!(
                    "{}: each says where Redis is; set one of them (REDIS_URL, REDIS_HOST and REDIS_PORT in the environment set them, too)",
                    said.join(", ")
                ),
            ),
            (
                url.is_some_and(|url| url.username.is_some()) && self.username.is_some(),
                in_url("username"),
            ),
            (
                url.is_some_and(|url| url.password.is_some()) && self.password.is_some(),
                in_url("password"),
            ),
            (
                url.is_some_and(|url| url.database.is_some()) && self.database != 0,
                in_url("database"),
            ),
            (
                url.is_some_and(|url| !url.tls) && self.tls,
                "redis.tls: redis.url says redis://, which is without TLS; write rediss://"
                    .to_owned(),
            ),
            (
                self.login().0.is_some() && self.login().1.is_none(),
                "redis.username: a user needs a password (redis.password)".to_owned(),
            ),
            (
                self.certificate.is_some() != self.key.is_some(),
                "redis.certificate, redis.key: one is of no use without the other".to_owned(),
            ),
            (
                has_nodes && !self.cluster,
                without("nodes", "redis.cluster = true"),
            ),
            (
                has_sentinels && self.cluster,
                "redis.sentinels, redis.cluster: a Redis Cluster has no Sentinels; set one of them"
                    .to_owned(),
            ),
            (
                has_sentinels && self.master.is_none(),
                "redis.master: expected the name by which the Sentinels know the master".to_owned(),
            ),
            (
                self.master.is_some() && !has_sentinels,
                without("master", "redis.sentinels"),
            ),
            (
                self.sentinel_username.is_some() && self.sentinel_password.is_none(),
                without("sentinel_username", "redis.sentinel_password"),
            ),
            (
                self.sentinel_password.is_some() && !has_sentinels,
                without("sentinel_password", "redis.sentinels"),
            ),
            (
                database < 0,
                "redis.database: expected a number from 0".to_owned(),
            ),
            (
                self.cluster && database != 0,
                "redis.database, redis.cluster: a Redis Cluster has the database 0 only".to_owned(),
            ),
        ];
        let problems = problems.into_iter().chain(file_without_tls);
        problems
            .filter_map(|(is_one, problem)| is_one.then_some(problem))
            .collect()
    }
}

fn with_port(addresses: &[Address], usual: u16) -> Vec<(String, u16)> {
    let addresses = addresses.iter();
    addresses
        .map(|address| (address.host.clone(), address.port.unwrap_or(usual)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> RedisConfig {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn all_ways_to_say_where_it_is() {
        for (toml, addresses, place) in [
            ("", vec![("127.0.0.1", 6379)], "127.0.0.1:6379"),
            ("tls = true", vec![("127.0.0.1", 6379)], "127.0.0.1:6379"),
            (
                "cluster = true",
                vec![("127.0.0.1", 6379)],
                "127.0.0.1:6379",
            ),
            ("database = 3", vec![("127.0.0.1", 6379)], "127.0.0.1:6379"),
            ("host = 'h'\nport = 1", vec![("h", 1)], "h:1"),
            (
                "url = 'redis://:p@[::1]/2'",
                vec![("::1", 6379)],
                "[::1]:6379",
            ),
            (
                "cluster = true\nnodes = ['a', 'b:1']",
                vec![("a", 6379), ("b", 1)],
                "a:6379, b:1",
            ),
            (
                "sentinels = ['a', 'b:1']\nmaster = 'm'",
                vec![],
                "the master `m` of a:26379, b:1",
            ),
        ] {
            let config = config(toml);
            assert_eq!(config.problems(), Vec::<String>::new(), "{toml}");
            let expected: Vec<_> = addresses
                .iter()
                .map(|(h, p)| ((*h).to_owned(), *p))
                .collect();
            assert_eq!(config.addresses(), expected);
            assert_eq!(config.place(), place);
            assert_eq!(config.is_set(), !toml.is_empty());
        }
        let config = config("url = 'rediss://ann:p@h/2'");
        assert!(config.is_encrypted());
        let (username, password, database) = config.login();
        assert_eq!((username, database), (Some("ann"), 2));
        assert_eq!(password.map(Secret::expose), Some("p"));
    }

    #[test]
    fn contradictions_name_their_keys() {
        for (toml, keys) in [
            (
                "url = 'redis://a'\nhost = 'b'",
                vec!["redis.url", "redis.host", "REDIS_URL"],
            ),
            (
                "url = 'redis://a'\nport = 1",
                vec!["redis.url", "redis.port"],
            ),
            (
                "nodes = ['a']\nhost = 'a'\ncluster = true",
                vec!["redis.nodes", "redis.host"],
            ),
            (
                "sentinels = ['a']\nport = 1\nmaster = 'm'",
                vec!["redis.sentinels", "redis.port"],
            ),
            (
                "url = 'redis://u:p@a'\nusername = 'u'",
                vec!["redis.username", "redis.url"],
            ),
            (
                "url = 'redis://:p@a'\npassword = 'p'",
                vec!["redis.password", "redis.url"],
            ),
            (
                "url = 'redis://a/1'\ndatabase = 2",
                vec!["redis.database", "redis.url"],
            ),
            (
                "url = 'redis://a'\ntls = true",
                vec!["redis.tls", "rediss://"],
            ),
            ("username = 'ann'", vec!["redis.username", "redis.password"]),
            ("ca = 'x.pem'", vec!["redis.ca", "redis.tls"]),
            (
                "tls = true\nkey = 'x.pem'",
                vec!["redis.certificate", "redis.key"],
            ),
            ("nodes = ['a']", vec!["redis.nodes", "redis.cluster"]),
            ("sentinels = ['a']", vec!["redis.master"]),
            ("master = 'm'", vec!["redis.master", "redis.sentinels"]),
            (
                "sentinels = ['a']\nmaster = 'm'\ncluster = true",
                vec!["redis.sentinels", "redis.cluster"],
            ),
            (
                "sentinel_password = 'p'",
                vec!["redis.sentinel_password", "redis.sentinels"],
            ),
            (
                "cluster = true\ndatabase = 1",
                vec!["redis.database", "redis.cluster"],
            ),
            (
                "url = 'redis://a/1'\ncluster = true",
                vec!["redis.database", "redis.cluster"],
            ),
            ("database = -1", vec!["redis.database"]),
        ] {
            let problems = config(toml).problems();
            assert_eq!(problems.len(), 1, "{toml}: {problems:?}");
            assert!(
                keys.iter().all(|key| problems[0].contains(key)),
                "{toml}: {problems:?}"
            );
        }
        for fine in [
            "host = 'a'\nport = 1\ndatabase = 1",
            "url = 'rediss://a'\ntls = true\nca = 'x'",
            "url = 'redis://a'\npassword = 'p'\nusername = 'u'\ndatabase = 3",
            "tls = true\ncertificate = 'x'\nkey = 'y'",
        ] {
            assert_eq!(config(fine).problems(), Vec::<String>::new(), "{fine}");
        }
    }
}
