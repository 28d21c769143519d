//! The one way by which a plugin is loaded: at the start, when a file changes, and when it is only
//! checked. Each step can refuse, and nothing is published before all have passed.

use super::{
    bindings::{Plugin, PluginPre, switchboard::plugin as wit},
    cache::{CodeCache, hex},
    clock::Clock,
    config::{PluginConfig, PluginConfigs, PluginsConfig},
    engine::{Compiler, LongCalls},
    generation::{Budget, Generation, Usage, describe_trap},
    guest::{self, About, GuestState, InstanceBounds},
    handle::{GUEST, Linked},
    quarantine::Quarantine,
};
use crate::{
    core::{
        manifest::{ALWAYS_GRANTED, GRANTABLE, InvalidManifest, Manifest},
        names::PluginName,
    },
    metrics::Metrics,
    ports::{PluginInfo, StateBounds, StateVersions, Views},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, io::Read, path::Path, sync::Arc, time::Duration};
use wasmtime::{
    Engine,
    component::{Component, HasSelf, Linker},
};

const PACKAGE: &str = "switchboard:plugin/";
const VERSION: &str = "@0.1.0";

/// How long `describe` may take, at least; a machine under load may be slow at first.
const DESCRIBE_TIME: Duration = Duration::from_secs(5);

/// Why a file is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It has no bytes.
    #[error("the file is empty")]
    Empty,
    /// It has too many bytes.
    #[error("the file has {bytes} bytes, of at most {limit} (plugins.max_file_bytes)")]
    TooLarge {
        /// How many it has.
        bytes: u64,
        /// How many it may have.
        limit: u64,
    },
    /// It is something else.
    #[error("the file is not WebAssembly")]
    NotWasm,
    /// It is WebAssembly, but of the wrong kind.
    #[error("the file is a core module and not a component; build it for wasm32-wasip2")]
    CoreModule,
    /// It begins as a component and is none.
    #[error("the component is truncated or not valid: {0}")]
    Malformed(String),
    /// It is a component for something else.
    #[error("the component does not export `{GUEST}`; {0}")]
    WrongWorld(String),
    /// It wants what it was not given.
    #[error("the component imports `{import}`, {why}")]
    NotGranted {
        /// What it wants.
        import: String,
        /// Why it is not given.
        why: String,
    },
    /// It could not be made to run.
    #[error("the component cannot be instantiated: {0}")]
    Instantiation(String),
    /// It did not say what it is.
    #[error("`describe` failed: {0}")]
    Describe(String),
    /// It did not say in time what it is.
    #[error("`describe` did not answer within {0:?}")]
    DescribeTimeout(Duration),
    /// What it says of itself is not valid.
    #[error(transparent)]
    Manifest(#[from] InvalidManifest),
    /// The operator does not want it.
    #[error("the plugin `{0}` is turned off (plugin.{0}.enabled)")]
    Disabled(PluginName),
    /// The operator's settings do not fit it.
    #[error("the settings of the plugin are not valid: {0}")]
    Settings(String),
    /// Its stored state is of another version.
    #[error(
        "the stored state of `{plugin}` has version {stored}, and this version of the plugin reads {reads:?} only"
    )]
    StateVersion {
        /// Whose state.
        plugin: PluginName,
        /// Its version.
        stored: u32,
        /// What the plugin reads.
        reads: Vec<u32>,
    },
    /// Another plugin has the same rooms.
    #[error(
        "the room prefix `{prefix}` belongs to the plugin `{holder}`; grant it to one of them (plugin.NAME.rooms)"
    )]
    PrefixTaken {
        /// Which prefix.
        prefix: String,
        /// Whose it is.
        holder: PluginName,
    },
    /// Another file has the same plugin.
    #[error("the plugin `{name}` is loaded from {holder} already; remove one of the two files")]
    NameTaken {
        /// Which plugin.
        name: PluginName,
        /// Which file.
        holder: String,
    },
}

impl LoadError {
    /// Returns a word for the kind of refusal, for metrics and programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "refused-unreadable",
            Self::Empty => "refused-empty",
            Self::TooLarge { .. } => "refused-too-large",
            Self::NotWasm => "refused-not-wasm",
            Self::CoreModule => "refused-core-module",
            Self::Malformed(_) => "refused-malformed",
            Self::WrongWorld(_) => "refused-wrong-world",
            Self::NotGranted { .. } => "refused-import",
            Self::Instantiation(_) => "refused-instantiation",
            Self::Describe(_) | Self::DescribeTimeout(_) => "refused-describe",
            Self::Manifest(_) => "refused-manifest",
            Self::Disabled(_) => "refused-disabled",
            Self::Settings(_) => "refused-settings",
            Self::StateVersion { .. } => "refused-state-version",
            Self::PrefixTaken { .. } => "refused-prefix-taken",
            Self::NameTaken { .. } => "refused-name-taken",
        }
    }

    /// Tells whether the file may still be being written, so that looking again can help.
    #[must_use]
    pub fn may_be_unfinished(&self) -> bool {
        matches!(
            self,
            Self::Empty | Self::NotWasm | Self::Malformed(_) | Self::Unreadable(_)
        )
    }
}

/// Loads plugins.
pub struct Loader {
    engine: Engine,
    compiler: Compiler,
    clock: Clock,
    long: Arc<LongCalls>,
    cache: CodeCache,
    config: PluginsConfig,
    views: Views,
    versions: Arc<dyn StateVersions>,
    metrics: Arc<Metrics>,
    budget: Budget,
}

impl Loader {
    /// Returns a loader with an engine of its own.
    ///
    /// # Errors
    /// When the engine or the compiler's threads cannot be started.
    pub fn new(
        config: PluginsConfig,
        views: Views,
        versions: Arc<dyn StateVersions>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let (engine, clock) = super::engine::engine(&config)?;
        Ok(Self {
            engine,
            compiler: Compiler::start()?,
            long: Arc::new(LongCalls::start(clock.clone())?),
            clock,
            cache: CodeCache::open(config.cache_dir.clone()),
            budget: Budget::of(&config),
            config,
            views,
            versions,
            metrics,
        })
    }

    /// Reads a file, in full or not at all.
    ///
    /// # Errors
    /// When it cannot be read, or is too large.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, LoadError> {
        let limit = self.config.max_file_bytes;
        // Asked before it is opened: opening a pipe would wait for its other end.
        let about = std::fs::metadata(path)?;
        if !about.is_file() {
            let kind = std::io::ErrorKind::InvalidInput;
            return Err(std::io::Error::new(kind, "not a regular file").into());
        }
        // It may grow while it is read.
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(limit + 1).read_to_end(&mut bytes)?;
        let length = about.len().max(bytes.len() as u64);
        if length > limit {
            return Err(LoadError::TooLarge {
                bytes: length,
                limit,
            });
        }
        Ok(bytes)
    }

    /// Returns a generation that can be published, as far as the file itself is concerned.
    ///
    /// # Errors
    /// When any step refuses.
    pub async fn load(
        &self,
        bytes: Vec<u8>,
        configs: &PluginConfigs,
    ) -> Result<Generation, LoadError> {
        check_kind(&bytes)?;
        let digest = hex(&Sha256::digest(&bytes));
        let component = self.compile(bytes).await?;
        let imports = self.check_world(&component)?;
        let text = self.describe(&component).await?;
        let manifest = Manifest::parse(&text)?;
        let config = configs.get(&manifest.name).cloned().unwrap_or_default();
        if !config.enabled {
            return Err(LoadError::Disabled(manifest.name));
        }
        let granted = granted(&manifest, &config, &imports)?;
        let settings = settings(&manifest, &config)?;
        if let Some(stored) = self.versions.stored(&manifest.name)
            && !manifest.state.reads.contains(&stored)
        {
            return Err(LoadError::StateVersion {
                plugin: manifest.name,
                stored,
                reads: manifest.state.reads,
            });
        }
        let prefixes = config
            .rooms
            .clone()
            .unwrap_or_else(|| manifest.rooms.clone());
        let info = PluginInfo {
            namespace: config.namespace.clone(),
            rooms: prefixes.into_iter().collect(),
            channels: config.channels.clone(),
            state: StateBounds {
                entries: config.max_state_entries,
                bytes: config.max_state_bytes,
            },
            digest: digest.chars().take(12).collect(),
            manifest,
        };
        let about = Arc::new(self.about(info, settings));
        let pre = self
            .link(&component, |capability| granted.contains(capability))
            .map_err(instantiation)?;
        Ok(Generation::new(
            Linked::new(&pre).map_err(instantiation)?,
            about,
            Usage::of(&self.config, &config),
            self.long.clone(),
            self.budget.clone(),
            Quarantine::new(self.config.quarantine.clone()),
        ))
    }

    fn about(&self, info: PluginInfo, settings: String) -> About {
        About {
            info,
            settings,
            views: self.views.clone(),
            has_redis: self.config.has_redis,
            metrics: self.metrics.clone(),
            bounds: InstanceBounds {
                memory_bytes: self.config.memory_bytes(),
                table_elements: self.config.max_table_elements,
                reply_bytes: self.config.max_reply_bytes,
                instructions: self.config.max_instructions,
            },
        }
    }

    async fn compile(&self, bytes: Vec<u8>) -> Result<Component, LoadError> {
        let (compiler, engine) = (self.compiler.clone(), self.engine.clone());
        let cache = self.cache.clone();
        let compiled =
            tokio::task::spawn_blocking(move || compiler.run(|| cache.component(&engine, &bytes)))
                .await
                .map_err(|error| LoadError::Malformed(error.to_string()))?;
        compiled
            .map(|(component, _)| component)
            .map_err(|error| LoadError::Malformed(format!("{error:#}")))
    }

    /// Returns the capabilities that a component imports.
    fn check_world(&self, component: &Component) -> Result<BTreeSet<String>, LoadError> {
        let kind = component.component_type();
        let exports: Vec<&str> = kind.exports(&self.engine).map(|(name, _)| name).collect();
        if !exports.contains(&GUEST) {
            let found = match exports.as_slice() {
                [] => "it exports nothing".to_owned(),
                exports => format!("it exports {}", exports.join(", ")),
            };
            return Err(LoadError::WrongWorld(found));
        }
        let mut capabilities = BTreeSet::new();
        for (import, _) in kind.imports(&self.engine) {
            if import.starts_with("wasi:") {
                continue;
            }
            let capability = import
                .strip_prefix(PACKAGE)
                .and_then(|rest| rest.strip_suffix(VERSION))
                .filter(|name| {
                    *name == "types" || ALWAYS_GRANTED.contains(name) || GRANTABLE.contains(name)
                });
            match capability {
                Some(name) => capabilities.insert(name.to_owned()),
                None => {
                    return Err(LoadError::NotGranted {
                        import: import.to_owned(),
                        why: "which this host does not have".to_owned(),
                    });
                }
            };
        }
        Ok(capabilities)
    }

    fn link(
        &self,
        component: &Component,
        grants: impl Fn(&str) -> bool,
    ) -> wasmtime::Result<PluginPre<GuestState>> {
        let mut linker: Linker<GuestState> = Linker::new(&self.engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wit::types::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        wit::log::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        wit::settings::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        wit::attachments::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        if grants("rooms") {
            wit::rooms::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        }
        if grants("kv") {
            wit::kv::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        }
        if grants("history") {
            wit::history::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        }
        if grants("timers") {
            wit::timers::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        }
        if grants("presence") {
            wit::presence::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        }
        if grants("typing") {
            wit::typing::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        }
        if grants("channels") {
            wit::channels::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        }
        PluginPre::new(linker.instantiate_pre(component)?)
    }

    /// Asks a trial instance what it is.
    async fn describe(&self, component: &Component) -> Result<String, LoadError> {
        let nobody = PluginInfo {
            manifest: Manifest::unknown(),
            namespace: crate::core::names::Namespace::root(),
            rooms: BTreeSet::new(),
            channels: Vec::new(),
            state: StateBounds::default(),
            digest: String::new(),
        };
        let about = Arc::new(self.about(nobody, "{}".to_owned()));
        let pre = self.link(component, |_| true).map_err(instantiation)?;
        // It takes an instance like any call.
        let _permit = self.budget.fresh.acquire().await;
        let mut store = guest::store(&self.engine, &about);
        let time = self.config.deadline.max(DESCRIBE_TIME);
        let describing = self.clock.during(async {
            let plugin: Plugin = pre
                .instantiate_async(&mut store)
                .await
                .map_err(instantiation)?;
            plugin
                .switchboard_plugin_guest()
                .call_describe(&mut store)
                .await
                .map_err(|error| LoadError::Describe(describe_trap(&error)))
        });
        tokio::time::timeout(time, describing)
            .await
            .unwrap_or(Err(LoadError::DescribeTimeout(time)))
    }

    /// Records that a generation has been published, and so which version of state it writes.
    pub(super) fn published(&self, info: &PluginInfo) {
        let stores = |name: &String| ["kv", "history", "timers"].contains(&name.as_str());
        if info.manifest.capabilities.iter().any(stores) {
            self.versions
                .record(info.name(), info.manifest.state.writes);
        }
    }
}

fn instantiation(error: wasmtime::Error) -> LoadError {
    LoadError::Instantiation(format!("{error:#}"))
}

fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    // The preambles of the binary formats: magic number, version, and the layer.
    const MAGIC: &[u8] = b"\0asm";
    match bytes {
        [] => Err(LoadError::Empty),
        bytes if !bytes.starts_with(MAGIC) => Err(LoadError::NotWasm),
        [_, _, _, _, 1, 0, 0, 0, ..] => Err(LoadError::CoreModule),
        _ => Ok(()),
    }
}

/// Returns what a plugin is granted: what it declares, within what the operator lists.
fn granted(
    manifest: &Manifest,
    config: &PluginConfig,
    imports: &BTreeSet<String>,
) -> Result<BTreeSet<String>, LoadError> {
    let refuse = |import: &str, why: &str| {
        Err(LoadError::NotGranted {
            import: format!("{PACKAGE}{import}{VERSION}"),
            why: why.to_owned(),
        })
    };
    for import in imports {
        let name = import.as_str();
        if name != "types"
            && !ALWAYS_GRANTED.contains(&name)
            && !manifest.capabilities.contains(import)
        {
            return refuse(
                name,
                "which its manifest does not name under `capabilities`",
            );
        }
    }
    for capability in &manifest.capabilities {
        let listed = config
            .capabilities
            .as_ref()
            .is_none_or(|listed| listed.contains(capability));
        if !listed && !ALWAYS_GRANTED.contains(&capability.as_str()) {
            let why = format!(
                "which it was not granted; list it under `capabilities` in [plugin.{}]",
                manifest.name
            );
            return refuse(capability, &why);
        }
    }
    Ok(manifest.capabilities.iter().cloned().collect())
}

/// Returns the operator's settings as JSON, when they are what the plugin's schema asks for.
fn settings(manifest: &Manifest, config: &PluginConfig) -> Result<String, LoadError> {
    let settings = serde_json::to_value(&config.settings)
        .map_err(|error| LoadError::Settings(error.to_string()))?;
    if let Some(schema) = &manifest.settings {
        let validator = jsonschema::validator_for(schema).map_err(|error| {
            LoadError::Settings(format!("its own schema is not valid: {error}"))
        })?;
        let problems: Vec<String> = validator
            .iter_errors(&settings)
            .map(|error| {
                let at = error.instance_path.to_string();
                let at = at.trim_start_matches('/').replace('/', ".");
                match at.as_str() {
                    "" => error.to_string(),
                    at => format!("plugin.{}.settings.{at}: {error}", manifest.name),
                }
            })
            .collect();
        if !problems.is_empty() {
            return Err(LoadError::Settings(problems.join("; ")));
        }
    }
    Ok(settings.to_string())
}
