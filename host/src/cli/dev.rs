//! `switchboard dev`.

use super::{
    config, dev_page, run,
    workspace::{self, Workspace},
};
use crate::{
    auth::TokenMinter,
    config::{Config, Flags},
    core::secret::Secret,
    plugin::config::Isolation,
};
use anyhow::{Context, Result};
use notify::{RecursiveMode, Watcher};
use rand::distr::{Alphanumeric, SampleString};
use serde_json::Map;
use std::{
    io::Write,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, mpsc},
    time::Duration,
};

/// How long after a change more changes are waited for: an editor that saves writes several times.
const SETTLE: Duration = Duration::from_millis(60);

/// How long the token lives that is printed.
const TOKEN_LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// Characters of a secret or key that is made up.
const SECRET_CHARACTERS: usize = 48;

pub(super) fn dev(flags: &Flags, packages: &[String]) -> Result<ExitCode> {
    anyhow::ensure!(
        flags.plugins.is_none(),
        "--plugins is for `serve`; `dev` serves what it builds, and `--package NAME` chooses what that is"
    );
    let mut config = match config::load(flags)? {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    run::log(&config, "info");
    let folder = std::env::current_dir().context("the current folder cannot be read")?;
    let workspace = Arc::new(Workspace::find(&folder, packages)?);
    workspace::ensure_wasm_target(&folder)?;
    let names: Vec<&str> = workspace.names().collect();
    say(&format!("building {}", names.join(", ")))?;
    workspace.remove_strangers()?;
    if let Err(error) = workspace.build() {
        // What compiles is served all the same, and the rest as soon as it does.
        tracing::error!("{error:#}");
    }
    let given_key = prepare(&mut config, &workspace);
    let minter = TokenMinter::from_config(&config.auth);
    let routes = minter.clone().map(dev_page::routes).unwrap_or_default();
    run::run(config, None, routes, move |address| {
        if let Err(error) = introduce(address, minter.as_ref(), given_key.as_deref()) {
            tracing::debug!(%error, "standard output is gone");
        }
        rebuild_on_change(workspace)
    })
}

/// Makes a configuration one for development; returns the API key that was made up.
fn prepare(config: &mut Config, workspace: &Workspace) -> Option<String> {
    let random = || Alphanumeric.sample_string(&mut rand::rng(), SECRET_CHARACTERS);
    config.plugins.dir = workspace.served();
    // State that a plugin keeps in itself is noticed by its author, and not by a user.
    config.plugins.isolation = Isolation::Event;
    for plugin in config.plugin.values_mut() {
        plugin.isolation = Some(Isolation::Event);
    }
    if !config.auth.has_keys() {
        config.auth.secret = Some(Secret::new(random()));
    }
    if config.api.keys().next().is_some() {
        return None;
    }
    let key = random();
    config.api.key = Some(Secret::new(key.clone()));
    Some(key)
}

fn introduce(address: SocketAddr, minter: Option<&TokenMinter>, key: Option<&str>) -> Result<()> {
    match minter {
        Some(minter) => {
            say(&format!("\n  open http://{address}/ in two tabs\n"))?;
            let token = minter.mint("ann", "student", TOKEN_LIFE, Map::new())?;
            say(&format!("  a token for `ann`: {token}\n"))?;
        }
        // The page mints tokens, and so does `token`: neither can with keys that only verify.
        None => say(&format!(
            "\n  listening on http://{address}; with public keys only, tokens come from elsewhere, and there is no page\n"
        ))?,
    }
    if let Some(key) = key {
        say(&format!("  the API key of this run: {key}\n"))?;
    }
    say("  edit a plugin and save: it is swapped while you stay connected\n")
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Builds the plugins again whenever one of their sources changes; the host, which watches the
/// folder that they are put into, swaps those that came out different.
async fn rebuild_on_change(workspace: Arc<Workspace>) {
    let watching = tokio::task::spawn_blocking(move || {
        if let Err(error) = watch(&workspace) {
            tracing::error!("sources are not watched any more: {error:#}");
        }
    });
    if watching.await.is_err() {
        tracing::error!("sources are not watched any more");
    }
}

fn watch(workspace: &Workspace) -> Result<()> {
    let (sender, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if let Ok(event) = event
            && !event.kind.is_access()
        {
            // Nobody listens once the host has ended.
            let _ = sender.send(event.paths);
        }
    })
    .context("file notifications are not to be had")?;
    for folder in workspace.sources() {
        watcher
            .watch(folder, RecursiveMode::Recursive)
            .with_context(|| format!("could not watch {}", folder.display()))?;
    }
    while let Ok(paths) = changes.recv() {
        let mut changed = paths.iter().any(|path| workspace.is_source(path));
        while let Ok(paths) = changes.recv_timeout(SETTLE) {
            changed |= paths.iter().any(|path| workspace.is_source(path));
        }
        if !changed {
            continue;
        }
        tracing::info!("a source changed: building");
        let began = std::time::Instant::now();
        match workspace.build() {
            Ok(changed) if changed.is_empty() => {
                tracing::info!("built; no plugin came out different")
            }
            Ok(changed) => tracing::info!(
                plugins = changed.join(", "),
                milliseconds = began.elapsed().as_millis(),
                "built"
            ),
            Err(error) => tracing::error!("the versions before serve on: {error:#}"),
        }
    }
    Ok(())
}
