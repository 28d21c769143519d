//! The Socket.IO edge: handshakes, packets in and out, transports.
//!
//! | module | what it does |
//! |---|---|
//! | [`handshake`] | decides whose a connection is, and hands it to the pipeline |
//! | [`inbound`] | takes packets, in order, without waiting |
//! | [`outbound`] | queues frames and acknowledgements |
//! | [`adapter`] | makes the delivery of a namespace reachable |
//! | [`admission`] | how often an address may knock |
//! | [`backlog`] | how much waits for a client that does not read |
//! | [`intake`] | what is taken in from a client that does not read |
//! | [`listener`] | accepts TCP streams, and can end each |

mod adapter;
mod admission;
mod backlog;
pub mod config;
mod handshake;
mod inbound;
mod intake;
pub mod listener;
mod outbound;

use self::{adapter::HostAdapter, admission::Admission, backlog::Bounds, listener::Transports};
use crate::{core::names::Namespace, metrics::Metrics, pipeline::Pipeline, ports::CloseReason};
use axum::Router;
use config::SocketConfig;
use dashmap::DashMap;
use socketioxide::{ParserConfig, SocketIo};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// What a client may have on the wire beyond its message: the packet's type, namespace and id.
const PACKET_OVERHEAD: usize = 64 * 1024;

/// Packets that the server may have queued of its own, such as pings and answers to CONNECT packets.
const OWN_PACKETS: usize = 64;

/// The Socket.IO server.
pub struct Edge {
    io: SocketIo<HostAdapter>,
    pipeline: Arc<Pipeline>,
    metrics: Arc<Metrics>,
    locals: adapter::Locals,
    transports: Arc<Transports>,
    max_message_bytes: usize,
    max_connections: usize,
    late_authentication: bool,
}

/// Puts the Socket.IO server over a router of other routes; returns both. The server answers below
/// its path, everything else goes to the router.
pub fn mount(
    config: &SocketConfig,
    late_authentication: bool,
    namespaces: &[Namespace],
    pipeline: Arc<Pipeline>,
    other_routes: Router,
) -> (Router, Arc<Edge>) {
    let locals: adapter::Locals = Arc::new(DashMap::new());
    let parser = ParserConfig::common()
        .max_incoming_binary_buf_size(config.max_message_bytes + PACKET_OVERHEAD)
        .max_incoming_binaries(1_000);
    // Base64 makes four characters of three bytes.
    let polling_bytes = config.max_message_bytes / 3 * 4 + PACKET_OVERHEAD;
    let wire_bytes = config.max_message_bytes + PACKET_OVERHEAD;
    let bounds = Bounds::of(config);
    let (layer, io) = SocketIo::builder()
        .req_path(config.path.clone())
        .ping_interval(config.ping_interval)
        .ping_timeout(config.ping_timeout)
        .max_payload(polling_bytes as u64)
        // Longer than what `backlog` lets wait, which it may take for less by what the server has written of its
        // own: the server does not say whose queue is full.
        .max_buffer_size(
            bounds
                .most_packets()
                .saturating_mul(2)
                .saturating_add(OWN_PACKETS)
                .min(Semaphore::MAX_PERMITS),
        )
        .ws_read_buffer_size(1024)
        .ws_max_message_size(wire_bytes)
        .ws_max_frame_size(wire_bytes)
        .connect_timeout(Duration::from_secs(10))
        .ack_timeout(config.ack_timeout)
        .with_parser(parser)
        .with_adapter::<HostAdapter>(locals.clone())
        .build_layer();
    let metrics = pipeline.executor.metrics.clone();
    let transports = Transports::new(&config.path);
    let edge = Arc::new(Edge {
        io,
        metrics: metrics.clone(),
        pipeline,
        locals,
        transports: transports.clone(),
        max_message_bytes: config.max_message_bytes,
        max_connections: config.max_connections,
        late_authentication,
    });
    for namespace in namespaces {
        edge.serve_namespace(namespace);
    }
    let served = other_routes.layer(layer);
    transports.serve_own_requests_by(served.clone());
    let admission = Admission::new(config, transports, metrics);
    let served = served
        .layer(axum::middleware::from_fn_with_state(
            admission,
            admission::admit,
        ))
        .layer(admission::cors(config));
    (served, edge)
}

impl Edge {
    /// Closes every connection, some at a time, so that clients do not reconnect all at once. Each
    /// is closed when what its client has sent is handled. Returns when all are gone.
    pub async fn drain(&self, batch: usize, pause: Duration) {
        let mut known = HashSet::new();
        // A handshake that was under way may add one to those that were there at first.
        loop {
            let mut connections = self.pipeline.connections.all();
            connections.retain(|connection| known.insert(connection.id));
            for batch in connections.chunks(batch.max(1)) {
                for connection in batch {
                    let connection = connection.clone();
                    connection.begin_closing();
                    self.pipeline.tasks.spawn_on(
                        async move {
                            while !connection.is_idle() {
                                tokio::time::sleep(Duration::from_millis(2)).await;
                            }
                            connection.outbound.close_transport(CloseReason::Draining);
                        },
                        &self.pipeline.runtime,
                    );
                }
                tokio::time::sleep(pause).await;
            }
            if self.pipeline.connections.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
