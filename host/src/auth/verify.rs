//! From a token to an identity, or to a refusal that says which check failed and nothing more.

use super::{
    config::AuthConfig,
    keys::{Family, KeyError, Keys},
};
use crate::{
    core::{code::Code, event::Identity, names::UserId},
    ports::{Authenticator, GuestRequest, Refused},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::{BoxFuture, ready};
use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::str::FromStr;

/// Bytes of a token; longer ones are not looked at.
const TOKEN_BYTES: usize = 8 * 1024;

/// The role of guests.
const GUEST: &str = "guest";

/// Claims that the host interprets, and plugins are not handed.
const INTERPRETED: [&str; 6] = ["exp", "nbf", "iat", "iss", "aud", "role"];

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
        Ok(Self {
            accepted: config.accepted(),
            keys: Keys::read(config)?,
            config: config.clone(),
        })
    }

    fn identify(&self, token: &str) -> Result<Identity, Refused> {
        match token.len() {
            0 => return Err(refused("token is empty")),
            length if length > TOKEN_BYTES => return Err(refused("token too long")),
            _ => {}
        }
        let header = header(token).ok_or_else(|| refused("not a JWT"))?;
        let algorithm = Algorithm::from_str(&header.alg)
            .ok()
            .filter(|algorithm| self.accepted.contains(algorithm))
            .ok_or_else(|| refused("algorithm not allowed"))?;
        let keys = self
            .keys
            .for_token(algorithm, header.kid.as_deref())
            .ok_or_else(|| refused("unknown key id"))?;
        let validation = self.validation(algorithm);
        let mut claims = Err(refused("signature does not match"));
        for key in &keys {
            debug_assert_eq!(key.family, Family::of(algorithm));
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(data) => {
                    claims = Ok(data.claims);
                    break;
                }
                Err(error) => match refusal(error.kind()) {
                    // Another key may be the one.
                    None => {}
                    Some(why) => {
                        claims = Err(refused(why));
                        break;
                    }
                },
            }
        }
        self.identity(claims?)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.config.leeway.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        match &self.config.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.config.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn identity(&self, mut claims: Map<String, Value>) -> Result<Identity, Refused> {
        let no_user = || refused("token has no valid user id");
        let user = self
            .config
            .user_claims
            .iter()
            .find_map(|name| claims.get(name))
            .and_then(Value::as_str)
            .and_then(|id| UserId::new(id).ok())
            .ok_or_else(no_user)?;
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
        let expires_at = claims.get("exp").and_then(|exp| {
            // A date with a fraction is allowed (RFC 7519, 2: NumericDate).
            exp.as_u64()
                .or_else(|| exp.as_f64().map(|seconds| seconds.max(0.0) as u64))
        });
        claims.retain(|name, _| {
            !INTERPRETED.contains(&name.as_str()) && !self.config.user_claims.contains(name)
        });
        Ok(Identity::new(user, role, claims, expires_at))
    }
}

impl Authenticator for TokenAuthenticator {
    fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Identity, Refused>> {
        Box::pin(ready(self.identify(token)))
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

fn header(token: &str) -> Option<Header> {
    let mut parts = token.split('.');
    let (header, _claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
}

/// Returns what a client is told of an error; none where another key may do better.
fn refusal(error: &ErrorKind) -> Option<&'static str> {
    Some(match error {
        ErrorKind::ExpiredSignature => "token expired",
        ErrorKind::ImmatureSignature => "token not yet valid",
        ErrorKind::InvalidAudience => "audience does not match",
        ErrorKind::InvalidIssuer => "issuer does not match",
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "exp" => "token has no exp",
            "aud" => "audience does not match",
            "iss" => "issuer does not match",
            _ => "a claim is missing",
        },
        ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) | ErrorKind::Utf8(_) => {
            "a claim is malformed"
        }
        ErrorKind::InvalidToken | ErrorKind::Base64(_) => "not a JWT",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
