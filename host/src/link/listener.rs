//! Listening to channels of Redis, through everything that may happen to the connection.

use super::{
    config::RedisConfig,
    reach::{Place, lost, moved, reach, speak_newer, times, within},
};
use parking_lot::Mutex;
use rand::Rng;
use redis::{
    PushInfo, PushKind, RedisError, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection, SendError},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Notify, watch};

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
/// away is not heard. While a message is handled none is read: so Redis keeps what comes faster than
/// it is handled, and closes the connection when that is too much for it.
pub async fn listen<H: FnMut(&str, &[u8]) + Send + 'static>(
    config: RedisConfig,
    topics: Vec<Topic>,
    health: watch::Sender<Health>,
    heard: H,
) {
    let ear = Arc::new(Mutex::new(Ear { session: 0, heard }));
    let mut pauses = Pauses::default();
    loop {
        let ended = tokio::select! {
            ended = session(&config, &topics, &health, &ear) => ended,
            () = health.closed() => return,
        };
        // What is still read from the connection that is lost is not heard.
        ear.lock().session += 1;
        pauses.after(&health, &ended).await;
    }
}

/// Who takes messages, and which connection they have to come from.
struct Ear<H> {
    session: u64,
    heard: H,
}

impl<H: FnMut(&str, &[u8])> Ear<H> {
    fn take(&mut self, session: u64, channel: &Value, bytes: &Value) {
        if let (Value::BulkString(channel), Value::BulkString(bytes)) = (channel, bytes)
            && let Ok(channel) = std::str::from_utf8(channel)
            && session == self.session
        {
            hear(channel, || (self.heard)(channel, bytes));
        }
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

    /// Tells why it is not listened any more, and waits for the next attempt.
    pub(super) async fn after(&mut self, health: &watch::Sender<Health>, why: &RedisError) {
        let was_there = *health.borrow() == Health::Listening;
        health.send_replace(Health::Lost(why.to_string()));
        tokio::time::sleep(self.next(was_there)).await;
    }
}

/// Has a message handled. A defect of the host's own must not make it deaf.
pub(super) fn hear(channel: &str, handle: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(handle)).is_err() {
        tracing::error!(channel, "handling a message of Redis panicked");
    }
}

/// Listens until the connection is lost; returns why.
async fn session<H: FnMut(&str, &[u8]) + Send + 'static>(
    config: &RedisConfig,
    topics: &[Topic],
    health: &watch::Sender<Health>,
    ear: &Arc<Mutex<Ear<H>>>,
) -> RedisError {
    let connected = within(config.timeout, connect(config, topics, ear)).await;
    let Line {
        connection,
        closed,
        place,
    } = match connected {
        Ok(line) => line,
        Err(error) => return error,
    };
    health.send_replace(Health::Listening);
    tokio::select! {
        error = keep_alive(connection) => error,
        () = closed.notified() => lost("the connection was closed"),
        () = moved(config, &place) => lost("another server is the master now"),
    }
}

/// A connection by which messages come, and where it leads.
struct Line {
    connection: MultiplexedConnection,
    closed: Arc<Notify>,
    place: Place,
}

async fn connect<H: FnMut(&str, &[u8]) + Send + 'static>(
    config: &RedisConfig,
    topics: &[Topic],
    ear: &Arc<Mutex<Ear<H>>>,
) -> RedisResult<Line> {
    let session = ear.lock().session;
    let line = |client| {
        let closed = Arc::new(Notify::new());
        let (ear, closes) = (ear.clone(), closed.clone());
        // Called by who reads, who waits for it: that is what holds Redis up.
        let take = move |push: PushInfo| {
            match (&push.kind, push.data.as_slice()) {
                (PushKind::Message, [channel, bytes])
                | (PushKind::PMessage, [_, channel, bytes]) => {
                    ear.lock().take(session, channel, bytes);
                }
                (PushKind::Disconnection, _) => closes.notify_one(),
                _ => {}
            }
            Ok::<(), SendError>(())
        };
        let times = times(config)
            .set_response_timeout(Some(config.timeout))
            .set_push_sender(take);
        async move { Ok((speak_newer(client, times).await?, closed)) }
    };
    let ((mut connection, closed), place) = reach(config, line).await?;
    let (mut channels, mut patterns) = (Vec::new(), Vec::new());
    for topic in topics {
        match topic {
            Topic::Channel(name) => channels.push(name.clone()),
            Topic::Prefix(prefix) => patterns.push(format!("{}*", escaped(prefix))),
        }
    }
    // All by one command: so one of them hears nothing from before another one is listened to.
    if !channels.is_empty() {
        connection.subscribe(channels).await?;
    }
    if !patterns.is_empty() {
        connection.psubscribe(patterns).await?;
    }
    Ok(Line {
        connection,
        closed,
        place,
    })
}

/// Returns a text as a pattern of Redis that matches it and nothing else.
#[must_use]
pub fn escaped(text: &str) -> String {
    let escape = |c: char| "\\*?[]".contains(c).then_some('\\').into_iter().chain([c]);
    text.chars().flat_map(escape).collect()
}

/// Asks again and again whether the connection lives; returns once it does not.
async fn keep_alive(mut connection: MultiplexedConnection) -> RedisError {
    let ping = redis::cmd("PING");
    loop {
        tokio::time::sleep(PING).await;
        if let Err(error) = connection.req_packed_command(&ping).await {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader, ErrorKind, Write},
        net::{TcpListener, TcpStream},
        sync::mpsc,
        thread,
    };

    /// Answers like Redis until something subscribes to one channel.
    fn greet(stream: &TcpStream) {
        let mut answers = stream;
        for line in BufReader::new(stream).lines() {
            let answer: &[u8] = match line.unwrap().to_uppercase().as_str() {
                "HELLO" => b"%1\r\n$5\r\nproto\r\n:3\r\n",
                "SETINFO" => b"+OK\r\n",
                "SUBSCRIBE" => b">3\r\n$9\r\nsubscribe\r\n$3\r\none\r\n:1\r\n",
                _ => continue,
            };
            answers.write_all(answer).unwrap();
            if answer.starts_with(b">") {
                return;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_is_slow_to_handle_holds_redis_up() {
        const SIZE: usize = 65_536;
        const MUCH: usize = 64 << 20;
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = RedisConfig {
            port: Some(server.local_addr().unwrap().port()),
            ..RedisConfig::default()
        };
        let written = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            greet(&stream);
            let timeout = Some(Duration::from_millis(500));
            stream.set_write_timeout(timeout).unwrap();
            let mut message =
                format!(">3\r\n$7\r\nmessage\r\n$3\r\none\r\n${SIZE}\r\n").into_bytes();
            message.extend(vec![b'x'; SIZE]);
            message.extend(b"\r\n");
            let mut written = (0..MUCH / SIZE).map(|_| stream.write_all(&message));
            written.find_map(Result::err).map(|error| error.kind())
        });
        let (tell, told) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let (health, is_healthy) = watch::channel(Health::Starting);
        let topics = vec![Topic::Channel("one".to_owned())];
        let heard = move |channel: &str, bytes: &[u8]| {
            tell.send((channel.to_owned(), bytes.len())).unwrap();
            // Ends when nobody can release it any more.
            held.recv().ok();
        };
        let listening = tokio::spawn(listen(config, topics, health, heard));
        let error = tokio::task::spawn_blocking(|| written.join().unwrap());
        assert_eq!(error.await.unwrap(), Some(ErrorKind::WouldBlock));
        assert_eq!(
            told.try_iter().collect::<Vec<_>>(),
            [("one".to_owned(), SIZE)]
        );
        drop((release, told, is_healthy));
        listening.abort();
    }
}
