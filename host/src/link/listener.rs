//! Listening to channels of Redis, through everything that may happen to the connection.

use super::{
    config::RedisConfig,
    reach::{Place, lost, moved, reach},
};
use futures_util::StreamExt;
use rand::Rng;
use redis::{
    RedisError, RedisResult,
    aio::{PubSubSink, PubSubStream},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// How long it is waited between two attempts to connect: half of this at least, at first; and the
/// most that it grows to.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// How often it is made sure that the connection lives. An idle one that does not would be found out
/// by nobody else.
pub(super) const PING: Duration = Duration::from_secs(1);

/// What is listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// One channel.
    Channel(String),
    /// All channels that begin with this.
    Prefix(String),
}

/// Whether what is listened to is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Not yet.
    Starting,
    /// It is.
    Listening,
    /// It is not, and why.
    Lost(String),
}

/// Listens for as long as somebody watches its health. What is published while the connection is
/// away is not heard.
pub async fn listen(
    config: RedisConfig,
    topics: Vec<Topic>,
    health: watch::Sender<Health>,
    mut heard: impl FnMut(&str, &[u8]),
) {
    let mut pauses = Pauses::default();
    loop {
        let ended = tokio::select! {
            ended = session(&config, &topics, &health, &mut heard) => ended,
            () = health.closed() => return,
        };
        let was_there = *health.borrow() == Health::Listening;
        health.send_replace(Health::Lost(ended.to_string()));
        tokio::time::sleep(pauses.next(was_there)).await;
    }
}

/// The pauses between attempts.
#[derive(Default)]
pub(super) struct Pauses(Option<Duration>);

impl Pauses {
    /// Returns how long to wait for the next attempt. They grow until one has succeeded.
    pub(super) fn next(&mut self, succeeded: bool) -> Duration {
        let pause = self.0.take().filter(|_| !succeeded).unwrap_or(PAUSE);
        self.0 = Some((pause * 2).min(LONGEST_PAUSE));
        rand::rng().random_range(pause / 2..pause)
    }
}

/// Has a message handled. A defect of the host's own must not make it deaf.
pub(super) fn hear(channel: &str, handle: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(handle)).is_err() {
        tracing::error!(channel, "handling a message of Redis panicked");
    }
}

/// Listens until the connection is lost; returns why.
async fn session(
    config: &RedisConfig,
    topics: &[Topic],
    health: &watch::Sender<Health>,
    heard: &mut impl FnMut(&str, &[u8]),
) -> RedisError {
    let connected = timeout(config.timeout, connect(config, topics)).await;
    let (sink, mut messages, place) = match connected {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return error,
        Err(_) => return lost("it does not answer"),
    };
    health.send_replace(Health::Listening);
    let alive = keep_alive(sink, config.timeout);
    let moved = moved(config, &place);
    tokio::pin!(alive, moved);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => {
                    let (channel, bytes) = (message.get_channel_name(), message.get_payload_bytes());
                    hear(channel, || heard(channel, bytes));
                }
                None => return lost("the connection was closed"),
            },
            error = &mut alive => return error,
            () = &mut moved => return lost("another server is the master now"),
        }
    }
}

async fn connect(
    config: &RedisConfig,
    topics: &[Topic],
) -> RedisResult<(PubSubSink, PubSubStream, Place)> {
    let listening = reach(
        config,
        |client| async move { client.get_async_pubsub().await },
    );
    let (connection, place) = listening.await?;
    let (mut sink, messages) = connection.split();
    for topic in topics {
        match topic {
            Topic::Channel(name) => sink.subscribe(name).await?,
            Topic::Prefix(prefix) => sink.psubscribe(format!("{}*", escaped(prefix))).await?,
        }
    }
    Ok((sink, messages, place))
}

/// Returns a text as a pattern of Redis that matches it and nothing else.
#[must_use]
pub fn escaped(text: &str) -> String {
    let escape = |c: char| "\\*?[]".contains(c).then_some('\\').into_iter().chain([c]);
    text.chars().flat_map(escape).collect()
}

/// Asks again and again whether the connection lives; returns once it does not.
async fn keep_alive(mut sink: PubSubSink, patience: Duration) -> RedisError {
    loop {
        tokio::time::sleep(PING).await;
        match timeout(patience, sink.ping::<redis::Value>()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error,
            Err(_) => return lost("it does not answer"),
        }
    }
}
