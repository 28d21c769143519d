//! Plugins at run time: WebAssembly components, loaded, called and replaced while the host serves.
//!
//! | module | what it does |
//! |---|---|
//! | [`loader`] | the one way from bytes to a generation that may be published |
//! | [`generation`] | hands events to instances, and keeps some of them warm |
//! | [`deadline`] | how long a call may take, and where it goes on when it takes long |
//! | [`guest`] | one instance, what it may use, and the contract's types |
//! | [`handle`] | a component's function that takes events |
//! | [`kept`] | instances that are kept for the next event |
//! | [`capabilities`] | what plugins import |
//! | [`channels`] | the same, for publishing to channels of Redis |
//! | [`state`] | the same, of stored state |
//! | [`quarantine`] | plugins that fail again and again are given no events |
//! | [`registry`] | which generation is in force, from which file |
//! | [`watcher`] | the folder of plugins |
//! | [`engine`] | the WebAssembly engine and its compiler |
//! | [`clock`] | makes guests give way |
//! | [`cache`] | compiled code on disk |

mod bindings;
mod cache;
mod capabilities;
mod channels;
mod clock;
pub mod config;
mod deadline;
mod engine;
mod generation;
mod guest;
mod handle;
mod kept;
pub mod loader;
pub mod quarantine;
mod registry;
mod state;
mod watcher;

pub use self::registry::Publish;

use self::{
    config::{PluginConfigs, PluginsConfig},
    loader::Loader,
    registry::Registry,
    watcher::Folder,
};
use crate::{
    metrics::Metrics,
    ports::{StateVersions, Views},
};
use anyhow::{Result, bail};
use serde_json::Value;
use std::sync::Arc;

/// The plugins of a folder, kept in force as the folder changes.
pub struct Runtime {
    folder: Arc<Folder>,
    task: tokio::task::JoinHandle<()>,
}

impl Runtime {
    /// Loads the plugins of the configured folder, as far as they can be, hands them to `publish`,
    /// and then does so again whenever something in the folder changes.
    ///
    /// # Errors
    /// When the engine cannot be started, or the folder is not there or cannot be watched.
    pub async fn start(
        config: PluginsConfig,
        configs: PluginConfigs,
        views: Views,
        versions: Arc<dyn StateVersions>,
        metrics: Arc<Metrics>,
        publish: Publish,
    ) -> Result<Self> {
        let path = config.dir.clone();
        if !path.is_dir() {
            bail!(
                "there is no folder {} to load plugins from (plugins.dir, --plugins)",
                path.display()
            );
        }
        let registry = Registry::new(&config, publish);
        let loader = Loader::new(config, views, versions, metrics.clone())?;
        let folder = Arc::new(Folder::new(path, loader, registry, configs, metrics));
        // Before the first look, so that nothing falls between the two.
        let notifications = folder.notifications()?;
        // Where guests are called, since each version is called once before it is in force.
        let first = folder.clone();
        tokio::spawn(async move { first.scan().await }).await?;
        let looking = folder.clone();
        let task = tokio::spawn(async move {
            let _notifications = notifications;
            looking.keep_looking().await;
        });
        Ok(Self { folder, task })
    }

    /// Takes other settings of single plugins, which is a swap like any other.
    pub async fn configure(&self, configs: PluginConfigs) {
        self.folder.configure(configs).await;
    }

    /// Returns what is in force, and which files were refused and why, as JSON.
    pub async fn status(&self) -> Value {
        self.folder.status().await
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.task.abort();
    }
}
