//! Where servers are, as the configuration names them.

use crate::core::secret::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use url::Url;

/// The port of Redis where none is named.
pub const REDIS_PORT: u16 = 6379;
/// The same for Sentinel.
pub const SENTINEL_PORT: u16 = 26379;

/// A host, and perhaps a port: `redis.example`, `redis.example:6380`, `[::1]:6379`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Secret", into = "String")]
pub struct Address {
    /// Its name or number; one of IPv6 without brackets.
    pub host: String,
    /// None where the usual one is meant.
    pub port: Option<u16>,
}

impl TryFrom<Secret> for Address {
    // Without the text itself: it may be a URL with a password in it.
    type Error = &'static str;

    fn try_from(text: Secret) -> Result<Self, Self::Error> {
        const EXPECTED: &str = "expected an address such as `redis.example:6379`, without `redis://`, user and password";
        let text = text.expose();
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or(EXPECTED)?)),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if !is_host(host) {
            return Err(EXPECTED);
        }
        let port = port.map(str::parse).transpose().map_err(|_| EXPECTED)?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

fn is_host(text: &str) -> bool {
    let is_part = |c: char| !c.is_whitespace() && !"/@?#[]".contains(c);
    !text.is_empty() && text.chars().all(is_part)
}

/// Reads the name or number of a host that has its port elsewhere.
pub(super) fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Secret::deserialize(deserializer)?;
    match is_host(text.expose()) {
        true => Ok(Some(text.expose().to_owned())),
        false => Err(D::Error::custom(
            "expected the name or number of a host; a URL goes into redis.url",
        )),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// `redis://user:password@host:port/database`, or `rediss://…` for TLS. The password is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Secret")]
pub struct RedisUrl {
    /// Whether by TLS.
    pub tls: bool,
    /// Where.
    pub address: Address,
    /// As whom.
    pub username: Option<String>,
    /// With which password.
    pub password: Option<Secret>,
    /// The number of the database.
    pub database: Option<i64>,
}

impl TryFrom<Secret> for RedisUrl {
    // What is wrong, without the text itself: there may be a password in it.
    type Error = &'static str;

    fn try_from(text: Secret) -> Result<Self, Self::Error> {
        const EXPECTED: &str =
            "expected `redis://user:password@host:port/database`, or `rediss://…` for TLS";
        let url = Url::parse(text.expose()).map_err(|_| EXPECTED)?;
        let tls = match url.scheme() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(EXPECTED),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err("expected nothing behind the database's number: no `?…`, no `#…`");
        }
        let host = url.host_str().ok_or(EXPECTED)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(EXPECTED);
        }
        let database = match url.path().trim_start_matches('/') {
            "" => None,
            number => Some(number.parse().map_err(|_| EXPECTED)?),
        };
        let said = |text: &str| (!text.is_empty()).then(|| decoded(text)).transpose();
        Ok(Self {
            tls,
            address: Address {
                host: host.to_owned(),
                port: url.port(),
            },
            username: said(url.username())?,
            password: said(url.password().unwrap_or_default())?.map(Secret::new),
            database,
        })
    }
}

fn decoded(text: &str) -> Result<String, &'static str> {
    // As in a form, but that a plus is a plus.
    let pair = format!("={}", text.replace('+', "%2B"));
    let mut pairs = form_urlencoded::parse(pair.as_bytes());
    match pairs.next() {
        Some((_, text)) if !text.contains('\u{fffd}') => Ok(text.into_owned()),
        _ => Err("expected percent-encoded UTF-8 in user and password"),
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss://" } else { "redis://" })?;
        let username = self.username.as_deref().unwrap_or_default();
        match &self.password {
            Some(_) => write!(f, "{username}:<redacted>@")?,
            None if username.is_empty() => {}
            None => write!(f, "{username}@")?,
        }
        self.address.fmt(f)?;
        self.database
            .map_or(Ok(()), |number| write!(f, "/{number}"))
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<Address, &'static str> {
        Address::try_from(Secret::new(text.to_owned()))
    }

    fn url(text: &str) -> Result<RedisUrl, &'static str> {
        RedisUrl::try_from(Secret::new(text.to_owned()))
    }

    #[test]
    fn addresses_are_read_and_shown() {
        for text in ["redis", "redis.example:6380", "[::1]", "[fe80::1]:26379"] {
            assert_eq!(address(text).unwrap().to_string(), text);
        }
        let six = address("[::1]:7").unwrap();
        assert_eq!((six.host.as_str(), six.port), ("::1", Some(7)));
        for bad in [
            "",
            ":1",
            "a:",
            "a:b",
            "a:70000",
            "[::1",
            "[::1]1",
            "::1",
            "redis://a:1",
            "a b",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_says_everything() {
        let full = url("rediss://ann:p%40ss+w%2Ford@redis.example:6380/3").unwrap();
        assert!(full.tls);
        assert_eq!(full.address, address("redis.example:6380").unwrap());
        assert_eq!(full.username.as_deref(), Some("ann"));
        assert_eq!(
            full.password.as_ref().map(Secret::expose),
            Some("p@ss+w/ord")
        );
        assert_eq!(full.database, Some(3));
        let least = url("redis://[::1]").unwrap();
        assert_eq!(least.address, address("[::1]").unwrap());
        assert!(!least.tls && least.username.is_none() && least.password.is_none());
        assert_eq!(least.database, None);
        assert_eq!(url("redis://:word@h/").unwrap().username, None);
        assert_eq!(
            url("redis://:%F0%9F%98%80@h")
                .unwrap()
                .password
                .unwrap()
                .expose(),
            "😀"
        );
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_shown() {
        for bad in [
            "redis.example",
            "http://redis.example",
            "redis://",
            "redis://:hunter2@",
            "redis://:hunter2@h:x",
            "redis://:hunter2@h/zero",
            "redis://:hunter2@h?protocol=3",
            "rediss://:hunter2@h#insecure",
            "redis://:hunter2%ff@h",
            "unix:///run/redis.sock",
        ] {
            let why = url(bad).unwrap_err();
            assert!(
                why.starts_with("expected") && !why.contains("hunter2"),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let shown = |text: &str| {
            let url = url(text).unwrap();
            assert!(!format!("{url:?}").contains("hunter2"));
            serde_json::to_value(url).unwrap()
        };
        assert_eq!(
            shown("rediss://ann:hunter2@h:1/2"),
            "rediss://ann:<redacted>@h:1/2"
        );
        assert_eq!(shown("redis://:hunter2@[::1]"), "redis://:<redacted>@[::1]");
        assert_eq!(shown("redis://ann@h"), "redis://ann@h");
        assert_eq!(shown("redis://h"), "redis://h");
    }
}
