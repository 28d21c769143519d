//! Runs a host from its start to its orderly end; what `serve` and `dev` have in common.

use crate::{app::App, config::Config};
use anyhow::{Context, Result};
use axum::Router;
use std::{io::Write, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Writes log lines to standard error, as text or JSON; `RUST_LOG` chooses which.
pub(super) fn log(config: &Config) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    // A second call, in tests, changes nothing.
    let _ = if config.server.log_format.is_json() {
        registry.with(lines.json()).try_init()
    } else {
        registry.with(lines).try_init()
    };
}

/// Starts a host, says where it listens on standard output, and stops it on SIGTERM or Ctrl-C;
/// a second one ends the process at once. `background` runs beside it once it listens.
pub(super) fn run<Background>(
    config: Config,
    extra_routes: Router,
    background: impl FnOnce(std::net::SocketAddr) -> Background,
) -> Result<ExitCode>
where
    Background: Future<Output = ()> + Send + 'static,
{
    let sockets = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("sockets")
        .build()
        .context("could not start the runtime for sockets")?;
    // Guests run apart from socket I/O: a slow one delays other guests by its time slice and
    // sockets not at all. The interval lets events that sockets hand over in at once.
    let guests = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("guests")
        .global_queue_interval(1)
        .build()
        .context("could not start the runtime for guests")?;
    let handle = guests.handle().clone();
    let ended = sockets.block_on(async move {
        let app = App::start(config, handle, extra_routes).await?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "listening on http://{}", app.address)?;
        out.flush()?;
        drop(out);
        tokio::spawn(background(app.address));
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("interrupted: stopping; once more ends at once"),
        }
        tokio::select! {
            whole = app.stop() => Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
            _ = terminate.recv() => Ok(ExitCode::FAILURE),
            _ = interrupt.recv() => Ok(ExitCode::FAILURE),
        }
    });
    guests.shutdown_background();
    sockets.shutdown_background();
    ended
}
