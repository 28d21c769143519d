//! The way to a server: one that is named, the first that answers of several, or the master that
//! Sentinels know. It is gone anew for each connection.

use super::{config::RedisConfig, response_timeout, tls};
use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult,
    TlsCertificates, aio::MultiplexedConnection,
};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long one server is waited for before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// How often Sentinels are asked whether the master is still the one.
const LOOK: Duration = Duration::from_secs(5);

/// Where a server is: its host and port.
pub(super) type Place = (String, u16);

/// Connects to Redis: to one node of it, where it is a cluster. Returns the connection, and to where
/// it leads.
///
/// # Errors
/// When that cannot be done within the configured time.
pub(super) async fn reach<T, F: Future<Output = RedisResult<T>>>(
    config: &RedisConfig,
    connect: impl Fn(Client) -> F,
) -> RedisResult<(T, Place)> {
    let reached = async {
        let certificates = tls::certificates(config).await?;
        let places = match config.sentinels.is_empty() {
            true => config.addresses(),
            false => vec![master(config, certificates.as_ref()).await?],
        };
        let attempts = places.into_iter().map(|place| {
            let client = client(redis_info(config, &place), certificates.as_ref());
            let connected = client.map(&connect);
            async move { Ok((connected?.await?, place)) }
        });
        first_of(attempts).await
    };
    within(config.timeout, reached).await
}

/// Connects to Redis for commands.
///
/// # Errors
/// When that cannot be done within the configured time.
pub(super) async fn connect(config: &RedisConfig) -> RedisResult<(MultiplexedConnection, Place)> {
    let times = times(config);
    reach(config, |client| multiplexed(client, times.clone())).await
}

/// Returns when Sentinels know another master than this; never where there are none.
pub(super) async fn moved(config: &RedisConfig, place: &Place) {
    if config.sentinels.is_empty() {
        return std::future::pending().await;
    }
    loop {
        sleep(LOOK).await;
        let asked = async {
            let certificates = tls::certificates(config).await?;
            master(config, certificates.as_ref()).await
        };
        // Whether the one that is there answers is seen elsewhere.
        if let Ok(master) = within(config.timeout, asked).await
            && master != *place
        {
            return;
        }
    }
}

/// Returns where the nodes of a cluster are, to begin with, and how one is reached by TLS.
///
/// # Errors
/// When the files of TLS cannot be read.
pub(super) async fn nodes(
    config: &RedisConfig,
) -> RedisResult<(Vec<ConnectionInfo>, Option<TlsCertificates>)> {
    let places = config.addresses();
    let places = places.iter().map(|place| redis_info(config, place));
    Ok((
        places.collect::<RedisResult<_>>()?,
        tls::certificates(config).await?,
    ))
}

/// Asks Sentinels for the master, and the master whether it is one.
async fn master(
    config: &RedisConfig,
    certificates: Option<&TlsCertificates>,
) -> RedisResult<Place> {
    let name = config.master.as_deref().unwrap_or_default();
    let asked = config.sentinels().into_iter().map(|sentinel| async move {
        let mut login = RedisConnectionInfo::default();
        if let Some(username) = &config.sentinel_username {
            login = login.set_username(username);
        }
        if let Some(password) = &config.sentinel_password {
            login = login.set_password(password.expose());
        }
        let sentinel = client(info(config, &sentinel, login), certificates)?;
        let mut sentinel = multiplexed(sentinel, times(config)).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("get-master-addr-by-name").arg(name);
        let Some((host, port)) = ask.query_async::<Option<Place>>(&mut sentinel).await? else {
            let why = (
                ErrorKind::Client,
                "the Sentinel knows no such master",
                name.to_owned(),
            );
            return Err(why.into());
        };
        let place = (host, port);
        // Right after a failover some Sentinels still name the old one.
        let server = client(redis_info(config, &place), certificates)?;
        let mut server = multiplexed(server, times(config)).await?;
        let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut server).await?;
        let role = role
            .into_iter()
            .next()
            .map(String::from_redis_value)
            .transpose()?;
        match role.as_deref() {
            Some("master") => Ok(place),
            _ => Err((
                ErrorKind::Io,
                "the server that the Sentinel names is not the master",
            )
                .into()),
        }
    });
    first_of(asked).await
}

/// Returns how long a connection may take, to be made and to answer.
pub(super) fn times(config: &RedisConfig) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.timeout))
        .set_response_timeout(Some(response_timeout(config)))
}

async fn multiplexed(
    client: Client,
    times: AsyncConnectionConfig,
) -> RedisResult<MultiplexedConnection> {
    client
        .get_multiplexed_async_connection_with_config(&times)
        .await
}

/// Connects in the newer protocol, in which messages and answers can share a connection.
pub(super) async fn speak_newer(
    client: Client,
    times: AsyncConnectionConfig,
) -> RedisResult<MultiplexedConnection> {
    let info = client.get_connection_info().clone();
    let login = info.redis_settings().clone();
    let login = login.set_protocol(ProtocolVersion::RESP3);
    multiplexed(Client::open(info.set_redis_settings(login))?, times).await
}

/// Returns the way to one node of a cluster.
///
/// # Errors
/// When the files of TLS cannot be read.
pub(super) async fn client_of(config: &RedisConfig, place: &Place) -> RedisResult<Client> {
    let certificates = tls::certificates(config).await?;
    client(redis_info(config, place), certificates.as_ref())
}

fn redis_info(config: &RedisConfig, place: &Place) -> RedisResult<ConnectionInfo> {
    let (username, password, database) = config.login();
    let mut login = RedisConnectionInfo::default().set_db(database);
    if let Some(username) = username {
        login = login.set_username(username);
    }
    if let Some(password) = password {
        login = login.set_password(password.expose());
    }
    info(config, place, login)
}

fn info(
    config: &RedisConfig,
    (host, port): &Place,
    login: RedisConnectionInfo,
) -> RedisResult<ConnectionInfo> {
    let (host, port) = (host.clone(), *port);
    let address = match config.is_encrypted() {
        true => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
        false => ConnectionAddr::Tcp(host, port),
    };
    Ok(address.into_connection_info()?.set_redis_settings(login))
}

fn client(
    info: RedisResult<ConnectionInfo>,
    certificates: Option<&TlsCertificates>,
) -> RedisResult<Client> {
    match certificates {
        Some(certificates) => Client::build_with_tls(info?, certificates.clone()),
        None => Client::open(info?),
    }
}

/// Returns what comes first of attempts that begin one after the other: each when the one before has
/// failed, or has not come to anything for a while.
async fn first_of<T>(
    attempts: impl Iterator<Item = impl Future<Output = RedisResult<T>>>,
) -> RedisResult<T> {
    let mut attempts = attempts.fuse();
    let mut running: FuturesUnordered<_> = attempts.next().into_iter().collect();
    let mut failed: Option<RedisError> = None;
    loop {
        tokio::select! {
            ended = running.next() => match ended {
                Some(Ok(done)) => return Ok(done),
                Some(Err(error)) => {
                    // That one is not there says less than what another one answered.
                    let is_away = |error: &RedisError| error.is_io_error() && !tls::is_distrust(error);
                    if failed.as_ref().is_none_or(is_away) {
                        failed = Some(error);
                    }
                    running.extend(attempts.next());
                }
                None => return Err(failed.unwrap_or_else(|| lost("there is nowhere to connect to"))),
            },
            () = sleep(HEAD_START) => running.extend(attempts.next()),
        }
    }
}

/// Does something in time.
pub(super) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    match timeout(patience, work).await {
        Ok(done) => done,
        Err(_) => Err(lost("it does not answer")),
    }
}

pub(super) fn lost(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Io, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::pending, sync::Mutex};

    #[tokio::test(start_paused = true)]
    async fn the_next_is_tried_when_one_fails_or_says_nothing() {
        let begun = Mutex::new(Vec::new());
        let attempts = (0..4).map(|number| {
            let begun = &begun;
            async move {
                begun.lock().unwrap().push(number);
                match number {
                    0 => Err(lost("refused")),
                    1 => pending().await,
                    number => Ok(number),
                }
            }
        });
        assert_eq!(first_of(attempts).await.unwrap(), 2);
        assert_eq!(*begun.lock().unwrap(), [0, 1, 2]);
    }

    #[tokio::test]
    async fn what_one_answered_is_told_and_not_that_another_is_not_there() {
        let all = [
            Err(lost("refused")),
            Err((ErrorKind::Client, "no such master").into()),
            Err(lost("refused")),
        ];
        let attempts = all.into_iter().map(|end: RedisResult<()>| async { end });
        let error = first_of(attempts).await.unwrap_err().to_string();
        assert!(error.contains("no such master"), "{error}");
        let nothing: [std::future::Ready<RedisResult<()>>; 0] = [];
        assert!(first_of(nothing.into_iter()).await.is_err());
    }
}
