//! Which generation of which plugin is in force, and from which file it came.

use super::{config::PluginsConfig, generation::Generation, loader::LoadError};
use crate::{core::names::PluginName, ports::Plugin};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// Takes the plugins in force, in the configured order.
pub type Publish = Box<dyn Fn(Vec<Arc<dyn Plugin>>) + Send + Sync>;

struct Loaded {
    file: PathBuf,
    generation: Arc<Generation>,
    at: SystemTime,
}

/// See the module's page.
pub(super) struct Registry {
    order: Vec<PluginName>,
    loaded: BTreeMap<PluginName, Loaded>,
    publish: Publish,
}

impl Registry {
    pub(super) fn new(config: &PluginsConfig, publish: Publish) -> Self {
        Self {
            order: config.order.clone(),
            loaded: BTreeMap::new(),
            publish,
        }
    }

    /// Puts a generation in force, in place of the one of the same plugin, and returns it.
    ///
    /// # Errors
    /// When another file holds the name, and `is_there` says that it still is there; or when another
    /// plugin holds one of its room prefixes.
    pub(super) fn admit(
        &mut self,
        file: &Path,
        generation: Generation,
        is_there: impl Fn(&Path) -> bool,
    ) -> Result<Arc<Generation>, LoadError> {
        let info = generation.info();
        let name = info.name().clone();
        if let Some(holder) = self.loaded.get(&name)
            && holder.file != file
            && is_there(&holder.file)
        {
            return Err(LoadError::NameTaken {
                name,
                holder: holder.file.display().to_string(),
            });
        }
        for (other, loaded) in self.loaded.iter().filter(|(other, _)| **other != name) {
            let theirs = loaded.generation.info();
            if theirs.namespace != info.namespace {
                continue;
            }
            // The same file may hold another plugin now, whose rooms are free then.
            let taken = theirs.rooms.intersection(&info.rooms).next();
            if let Some(prefix) = taken.filter(|_| loaded.file != file) {
                return Err(LoadError::PrefixTaken {
                    prefix: prefix.to_string(),
                    holder: other.clone(),
                });
            }
        }
        self.loaded
            .retain(|other, loaded| *other == name || loaded.file != file);
        let generation = Arc::new(generation);
        let loaded = Loaded {
            file: file.to_owned(),
            generation: generation.clone(),
            at: SystemTime::now(),
        };
        self.loaded.insert(name, loaded);
        self.tell();
        Ok(generation)
    }

    /// Takes the plugin of a file out of force; returns its name if there was one.
    pub(super) fn remove(&mut self, file: &Path) -> Option<PluginName> {
        let name = self.of_file(file)?;
        self.loaded.remove(&name);
        self.tell();
        Some(name)
    }

    /// Returns the plugin that a file holds.
    pub(super) fn of_file(&self, file: &Path) -> Option<PluginName> {
        self.loaded
            .iter()
            .find(|(_, loaded)| loaded.file == file)
            .map(|(name, _)| name.clone())
    }

    fn tell(&self) {
        let place = |name: &PluginName| {
            self.order
                .iter()
                .position(|listed| listed == name)
                .unwrap_or(usize::MAX)
        };
        let mut plugins: Vec<_> = self.loaded.iter().collect();
        plugins.sort_by_key(|(name, _)| place(name));
        let plugins = plugins
            .into_iter()
            .map(|(_, loaded)| loaded.generation.clone() as Arc<dyn Plugin>)
            .collect();
        (self.publish)(plugins);
    }

    /// Returns what is in force, for people and programs.
    pub(super) fn list(&self) -> Vec<Value> {
        self.loaded
            .iter()
            .map(|(name, loaded)| {
                let info = loaded.generation.info();
                json!({
                    "name": name,
                    "version": info.manifest.version,
                    "digest": info.digest,
                    "namespace": info.namespace,
                    "rooms": info.rooms,
                    "file": loaded.file.display().to_string(),
                    "loadedAt": humantime::format_rfc3339_millis(loaded.at).to_string(),
                    "quarantined": loaded.generation.is_quarantined(),
                })
            })
            .collect()
    }
}
