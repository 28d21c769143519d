//! Values on their way to a configuration: from the file, the environment and flags, and what is wrong
//! with them.

use super::{Config, InvalidConfig, Loaded, Source};
use std::{collections::BTreeMap, path::Path};
use toml::{Table, Value};

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

/// Says where a text is not TOML. The text itself is not shown: it may be a secret.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: not TOML: {}", error.message())
}

/// Values on their way to a configuration.
#[derive(Default)]
pub(super) struct Draft {
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
    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), InvalidConfig> {
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

    pub(super) fn add_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) {
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
    pub(super) fn set(&mut self, path: &[&str], mut readings: Vec<Value>, source: Source) {
        let owned: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
        let first = readings.remove(0);
        place(&mut self.table, path, first);
        self.sources.insert(owned.clone(), source);
        self.readings.insert(owned, readings);
    }

    pub(super) fn finish(mut self) -> Result<Loaded, InvalidConfig> {
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
            // What stands where a section should may be any of its values, such as a URL with a password.
            let message = match error.inner().message() {
                message if path.len() == 1 && message.starts_with("invalid type") => {
                    "expected a section"
                }
                message => message,
            };
            self.report(path, message);
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
