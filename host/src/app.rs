//! The application: the only place that names concrete backends. It builds everything, starts it,
//! and stops it in order.

use crate::{
    api::{self, Api, Keys},
    auth::TokenAuthenticator,
    cluster::{Cluster, bridge::Bridge},
    config::Config,
    connections::Connections,
    core::names::Namespace,
    link::wait::wait_for,
    metrics::Metrics,
    pipeline::{
        Pipeline,
        authorise::TokenTimes,
        check::Bounds,
        execute::Executor,
        outgoing, presence,
        route::Routes,
        timers, typing,
        view::{PresenceSeen, RoomsSeen},
    },
    plugin::{
        Runtime,
        config::{PluginConfigs, PluginsConfig},
    },
    ports::{Alone, Channels, Journal, Relay, StateStore, Views},
    presence::Presence,
    rooms::Rooms,
    socket::{self, Edge},
    store,
    transactions::Transactions,
    turns::Turns,
    typing::Typing,
};
use anyhow::{Context, Result};
use axum::Router;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections that are closed at a time when the host drains, and the pause between.
const DRAIN_BATCH: usize = 200;
const DRAIN_PAUSE: Duration = Duration::from_millis(20);

/// TCP streams that may be open for each connection: a polling client uses two, and an upgrade one more.
const STREAMS_PER_CONNECTION: usize = 3;

/// How long those who ask a host that waits may take to end.
const LEAVE: Duration = Duration::from_secs(2);

/// How often what is out of date is forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// A host that runs.
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    pipeline: Arc<Pipeline>,
    journal: Arc<dyn Journal>,
    edge: Arc<Edge>,
    plugins: Arc<Runtime>,
    streams: TaskTracker,
    served: Vec<Namespace>,
    drain_timeout: Duration,
}

impl App {
    /// Builds a host and starts it: when this returns, it listens and the plugins of its folder are
    /// loaded, as far as they can be. Everything runs on the runtime that this is called on, except
    /// calls of plugins that take long; `extra_routes` are served beside the host's own.
    ///
    /// # Errors
    /// When a key cannot be read, the plugin runtime cannot be started, or the address cannot be
    /// listened on.
    pub async fn start(config: Config, extra_routes: Router) -> Result<Self> {
        // First, so that a wrong address is told of at once; nothing is accepted yet.
        let mut listener = TcpListener::bind(&config.server.listen)
            .await
            .with_context(|| {
                format!(
                    "could not listen on {} (server.listen)",
                    config.server.listen
                )
            })?;
        if config.needs_redis() {
            let (same, waited) = while_waiting(listener, wait_for(&config.redis)).await?;
            listener = same;
            waited?;
        }
        let metrics = Arc::new(Metrics::default());
        let store = store::open(&config.state, &config.redis).await?;
        let cluster = join_cluster(&config, &metrics).await?;
        let (relay, journal): (Arc<dyn Relay>, Arc<dyn Journal>) = match &cluster {
            Some(cluster) => (cluster.clone(), cluster.clone()),
            None => (Arc::new(Alone), Arc::new(Alone)),
        };
        let bridge = open_bridge(&config, &metrics).await?;
        let channels: Arc<dyn Channels> = match &bridge {
            Some(bridge) => bridge.clone(),
            None => Arc::new(Alone),
        };
        let reach = Reach {
            relay,
            journal: journal.clone(),
            channels,
        };
        let pipeline = build_pipeline(&config, metrics.clone(), store.clone(), reach)?;
        let views = Views {
            rooms: Arc::new(RoomsSeen(pipeline.executor.rooms.clone())),
            presence: Arc::new(PresenceSeen(pipeline.executor.presence.clone())),
        };
        let routes = pipeline.routes.clone();
        let plugins = Runtime::start(
            PluginsConfig {
                has_redis: bridge.is_some(),
                ..config.plugins.clone()
            },
            config.plugin.clone(),
            views,
            store,
            metrics,
            Box::new(move |plugins| routes.publish(plugins)),
        )
        .await
        .context("the plugin runtime could not be started")?;
        let plugins = Arc::new(plugins);
        let api = Arc::new(Api {
            pipeline: pipeline.clone(),
            keys: Keys::new(config.api.keys()),
            max_body_bytes: config.limits.server_event_bytes,
            namespaces: namespaces(&config),
            plugins: Box::new({
                let plugins = plugins.clone();
                move || {
                    let plugins = plugins.clone();
                    Box::pin(async move { plugins.status().await })
                }
            }),
        });
        let (router, edge) = socket::mount(
            &config.socket,
            config.auth.late,
            &namespaces(&config),
            pipeline.clone(),
            api::routes(api).merge(extra_routes),
        );
        if let Some(cluster) = cluster {
            cluster.listen(&pipeline, listener.local_addr()?);
            // What others send from now on is for clients of this host, too.
            cluster.heard().await;
        }
        if let Some(bridge) = bridge {
            bridge.listen(&pipeline, config.limits.server_event_bytes);
            bridge.heard().await;
        }
        let address = listener.local_addr()?;
        let streams = TaskTracker::new();
        tokio::spawn(socket::listener::serve(
            listener,
            router,
            config.socket.max_connections * STREAMS_PER_CONNECTION + 64,
            config.socket.outgoing_bytes,
            pipeline.stopping.clone(),
            streams.clone(),
        ));
        tokio::spawn(sweep(pipeline.clone()));
        tokio::spawn(outgoing::send_unsent(pipeline.clone()));
        tokio::spawn(timers::fire_timers(pipeline.clone()));
        tokio::spawn(typing::end_typing(pipeline.clone()));
        tokio::spawn(presence::end_lingering(pipeline.clone()));
        tokio::spawn(presence::watch_activity(pipeline.clone()));
        tokio::spawn(presence::tell_presence(pipeline.clone()));
        Ok(Self {
            address,
            pipeline,
            journal,
            edge,
            plugins,
            streams,
            served: namespaces(&config),
            drain_timeout: config.server.drain_timeout,
        })
    }

    /// Returns the pipeline, for those who measure it.
    #[must_use]
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// Takes other settings of single plugins: a swap of each like any other.
    pub async fn configure_plugins(&self, mut configs: PluginConfigs) {
        // Clients could not reach a namespace that was not served from the start.
        for (name, config) in &mut configs {
            if !self.served.contains(&config.namespace) {
                tracing::error!(
                    plugin = %name, namespace = %config.namespace,
                    "plugin.{name}.namespace: another namespace takes a restart; the plugin stays where it is"
                );
                let routes = self.pipeline.routes.snapshot();
                let before = routes.plugin(name).map(|plugin| &plugin.info().namespace);
                config.namespace = before.cloned().unwrap_or_else(Namespace::root);
            }
        }
        self.plugins.configure(configs).await;
    }

    /// Stops the host in order: it is not ready any more and takes no new connections; what its
    /// clients have sent is handled and answered; transports are closed, so that clients reconnect
    /// elsewhere; and plugins are told of each that went. Returns whether all of it was done within
    /// the configured time.
    pub async fn stop(&self) -> bool {
        let began = Instant::now();
        self.pipeline.stopping.cancel();
        let connections = self.pipeline.connections.len();
        tracing::info!(connections, "draining");
        let everything = async {
            self.edge.drain(DRAIN_BATCH, DRAIN_PAUSE).await;
            self.pipeline.tasks.close();
            self.pipeline.tasks.wait().await;
            if self.journal.is_alone() {
                self.pipeline.end_all_lingering().await;
            }
            self.pipeline.executor.channels.close().await;
            self.pipeline.executor.relay.close().await;
            self.pipeline.transactions.close().await;
            self.streams.close();
            self.streams.wait().await;
        };
        let whole = tokio::time::timeout(self.drain_timeout, everything)
            .await
            .is_ok();
        if whole {
            tracing::info!(milliseconds = began.elapsed().as_millis(), "stopped");
        } else {
            tracing::warn!(
                connections = self.pipeline.connections.len(),
                "not everything ended within server.drain_timeout; the rest is cut"
            );
        }
        whole
    }
}

/// Says that the host lives and is not ready, for as long as something is waited for.
async fn while_waiting<T>(
    listener: TcpListener,
    waited: impl Future<Output = T>,
) -> Result<(TcpListener, T)> {
    let listener = listener.into_std()?;
    let other = TcpListener::from_std(listener.try_clone()?)?;
    let done = CancellationToken::new();
    let serving = tokio::spawn(
        axum::serve(other, api::waiting())
            .with_graceful_shutdown(done.clone().cancelled_owned())
            .into_future(),
    );
    let waited = waited.await;
    done.cancel();
    // Who does not end its request is left behind.
    if let Ok(served) = tokio::time::timeout(LEAVE, serving).await {
        served??;
    }
    Ok((TcpListener::from_std(listener)?, waited))
}

/// Joins the other hosts that use the same Redis, where one is configured.
async fn join_cluster(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Arc<Cluster>>> {
    if !config.joins_others() {
        return Ok(None);
    }
    let namespaces = namespaces(config);
    let cluster = Cluster::join(
        &config.cluster,
        &config.redis,
        &namespaces,
        config.socket.ack_timeout,
        metrics.clone(),
    );
    Ok(Some(cluster.await?))
}

/// Joins plugins to channels of Redis, where they may have to do with them.
async fn open_bridge(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Arc<Bridge>>> {
    if !config.has_channels() {
        return Ok(None);
    }
    let (channels, redis) = (&config.channels, &config.redis);
    let bridge = Bridge::open(channels, &config.cluster, redis, metrics.clone());
    Ok(Some(bridge.await?))
}

/// What reaches beyond this host.
struct Reach {
    relay: Arc<dyn Relay>,
    journal: Arc<dyn Journal>,
    channels: Arc<dyn Channels>,
}

fn build_pipeline(
    config: &Config,
    metrics: Arc<Metrics>,
    store: Arc<dyn StateStore>,
    reach: Reach,
) -> Result<Arc<Pipeline>> {
    let connections = Arc::new(Connections::new(config.limits.of_connections()));
    let presence = Presence::new(config.presence.clone(), reach.journal.clone());
    let rooms = Arc::new(Rooms::new(
        config.limits.rooms_per_connection,
        reach.journal,
    ));
    let authenticator =
        TokenAuthenticator::new(&config.auth).context("the keys for tokens could not be read")?;
    Ok(Arc::new(Pipeline {
        connections: connections.clone(),
        routes: Arc::new(Routes::default()),
        executor: Executor {
            connections,
            rooms,
            metrics,
            relay: reach.relay,
            channels: reach.channels,
            typing: Arc::new(Typing::new(config.typing.timeout)),
            presence: Arc::new(presence),
            ack_timeout: config.socket.ack_timeout,
        },
        transactions: Arc::new(Transactions::new(store)),
        authenticator: Arc::new(authenticator),
        token_times: TokenTimes {
            late_timeout: config.auth.late_timeout,
            attempts: config.auth.late_attempts,
            warning: config.auth.expiry_warning,
            leeway: config.auth.leeway,
        },
        bounds: Bounds {
            targets: config.limits.targets_per_reply,
        },
        depth: config.limits.depth,
        turns: Turns::new(config.limits.server_events_per_key),
        runtime: Handle::current(),
        tasks: TaskTracker::new(),
        stopping: CancellationToken::new(),
    }))
}

fn namespaces(config: &Config) -> Vec<Namespace> {
    let mounted = config
        .plugin
        .values()
        .map(|plugin| plugin.namespace.clone());
    let all: BTreeSet<Namespace> = mounted.chain([Namespace::root()]).collect();
    all.into_iter().collect()
}

/// Forgets, now and then, what is only kept for those who may come back soon.
async fn sweep(pipeline: Arc<Pipeline>) {
    while pipeline
        .unless_stopping(tokio::time::sleep(SWEEP_EVERY))
        .await
        .is_some()
    {
        pipeline.connections.sweep(Instant::now());
    }
}
