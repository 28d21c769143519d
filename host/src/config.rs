//! The application's configuration: the sum of its modules' own.
//!
//! Values come from defaults, then the file, then the environment, then flags; later wins. Where each
//! value came from is kept, to be shown. What is wrong is collected, so that all of it can be mended
//! at once.

mod draft;

use self::draft::Draft;
use crate::{
    api::config::ApiConfig,
    auth::AuthConfig,
    cluster::{
        bridge::config::{self as channels, ChannelsConfig},
        config::ClusterConfig,
    },
    link::config::RedisConfig,
    pipeline::config::LimitsConfig,
    plugin::config::{PluginConfigs, PluginsConfig},
    presence::PresenceConfig,
    socket::config::SocketConfig,
    store::config::{Backend, StateConfig},
    typing::TypingConfig,
};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, time::Duration};
use toml::{Table, Value};

/// The file that is read where none is named.
pub const DEFAULT_FILE: &str = "switchboard.toml";

/// Flags that every command with a configuration has.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// The configuration's file; otherwise `switchboard.toml`, if there is one.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen (server.listen); port 0 picks a free one and prints it.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// The folder of plugins (plugins.dir).
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
}

/// The whole configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The process.
    pub server: ServerConfig,
    /// Socket.IO.
    pub socket: SocketConfig,
    /// Tokens and guests.
    pub auth: AuthConfig,
    /// What may be sent.
    pub limits: LimitsConfig,
    /// The server API.
    pub api: ApiConfig,
    /// Plugins' state.
    pub state: StateConfig,
    /// Redis.
    pub redis: RedisConfig,
    /// Other hosts.
    pub cluster: ClusterConfig,
    /// Channels of Redis whose messages are events, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub channels: ChannelsConfig,
    /// Who types.
    pub typing: TypingConfig,
    /// What users are seen as.
    pub presence: PresenceConfig,
    /// All plugins.
    pub plugins: PluginsConfig,
    /// Single plugins, by name.
    pub plugin: PluginConfigs,
}

/// The section `[server]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The address to listen on; port 0 picks a free one.
    pub listen: String,
    /// How long the host may take to stop.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// How log lines are written.
    pub log_format: LogFormat,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:3000".to_owned(),
            drain_timeout: Duration::from_secs(20),
            log_format: LogFormat::Text,
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Tells whether lines are JSON.
    #[must_use]
    pub fn is_json(self) -> bool {
        self == Self::Json
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is not valid:{}", .0.iter().fold(String::new(), |mut text, problem| { let _ = write!(text, "\n  {problem}"); text }))]
pub struct InvalidConfig(pub Vec<String>);

/// A configuration, and where its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    sources: BTreeMap<Vec<String>, Source>,
}

impl Config {
    /// Loads the configuration. `environment` is what `std::env::vars` gives.
    ///
    /// # Errors
    /// Everything that is wrong, in one list.
    pub fn load(
        flags: &Flags,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, InvalidConfig> {
        let mut draft = Draft::default();
        let named = flags.config.clone();
        let file = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        if named.is_some() || file.exists() {
            draft.add_file(&file)?;
        }
        draft.add_environment(environment);
        if let Some(listen) = &flags.listen {
            let value = Value::from(listen.as_str());
            draft.set(&["server", "listen"], vec![value], Source::Flag("--listen"));
        }
        if let Some(plugins) = &flags.plugins {
            let value = Value::from(plugins.to_string_lossy().into_owned());
            draft.set(&["plugins", "dir"], vec![value], Source::Flag("--plugins"));
        }
        let mut loaded = draft.finish()?;
        channels::name_events(&mut loaded.config.channels);
        let problems = loaded.config.problems();
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(InvalidConfig(problems))
        }
    }

    /// Returns what is wrong with the values, whatever command is to run with them.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let port = self.server.listen.rsplit_once(':');
        let port = port.map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            problems.push(format!(
                "server.listen: expected an address with a port such as `127.0.0.1:3000`, got `{}`",
                self.server.listen
            ));
        }
        problems.extend(self.socket.problems());
        problems.extend(self.auth.problems());
        problems.extend(self.limits.problems());
        problems.extend(self.api.problems());
        let key = &self.cluster.key;
        problems.extend(channels::problems(&self.channels, &self.redis, key));
        problems.extend(self.redis.problems());
        if self.cluster.view && !self.joins_others() {
            problems
                .push("cluster.view: needs a Redis (redis.url), and cluster.enabled".to_owned());
        }
        problems.extend(self.plugins.problems());
        for (name, plugin) in &self.plugin {
            problems.extend(plugin.problems(name));
        }
        problems
    }

    /// Chooses what keeps state, where nothing is said, as `serve` does.
    pub fn choose_backend(&mut self) {
        let otherwise = if self.redis.is_set() {
            Backend::Redis
        } else {
            Backend::Embedded
        };
        self.state.backend.get_or_insert(otherwise);
    }

    /// Tells whether this host reaches others by Redis.
    #[must_use]
    pub fn joins_others(&self) -> bool {
        self.redis.is_set() && self.cluster.enabled
    }

    /// Tells whether plugins may have to do with channels of Redis. Where other hosts are reached by it,
    /// they may be granted some later.
    #[must_use]
    pub fn has_channels(&self) -> bool {
        let is_granted = || {
            self.plugin
                .values()
                .any(|plugin| !plugin.channels.is_empty())
        };
        self.redis.is_set() && (self.cluster.enabled || !self.channels.is_empty() || is_granted())
    }

    /// Tells whether the host cannot do without Redis.
    #[must_use]
    pub fn needs_redis(&self) -> bool {
        self.joins_others() || self.has_channels() || self.state.backend == Some(Backend::Redis)
    }

    /// Returns why `serve` cannot run with these values, if so: that nobody could be authenticated.
    #[must_use]
    pub fn problem_of_serving(&self) -> Option<String> {
        let someone = self.auth.has_keys() || self.auth.guests;
        (!someone).then(|| {
            "there is no key to verify tokens with: set auth.secret (or JWT_SECRET), auth.public_keys or \
             auth.jwks_file; or auth.guests for guests only"
                .to_owned()
        })
    }
}

impl Loaded {
    /// Returns the configuration in force as TOML, with where each value comes from that is not a
    /// default. Secrets are not in it.
    #[must_use]
    pub fn show(&self) -> String {
        let mut text = String::new();
        if let Ok(Value::Table(table)) = Value::try_from(&self.config) {
            self.show_table(&table, &mut Vec::new(), &mut text);
        }
        text
    }

    fn show_table(&self, table: &Table, path: &mut Vec<String>, text: &mut String) {
        let (tables, values): (Vec<_>, Vec<_>) =
            table.iter().partition(|(_, value)| value.is_table());
        if !values.is_empty() {
            if !text.is_empty() {
                text.push('\n');
            }
            let names: Vec<String> = path.iter().map(|name| key(name)).collect();
            let _ = writeln!(text, "[{}]", names.join("."));
        }
        for (key, value) in values {
            path.push(key.clone());
            let source = self
                .sources
                .get(path)
                .map(|source| format!("  # {source}"))
                .unwrap_or_default();
            let _ = writeln!(text, "{key} = {value}{source}");
            path.pop();
        }
        for (key, value) in tables {
            if let Value::Table(inner) = value {
                path.push(key.clone());
                self.show_table(inner, path, text);
                path.pop();
            }
        }
    }
}

/// Returns a name as a key of TOML, in quotes where it needs them.
fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match !name.is_empty() && name.chars().all(is_bare) {
        true => name.to_owned(),
        false => Value::from(name).to_string(),
    }
}

#[cfg(test)]
mod tests;
