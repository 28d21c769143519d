//! How Redis is reached, single or a cluster, with a deadline for everything.

pub mod config;
pub mod listener;
pub mod wait;

use self::config::RedisConfig;
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
};
use std::time::Duration;

/// How long a lost connection is waited for between two attempts at most.
const RECONNECT_AT_MOST: Duration = Duration::from_millis(500);

/// A connection that many use at once, and that comes back by itself.
#[derive(Clone)]
pub enum Link {
    /// One server.
    Single(ConnectionManager),
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
        let client = ClusterClient::builder([info(config)?])
            .connection_timeout(config.timeout)
            .response_timeout(response_timeout(config))
            .retries(3)
            .build()?;
        let connection = client.get_async_connection().await?;
        Ok(Self::Cluster(connection))
    }

    /// Connects to the one server that is named, whether it belongs to a cluster or not.
    ///
    /// # Errors
    /// When that cannot be done within the configured time.
    pub async fn open_single(config: &RedisConfig) -> RedisResult<Self> {
        let times = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(config.timeout))
            .set_response_timeout(Some(response_timeout(config)))
            .set_max_delay(RECONNECT_AT_MOST)
            .set_number_of_retries(1);
        let connection = ConnectionManager::new_with_config(client(config)?, times).await?;
        Ok(Self::Single(connection))
    }

    /// Runs commands in one trip.
    ///
    /// # Errors
    /// Redis' own for any of them, and those of the way to it.
    pub async fn run_all(&self, commands: &Pipeline) -> RedisResult<()> {
        match self.clone() {
            Self::Single(mut connection) => commands.query_async(&mut connection).await,
            Self::Cluster(mut connection) => commands.query_async(&mut connection).await,
        }
    }

    /// Runs a command.
    ///
    /// # Errors
    /// Redis' own, and those of the way to it.
    pub async fn run(&self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self.clone() {
            Self::Single(mut connection) => connection.req_packed_command(command).await,
            Self::Cluster(mut connection) => connection.req_packed_command(command).await,
        };
        answer.and_then(Value::extract_error)
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

fn info(config: &RedisConfig) -> RedisResult<ConnectionInfo> {
    let mut settings = RedisConnectionInfo::default().set_db(config.database);
    if let Some(username) = &config.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &config.password {
        settings = settings.set_password(password.expose());
    }
    let address = ConnectionAddr::Tcp(config.host().to_owned(), config.port());
    Ok(address.into_connection_info()?.set_redis_settings(settings))
}

fn client(config: &RedisConfig) -> RedisResult<Client> {
    Client::open(info(config)?)
}

/// Tells whether it is not known if a command was run.
#[must_use]
pub fn is_uncertain(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}
