//! The folder of plugins: what is in it is loaded, what changes is swapped, what is gone is unloaded.
//!
//! A notification only says that it is worth looking; what is done depends on what is there. The
//! folder is looked at every few seconds anyway, so that a lost notification heals.

use super::{
    config::PluginConfigs,
    loader::{LoadError, Loader},
    registry::Registry,
};
use crate::{
    metrics::{Metrics, OfPlugin},
    ports::Plugin,
};
use anyhow::{Context, Result};
use notify::{RecursiveMode, Watcher};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Notify, RwLock};

/// How often the folder is looked at without being told to.
const RESCAN: Duration = Duration::from_secs(2);

/// How long a file that makes no sense may go on making none before it is refused: it may still be
/// being written.
const UNFINISHED: Duration = Duration::from_millis(1_500);

/// How soon an unfinished file, or one that has gone, is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a file must be gone before its plugin is; replacing a file by removing it first is not
/// to be noticed.
const GONE: Duration = Duration::from_millis(300);

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        about.is_file().then(|| Self {
            modified: about.modified().ok(),
            bytes: about.len(),
            inode: about.ino(),
        })
    }
}

#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    /// Why it is not loaded, or that it may be unfinished.
    refused: Option<(&'static str, String)>,
    unfinished_since: Option<Instant>,
    gone_since: Option<Instant>,
}

/// The folder and what became of its files.
pub(super) struct Folder {
    path: PathBuf,
    loader: Loader,
    registry: Mutex<Registry>,
    configs: RwLock<PluginConfigs>,
    /// One at a time looks at the folder.
    seen: tokio::sync::Mutex<BTreeMap<PathBuf, Seen>>,
    look: Arc<Notify>,
    /// Whether the folder could not be read when it was last looked at.
    unreadable: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Folder {
    pub(super) fn new(
        path: PathBuf,
        loader: Loader,
        registry: Registry,
        configs: PluginConfigs,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            path,
            loader,
            registry: Mutex::new(registry),
            configs: RwLock::new(configs),
            seen: tokio::sync::Mutex::default(),
            look: Arc::new(Notify::new()),
            unreadable: AtomicBool::new(false),
            metrics,
        }
    }

    /// Returns a watcher that makes [`Self::keep_looking`] look when something happens.
    pub(super) fn notifications(&self) -> Result<notify::RecommendedWatcher> {
        let look = self.look.clone();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if event.is_ok_and(|event| !event.kind.is_access()) {
                    look.notify_one();
                }
            })
            .context("file notifications are not to be had")?;
        watcher
            .watch(&self.path, RecursiveMode::NonRecursive)
            .with_context(|| format!("could not watch {}", self.path.display()))?;
        Ok(watcher)
    }

    /// Looks whenever it is worth it, for ever.
    pub(super) async fn keep_looking(&self) {
        loop {
            let again = self.scan().await;
            let wait = if again { LOOK_AGAIN } else { RESCAN };
            // The time-out is the plan, not a failure.
            let _ = tokio::time::timeout(wait, self.look.notified()).await;
        }
    }

    /// Looks once; returns whether there is something to look at again soon.
    pub(super) async fn scan(&self) -> bool {
        let mut seen = self.seen.lock().await;
        // A folder that cannot be read says nothing about its files.
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => {
                if !self.unreadable.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        folder = %self.path.display(), %error,
                        "the folder of plugins cannot be read; those that are loaded serve on"
                    );
                }
                return false;
            }
        };
        if self.unreadable.swap(false, Ordering::Relaxed) {
            tracing::info!(folder = %self.path.display(), "the folder of plugins can be read again");
        }
        let mut again = false;
        for path in &files {
            let Some(stamp) = Stamp::of(path) else {
                continue;
            };
            let known = seen.get_mut(path);
            let settled = known.is_some_and(|seen| {
                seen.gone_since = None;
                seen.stamp == stamp && seen.unfinished_since.is_none()
            });
            if !settled {
                let before = seen.get(path).and_then(|seen| {
                    (seen.stamp == stamp)
                        .then_some(seen.unfinished_since)
                        .flatten()
                });
                let now = self.take(path, stamp, before).await;
                again |= now.unfinished_since.is_some();
                seen.insert(path.clone(), now);
            }
        }
        let gone: Vec<PathBuf> = seen
            .keys()
            .filter(|path| !files.contains(path))
            .cloned()
            .collect();
        for path in gone {
            let since = seen
                .get_mut(&path)
                .map(|seen| *seen.gone_since.get_or_insert_with(Instant::now));
            if since.is_some_and(|since| since.elapsed() < GONE) {
                again = true;
                continue;
            }
            seen.remove(&path);
            if let Some(name) = self.registry.lock().remove(&path) {
                tracing::info!(plugin = %name, file = %path.display(), "unloaded: its file is gone");
                self.count(name.as_str(), "unloaded");
            }
            // What it held is free for others.
            seen.retain(|_, seen| {
                !matches!(
                    seen.refused,
                    Some(("refused-name-taken" | "refused-prefix-taken", _))
                )
            });
            again = true;
        }
        again
    }

    fn files(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut files = fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<PathBuf>>>()?
            .into_iter()
            .filter(|path| {
                let hidden = path
                    .file_name()
                    .is_none_or(|name| name.to_string_lossy().starts_with('.'));
                !hidden
                    && path
                        .extension()
                        .is_some_and(|extension| extension == "wasm")
            })
            .collect::<Vec<_>>();
        files.sort();
        Ok(files)
    }

    /// Loads a file and puts it in force, or says why not.
    async fn take(&self, path: &Path, stamp: Stamp, unfinished_since: Option<Instant>) -> Seen {
        let start = Instant::now();
        let mut seen = Seen {
            stamp,
            refused: None,
            unfinished_since: None,
            gone_since: None,
        };
        let loaded = self.load(path).await;
        if Stamp::of(path).as_ref() != Some(&seen.stamp) {
            // It changed while it was read: whatever was read may be half of one and half of another.
            seen.unfinished_since = Some(start);
            return seen;
        }
        let admitted = loaded.and_then(|generation| {
            let generation = self
                .registry
                .lock()
                .admit(path, generation, |file| file.exists())?;
            self.loader.published(generation.info());
            Ok(generation)
        });
        match admitted {
            Ok(generation) => {
                let info = generation.info();
                tracing::info!(
                    plugin = %info.name(), version = info.manifest.version, digest = info.digest,
                    file = %path.display(), milliseconds = start.elapsed().as_millis(), "loaded"
                );
                self.count(info.name().as_str(), "ok");
            }
            Err(error) => {
                let since = unfinished_since.unwrap_or(start);
                if error.may_be_unfinished() && since.elapsed() < UNFINISHED {
                    seen.unfinished_since = Some(since);
                    return seen;
                }
                self.refuse(path, &error);
                seen.refused = Some((error.code(), error.to_string()));
            }
        }
        seen
    }

    async fn load(&self, path: &Path) -> Result<super::generation::Generation, LoadError> {
        let bytes = self.loader.read(path)?;
        let configs = self.configs.read().await;
        self.loader.load(bytes, &configs).await
    }

    fn refuse(&self, path: &Path, error: &LoadError) {
        let serving = self.registry.lock().of_file(path);
        let name = serving.as_ref().map_or_else(
            || {
                // It becomes the label of a metric, which cannot have every character.
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                stem.chars().filter(|c| !c.is_control()).collect()
            },
            |name| name.as_str().to_owned(),
        );
        self.count(&name, error.code());
        if let LoadError::Disabled(_) = error {
            let unloaded = self.registry.lock().remove(path).is_some();
            let what = if unloaded { "unloaded" } else { "not loaded" };
            tracing::info!(file = %path.display(), "{what}: {error}");
        } else if serving.is_some() {
            tracing::error!(plugin = name, file = %path.display(), "refused, the version before serves on: {error}");
        } else {
            tracing::error!(plugin = name, file = %path.display(), "refused: {error}");
        }
    }

    fn count(&self, plugin: &str, outcome: &'static str) {
        let label = OfPlugin {
            plugin: plugin.to_owned().into(),
            outcome: outcome.into(),
        };
        self.metrics.loads.get_or_create(&label).inc();
    }

    /// Takes other settings: every file is loaded again with them, which is a swap like any other.
    pub(super) async fn configure(&self, configs: PluginConfigs) {
        *self.configs.write().await = configs;
        // Looked at anew, and not forgotten: one that is gone by then is to be missed.
        for seen in self.seen.lock().await.values_mut() {
            seen.stamp = Stamp::default();
        }
        self.look.notify_one();
    }

    /// Returns what is in force and what was refused.
    pub(super) async fn status(&self) -> Value {
        let refused: Vec<Value> = self
            .seen
            .lock()
            .await
            .iter()
            .filter_map(|(path, seen)| {
                let (code, why) = seen.refused.as_ref()?;
                Some(json!({ "file": path.display().to_string(), "code": code, "reason": why }))
            })
            .collect();
        json!({ "plugins": self.registry.lock().list(), "refused": refused })
    }
}
