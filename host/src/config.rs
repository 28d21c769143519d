//! The application's configuration: the sum of its modules' own.
//!
//! Values come from defaults, then the file, then the environment, then flags; later wins. Where each
//! value came from is kept, to be shown. What is wrong is collected, so that all of it can be mended
//! at once.

use crate::{
    api::config::ApiConfig,
    auth::AuthConfig,
    cluster::config::ClusterConfig,
    link::config::RedisConfig,
    pipeline::config::LimitsConfig,
    plugin::config::{PluginConfigs, PluginsConfig},
    socket::config::SocketConfig,
    store::config::{Backend, StateConfig},
    typing::TypingConfig,
};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};
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
    /// Who types.
    pub typing: TypingConfig,
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

/// Names that front ends and backends of older servers are configured with, and the keys that they stand for.
const KNOWN_VARIABLES: [(&str, &[&str], Form); 10] = [
    ("WEBSOCKET_PATH", &["socket", "path"], Form::Text),
    (
        "WEBSOCKET_CORS_ORIGIN",
        &["socket", "cors_origin"],
        Form::List,
    ),
    (
        "WEBSOCKET_PING_TIMEOUT",
        &["socket", "ping_timeout"],
        Form::Milliseconds,
    ),
    (
        "WEBSOCKET_PING_INTERVAL",
        &["socket", "ping_interval"],
        Form::Milliseconds,
    ),
    ("REDIS_URL", &["redis", "url"], Form::Text),
    ("REDIS_HOST", &["redis", "host"], Form::Text),
    ("REDIS_PORT", &["redis", "port"], Form::Any),
    ("REDIS_PASSWORD", &["redis", "password"], Form::Text),
    ("JWT_SECRET", &["auth", "secret"], Form::Text),
    ("FRONTEND_URL", &["socket", "cors_origin"], Form::List),
];

const PREFIX: &str = "SWITCHBOARD_";

#[derive(Clone, Copy)]
enum Form {
    Text,
    List,
    Milliseconds,
    Any,
}

impl Form {
    /// Returns the values that a text may mean, the likeliest first.
    fn readings(self, text: &str) -> Vec<Value> {
        let list = || {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            Value::Array(items.map(Value::from).collect())
        };
        match self {
            Self::Text => vec![Value::from(text)],
            Self::List => vec![list()],
            Self::Milliseconds => match text.trim().parse::<u64>() {
                Ok(number) => vec![Value::from(format!("{number}ms"))],
                Err(_) => vec![Value::from(text)],
            },
            Self::Any => {
                let parsed = toml::from_str::<Table>(&format!("value = {text}"))
                    .ok()
                    .and_then(|mut table| table.remove("value"));
                parsed
                    .into_iter()
                    .chain([Value::from(text), list()])
                    .collect()
            }
        }
    }
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
        let loaded = draft.finish()?;
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
        problems.extend(self.redis.problems());
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

    /// Tells whether the host cannot do without Redis.
    #[must_use]
    pub fn needs_redis(&self) -> bool {
        self.joins_others() || self.state.backend == Some(Backend::Redis)
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

/// Says where a text is not TOML. The text itself is not shown: it may be a secret.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: not TOML: {}", error.message())
}

/// Values on their way to a configuration.
#[derive(Default)]
struct Draft {
    table: Table,
    /// The file, which tables without values come from.
    file: Option<Source>,
    sources: BTreeMap<Vec<String>, Source>,
    /// Other readings of values that are texts in the environment.
    readings: BTreeMap<Vec<String>, Vec<Value>>,
    first_errors: BTreeMap<Vec<String>, String>,
    problems: Vec<String>,
}

impl Draft {
    fn add_file(&mut self, path: &Path) -> Result<(), InvalidConfig> {
        let fail = |why: String| Err(InvalidConfig(vec![format!("{}: {why}", path.display())]));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return fail(format!("the file cannot be read: {error}")),
        };
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return fail(not_toml(&text, &error)),
        };
        note(
            &table,
            &mut Vec::new(),
            &Source::File(path.to_owned()),
            &mut self.sources,
        );
        self.table = table;
        self.file = Some(Source::File(path.to_owned()));
        Ok(())
    }

    fn add_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        let variables: BTreeMap<String, String> = environment
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        for (name, path, form) in KNOWN_VARIABLES {
            let Some(text) = variables.get(name) else {
                continue;
            };
            // The page's own address is only a hint where nobody said from which pages one may connect.
            if name == "FRONTEND_URL" && self.get(path).is_some() {
                continue;
            }
            self.set(
                path,
                form.readings(text),
                Source::Environment(name.to_owned()),
            );
        }
        for (name, text) in &variables {
            // Names without a double underscore are other programs', such as a backend's own.
            let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__")) else {
                continue;
            };
            let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            self.set(
                &path,
                Form::Any.readings(text),
                Source::Environment(name.clone()),
            );
        }
    }

    fn get(&self, path: &[&str]) -> Option<&Value> {
        let (last, tables) = path.split_last()?;
        let mut table = &self.table;
        for name in tables {
            table = table.get(*name)?.as_table()?;
        }
        table.get(*last)
    }

    /// Sets a value to the first of its readings.
    fn set(&mut self, path: &[&str], mut readings: Vec<Value>, source: Source) {
        let owned: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
        let first = readings.remove(0);
        place(&mut self.table, path, first);
        self.sources.insert(owned.clone(), source);
        self.readings.insert(owned, readings);
    }

    fn finish(mut self) -> Result<Loaded, InvalidConfig> {
        // Each round mends or reports one thing; as many as there could be keys end it at the latest.
        for _ in 0..1_000 {
            let value = Value::Table(self.table.clone());
            let error = match serde_path_to_error::deserialize::<_, Config>(value) {
                Ok(config) if self.problems.is_empty() => {
                    return Ok(Loaded {
                        config,
                        sources: self.sources,
                    });
                }
                Ok(_) => break,
                Err(error) => error,
            };
            let path: Vec<String> = error
                .path()
                .iter()
                .map(ToString::to_string)
                .filter(|part| part != ".")
                .collect();
            self.report(path, error.inner().message());
        }
        Err(InvalidConfig(self.problems))
    }

    /// Reports one error and takes its cause out of the way; or takes another reading instead.
    fn report(&mut self, mut path: Vec<String>, message: &str) {
        let unknown = message
            .strip_prefix("unknown field `")
            .and_then(|rest| rest.split_once('`'));
        if let Some((field, _)) = unknown
            && path.last().is_none_or(|last| last != field)
        {
            path.push(field.to_owned());
        }
        // An index or a key inside of a value that came as one text.
        let place_of_source = (1..=path.len())
            .rev()
            .find_map(|length| {
                path.get(..length)
                    .filter(|part| self.sources.contains_key(*part))
            })
            .map(<[String]>::to_vec);
        if unknown.is_none()
            && let Some(place_of_source) = &place_of_source
            && let Some(readings) = self.readings.get_mut(place_of_source)
            && !readings.is_empty()
        {
            let next = readings.remove(0);
            // Should no reading fit, the first one's error is what helps.
            self.first_errors
                .entry(place_of_source.clone())
                .or_insert_with(|| message.to_owned());
            let names: Vec<&str> = place_of_source.iter().map(String::as_str).collect();
            place(&mut self.table, &names, next);
            return;
        }
        let source = place_of_source
            .as_ref()
            .and_then(|place| self.sources.get(place))
            .or_else(|| self.source_below(&path))
            .or(self.file.as_ref())
            .map(|source| format!("{source}: "))
            .unwrap_or_default();
        let key = path.join(".");
        self.problems.push(match unknown {
            Some((field, expected)) => {
                format!("{source}unknown key `{key}`{}", suggestion(field, expected))
            }
            None => {
                let first = self
                    .first_errors
                    .get(place_of_source.as_ref().unwrap_or(&path));
                let message = first.map_or(message, String::as_str);
                format!("{source}{key}: {message}")
            }
        });
        // Where an index is wrong the whole list goes.
        let cause = place_of_source.unwrap_or(path);
        remove(&mut self.table, &cause);
    }

    /// Returns where a whole table came from.
    fn source_below(&self, path: &[String]) -> Option<&Source> {
        self.sources
            .iter()
            .find(|(known, _)| known.starts_with(path))
            .map(|(_, source)| source)
    }
}

/// Returns the nearest of the names that serde lists, for a person who misspelt one.
fn suggestion(field: &str, expected: &str) -> String {
    let names: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let nearest = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(field, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(field.len()) / 2);
    match nearest {
        Some((_, name)) => format!("; did you mean `{name}`?"),
        None => format!("; expected one of {}", names.join(", ")),
    }
}

fn place(table: &mut Table, path: &[&str], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert((*last).to_owned(), value);
        }
        [first, rest @ ..] => {
            let inner = table
                .entry((*first).to_owned())
                .or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            if let Some(inner) = inner.as_table_mut() {
                place(inner, rest, value);
            }
        }
    }
}

fn remove(table: &mut Table, path: &[String]) {
    match path {
        [] => table.clear(),
        [last] => {
            table.remove(last);
        }
        [first, rest @ ..] => match table.get_mut(first).and_then(Value::as_table_mut) {
            Some(inner) => remove(inner, rest),
            None => {
                table.remove(first);
            }
        },
    }
}

fn note(
    table: &Table,
    path: &mut Vec<String>,
    source: &Source,
    sources: &mut BTreeMap<Vec<String>, Source>,
) {
    for (key, value) in table {
        path.push(key.clone());
        match value {
            Value::Table(inner) => note(inner, path, source, sources),
            _ => {
                sources.insert(path.clone(), source.clone());
            }
        }
        path.pop();
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
            let _ = writeln!(text, "[{}]", path.join("."));
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

#[cfg(test)]
mod tests;
