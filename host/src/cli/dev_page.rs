//! The page that `dev` serves at `/`, and the tokens that it hands to whoever asks on this machine.

use crate::{auth::TokenMinter, socket::listener::PeerAddress};
use axum::{
    Extension, Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};

/// How long a token from the page lives.
const TOKEN_LIFE: Duration = Duration::from_secs(12 * 60 * 60);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! page_file {
    ($name:literal) => {
        include_str!(concat!("../../../examples/chat-page/", $name))
    };
}

/// Returns the routes of the page; tokens are made by `minter`.
pub(super) fn routes(minter: TokenMinter) -> Router {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move {
            (
                [
                    (header::CONTENT_TYPE, kind),
                    (header::CACHE_CONTROL, "no-cache"),
                ],
                text,
            )
        })
    };
    Router::new()
        .route("/", file(HTML, page_file!("index.html")))
        .route("/page.css", file(CSS, page_file!("page.css")))
        .route("/page.js", file(SCRIPT, page_file!("page.js")))
        .route(
            "/vendor/socket.io.min.js",
            file(SCRIPT, page_file!("socket.io.min.js")),
        )
        .route("/dev/token", get(token))
        .with_state(Arc::new(minter))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    user: String,
    role: Option<String>,
    name: Option<String>,
    /// Courses that the token says the user is enrolled in, separated by commas.
    courses: Option<String>,
}

async fn token(
    State(minter): State<Arc<TokenMinter>>,
    Extension(peer): Extension<PeerAddress>,
    headers: HeaderMap,
    Query(request): Query<TokenRequest>,
) -> Response {
    // Whoever gets a token is whom they say they are, so it is for this machine only; the check of
    // the host's name keeps out pages of other sites whose name was made to point here.
    if !peer.0.ip().is_loopback() || !names_this_machine(&headers) {
        let text = "tokens are only handed out on the machine that `dev` runs on; use `switchboard token`\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let mut claims = Map::new();
    if let Some(name) = request.name {
        claims.insert("username".to_owned(), Value::from(name));
    }
    if let Some(courses) = request.courses {
        let courses: Vec<&str> = courses.split(',').map(str::trim).collect();
        claims.insert("enrolledCourses".to_owned(), Value::from(courses));
    }
    let role = request.role.as_deref().unwrap_or("student");
    match minter.mint(&request.user, role, TOKEN_LIFE, claims) {
        Ok(token) => Json(json!({ "token": token, "userId": request.user })).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("");
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name == "localhost"
        || name
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_get_tokens() {
        let named = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            names_this_machine(&headers)
        };
        for host in [
            "localhost",
            "localhost:3000",
            "127.0.0.1:3000",
            "[::1]:3000",
        ] {
            assert!(named(host), "{host}");
        }
        for host in [
            "example.org",
            "localhost.example.org:80",
            "10.0.0.1:3000",
            "",
        ] {
            assert!(!named(host), "{host}");
        }
    }
}
