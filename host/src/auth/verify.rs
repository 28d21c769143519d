//! From a token to an identity, or to a refusal that says which check failed and nothing more.

use super::{
    config::AuthConfig,
    keys::{KeyError, Keys, NotSigned, Signed},
};
use crate::{
    core::{code::Code, event::Identity, names::UserId},
    ports::{Authenticator, GuestRequest, Refused},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::{BoxFuture, ready};
use jsonwebtoken::Algorithm;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    str::FromStr,
    time::{Duration, Instant, SystemTime},
};

/// Bytes of a token; longer ones are not looked at.
pub(super) const TOKEN_BYTES: usize = 8 * 1024;

/// The role of guests.
const GUEST: &str = "guest";

/// Claims that the host interprets, and plugins are not handed.
const INTERPRETED: [&str; 6] = ["exp", "nbf", "iat", "iss", "aud", "role"];

/// The last second of the year 9999. A token that lives longer ends then: those who reckon with its
/// end cannot overflow.
const LAST_SECOND: u64 = 253_402_300_799;

/// Verifies tokens by the configured keys.
pub struct TokenAuthenticator {
    config: AuthConfig,
    accepted: Vec<Algorithm>,
    keys: Keys,
}

/// The part of a token's header that matters.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Names of members that must be understood (RFC 7515, 4.1.11).
    crit: Option<Value>,
}

/// When a token is judged.
#[derive(Clone, Copy)]
struct Moment {
    /// Since 1970 UTC.
    wall: Duration,
    steady: Instant,
}

impl Moment {
    fn now() -> Self {
        Self {
            wall: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
            steady: Instant::now(),
        }
    }
}

fn refused(message: &str) -> Refused {
    Refused {
        code: Code::AuthFailed,
        message: message.to_owned(),
    }
}

impl TokenAuthenticator {
    /// Returns what verifies tokens by these keys.
    ///
    /// # Errors
    /// When a key cannot be read.
    pub fn new(config: &AuthConfig) -> Result<Self, KeyError> {
        Self::new_at(config, Instant::now())
    }

    fn new_at(config: &AuthConfig, now: Instant) -> Result<Self, KeyError> {
        Ok(Self {
            accepted: config.accepted(),
            keys: Keys::read(config, now)?,
            config: config.clone(),
        })
    }

    fn identify(&self, token: &str, now: Moment) -> Result<Identity, Refused> {
        match token.len() {
            0 => return Err(refused("token is empty")),
            length if length > TOKEN_BYTES => return Err(refused("token too long")),
            _ => {}
        }
        let claims = self.signed_claims(token, now)?;
        let expires_at = self.check_times(&claims, now.wall)?;
        self.check_origin(&claims)?;
        self.identity(claims, expires_at)
    }

    /// Returns the claims of a token that one of the keys has signed. Nothing but the header is
    /// looked at before that is known.
    fn signed_claims(&self, token: &str, now: Moment) -> Result<Map<String, Value>, Refused> {
        let not_a_token = || refused("not a JWT");
        let (message, signature) = token.rsplit_once('.').ok_or_else(not_a_token)?;
        let (header, claims) = message
            .split_once('.')
            .filter(|(_, claims)| !claims.contains('.'))
            .ok_or_else(not_a_token)?;
        let header: Header = part(header).ok_or_else(not_a_token)?;
        let algorithm = Algorithm::from_str(&header.alg)
            .ok()
            .filter(|algorithm| self.accepted.contains(algorithm))
            .ok_or_else(|| refused("algorithm not allowed"))?;
        if header.crit.is_some() {
            return Err(refused("token has a critical header"));
        }
        let signed = Signed {
            algorithm,
            id: header.kid.as_deref(),
            message,
            signature,
        };
        self.keys
            .check(&signed, now.steady)
            .map_err(|why| match why {
                NotSigned::UnknownId => refused("unknown key id"),
                NotSigned::Mismatch => refused("signature does not match"),
            })?;
        part(claims).ok_or_else(not_a_token)
    }

    /// Returns when the token runs out.
    fn check_times(&self, claims: &Map<String, Value>, now: Duration) -> Result<Duration, Refused> {
        let expires_at = claims
            .get("exp")
            .and_then(date)
            .ok_or_else(|| refused("token has no exp"))?;
        if now >= expires_at.saturating_add(self.config.leeway) {
            return Err(refused("token expired"));
        }
        let begun = match claims.get("nbf") {
            None | Some(Value::Null) => true,
            Some(begin) => {
                date(begin).is_some_and(|begin| begin <= now.saturating_add(self.config.leeway))
            }
        };
        if !begun {
            return Err(refused("token not yet valid"));
        }
        Ok(expires_at)
    }

    /// Checks by whom and for whom the token was made.
    fn check_origin(&self, claims: &Map<String, Value>) -> Result<(), Refused> {
        if let Some(issuer) = &self.config.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(refused("issuer does not match"));
        }
        if let Some(audience) = &self.config.audience {
            let is_ours = |value: &Value| value.as_str() == Some(audience);
            let ours = match claims.get("aud") {
                Some(Value::Array(all)) => all.iter().any(is_ours),
                Some(one) => is_ours(one),
                None => false,
            };
            if !ours {
                return Err(refused("audience does not match"));
            }
        }
        Ok(())
    }

    fn identity(
        &self,
        mut claims: Map<String, Value>,
        expires_at: Duration,
    ) -> Result<Identity, Refused> {
        let user = self
            .config
            .user_claims
            .iter()
            .find_map(|name| claims.get(name))
            .and_then(Value::as_str)
            .and_then(|id| UserId::new(id).ok())
            .ok_or_else(|| refused("token has no valid user id"))?;
        let role = match claims.get("role") {
            Some(Value::String(role)) => role.clone(),
            Some(_) => return Err(refused("role is not allowed")),
            None => self
                .config
                .default_role
                .clone()
                .ok_or_else(|| refused("token has no role"))?,
        };
        let role = self.config.role_aliases.get(&role).cloned().unwrap_or(role);
        if !self.config.roles.contains(&role) {
            return Err(refused("role is not allowed"));
        }
        claims.retain(|name, _| {
            !INTERPRETED.contains(&name.as_str()) && !self.config.user_claims.contains(name)
        });
        let expires_at = expires_at.as_secs().min(LAST_SECOND);
        Ok(Identity::new(user, role, claims, Some(expires_at)))
    }
}

impl Authenticator for TokenAuthenticator {
    fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Identity, Refused>> {
        Box::pin(ready(self.identify(token, Moment::now())))
    }

    fn guest(&self, request: &GuestRequest) -> Option<Identity> {
        if !self.config.guests {
            return None;
        }
        let user = UserId::new(&format!("{GUEST}-{}", uuid::Uuid::now_v7())).ok()?;
        let mut claims = Map::new();
        claims.insert("username".to_owned(), request.username.clone().into());
        if let Some(email) = &request.email {
            claims.insert("email".to_owned(), email.clone().into());
        }
        Some(Identity::new(user, GUEST.to_owned(), claims, None))
    }
}

/// Returns what a part of a token holds, none where it is not base64url or not that JSON.
fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Returns a date, since 1970 UTC; none where it is not a number. Fractions are allowed (RFC 7519, 2).
fn date(value: &Value) -> Option<Duration> {
    if let Some(seconds) = value.as_u64() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = value.as_f64()?.max(0.0);
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests;
