//! How Redis is reached: single, by Sentinels or a cluster, plain or by TLS, with a deadline for everything.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`], [`address`] | where it is |
//! | [`tls`] | whom to trust, and what to show |
//! | [`reach`] | the way to a server |
//! | [`single`] | a connection that comes back |
//! | [`listener`], [`shards`] | listening to channels, and to sharded ones |
//! | [`wait`] | the start |

pub mod address;
pub mod config;
pub mod listener;
mod reach;
pub mod shards;
pub mod single;
mod tls;
pub mod wait;

use self::{config::RedisConfig, single::Single};
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, aio::ConnectionLike,
    cluster::ClusterClient, cluster_async::ClusterConnection, cluster_routing::Slot,
};
use std::time::Duration;

/// A connection that many use at once, and that comes back by itself.
#[derive(Clone)]
pub enum Link {
    /// One server.
    Single(Single),
    /// A Redis Cluster.
    Cluster(ClusterConnection),
}

/// A script, and what Redis knows it by.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    /// Returns a script of this text.
    #[must_use]
    pub fn new(text: &'static str) -> Self {
        let hash = redis::Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// When that cannot be done within the configured time.
    pub async fn open(config: &RedisConfig) -> RedisResult<Self> {
        if !config.cluster {
            return Self::open_single(config).await;
        }
        let (nodes, certificates) = reach::nodes(config).await?;
        let client = ClusterClient::builder(nodes)
            .connection_timeout(config.timeout)
            .response_timeout(response_timeout(config))
            .retries(3);
        let client = match certificates {
            Some(certificates) => client.certs(certificates),
            None => client,
        };
        let connection = client.build()?.get_async_connection().await?;
        Ok(Self::Cluster(connection))
    }

    /// Connects to one server, whether it belongs to a cluster or not.
    ///
    /// # Errors
    /// When that cannot be done within the configured time.
    pub async fn open_single(config: &RedisConfig) -> RedisResult<Self> {
        Ok(Self::Single(Single::open(config).await?))
    }

    /// Returns when there is a connection; a cluster's are made where they are used.
    ///
    /// # Errors
    /// When none can be made now. Nothing has been sent then.
    pub async fn ready(&self) -> RedisResult<()> {
        match self {
            Self::Single(connection) => connection.ready().await,
            Self::Cluster(_) => Ok(()),
        }
    }

    /// Runs commands in one trip.
    ///
    /// # Errors
    /// Redis' own for any of them, and those of the way to it.
    pub async fn run_all(&self, commands: &Pipeline) -> RedisResult<()> {
        match self {
            Self::Single(connection) => connection.run_all(commands).await,
            Self::Cluster(connection) => commands.query_async(&mut connection.clone()).await,
        }
    }

    /// Runs a command.
    ///
    /// # Errors
    /// Redis' own, and those of the way to it.
    pub async fn run(&self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Single(connection) => connection.run(command).await,
            Self::Cluster(connection) => {
                let mut connection = connection.clone();
                let answer = connection.req_packed_command(command).await;
                answer.and_then(Value::extract_error)
            }
        }
    }

    /// Runs a script.
    ///
    /// # Errors
    /// Redis' own, and those of the way to it.
    pub async fn script<'a>(
        &self,
        script: &Script,
        keys: &[String],
        arguments: impl Iterator<Item = &'a str> + Clone,
    ) -> RedisResult<Value> {
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(keys.len()).arg(keys);
            for argument in arguments.clone() {
                command.arg(argument);
            }
            command
        };
        match self.run(&command("EVALSHA", &script.hash)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.run(&command("EVAL", script.text)).await
            }
            answer => answer,
        }
    }
}

/// So that an answer that was lost can be asked for again within the time for the whole.
fn response_timeout(config: &RedisConfig) -> Duration {
    config.timeout / 2
}

/// Returns which commands on a key may go out with those on another.
#[must_use]
pub fn slot_of(key: &str) -> Slot {
    Slot::for_key(key)
}

/// Tells whether it may be different in a moment: what was asked was not run, or it is not known whether.
#[must_use]
pub fn is_passing(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, TryAgain};
    let passing = match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            Ask | BusyLoading | ClusterDown | MasterDown | Moved | TryAgain
        ),
        kind => kind == ErrorKind::ClusterConnectionNotFound,
    };
    passing || is_uncertain(error)
}

/// Tells whether it is not known if a command was run.
#[must_use]
pub fn is_uncertain(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}
