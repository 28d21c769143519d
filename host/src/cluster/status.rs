//! Which hosts there are, for operators: asked of them, and of Redis.

pub use super::letters::{About, Running};

use super::letters::{Letter, Said};
use crate::link::{
    Link,
    config::RedisConfig,
    listener::{Health, Topic, listen},
};
use redis::{FromRedisValue, RedisResult};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How long hosts are given to answer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What Redis says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisHealth {
    /// Its version.
    pub version: String,
    /// `master`, or `slave`, which cannot be written to.
    pub role: String,
    /// Memory that it uses, in words.
    pub memory: String,
    /// How long it took to answer.
    pub took: Duration,
}

/// Asks Redis about itself.
///
/// # Errors
/// When it cannot be reached, or refuses.
pub async fn redis_health(config: &RedisConfig) -> RedisResult<RedisHealth> {
    let link = Link::open_single(config).await?;
    let began = Instant::now();
    link.run(&redis::cmd("PING")).await?;
    let took = began.elapsed();
    let text = String::from_redis_value(link.run(&redis::cmd("INFO")).await?)?;
    let field = |name: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or("unknown").trim().to_owned()
    };
    Ok(RedisHealth {
        version: field("redis_version"),
        role: field("role"),
        memory: field("used_memory_human"),
        took,
    })
}

/// Asks all hosts about themselves, and returns those that answered.
///
/// # Errors
/// When Redis cannot be reached.
pub async fn hosts(config: &RedisConfig) -> RedisResult<Vec<(String, About)>> {
    let link = Link::open_single(config).await?;
    let channel = super::letters_channel(config);
    let (answers, mut answered) = mpsc::unbounded_channel();
    let (listening, mut health) = watch::channel(Health::Starting);
    let topics = vec![Topic::Channel(channel.clone())];
    let listener = tokio::spawn(listen(
        config.clone(),
        topics,
        listening,
        move |_, bytes| {
            if let Ok(Letter {
                node,
                said: Said::Here(about),
            }) = serde_json::from_slice(bytes)
            {
                answers.send((node, about)).ok();
            }
        },
    ));
    let heard = health.wait_for(|health| *health == Health::Listening);
    tokio::time::timeout(config.timeout, heard).await.ok();
    let question = Letter {
        node: "operator".to_owned(),
        said: Said::Who,
    };
    let mut publish = redis::cmd("PUBLISH");
    let question = serde_json::to_vec(&question).unwrap_or_default();
    publish.arg(&channel).arg(question);
    link.run(&publish).await?;
    let end = tokio::time::Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while let Ok(Some(answer)) = tokio::time::timeout_at(end, answered.recv()).await {
        all.push(answer);
    }
    listener.abort();
    all.sort_by(|(_, one), (_, other)| one.address.cmp(&other.address));
    Ok(all)
}
