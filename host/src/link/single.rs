//! A connection to one server, which is made anew whenever it is lost: to where the server is then.

use super::{
    config::RedisConfig,
    reach::{connect, moved},
};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use rand::Rng;
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio_util::task::AbortOnDropHandle;

/// How far the beginnings of two attempts are apart, about, at first; and the most that it grows to.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// See the module's page. Its clones share it.
#[derive(Clone)]
pub struct Single(Arc<Line>);

struct Line {
    config: RedisConfig,
    current: Mutex<Attempt>,
}

/// One connection, to be or that was.
#[derive(Clone)]
struct Attempt {
    number: u64,
    /// How many before it failed, one after the other.
    failures: u32,
    began: Instant,
    made: Shared<BoxFuture<'static, RedisResult<Made>>>,
}

#[derive(Clone)]
struct Made {
    connection: MultiplexedConnection,
    /// Who looks whether the master is still the same, for as long as that is asked.
    _watch: Arc<AbortOnDropHandle<()>>,
}

impl Single {
    /// Connects.
    ///
    /// # Errors
    /// When that cannot be done within the configured time.
    pub(super) async fn open(config: &RedisConfig) -> RedisResult<Self> {
        let single = Self(Arc::new_cyclic(|line| Line {
            config: config.clone(),
            current: Mutex::new(Attempt::new(config, line.clone(), None)),
        }));
        if single.connection().await.is_err() {
            // Just then there may have been a fail-over.
            single.connection().await?;
        }
        Ok(single)
    }

    /// Returns when there is a connection.
    pub(super) async fn ready(&self) -> RedisResult<()> {
        self.connection().await.map(|_| ())
    }

    /// Runs a command.
    pub(super) async fn run(&self, command: &Cmd) -> RedisResult<Value> {
        let (number, mut connection) = self.connection().await?;
        let answer = connection.req_packed_command(command).await;
        self.0
            .look_at(number, answer.and_then(Value::extract_error))
    }

    /// Runs commands in one trip.
    pub(super) async fn run_all(&self, commands: &Pipeline) -> RedisResult<()> {
        let (number, mut connection) = self.connection().await?;
        let answer = commands.query_async(&mut connection).await;
        self.0.look_at(number, answer)
    }

    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let attempt = self.0.attempt();
        Ok((attempt.number, attempt.made.await?.connection))
    }
}

impl Attempt {
    fn new(config: &RedisConfig, line: Weak<Line>, before: Option<&Self>) -> Self {
        let failed = before.filter(|before| matches!(before.made.peek(), Some(Err(_))));
        let failures = failed.map_or(0, |failed| failed.failures.saturating_add(1));
        let number = before.map_or(0, |before| before.number + 1);
        let longest = PAUSE
            .saturating_mul(1 << failures.min(8))
            .min(LONGEST_PAUSE);
        let pause = before.map_or(Duration::ZERO, |before| {
            let pause = rand::rng().random_range(longest / 2..longest);
            pause.saturating_sub(before.began.elapsed())
        });
        let config = config.clone();
        let made = async move {
            tokio::time::sleep(pause).await;
            let (connection, place) = connect(&config).await?;
            let watch = async move {
                moved(&config, &place).await;
                if let Some(line) = line.upgrade() {
                    line.renew(number);
                }
            };
            Ok(Made {
                connection,
                _watch: Arc::new(AbortOnDropHandle::new(tokio::spawn(watch))),
            })
        };
        Self {
            number,
            failures,
            began: Instant::now() + pause,
            made: made.boxed().shared(),
        }
    }
}

impl Line {
    /// Returns the attempt that counts. One that has failed gives way to another.
    fn attempt(self: &Arc<Self>) -> Attempt {
        let mut current = self.current.lock();
        if matches!(current.made.peek(), Some(Err(_))) {
            *current = Attempt::new(&self.config, Arc::downgrade(self), Some(&current));
        }
        current.clone()
    }

    /// Takes a connection for lost where an answer says so.
    fn look_at<T>(self: &Arc<Self>, number: u64, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.as_ref().is_err_and(is_lost) {
            self.renew(number);
        }
        answer
    }

    fn renew(self: &Arc<Self>, number: u64) {
        let mut current = self.current.lock();
        if current.number == number {
            *current = Attempt::new(&self.config, Arc::downgrade(self), Some(&current));
            // It begins now, and not when somebody waits for it.
            tokio::spawn(current.made.clone().map(|_| ()));
        }
    }
}

/// Tells whether a connection has to be made anew. One without an answer may lead to a server that
/// is gone, and one that cannot be written to has become another's replica.
fn is_lost(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
