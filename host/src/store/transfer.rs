//! State as lines of JSON, out of one store and into another.
//!
//! A line is a key (`{"plugin","partition","key","value"}`), another entry as it is stored
//! (`{"plugin","partition","name","text"}`; `core::state` tells what names there are), or the
//! version of a plugin's state (`{"plugin","state"}`). `expires` is there for what expires. What is
//! waiting to be sent is not state, and left out.

use crate::{
    core::{
        names::PluginName,
        state::{TIMER, Timer, key_name},
    },
    ports::{Commit, CommitError, Fault, HistoryWrites, PartitionOf, StateStore, Stored, Write},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Entries that are written in one commit.
const BATCH: usize = 500;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    plugin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<u32>,
}

fn line_of(stored: Stored) -> Line {
    let mut line = Line {
        plugin: stored.plugin.as_str().to_owned(),
        partition: Some(stored.partition),
        key: None,
        value: None,
        name: None,
        text: None,
        expires: stored.expires_at,
        state: None,
    };
    // Byte by byte what the plugin wrote, if it is JSON on one line.
    let value = (!stored.text.contains(['\n', '\r']))
        .then(|| serde_json::from_str::<Box<RawValue>>(&stored.text).ok())
        .flatten()
        .filter(|value| value.get() == stored.text);
    match (stored.name.strip_prefix('k'), value) {
        (Some(key), Some(value)) => {
            line.key = Some(key.to_owned());
            line.value = Some(value);
        }
        _ => {
            line.name = Some(stored.name);
            line.text = Some(stored.text);
        }
    }
    line
}

fn entry_of(text: &str) -> Result<Parsed, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let plugin = PluginName::new(&line.plugin).map_err(|error| error.to_string())?;
    if let Some(version) = line.state {
        return Ok(Parsed::Version(plugin, version));
    }
    let (name, text) = match (line.key, line.value, line.name, line.text) {
        (Some(key), Some(value), None, None) => (key_name(&key), value.get().to_owned()),
        (None, None, Some(name), Some(text)) if !name.is_empty() => (name, text),
        _ => return Err("expected `key` and `value`, or `name` and `text`".to_owned()),
    };
    if name.starts_with(TIMER) && Timer::parse(&text).is_none() {
        return Err(format!("the text of the timer `{name}` is not a timer's"));
    }
    Ok(Parsed::Entry(Stored {
        plugin,
        partition: line.partition.ok_or("expected `partition`")?,
        name,
        text,
        expires_at: line.expires,
    }))
}

enum Parsed {
    Entry(Stored),
    Version(PluginName, u32),
}

/// Writes all state of one plugin, or of all, as lines.
///
/// # Errors
/// When the store cannot be read, or `write` fails.
pub async fn export(
    store: &dyn StateStore,
    plugin: Option<&PluginName>,
    now_ms: u64,
    write: &mut (dyn FnMut(&str) -> Result<(), String> + Send),
) -> Result<u64, Fault> {
    let mut count = 0;
    for (of, version) in store.all_stored() {
        if plugin.is_none_or(|plugin| *plugin == of) {
            let line = serde_json::json!({ "plugin": of.as_str(), "state": version });
            write(&line.to_string()).map_err(|why| Fault::new("UNAVAILABLE", why))?;
        }
    }
    let mut visitor = |stored: Stored| {
        count += 1;
        let line = serde_json::to_string(&line_of(stored)).map_err(|error| error.to_string())?;
        write(&line)
    };
    store.each(plugin, now_ms, &mut visitor).await?;
    Ok(count)
}

/// Why lines were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line is not one of an export. Those before it have been written.
    #[error("line {0}: {1}")]
    Line(u64, String),
    /// The store did not take it.
    #[error("{0}")]
    Store(#[from] CommitError),
}

/// Writes entries into a store, over those of the same names.
pub struct Import<'a> {
    store: &'a dyn StateStore,
    now_ms: u64,
    line: u64,
    count: u64,
    /// Entries that are still to be written, all of one partition.
    waiting: Vec<Stored>,
}

impl<'a> Import<'a> {
    /// Begins one.
    #[must_use]
    pub fn into(store: &'a dyn StateStore, now_ms: u64) -> Self {
        Self {
            store,
            now_ms,
            line: 0,
            count: 0,
            waiting: Vec::new(),
        }
    }

    /// Takes a line.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub async fn take(&mut self, line: &str) -> Result<(), ImportError> {
        self.line += 1;
        if line.trim().is_empty() {
            return Ok(());
        }
        match entry_of(line).map_err(|why| ImportError::Line(self.line, why))? {
            Parsed::Version(plugin, version) => self.store.record(&plugin, version),
            Parsed::Entry(entry) => {
                let same = self.waiting.last().is_none_or(|last| {
                    (&last.plugin, &last.partition) == (&entry.plugin, &entry.partition)
                });
                if !same || self.waiting.len() >= BATCH {
                    self.write().await?;
                }
                self.waiting.push(entry);
            }
        }
        Ok(())
    }

    /// Writes the rest; returns how many entries there were.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn finish(mut self) -> Result<u64, ImportError> {
        self.write().await?;
        self.store.close().await;
        Ok(self.count)
    }

    async fn write(&mut self) -> Result<(), ImportError> {
        let entries = std::mem::take(&mut self.waiting);
        let Some(first) = entries.first() else {
            return Ok(());
        };
        self.count += entries.len() as u64;
        let (plugin, partition) = (first.plugin.clone(), first.partition.clone());
        let writes: BTreeMap<String, Write> = entries
            .into_iter()
            .map(|entry| (entry.name, Write::Set(entry.text, entry.expires_at)))
            .collect();
        let commit = Commit {
            partition: PartitionOf {
                plugin: &plugin,
                name: &partition,
            },
            at_ms: self.now_ms,
            seen: &[],
            writes: &writes,
            history: &HistoryWrites::default(),
            outgoing: None,
            owner: None,
        };
        self.store.commit(commit).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
