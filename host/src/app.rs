//! The application: the only place that names concrete backends. It builds everything, starts it,
//! and stops it in order.

use crate::{
    api::{self, Api, Keys},
    auth,
    config::Config,
    connections::{Connections, Limits, Rate},
    core::names::Namespace,
    metrics::Metrics,
    pipeline::{
        Pipeline,
        authorise::TokenTimes,
        execute::{Bounds, Executor},
        route::Routes,
        view::RoomsOfNode,
    },
    plugin::{self, Runtime},
    rooms::Rooms,
    socket::{self, Edge},
    store::memory::MemoryStore,
    transactions::Transactions,
    turns::Turns,
};
use anyhow::{Context, Result};
use axum::Router;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections that are closed at a time when the host drains, and the pause between.
const DRAIN_BATCH: usize = 200;
const DRAIN_PAUSE: Duration = Duration::from_millis(20);

/// TCP streams that may be open for each connection: a polling client uses two, and an upgrade one more.
const STREAMS_PER_CONNECTION: usize = 3;

/// A host that runs.
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    pipeline: Arc<Pipeline>,
    edge: Arc<Edge>,
    plugins: Arc<Runtime>,
    draining: Arc<AtomicBool>,
    accepting: CancellationToken,
    streams: TaskTracker,
    drain_timeout: Duration,
}

impl App {
    /// Builds a host and starts it: when this returns, it listens and the plugins of its folder are
    /// loaded, as far as they can be. Guests run on `guests`; `extra_routes` are served beside the
    /// host's own.
    ///
    /// # Errors
    /// When a key cannot be read, or the address cannot be listened on.
    pub async fn start(config: Config, guests: Handle, extra_routes: Router) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let pipeline = build_pipeline(&config, metrics.clone(), guests)?;
        let rooms = Arc::new(RoomsOfNode {
            connections: pipeline.connections.clone(),
            rooms: pipeline.executor.rooms.clone(),
        });
        let routes = pipeline.routes.clone();
        let plugins = Runtime::start(
            config.plugins.clone(),
            config.plugin.clone(),
            rooms,
            metrics,
            Box::new(move |plugins| routes.publish(plugins)),
        )
        .context("the plugin runtime could not be started")?;
        let draining = Arc::new(AtomicBool::new(false));
        let api = build_api(&config, &pipeline, &plugins, &draining);
        let (router, edge) = socket::mount(
            &config.socket,
            config.auth.late,
            &namespaces(&config),
            pipeline.clone(),
            api::routes(api).merge(extra_routes),
        );
        let listener = TcpListener::bind(&config.server.listen)
            .await
            .with_context(|| format!("could not listen on {} (server.listen)", config.server.listen))?;
        let address = listener.local_addr()?;
        let (accepting, streams) = (CancellationToken::new(), TaskTracker::new());
        tokio::spawn(socket::listener::serve(
            listener,
            router,
            config.socket.max_connections * STREAMS_PER_CONNECTION + 64,
            accepting.clone(),
            streams.clone(),
        ));
        Ok(Self {
            address,
            pipeline,
            edge,
            plugins,
            draining,
            accepting,
            streams,
            drain_timeout: config.server.drain_timeout,
        })
    }
}
