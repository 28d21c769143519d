//! Who may knock, how often, and from which web pages.

use super::{
    backlog::{Backlog, Bounds},
    config::SocketConfig,
    intake,
    listener::{PeerAddress, Switch, Transports},
};
use crate::{
    connections::Transport,
    core::rate::{Rate, TokenBucket},
    metrics::{Metrics, count},
};
use axum::{
    body::HttpBody,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use dashmap::DashMap;
use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// How often addresses may open sessions.
#[derive(Clone)]
pub(super) struct Admission(Arc<Inner>);

struct Inner {
    path: String,
    rate: Rate,
    trust_forwarded_for: bool,
    outgoing: Bounds,
    buckets: DashMap<IpAddr, TokenBucket>,
    admitted: AtomicU32,
    transports: Arc<Transports>,
    metrics: Arc<Metrics>,
}

/// After how many attempts those addresses are forgotten that have been quiet.
const SWEEP_EVERY: u32 = 1_024;

impl Admission {
    pub(super) fn new(
        config: &SocketConfig,
        transports: Arc<Transports>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Inner {
            path: config.path.clone(),
            rate: Rate {
                per_second: f64::from(config.handshakes_per_second),
                burst: f64::from(config.handshake_burst),
            },
            trust_forwarded_for: config.trust_forwarded_for,
            outgoing: Bounds::of(config),
            buckets: DashMap::new(),
            admitted: AtomicU32::new(0),
            transports,
            metrics,
        }))
    }

    fn take(&self, address: IpAddr, now: Instant) -> bool {
        let admitted = self.0.admitted.fetch_add(1, Ordering::Relaxed);
        if admitted.is_multiple_of(SWEEP_EVERY) {
            self.0.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        self.0
            .buckets
            .entry(address)
            .or_insert_with(|| TokenBucket::new(self.0.rate, now))
            .take(now)
            .is_ok()
    }

    fn address(&self, request: &Request) -> Option<IpAddr> {
        // The last entry is the one that our own proxy wrote.
        let forwarded = || {
            let header = request
                .headers()
                .get_all("x-forwarded-for")
                .iter()
                .next_back()?;
            header
                .to_str()
                .ok()?
                .rsplit(',')
                .next()?
                .trim()
                .parse()
                .ok()
        };
        self.0
            .trust_forwarded_for
            .then(forwarded)
            .flatten()
            .or_else(|| {
                request
                    .extensions()
                    .get::<PeerAddress>()
                    .map(|peer| peer.0.ip())
            })
            .map(whole_of)
    }
}

/// Returns the address that stands for all that one client has: with IPv6 that is a whole /64.
fn whole_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        },
    }
}

/// Lets a request through: one that opens a session only if its address has not opened too many.
pub(super) async fn admit(
    State(admission): State<Admission>,
    mut request: Request,
    next: Next,
) -> Response {
    if !request.uri().path().starts_with(&admission.0.path) {
        return next.run(request).await;
    }
    let Some(session) = session_of(request.uri().query().unwrap_or("")) else {
        let refused = request.method() != Method::OPTIONS
            && admission
                .address(&request)
                .is_some_and(|address| !admission.take(address, Instant::now()));
        if refused {
            count(&admission.0.metrics.refused, "RATE_LIMITED");
            let headers = [(header::RETRY_AFTER, HeaderValue::from_static("1"))];
            let text = "RATE_LIMITED: too many connection attempts from this address";
            return (StatusCode::TOO_MANY_REQUESTS, headers, text).into_response();
        }
        let stream = request.extensions().get::<Arc<Switch>>();
        let is_websocket = is_websocket(request.uri().query().unwrap_or(""));
        let backlog = Backlog::new(admission.0.outgoing, stream.filter(|_| is_websocket));
        request.extensions_mut().insert(Arc::new(backlog));
        request.extensions_mut().insert(Arc::<Transport>::default());
        return next.run(request).await;
    };
    let session = session.to_owned();
    let switch = request.extensions().get::<Arc<Switch>>().cloned();
    let is_poll = request.method() == Method::GET;
    let request = match *request.method() == Method::POST {
        true => request.map(intake::checked),
        false => request,
    };
    let response = next.run(request).await;
    if is_poll && response.status() == StatusCode::OK {
        let fetched = response.body().size_hint().exact().unwrap_or(0);
        admission.0.transports.polled(&session, fetched);
    }
    // Anybody may ask, and whether it becomes the session's stream is found out later.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(switch) = switch
    {
        admission.0.transports.upgraded(&session, &switch);
    }
    response
}

/// Returns the session that a query names, exactly as the Engine.IO server reads it: what that takes
/// for a new session must not pass as a known one here.
fn session_of(query: &str) -> Option<&str> {
    query.split('&').find_map(|part| part.strip_prefix("sid="))
}

/// Tells whether a query asks for a WebSocket, exactly as the Engine.IO server reads it: the stream of
/// one that polls may be a proxy's, which others share.
fn is_websocket(query: &str) -> bool {
    let mut parts = query.split('&');
    let asked = parts.find_map(|part| part.strip_prefix("transport="));
    asked.and_then(|transport| transport.split('=').next()) == Some("websocket")
}

/// Returns the answer to browsers that ask from which pages the host may be used: those configured,
/// with credentials; from no other where none is.
pub(super) fn cors(config: &SocketConfig) -> CorsLayer {
    let any = config.cors_origin.iter().any(|origin| origin == "*");
    let listed: Vec<HeaderValue> = config
        .cors_origin
        .iter()
        .filter_map(|origin| origin.trim_end_matches('/').parse().ok())
        .collect();
    // With credentials `*` may not be answered literally, so the asking page is named.
    let origin = if any {
        AllowOrigin::mirror_request()
    } else {
        AllowOrigin::list(listed)
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_one_client_is_one_address() {
        for (address, whole) in [
            ("10.1.2.3", "10.1.2.3"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
        ] {
            assert_eq!(whole_of(address.parse().unwrap()).to_string(), whole);
        }
    }

    #[test]
    fn a_session_is_only_what_the_server_takes_for_one() {
        for (query, session) in [
            ("EIO=4&transport=polling&sid=abc", Some("abc")),
            ("sid=&EIO=4", Some("")),
            ("EIO=4&%73id=abc", None),
            ("EIO=4&s%69d=abc", None),
            ("EIO=4&sid", None),
            ("EIO=4&xsid=abc", None),
            ("", None),
        ] {
            assert_eq!(session_of(query), session, "{query}");
        }
    }

    #[test]
    fn a_websocket_is_only_what_the_server_takes_for_one() {
        for (query, expected) in [
            ("EIO=4&transport=websocket", true),
            ("transport=websocket&transport=polling", true),
            ("transport=websocket=", true),
            ("transport=polling&transport=websocket", false),
            ("EIO=4&transport=WebSocket", false),
            ("xtransport=websocket", false),
            ("", false),
        ] {
            assert_eq!(is_websocket(query), expected, "{query}");
        }
    }
}
