//! Who may send: authentication of those who connected without a token, renewal, and expiry.

use super::{
    Pipeline,
    answer::{OwedAnswer, host_frame},
};
use crate::{
    connections::{Connection, Message},
    core::{
        code::{Code, Failure},
        event::Identity,
        time::rfc_3339,
    },
    metrics::count,
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

/// The event by which a client hands over a token.
pub const AUTH_EVENT: &str = "auth";

/// When connections have to show a token.
#[derive(Debug, Clone, Copy)]
pub struct TokenTimes {
    /// How long a connection without a token may take.
    pub late_timeout: Duration,
    /// How many refused tokens end a connection.
    pub attempts: u32,
    /// How long before its token runs out a client is told.
    pub warning: Duration,
    /// How long after its end a token still counts.
    pub leeway: Duration,
}

impl Pipeline {
    /// Makes a connection somebody's: it can be reached as the user's, is told of its session, and
    /// plugins are told before any of its events.
    pub(super) fn admit(self: &Arc<Self>, connection: &Arc<Connection>, identity: Identity) {
        let identity = Arc::new(identity);
        self.connections
            .identify(connection, identity.clone(), Instant::now());
        self.executor.rooms.add(
            &connection.namespace,
            connection.id,
            &identity,
            &connection.outbound,
        );
        self.executor
            .presence
            .open_here(&identity.user, connection.id, Instant::now());
        self.send_session(connection, &identity);
        if identity.expires_at.is_some() {
            self.tasks.spawn_on(
                watch_token(self.clone(), Arc::downgrade(connection)),
                &self.runtime,
            );
        }
    }

    fn send_session(&self, connection: &Arc<Connection>, identity: &Identity) {
        let session = json!({
            "connectionId": connection.id.to_string(),
            "userId": identity.user,
            "role": identity.role,
            "expiresAt": identity.expires_at.map(expiry),
        });
        self.executor
            .send(connection, &host_frame("session", &session), false);
    }

    /// Handles the event `auth`: first authentication or renewal. Returns whether the connection
    /// has just become somebody's.
    pub(super) async fn authenticate(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        message: Message,
    ) -> bool {
        let owed = OwedAnswer::new(&self.executor, connection, AUTH_EVENT, message.ack);
        let token = serde_json::from_str::<Vec<Value>>(&message.args)
            .ok()
            .and_then(|args| args.into_iter().next());
        let Some(Value::String(token)) = token else {
            owed.answer(Err(Failure::new(
                Code::InvalidPayload,
                "argument 1 of `auth`: expected the token, a string",
            )));
            return false;
        };
        let refused = match self.authenticator.verify(&token).await {
            Ok(identity) => match connection.identity() {
                None => {
                    connection.transport.forgive_tokens();
                    self.confirm(connection, &identity);
                    self.admit(connection, identity);
                    owed.answer(Ok(None));
                    return true;
                }
                Some(known) if known.user == identity.user => {
                    connection.transport.forgive_tokens();
                    self.confirm(connection, &identity);
                    self.send_session(connection, &identity);
                    let identity = Arc::new(identity);
                    self.connections
                        .identify(connection, identity.clone(), Instant::now());
                    let rooms = &self.executor.rooms;
                    let outbound = &connection.outbound;
                    rooms.add(&connection.namespace, connection.id, &identity, outbound);
                    owed.answer(Ok(None));
                    return false;
                }
                Some(_) => Failure::new(Code::AuthFailed, "the token is another user's"),
            },
            Err(refused) => Failure::new(refused.code, refused.message),
        };
        count(&self.executor.metrics.refused, refused.code.clone());
        owed.answer(Err(refused));
        if connection.transport.refuse_token() >= self.token_times.attempts {
            self.end(connection, "too many refused tokens");
        }
        false
    }

    fn confirm(&self, connection: &Arc<Connection>, identity: &Identity) {
        let confirmation = json!({ "userId": identity.user });
        self.executor.send(
            connection,
            &host_frame("auth-success", &confirmation),
            false,
        );
    }

    /// Gives a connection without a token its time, and ends it when that has passed.
    pub(super) fn await_token(self: &Arc<Self>, connection: &Arc<Connection>) {
        let (pipeline, connection) = (self.clone(), Arc::downgrade(connection));
        let late = self.token_times.late_timeout;
        let wait = async move {
            let waited = pipeline.unless_stopping(tokio::time::sleep(late)).await;
            if waited.is_none() {
                // Not its fault; its transport is closed, and it comes back elsewhere.
                return;
            }
            let Some(connection) = connection.upgrade() else {
                return;
            };
            if connection.identity().is_none() && !connection.is_closing() {
                let failure = Failure::new(
                    Code::AuthTimeout,
                    format!("no valid token within {} s", late.as_secs_f64()),
                );
                count(&pipeline.executor.metrics.refused, failure.code.clone());
                pipeline.tell(&connection, &failure);
                pipeline.end(&connection, "auth timeout");
            }
        };
        self.tasks.spawn_on(wait, &self.runtime);
    }

    fn tell(&self, connection: &Arc<Connection>, failure: &Failure) {
        self.executor
            .send(connection, &host_frame("error", &failure.to_error()), false);
    }

    fn end(&self, connection: &Arc<Connection>, why: &str) {
        if connection.begin_ending() {
            tracing::debug!(connection = %connection.id, why, "ending a connection");
            connection.outbound.disconnect();
        }
    }
}

/// Tells a client that its token is about to run out, and ends the connection when it has. A renewed
/// token starts it all over.
async fn watch_token(pipeline: Arc<Pipeline>, connection: Weak<Connection>) {
    let mut watched: Option<Watched> = None;
    loop {
        let Some(expires_at) = connection
            .upgrade()
            .filter(|connection| !connection.is_closing())
            .and_then(|connection| connection.identity())
            .and_then(|identity| identity.expires_at)
        else {
            return;
        };
        let token = watched
            .take()
            .filter(|token| token.expires_at == expires_at)
            .unwrap_or_else(|| Watched {
                expires_at,
                end: end_of(expires_at, pipeline.token_times.leeway),
                warned: false,
            });
        let left = token
            .end
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        let wait = match token.warned {
            true => left,
            false => left.saturating_sub(pipeline.token_times.warning),
        };
        let token = watched.insert(token);
        if !wait.is_zero() {
            // In steps, so that a connection that has gone does not keep its timer for hours.
            let step = tokio::time::sleep(wait.min(Duration::from_secs(30)));
            if pipeline.unless_stopping(step).await.is_none() {
                return;
            }
            continue;
        }
        let Some(connection) = connection.upgrade() else {
            return;
        };
        if token.warned {
            let failure = Failure::new(Code::TokenExpired, "the token has expired");
            pipeline.tell(&connection, &failure);
            pipeline.end(&connection, "token expired");
            return;
        }
        token.warned = true;
        let warning = json!({ "expiresAt": expiry(expires_at) });
        pipeline
            .executor
            .send(&connection, &host_frame("token-expiring", &warning), false);
    }
}

struct Watched {
    expires_at: u64,
    end: SystemTime,
    warned: bool,
}

/// Returns when a token ends for good. One that was accepted only by the leeway keeps it.
fn end_of(expires_at: u64, leeway: Duration) -> SystemTime {
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(expires_at);
    if end <= SystemTime::now() {
        end + leeway
    } else {
        end
    }
}

/// Returns the time at which a token expires, in seconds since 1970, as a text.
fn expiry(seconds: u64) -> String {
    rfc_3339(seconds.saturating_mul(1_000))
}
