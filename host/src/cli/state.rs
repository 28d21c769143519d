//! `switchboard state`: what is stored, for operators.

use super::{config, run};
use crate::{
    config::{Config, Flags},
    core::{
        names::PluginName,
        state::{EXTENT, Extent, key_name},
    },
    pipeline::now_ms,
    ports::{Commit, Fault, HistoryWrites, PartitionOf, StateStore, Stored, Write as Staged},
    store::{
        self,
        config::Backend,
        transfer::{self, Import},
    },
};
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

/// Entries that are deleted in one commit.
const BATCH: usize = 500;

#[derive(Debug, Subcommand)]
pub(super) enum StateCommand {
    /// List plugins, the partitions of a plugin, or the keys of a partition, with entries and bytes.
    List {
        /// The plugin.
        plugin: Option<String>,
        /// The partition.
        partition: Option<String>,
        #[command(flatten)]
        flags: StateFlags,
    },
    /// Print the value of a key.
    Get {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        flags: StateFlags,
    },
    /// Set a key to a value, a JSON text, for ever.
    Set {
        #[command(flatten)]
        place: Place,
        /// The value.
        value: String,
        #[command(flatten)]
        flags: StateFlags,
    },
    /// Delete a key; or all of a partition, its history and timers too.
    Delete {
        /// The plugin.
        plugin: String,
        /// The partition.
        partition: String,
        /// The key.
        #[arg(required_unless_present = "all")]
        key: Option<String>,
        /// Delete the whole partition.
        #[arg(long, conflicts_with = "key")]
        all: bool,
        #[command(flatten)]
        flags: StateFlags,
    },
    /// Write all state as lines of JSON.
    Export {
        /// Only of this plugin.
        #[arg(long, value_name = "NAME")]
        plugin: Option<String>,
        /// The file; standard output when absent.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        flags: StateFlags,
    },
    /// Read such lines, over what is there under the same names.
    Import {
        /// The file; standard input when absent.
        file: Option<PathBuf>,
        #[command(flatten)]
        flags: StateFlags,
    },
}

#[derive(Debug, Args)]
pub(super) struct Place {
    /// The plugin.
    plugin: String,
    /// The partition.
    partition: String,
    /// The key.
    key: String,
}

#[derive(Debug, Args)]
pub(super) struct StateFlags {
    /// The configuration's file; otherwise `switchboard.toml`, if there is one. It says where state
    /// is kept, as for `serve`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn state(command: StateCommand) -> Result<ExitCode> {
    let (StateCommand::List { flags, .. }
    | StateCommand::Get { flags, .. }
    | StateCommand::Set { flags, .. }
    | StateCommand::Delete { flags, .. }
    | StateCommand::Export { flags, .. }
    | StateCommand::Import { flags, .. }) = &command;
    let flags = Flags {
        config: flags.config.clone(),
        ..Flags::default()
    };
    let mut config = match config::load(&flags)? {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    config.choose_backend();
    if config.state.backend == Some(Backend::Memory) {
        bail!(
            "state.backend is `memory`, which is inside of the running host and gone with it; `state` works on `embedded` and `redis`"
        );
    }
    run::log(&config, "warn");
    let runtime = tokio::runtime::Runtime::new().context("could not start the runtime")?;
    runtime.block_on(async {
        let store = open(&config).await?;
        let done = run_on(&store, command).await;
        store.close().await;
        done
    })
}

async fn open(config: &Config) -> Result<Arc<dyn StateStore>> {
    store::open(&config.state, &config.redis).await
}

fn named(plugin: &str) -> Result<PluginName> {
    Ok(PluginName::new(plugin)?)
}

fn failed(fault: Fault) -> anyhow::Error {
    anyhow!("{}", fault.message)
}

async fn run_on(store: &Arc<dyn StateStore>, command: StateCommand) -> Result<ExitCode> {
    match command {
        StateCommand::List {
            plugin, partition, ..
        } => list(store, plugin.as_deref(), partition.as_deref()).await,
        StateCommand::Get { place, .. } => get(store, &place).await,
        StateCommand::Set { place, value, .. } => {
            serde_json::from_str::<serde::de::IgnoredAny>(&value)
                .context("the value is not JSON; a text needs quotes of its own: '\"hello\"'")?;
            let write = Staged::Set(value, None);
            write_to(store, &place.plugin, &place.partition, &place.key, write).await
        }
        StateCommand::Delete {
            plugin,
            partition,
            key: Some(key),
            ..
        } => write_to(store, &plugin, &partition, &key, Staged::Delete).await,
        StateCommand::Delete {
            plugin, partition, ..
        } => delete_all(store, &plugin, &partition).await,
        StateCommand::Export { plugin, out, .. } => export(store, plugin.as_deref(), out).await,
        StateCommand::Import { file, .. } => import(store, file).await,
    }
}

/// What there is of something.
#[derive(Default)]
struct Sum {
    entries: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, stored: &Stored) {
        self.entries += 1;
        self.bytes += (stored.name.len() + stored.text.len()) as u64;
    }
}

async fn list(
    store: &Arc<dyn StateStore>,
    plugin: Option<&str>,
    partition: Option<&str>,
) -> Result<ExitCode> {
    let of = plugin.map(named).transpose()?;
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    let mut visitor = |stored: Stored| {
        let name = match (plugin, partition) {
            (None, _) => stored.plugin.as_str().to_owned(),
            (Some(_), None) => stored.partition.clone(),
            (Some(_), Some(wanted)) if wanted == stored.partition => shown(&stored),
            _ => return Ok(()),
        };
        sums.entry(name).or_default().add(&stored);
        Ok(())
    };
    let visited = store.each(of.as_ref(), now_ms(), &mut visitor).await;
    visited.map_err(failed)?;
    let mut out = std::io::stdout().lock();
    for (name, Sum { entries, bytes }) in sums {
        writeln!(out, "{entries:>10} {bytes:>12} bytes  {name}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns what an operator calls an entry; those of a history count as one thing.
fn shown(stored: &Stored) -> String {
    let mut name = stored.name.chars();
    let kind = name.next();
    let rest = name.as_str();
    match kind {
        Some('k') => format!("key {rest}"),
        Some('t') => format!("timer {rest}"),
        Some('m') if stored.name == EXTENT => match Extent::parse(&stored.text) {
            Some(extent) => format!(
                "history, positions {} to {}",
                extent.first_counted(),
                extent.next.saturating_sub(1)
            ),
            None => "history".to_owned(),
        },
        Some('h') => "history entries".to_owned(),
        Some('i') => "history ids".to_owned(),
        Some('o') => "history idempotency keys".to_owned(),
        _ => "handled timers of other partitions".to_owned(),
    }
}

async fn get(store: &Arc<dyn StateStore>, place: &Place) -> Result<ExitCode> {
    let plugin = named(&place.plugin)?;
    let partition = PartitionOf {
        plugin: &plugin,
        name: &place.partition,
    };
    let found = store
        .read(partition, &key_name(&place.key), now_ms())
        .await
        .map_err(failed)?;
    let Some(found) = found else {
        bail!("there is no such key; `switchboard state list` shows what there is");
    };
    writeln!(std::io::stdout().lock(), "{}", found.value)?;
    Ok(ExitCode::SUCCESS)
}

async fn commit(
    store: &Arc<dyn StateStore>,
    plugin: &str,
    partition: &str,
    writes: &BTreeMap<String, Staged>,
) -> Result<()> {
    let plugin = named(plugin)?;
    let commit = Commit {
        partition: PartitionOf {
            plugin: &plugin,
            name: partition,
        },
        at_ms: now_ms(),
        seen: &[],
        writes,
        history: &HistoryWrites::default(),
        outgoing: None,
        owner: None,
    };
    store.commit(commit).await?;
    Ok(())
}

async fn write_to(
    store: &Arc<dyn StateStore>,
    plugin: &str,
    partition: &str,
    key: &str,
    write: Staged,
) -> Result<ExitCode> {
    let writes = BTreeMap::from([(key_name(key), write)]);
    commit(store, plugin, partition, &writes).await?;
    Ok(ExitCode::SUCCESS)
}

async fn delete_all(
    store: &Arc<dyn StateStore>,
    plugin: &str,
    partition: &str,
) -> Result<ExitCode> {
    let of = named(plugin)?;
    let mut names = Vec::new();
    let mut visitor = |stored: Stored| {
        if stored.partition == partition {
            names.push(stored.name);
        }
        Ok(())
    };
    // Also what has expired, which is there for a while.
    let visited = store.each(Some(&of), 0, &mut visitor).await;
    visited.map_err(failed)?;
    for batch in names.chunks(BATCH) {
        let writes = batch.iter().map(|name| (name.clone(), Staged::Delete));
        commit(store, plugin, partition, &writes.collect()).await?;
    }
    writeln!(std::io::stderr().lock(), "deleted {} entries", names.len())?;
    Ok(ExitCode::SUCCESS)
}

async fn export(
    store: &Arc<dyn StateStore>,
    plugin: Option<&str>,
    out: Option<PathBuf>,
) -> Result<ExitCode> {
    let of = plugin.map(named).transpose()?;
    let mut sink: Box<dyn Write + Send> = match &out {
        Some(file) => Box::new(BufWriter::new(
            File::create_new(file).with_context(|| file.display().to_string())?,
        )),
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let mut write = |line: &str| writeln!(sink, "{line}").map_err(|error| error.to_string());
    let count = transfer::export(&**store, of.as_ref(), now_ms(), &mut write).await;
    let count = count.map_err(failed)?;
    sink.flush()?;
    writeln!(std::io::stderr().lock(), "exported {count} entries")?;
    Ok(ExitCode::SUCCESS)
}

async fn import(store: &Arc<dyn StateStore>, file: Option<PathBuf>) -> Result<ExitCode> {
    let source: Box<dyn BufRead> = match &file {
        Some(file) => Box::new(BufReader::new(
            File::open(file).with_context(|| file.display().to_string())?,
        )),
        None => Box::new(BufReader::new(std::io::stdin())),
    };
    let mut import = Import::into(&**store, now_ms());
    for line in source.lines() {
        import.take(&line?).await?;
    }
    let count = import.finish().await?;
    writeln!(std::io::stderr().lock(), "imported {count} entries")?;
    Ok(ExitCode::SUCCESS)
}
