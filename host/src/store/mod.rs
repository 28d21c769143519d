//! Where state is kept. Every backend implements `ports::StateStore` and passes the one suite.
//!
//! | backend | keeps state |
//! |---|---|
//! | [`memory`] | while the host runs |
//! | [`embedded`] | in a directory, whatever ends the host |
//! | [`redis`] | in Redis, for several hosts |

pub mod config;
mod decide;
pub mod embedded;
pub mod memory;
pub mod redis;
#[cfg(test)]
mod suite;
mod timers;
pub mod transfer;

use self::{
    config::{Backend, StateConfig},
    embedded::EmbeddedStore,
    memory::MemoryStore,
    redis::RedisStore,
};
use crate::{link::config::RedisConfig, ports::StateStore};
use anyhow::{Context, Result};
use std::sync::Arc;

/// Opens the store that is configured; in memory where none is.
///
/// # Errors
/// When the directory of the embedded store cannot be used, or Redis cannot be reached.
pub async fn open(config: &StateConfig, redis: &RedisConfig) -> Result<Arc<dyn StateStore>> {
    match config.backend {
        None | Some(Backend::Memory) => {
            tracing::info!("state is kept in memory, and gone when the host ends");
            Ok(Arc::new(MemoryStore::default()))
        }
        Some(Backend::Embedded) => {
            let store = EmbeddedStore::open(&config.dir)?;
            tracing::info!(dir = %config.dir.display(), "state is kept on disk");
            Ok(Arc::new(store))
        }
        Some(Backend::Redis) => {
            let (place, keys) = (redis.place(), redis.keys());
            let store = RedisStore::open(redis)
                .await
                .with_context(|| format!("Redis at {place} cannot be used ({keys})"))?;
            tracing::info!(redis = place, "state is kept in Redis");
            Ok(Arc::new(store))
        }
    }
}
