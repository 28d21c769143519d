//! Where state is kept. Every backend implements `ports::StateStore` and passes the one suite.
//!
//! | backend | keeps state |
//! |---|---|
//! | [`memory`] | while the host runs |
//! | [`embedded`] | in a directory, whatever ends the host |

pub mod config;
mod decide;
pub mod embedded;
pub mod memory;
#[cfg(test)]
mod suite;
mod timers;

use self::{
    config::{Backend, StateConfig},
    embedded::{EmbeddedStore, OpenError},
    memory::MemoryStore,
};
use crate::ports::StateStore;
use std::sync::Arc;

/// Opens the store that is configured; in memory where none is.
///
/// # Errors
/// When the directory of the embedded store cannot be used.
pub fn open(config: &StateConfig) -> Result<Arc<dyn StateStore>, OpenError> {
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
    }
}
