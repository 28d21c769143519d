//! The section `[api]`.

use crate::core::secret::{self, Secret};
use serde::{Deserialize, Serialize};

/// Characters that a key must have: shorter ones can be guessed.
const KEY_CHARACTERS: usize = 16;

/// The server API for backends.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// The key that backends send; without one the API does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// More keys that are taken, so that keys can be changed one backend at a time.
    #[serde(deserialize_with = "secret::list")]
    pub more_keys: Vec<Secret>,
}

impl ApiConfig {
    /// Returns all keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.key.iter().chain(&self.more_keys).map(Secret::expose)
    }

    /// Returns what is wrong with these values, each with the key that is to be changed.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let short = self.keys().any(|key| key.chars().count() < KEY_CHARACTERS);
        short
            .then(|| {
                format!("api.key, api.more_keys: expected at least {KEY_CHARACTERS} characters; `openssl rand -hex 24` makes a good one")
            })
            .into_iter()
            .collect()
    }
}
