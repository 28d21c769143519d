//! From a CONNECT packet to a connection that the pipeline knows.
//!
//! Everything is decided in the connect *middleware*, before the client is told that it is
//! connected: whose the connection is, and the handler for its events, which may come right behind
//! the answer. The connect handler then hands the connection to the pipeline.

use super::{
    Edge, adapter::HostAdapter, backlog::Backlog, inbound::Inbound, listener::Transports,
    outbound::Line,
};
use crate::{
    connections::{Connection, Transport},
    core::{code::Code, event::Identity, names::Namespace},
    metrics::count,
    pipeline::Pipeline,
    ports::{CloseReason, GuestRequest, Refused},
};
use parking_lot::Mutex;
use serde_json::Value;
use socketioxide::{
    extract::{SocketRef, TryData},
    handler::{ConnectHandler, DisconnectHandler},
    socket::{DisconnectReason, Socket},
};
use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// How long a transport may be without a namespace.
const UNUSED_TIME: Duration = Duration::from_secs(10);

/// A connection that the client has not been told of yet; kept by the socket until it is.
#[derive(Clone)]
struct Established(Arc<Mutex<Option<Pending>>>);

/// The connection, and whose it is if that is known.
type Pending = (Arc<Connection>, Option<Identity>);

/// Takes the end of one socket. `socketioxide` runs ordinary handlers in a task, and lets the socket
/// leave the namespace after it; a client that comes back at once would meet itself and get no
/// answer. This one lets it leave first, and only queues.
struct Ended {
    pipeline: Arc<Pipeline>,
    transports: Arc<Transports>,
    transport: Arc<Transport>,
    line: Arc<Line>,
    connection: Weak<Connection>,
}

/// Marks the implementation of `DisconnectHandler` among those for closures.
struct AtOnce;

impl DisconnectHandler<HostAdapter, AtOnce> for Ended {
    fn call_with_defer(
        &self,
        socket: Arc<Socket<HostAdapter>>,
        reason: DisconnectReason,
        leave: fn(Arc<Socket<HostAdapter>>),
    ) {
        self.line.leave(|| leave(socket.clone()));
        let is_last = self.transport.leave();
        // After any other end the transport is gone already.
        if is_last
            && matches!(
                reason,
                DisconnectReason::ClientNSDisconnect | DisconnectReason::ServerNSDisconnect
            )
        {
            self.close_if_unused(socket);
        }
        if let Some(connection) = self.connection.upgrade() {
            let word = word_for(reason);
            count(&self.pipeline.executor.metrics.disconnects, word);
            self.pipeline.close(&connection, word);
        }
    }
}

impl Ended {
    /// Closes a transport on which no namespace is entered any more, if that stays so: stock clients
    /// close it themselves, and others may not keep it for nothing.
    fn close_if_unused(&self, socket: Arc<Socket<HostAdapter>>) {
        let (transport, transports) = (self.transport.clone(), self.transports.clone());
        self.pipeline.runtime.spawn(async move {
            tokio::time::sleep(UNUSED_TIME).await;
            if transport.is_unused() {
                transports.close(&socket, CloseReason::Unused);
            }
        });
    }
}

impl Edge {
    /// Serves a namespace.
    pub(super) fn serve_namespace(self: &Arc<Self>, namespace: &Namespace) {
        let (edge, path) = (self.clone(), namespace.clone());
        let middleware = move |socket: SocketRef<HostAdapter>, auth: TryData<Value>| {
            let (edge, namespace) = (edge.clone(), path.clone());
            async move { edge.establish(&namespace, &socket, auth.0.ok()).await }
        };
        let edge = self.clone();
        let handler = move |socket: SocketRef<HostAdapter>| {
            let edge = edge.clone();
            async move {
                let established = socket.extensions.get::<Established>();
                let taken = established.and_then(|established| established.0.lock().take());
                if let Some((connection, identity)) = taken {
                    edge.pipeline.open(&connection, identity);
                }
            }
        };
        self.io
            .ns(namespace.as_str().to_owned(), handler.with(middleware));
    }

    async fn establish(
        self: &Arc<Self>,
        namespace: &Namespace,
        socket: &SocketRef<HostAdapter>,
        auth: Option<Value>,
    ) -> Result<(), Refused> {
        let transport = transport_of(socket);
        let identity = self
            .admit(namespace, socket, &transport, auth)
            .await
            .inspect_err(|refused| {
                count(&self.metrics.refused, refused.code.as_str());
                tracing::debug!(%refused, %namespace, "a connection was refused");
            })?;
        let Some(local) = self
            .locals
            .get(namespace.as_str())
            .map(|local| local.clone())
        else {
            return Err(unavailable("the host is starting"));
        };
        let backlog = socket.req_parts().extensions.get::<Arc<Backlog>>().cloned();
        let Some(backlog) = backlog else {
            return Err(unavailable("the host cannot reach this transport"));
        };
        let line = Arc::new(Line::new(self, local, socket.id, backlog));
        let connection =
            self.pipeline
                .connections
                .create(namespace.clone(), line.clone(), transport.clone());
        socket.on_fallback(Inbound {
            pipeline: self.pipeline.clone(),
            connection: Arc::downgrade(&connection),
            line: line.clone(),
            max_message_bytes: self.max_message_bytes,
        });
        transport.enter();
        socket.on_disconnect(Ended {
            pipeline: self.pipeline.clone(),
            transports: self.transports.clone(),
            transport,
            line,
            connection: Arc::downgrade(&connection),
        });
        socket
            .extensions
            .insert(Established(Arc::new(Mutex::new(Some((
                connection, identity,
            ))))));
        Ok(())
    }

    async fn admit(
        &self,
        namespace: &Namespace,
        socket: &SocketRef<HostAdapter>,
        transport: &Transport,
        auth: Option<Value>,
    ) -> Result<Option<Identity>, Refused> {
        if self.pipeline.stopping.is_cancelled() {
            return Err(unavailable("the host is stopping"));
        }
        if self.pipeline.connections.len() >= self.max_connections {
            return Err(unavailable(
                "the host has as many connections as it may have",
            ));
        }
        let rate = self.pipeline.connections.limits().per_connection;
        if transport.take_entry(rate, Instant::now()).is_err() {
            return Err(Refused {
                code: Code::RateLimited,
                message: "this transport sends too much".to_owned(),
            });
        }
        let too_many = transport.refused_tokens() >= self.pipeline.token_times.attempts;
        tracing::trace!(%namespace, "a client asks to be connected");
        let parts = socket.req_parts();
        let query: Vec<(String, String)> =
            form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes())
                .into_owned()
                .collect();
        let asked = |name: &str| {
            query
                .iter()
                .find(|(key, value)| key == name && !value.is_empty())
                .map(|(_, value)| value.clone())
        };
        let in_auth = match auth.as_ref().and_then(|auth| auth.get("token")) {
            None | Some(Value::Null) => None,
            Some(Value::String(token)) => Some(token.clone()),
            Some(_) => {
                return Err(Refused {
                    code: Code::AuthFailed,
                    message: "auth.token is not a string".to_owned(),
                });
            }
        };
        let bearer = || {
            let header = parts.headers.get("authorization")?.to_str().ok()?;
            let (scheme, token) = header.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| token.trim().to_owned())
        };
        if let Some(token) = in_auth.or_else(|| asked("token")).or_else(bearer) {
            if too_many {
                return Err(too_many_refused());
            }
            let verified = self.pipeline.authenticator.verify(&token).await;
            match &verified {
                Ok(_) => transport.forgive_tokens(),
                Err(_) => {
                    transport.refuse_token();
                }
            }
            return verified.map(Some);
        }
        if let Some(username) = asked("username") {
            let request = GuestRequest {
                username: username.chars().take(128).collect(),
                email: asked("email").map(|email| email.chars().take(254).collect()),
            };
            if let Some(guest) = self.pipeline.authenticator.guest(&request) {
                return Ok(Some(guest));
            }
        }
        if self.late_authentication {
            return if too_many {
                Err(too_many_refused())
            } else {
                Ok(None)
            };
        }
        Err(Refused {
            code: Code::NotAuthenticated,
            message: "connect with a token".to_owned(),
        })
    }
}

fn transport_of(socket: &Socket<HostAdapter>) -> Arc<Transport> {
    let transport = socket.req_parts().extensions.get::<Arc<Transport>>();
    transport.cloned().unwrap_or_default()
}

fn too_many_refused() -> Refused {
    Refused {
        code: Code::AuthFailed,
        message: "too many refused tokens on this transport".to_owned(),
    }
}

fn unavailable(message: &str) -> Refused {
    Refused {
        code: Code::Unavailable,
        message: message.to_owned(),
    }
}

fn word_for(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::TransportClose => "transport close",
        DisconnectReason::MultipleHttpPollingError => "multiple polling requests",
        DisconnectReason::PacketParsingError => "malformed packet",
        DisconnectReason::TransportError => "transport error",
        DisconnectReason::ClientNSDisconnect => "client disconnect",
        DisconnectReason::ServerNSDisconnect => "server disconnect",
        DisconnectReason::ClosingServer => "host closing",
        DisconnectReason::HeartbeatTimeout => "ping timeout",
    }
}
