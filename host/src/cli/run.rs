//! Runs a host from its start to its orderly end; what `serve` and `dev` have in common.

use crate::{
    app::App,
    config::{Config, Flags},
};
use anyhow::{Context, Result};
use axum::Router;
use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How often the configuration's file is looked at.
const LOOK_AT_CONFIG: Duration = Duration::from_millis(500);

/// Writes log lines to standard error, as text or JSON; `RUST_LOG` chooses which, and `level` where
/// it does not.
pub(super) fn log(config: &Config, level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    // A second call changes nothing.
    let _ = if config.server.log_format.is_json() {
        registry.with(lines.json()).try_init()
    } else {
        registry.with(lines).try_init()
    };
}

/// Starts a host, says where it listens on standard output, and stops it on SIGTERM or Ctrl-C; a
/// second one ends the process at once. `flags` name the file whose `[plugin.NAME]` sections are
/// followed as it changes. `then` is called when the host listens, and what it returns runs beside
/// it.
pub(super) fn run<Beside>(
    config: Config,
    flags: Option<Flags>,
    extra_routes: Router,
    then: impl FnOnce(SocketAddr) -> Beside,
) -> Result<ExitCode>
where
    Beside: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("switchboard")
        .build()
        .context("could not start the runtime")?;
    let ended = runtime.block_on(async move {
        // Before anything can be said to listen, so that no signal is missed.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let app = tokio::select! {
            app = App::start(config, extra_routes) => app?,
            // Nothing has been taken yet that would have to be ended in order.
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        };
        {
            let mut out = std::io::stdout().lock();
            writeln!(out, "listening on http://{}", app.address)?;
            out.flush()?;
        }
        tokio::spawn(then(app.address));
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("interrupted: stopping; once more ends at once"),
            () = follow_config(&app, flags) => {}
        }
        tokio::select! {
            whole = app.stop() => Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
            _ = terminate.recv() => Ok(ExitCode::FAILURE),
            _ = interrupt.recv() => Ok(ExitCode::FAILURE),
        }
    });
    runtime.shutdown_background();
    ended
}

/// Hands changed `[plugin.NAME]` sections to the host, for ever. A file that is not valid any more
/// changes nothing, and why is logged.
async fn follow_config(app: &App, flags: Option<Flags>) {
    let Some(flags) = flags else {
        return std::future::pending().await;
    };
    let file = flags
        .config
        .clone()
        .unwrap_or_else(|| PathBuf::from(crate::config::DEFAULT_FILE));
    let read = || std::fs::read_to_string(&file).ok();
    let sections = |config: &Config| toml::to_string(&config.plugin).unwrap_or_default();
    let mut text = read();
    let mut known = Config::load(&flags, std::env::vars())
        .map(|loaded| sections(&loaded.config))
        .unwrap_or_default();
    loop {
        tokio::time::sleep(LOOK_AT_CONFIG).await;
        let now = read();
        if now == text || now.is_none() {
            continue;
        }
        text = now;
        match Config::load(&flags, std::env::vars()) {
            Ok(loaded) => {
                let changed = sections(&loaded.config);
                if changed == known {
                    tracing::info!(file = %file.display(), "the configuration changed; what is not in [plugin.NAME] takes effect at the next start");
                    continue;
                }
                known = changed;
                tracing::info!(file = %file.display(), "the settings of plugins changed");
                app.configure_plugins(loaded.config.plugin).await;
            }
            Err(invalid) => {
                tracing::error!(file = %file.display(), "the changed configuration is not used: {invalid}");
            }
        }
    }
}
