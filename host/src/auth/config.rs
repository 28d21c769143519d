//! The section `[auth]`.

use super::keys::{Keys, SECRET_BYTES};
use crate::core::secret::{self, Secret};
use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

/// How far clocks can differ that anybody minds.
const LONGEST_LEEWAY: Duration = Duration::from_secs(60 * 60);

/// The names of algorithms that a token may be signed with.
const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

/// How tokens are verified, and who may connect without one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The secret of HS tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// More secrets that are taken, for rotation.
    #[serde(deserialize_with = "secret::list")]
    pub more_secrets: Vec<Secret>,
    /// Files with public keys in PEM, for RS, PS, ES and EdDSA tokens.
    pub public_keys: Vec<PathBuf>,
    /// A file with a JSON Web Key Set; read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// The algorithms that are accepted.
    pub algorithms: Vec<String>,
    /// What `iss` must be; not checked when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What `aud` must contain; not checked when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// How far clocks may differ where `exp` and `nbf` are judged, at most an hour.
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
    /// Whether one may connect without a token and send it by the event `auth`.
    pub late: bool,
    /// Within what time.
    #[serde(with = "humantime_serde")]
    pub late_timeout: Duration,
    /// How many refused tokens by the event `auth` end a connection.
    pub late_attempts: u32,
    /// Whether a connection without a token, but with `username` in its query, is a guest.
    pub guests: bool,
    /// How long before its token runs out a client is told.
    #[serde(with = "humantime_serde")]
    pub expiry_warning: Duration,
    /// The claims with the user's id; the first that is there counts.
    pub user_claims: Vec<String>,
    /// The roles that a token may have.
    pub roles: Vec<String>,
    /// Names of roles in tokens that mean another role.
    pub role_aliases: BTreeMap<String, String>,
    /// The role of tokens that have none; such tokens are refused when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_role: Option<String>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            secret: None,
            more_secrets: Vec::new(),
            public_keys: Vec::new(),
            jwks_file: None,
            algorithms: texts(&["HS256"]),
            issuer: None,
            audience: None,
            leeway: Duration::from_secs(5),
            late: true,
            late_timeout: Duration::from_secs(10),
            late_attempts: 3,
            guests: false,
            expiry_warning: Duration::from_secs(60),
            user_claims: texts(&["userId", "sub"]),
            roles: texts(&["student", "educator", "admin"]),
            role_aliases: BTreeMap::new(),
            default_role: None,
        }
    }
}

impl AuthConfig {
    /// Tells whether there is any key to verify tokens with.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.secret.is_some() || !self.public_keys.is_empty() || self.jwks_file.is_some()
    }

    /// Returns all secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secret.iter().chain(&self.more_secrets)
    }

    /// Returns the algorithms that are accepted; names that are none are left out.
    #[must_use]
    pub fn accepted(&self) -> Vec<Algorithm> {
        self.algorithms
            .iter()
            .filter_map(|name| Algorithm::from_str(name).ok())
            .collect()
    }

    /// Returns what is wrong with these values, each with the key that is to be changed. Reads the
    /// files of the keys.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        self.check_secrets(&mut problems);
        self.check_algorithms(&mut problems);
        self.check_keys(&mut problems);
        self.check_claims(&mut problems);
        if self.leeway > LONGEST_LEEWAY {
            problems.push("auth.leeway: expected at most 1h".to_owned());
        }
        if self.late_timeout.is_zero() || self.late_attempts == 0 {
            problems.push("auth.late_timeout, auth.late_attempts: expected more than 0; `late = false` turns it off".to_owned());
        }
        problems
    }

    fn check_secrets(&self, problems: &mut Vec<String>) {
        let first = ("auth.secret (JWT_SECRET)".to_owned(), self.secret.as_ref());
        let more = self.more_secrets.iter().enumerate();
        let more =
            more.map(|(index, secret)| (format!("auth.more_secrets[{index}]"), Some(secret)));
        for (name, secret) in std::iter::once(first).chain(more) {
            if secret.is_some_and(|secret| secret.expose().len() < SECRET_BYTES) {
                problems.push(format!(
                    "{name}: expected at least {SECRET_BYTES} bytes; `openssl rand -hex 32` makes a good one"
                ));
            }
        }
        if self.secret.is_none() && !self.more_secrets.is_empty() {
            problems.push("auth.more_secrets: set auth.secret first".to_owned());
        }
    }

    fn check_algorithms(&self, problems: &mut Vec<String>) {
        for name in &self.algorithms {
            if !ALGORITHMS.contains(&name.as_str()) {
                let nearest = ALGORITHMS
                    .iter()
                    .min_by_key(|known| {
                        strsim::levenshtein(&name.to_uppercase(), &known.to_uppercase())
                    })
                    .map_or("", |known| known);
                problems.push(format!(
                    "auth.algorithms: unknown algorithm `{name}`; did you mean `{nearest}`?"
                ));
            }
        }
        if self.algorithms.is_empty() {
            problems.push("auth.algorithms: expected at least one".to_owned());
        }
    }

    /// Checks that the keys can be read, and that keys and algorithms fit each other.
    fn check_keys(&self, problems: &mut Vec<String>) {
        if !self.has_keys() {
            return;
        }
        let keys = match Keys::read(self, Instant::now()) {
            Ok(keys) => keys,
            Err(error) => return problems.push(error.to_string()),
        };
        let accepted = self.accepted();
        for algorithm in accepted.iter().filter(|one| !keys.any_for(**one)) {
            if is_symmetric(*algorithm) {
                problems.push(format!(
                    "auth.algorithms: there is no secret for the HS algorithms, but `{algorithm:?}` is accepted; set auth.secret, or name the algorithms of the public keys, such as `RS256`"
                ));
            } else if self.jwks_file.is_none() {
                problems.push(format!(
                    "auth.algorithms: `{algorithm:?}` needs auth.public_keys or auth.jwks_file with a key for it"
                ));
            }
        }
        if self.secret.is_some()
            && !accepted.is_empty()
            && !accepted.iter().any(|one| is_symmetric(*one))
        {
            problems.push("auth.secret: it is for HS256, HS384 or HS512, and auth.algorithms has none of them".to_owned());
        }
        for (path, what) in keys.never_used(&accepted) {
            problems.push(format!(
                "auth.public_keys {}: auth.algorithms has none for this {what} key",
                path.display()
            ));
        }
    }

    fn check_claims(&self, problems: &mut Vec<String>) {
        if self.user_claims.is_empty() {
            problems.push("auth.user_claims: expected at least one".to_owned());
        }
        for (alias, role) in &self.role_aliases {
            if !self.roles.contains(role) {
                problems.push(format!(
                    "auth.role_aliases.{alias}: `{role}` is not one of auth.roles"
                ));
            }
        }
        if let Some(role) = self
            .default_role
            .as_ref()
            .filter(|role| !self.roles.contains(role))
        {
            problems.push(format!(
                "auth.default_role: `{role}` is not one of auth.roles"
            ));
        }
    }
}

/// Tells whether an algorithm is used with a secret.
pub(super) fn is_symmetric(algorithm: Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
    )
}
