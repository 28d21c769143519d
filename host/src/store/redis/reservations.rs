//! Partitions that one committer has for himself for a while.

use super::{Inner, texts};
use crate::ports::{Owner, PartitionOf};
use rand::Rng;
use redis::RedisResult;
use std::{sync::Arc, time::Duration};

/// How long, unless it is given up before: a host that has died holds nobody up for longer.
const RESERVED_MS: u64 = 2_000;
/// How long a commit waits for another's reservation. Longer than that lasts.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// The longest pause before it is tried again, in microseconds.
const PAUSE_MICROS: u64 = 10_000;

/// Waits a little, and not as long as all the others that wait.
pub(super) async fn pause() {
    let micros = rand::rng().random_range(PAUSE_MICROS / 10..PAUSE_MICROS);
    tokio::time::sleep(Duration::from_micros(micros)).await;
}

impl Inner {
    pub(super) async fn reserve(
        &self,
        partition: PartitionOf<'_>,
        owner: Owner,
    ) -> RedisResult<bool> {
        self.set_reserved(self.base(partition), owner, RESERVED_MS)
            .await
    }

    /// Gives up what was reserved. What is not given up ends by itself.
    pub(super) fn give_up(self: &Arc<Self>, partition: PartitionOf<'_>, owner: Owner) {
        let (inner, base) = (self.clone(), self.base(partition));
        tokio::spawn(async move {
            if let Err(error) = inner.set_reserved(base, owner, 0).await {
                tracing::debug!(%error, "a reserved partition was not given up");
            }
        });
    }

    async fn set_reserved(&self, base: String, owner: Owner, ms: u64) -> RedisResult<bool> {
        let keys = [format!("{base}:l")];
        let (owner, ms) = (owner.to_string(), ms.to_string());
        let script = &self.scripts.reserve;
        let arguments = [owner.as_str(), ms.as_str()].into_iter();
        let answer = self.link.script(script, &keys, arguments).await?;
        Ok(texts(answer)?.first().is_some_and(|answer| answer == "1"))
    }
}
