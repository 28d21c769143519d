//! Makes tokens to try things with. Real ones come from the product's own login.

use super::{
    config::{AuthConfig, is_symmetric},
    verify::TOKEN_BYTES,
};
use crate::core::names::{InvalidName, UserId};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime};

/// Signs tokens with the configured secret.
#[derive(Clone)]
pub struct TokenMinter {
    algorithm: Algorithm,
    key: EncodingKey,
    config: AuthConfig,
}

/// Why a token is not made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The user's id is none.
    #[error(transparent)]
    User(#[from] InvalidName),
    /// The host would refuse the role.
    #[error("the role `{0}` is not one of auth.roles: {1}")]
    Role(String, String),
    /// The host would refuse a token of so many bytes.
    #[error("the token has {0} bytes, expected at most {TOKEN_BYTES}; give it fewer claims")]
    TooLong(usize),
    /// Signing failed.
    #[error("the token could not be signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

impl TokenMinter {
    /// Returns a minter; none where there is no secret, or no algorithm for one is accepted.
    #[must_use]
    pub fn from_config(config: &AuthConfig) -> Option<Self> {
        let algorithm = config
            .accepted()
            .into_iter()
            .find(|one| is_symmetric(*one))?;
        let secret = config.secret.as_ref()?;
        Some(Self {
            algorithm,
            key: EncodingKey::from_secret(secret.expose().as_bytes()),
            config: config.clone(),
        })
    }

    /// Returns a token that the host accepts for so long; `claims` are added as they are.
    ///
    /// # Errors
    /// When the host would not accept the user's id, the role, or so long a token.
    pub fn mint(
        &self,
        user: &str,
        role: &str,
        life: Duration,
        mut claims: Map<String, Value>,
    ) -> Result<String, MintError> {
        let user = UserId::new(user)?;
        let meant = self
            .config
            .role_aliases
            .get(role)
            .map_or(role, String::as_str);
        if !self.config.roles.iter().any(|known| known == meant) {
            return Err(MintError::Role(
                role.to_owned(),
                self.config.roles.join(", "),
            ));
        }
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let claim = self
            .config
            .user_claims
            .first()
            .map_or("userId", String::as_str);
        claims.insert(claim.to_owned(), user.as_str().into());
        claims.insert("role".to_owned(), role.into());
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("exp".to_owned(), now.saturating_add(life).as_secs().into());
        if let Some(issuer) = &self.config.issuer {
            claims.insert("iss".to_owned(), issuer.as_str().into());
        }
        if let Some(audience) = &self.config.audience {
            claims.insert("aud".to_owned(), audience.as_str().into());
        }
        let token = jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.key)?;
        if token.len() > TOKEN_BYTES {
            return Err(MintError::TooLong(token.len()));
        }
        Ok(token)
    }
}
