//! HTTP beside Socket.IO: the server API for backends, health, readiness and metrics.
//!
//! | route | what it does |
//! |---|---|
//! | `POST /api/v1/events` | hands a backend's event to the plugins and answers with their answer |
//! | `GET /api/v1/plugins` | what is loaded |
//! | `GET /api/v1/totals`, `users`, `users/ID`, `connections/ID`, `rooms/NAME` | who is connected, on all hosts |
//! | `POST /api/v1/emit`, `disconnect` | sends clients an event, ends their connections |
//! | `GET /healthz` | the process runs |
//! | `GET /readyz` | it takes connections, and why not |
//! | `GET /metrics` | counters in Prometheus' text format |
//!
//! Everything below `/api/` needs `Authorization: Bearer KEY` with one of the configured keys; where
//! none is configured it does not exist.

pub mod config;
mod live;

use crate::{
    core::{
        code::{Code, Failure},
        names::{EventName, Namespace, PluginName},
        payload,
    },
    pipeline::{Pipeline, ServerEvent, check::CheckedAnswer},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State, rejection::BytesRejection},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// How many times more than a body may have is read, so that a backend that sends too much reads why;
/// one that sends more than that is cut off.
const READ_BEYOND: usize = 8;

/// What the routes need.
pub struct Api {
    /// Handles server events.
    pub pipeline: Arc<Pipeline>,
    /// The keys of backends.
    pub keys: Keys,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// The namespaces that there are.
    pub namespaces: Vec<Namespace>,
    /// Says what is loaded, for `GET /api/v1/plugins`.
    pub plugins: Box<dyn Fn() -> BoxFuture<'static, Value> + Send + Sync>,
}

/// Keys, as their digests: so that comparing takes the same time whatever is compared.
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Returns the digests of keys.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(
            keys.into_iter()
                .map(|key| Sha256::digest(key).into())
                .collect(),
        )
    }

    /// Tells whether a key is one of these, in constant time.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(key).into();
        self.0
            .iter()
            .fold(subtle::Choice::from(0), |found, known| {
                found | known.ct_eq(&digest)
            })
            .into()
    }
}

/// Returns the routes.
pub fn routes(api: Arc<Api>) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics));
    if !api.keys.0.is_empty() {
        let guarded = Router::new()
            .route("/api/v1/events", post(event))
            .route("/api/v1/plugins", get(plugins))
            .merge(live::routes())
            .route("/api/{*rest}", any(no_route))
            .method_not_allowed_fallback(no_method)
            .layer(DefaultBodyLimit::max(
                api.max_body_bytes.saturating_mul(READ_BEYOND),
            ))
            .layer(middleware::from_fn_with_state(api.clone(), require_key));
        router = router.merge(guarded);
    }
    router.with_state(api)
}

/// Returns what is answered before a host has what it needs.
pub fn waiting() -> Router {
    let ready = || async {
        let why = "not ready: waiting for Redis\n";
        (StatusCode::SERVICE_UNAVAILABLE, why)
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(ready)
}

async fn ready(State(api): State<Arc<Api>>) -> Response {
    if api.pipeline.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: stopping\n").into_response();
    }
    // It serves its own clients all the same.
    let executor = &api.pipeline.executor;
    let trouble = executor.relay.trouble();
    match trouble.or_else(|| executor.channels.trouble()) {
        Some(why) => format!("ready, but degraded: {why}\n").into_response(),
        None => "ready\n".into_response(),
    }
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    match api.pipeline.executor.metrics.render() {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn no_route(uri: Uri) -> Refused {
    let why = format!("there is no route `{}`", uri.path());
    Failure::new(Code::NotFound, why).into()
}

async fn no_method(method: Method) -> Refused {
    let why = format!("this route does not take `{method}`");
    let failure = Failure::new(Code::InvalidPayload, why);
    Refused(StatusCode::METHOD_NOT_ALLOWED, failure)
}

async fn plugins(State(api): State<Arc<Api>>) -> Json<Value> {
    Json((api.plugins)().await)
}

async fn require_key(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let key = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim());
    let failure = match key {
        Some(key) if api.keys.contains(key) => return next.run(request).await,
        Some(_) => Failure::new(Code::AuthFailed, "the API key is not valid"),
        None => Failure::new(
            Code::NotAuthenticated,
            "send the API key as `Authorization: Bearer KEY`",
        ),
    };
    Refused::from(failure).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventRequest<'a> {
    plugin: Option<String>,
    name: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    key: Option<String>,
}

/// A failure, as it is answered.
struct Refused(StatusCode, Failure);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let status = match &*failure.code {
            "INVALID_PAYLOAD" => StatusCode::BAD_REQUEST,
            "NOT_AUTHENTICATED" | "AUTH_FAILED" => StatusCode::UNAUTHORIZED,
            "FORBIDDEN" => StatusCode::FORBIDDEN,
            "NOT_FOUND" | "UNKNOWN_EVENT" => StatusCode::NOT_FOUND,
            "CONFLICT" => StatusCode::CONFLICT,
            "RATE_LIMITED" => StatusCode::TOO_MANY_REQUESTS,
            "PLUGIN_FAILED" => StatusCode::BAD_GATEWAY,
            "UNAVAILABLE" | "PLUGIN_QUARANTINED" => StatusCode::SERVICE_UNAVAILABLE,
            "PLUGIN_TIMEOUT" => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self(status, failure)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, failure) = self;
        let retry = failure
            .details
            .as_ref()
            .and_then(|details| details.get("retryAfterMs"))
            .and_then(Value::as_u64)
            .map(|ms| [(header::RETRY_AFTER, ms.div_ceil(1_000).to_string())]);
        match retry {
            Some(header) => (status, header, Json(failure.to_answer())).into_response(),
            None => (status, Json(failure.to_answer())).into_response(),
        }
    }
}

/// Returns the body of a request, or says what is wrong with it.
fn read_body(api: &Api, body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refused> {
    let invalid = |status, why| Refused(status, Failure::new(Code::InvalidPayload, why));
    let body = body.map_err(|rejection| invalid(rejection.status(), rejection.body_text()))?;
    if body.len() <= api.max_body_bytes {
        return Ok(body);
    }
    let why = format!(
        "the body has {} bytes, of at most {} (limits.server_event_bytes)",
        body.len(),
        api.max_body_bytes
    );
    Err(invalid(StatusCode::PAYLOAD_TOO_LARGE, why))
}

async fn event(
    State(api): State<Arc<Api>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let event = parse(&read_body(&api, body)?)?;
    Ok(match api.pipeline.server_event(event).await? {
        None => Json(json!({ "ok": true })).into_response(),
        Some(answer) => answered(answer),
    })
}

fn parse(body: &[u8]) -> Result<ServerEvent, Failure> {
    let invalid = |why: String| Failure::new(Code::InvalidPayload, why);
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(invalid(
            "the body is not an event { plugin?, name, data?, key? }: expected an object"
                .to_owned(),
        ));
    }
    let request: EventRequest<'_> = serde_json::from_slice(body).map_err(|error| {
        invalid(format!(
            "the body is not an event {{ plugin?, name, data?, key? }}: {error}"
        ))
    })?;
    let args = format!("[{}]", request.data.map_or("null", RawValue::get));
    payload::check_args(&args, 0, payload::INCOMING_DEPTH)
        .map_err(|error| invalid(format!("data: {error}")))?;
    if request.key.as_ref().is_some_and(|key| key.len() > 256) {
        return Err(invalid("key: expected at most 256 bytes".to_owned()));
    }
    Ok(ServerEvent {
        plugin: request
            .plugin
            .map(|name| PluginName::new(&name))
            .transpose()
            .map_err(|error| invalid(format!("plugin: {error}")))?,
        name: EventName::new(&request.name).map_err(|error| invalid(format!("name: {error}")))?,
        args,
        key: request.key,
        source: "api",
    })
}

/// Returns the plugin's acknowledgement: its one argument, or the array where there are several.
fn answered(answer: CheckedAnswer) -> Response {
    if !answer.attachments.is_empty() {
        tracing::warn!(
            "a plugin answered a server event with attachments, which HTTP cannot carry"
        );
    }
    let one = serde_json::from_str::<Vec<&RawValue>>(&answer.args)
        .ok()
        .filter(|args| args.len() == 1)
        .and_then(|args| args.first().map(|one| one.get().to_owned()));
    let body = one.unwrap_or(answer.args);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_key_is_a_key() {
        let keys = Keys::new(["0123456789abcdef", "fedcba9876543210"]);
        assert!(keys.contains("fedcba9876543210"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeff"] {
            assert!(!keys.contains(wrong), "{wrong}");
        }
        assert!(!Keys::new([]).contains(""));
    }

    #[test]
    fn a_request_that_is_wrong_says_where() {
        for (body, expected) in [
            ("", "not an event"),
            (r#"["x",1]"#, "expected an object"),
            (r#"{"data":1}"#, "missing field `name`"),
            (r#"{"name":"x","dada":1}"#, "unknown field `dada`"),
            (r#"{"name":"x","plugin":"A b"}"#, "plugin: plugin name"),
            (
                r#"{"name":"x","data":{"_placeholder":true,"num":0}}"#,
                "data: binary",
            ),
        ] {
            let failure = parse(body.as_bytes()).unwrap_err();
            assert!(
                failure.message.contains(expected),
                "{body}: {}",
                failure.message
            );
        }
        let event = parse(br#"{"name":"x","data":{"a":1}}"#).unwrap();
        assert_eq!(event.args, r#"[{"a":1}]"#);
    }
}
