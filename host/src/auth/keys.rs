//! The keys that tokens are verified with.
//!
//! Each key is for one family of algorithms, and only meets tokens of that family: a token that is
//! "signed" by HMAC with the text of a public key finds no such key. A key set's file is looked at
//! again at most once a second, and read when it has changed; a new file that is not valid leaves
//! the keys as they were.

use super::config::AuthConfig;
use arc_swap::ArcSwap;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, JwkSet},
};
use parking_lot::Mutex;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// How often a key set's file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same for a token with a key id that is not known: it may be brand new.
const LOOK_FOR_UNKNOWN: Duration = Duration::from_millis(100);

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read.
    #[error("{what} {path}: the file cannot be read: {error}")]
    Unreadable {
        /// Which setting.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file holds no key.
    #[error("{what} {path}: {why}")]
    NotAKey {
        /// Which setting.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Hmac,
    Rsa,
    Ec,
    Ed,
}

impl Family {
    pub(super) fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Self::Hmac,
            Algorithm::ES256 | Algorithm::ES384 => Self::Ec,
            Algorithm::EdDSA => Self::Ed,
            _ => Self::Rsa,
        }
    }
}

/// One key.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) family: Family,
    pub(super) id: Option<String>,
    pub(super) key: DecodingKey,
}

/// All keys, the file's among them.
pub(super) struct Keys {
    fixed: Vec<Key>,
    file: Option<KeySetFile>,
}

struct KeySetFile {
    path: PathBuf,
    keys: ArcSwap<Vec<Key>>,
    looked: Mutex<Looked>,
}

struct Looked {
    at: Instant,
    stamp: Option<(SystemTime, u64)>,
}

impl Keys {
    pub(super) fn read(config: &AuthConfig) -> Result<Self, KeyError> {
        let mut fixed: Vec<Key> = config
            .secrets()
            .map(|secret| Key {
                family: Family::Hmac,
                id: None,
                key: DecodingKey::from_secret(secret.expose().as_bytes()),
            })
            .collect();
        for path in &config.public_keys {
            fixed.push(read_pem(path)?);
        }
        let file = config
            .jwks_file
            .as_deref()
            .map(KeySetFile::open)
            .transpose()?;
        Ok(Self { fixed, file })
    }

    /// Returns the keys that a token of an algorithm may have been signed with; with a key id, those
    /// of that id, where keys have ids. None: the key id is not known.
    pub(super) fn for_token(&self, algorithm: Algorithm, id: Option<&str>) -> Option<Vec<Key>> {
        let found = self.find(algorithm, id, LOOK_EVERY);
        if found.is_some() || id.is_none() {
            return found;
        }
        self.find(algorithm, id, LOOK_FOR_UNKNOWN)
    }

    fn find(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        look_every: Duration,
    ) -> Option<Vec<Key>> {
        let from_file = self.file.as_ref().map(|file| file.keys(look_every));
        let all = self
            .fixed
            .iter()
            .chain(from_file.iter().flat_map(|keys| keys.iter()));
        let family = Family::of(algorithm);
        let fitting: Vec<&Key> = all.filter(|key| key.family == family).collect();
        let Some(id) = id.filter(|_| fitting.iter().any(|key| key.id.is_some())) else {
            return Some(fitting.into_iter().cloned().collect());
        };
        let named: Vec<Key> = fitting
            .into_iter()
            .filter(|key| key.id.as_deref() == Some(id))
            .cloned()
            .collect();
        (!named.is_empty()).then_some(named)
    }
}

fn read_pem(path: &Path) -> Result<Key, KeyError> {
    const WHAT: &str = "auth.public_keys";
    let text = fs::read(path).map_err(|error| KeyError::Unreadable {
        what: WHAT,
        path: path.to_owned(),
        error,
    })?;
    let readings = [
        (Family::Rsa, DecodingKey::from_rsa_pem(&text)),
        (Family::Ec, DecodingKey::from_ec_pem(&text)),
        (Family::Ed, DecodingKey::from_ed_pem(&text)),
    ];
    readings
        .into_iter()
        .find_map(|(family, key)| Some((family, key.ok()?)))
        .map(|(family, key)| Key {
            family,
            id: None,
            key,
        })
        .ok_or_else(|| KeyError::NotAKey {
            what: WHAT,
            path: path.to_owned(),
            why: "expected a public key in PEM, RSA, EC or Ed25519".to_owned(),
        })
}

impl KeySetFile {
    fn open(path: &Path) -> Result<Self, KeyError> {
        let stamp = stamp(path);
        let keys = read_key_set(path)?;
        Ok(Self {
            path: path.to_owned(),
            keys: ArcSwap::from_pointee(keys),
            looked: Mutex::new(Looked {
                at: Instant::now(),
                stamp,
            }),
        })
    }

    fn keys(&self, look_every: Duration) -> Arc<Vec<Key>> {
        // Whoever finds the lock taken uses what is there.
        if let Some(mut looked) = self.looked.try_lock()
            && looked.at.elapsed() >= look_every
        {
            looked.at = Instant::now();
            let now = stamp(&self.path);
            if now != looked.stamp {
                looked.stamp = now;
                match read_key_set(&self.path) {
                    Ok(keys) => {
                        tracing::info!(file = %self.path.display(), keys = keys.len(), "the key set was read again");
                        self.keys.store(Arc::new(keys));
                    }
                    Err(error) => tracing::error!("the changed key set is not used: {error}"),
                }
            }
        }
        self.keys.load_full()
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let about = fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}

fn read_key_set(path: &Path) -> Result<Vec<Key>, KeyError> {
    const WHAT: &str = "auth.jwks_file";
    let refuse = |why: String| KeyError::NotAKey {
        what: WHAT,
        path: path.to_owned(),
        why,
    };
    let text = fs::read(path).map_err(|error| KeyError::Unreadable {
        what: WHAT,
        path: path.to_owned(),
        error,
    })?;
    let set: JwkSet = serde_json::from_slice(&text)
        .map_err(|error| refuse(format!("expected a JSON Web Key Set: {error}")))?;
    set.keys
        .iter()
        .map(|jwk| key_of(jwk).map_err(&refuse))
        .collect()
}

fn key_of(jwk: &Jwk) -> Result<Key, String> {
    let family = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Family::Rsa,
        AlgorithmParameters::EllipticCurve(_) => Family::Ec,
        AlgorithmParameters::OctetKeyPair(_) => Family::Ed,
        AlgorithmParameters::OctetKey(_) => Family::Hmac,
    };
    let id = jwk.common.key_id.clone();
    let key = DecodingKey::from_jwk(jwk).map_err(|error| {
        let name = id.as_deref().unwrap_or("without an id");
        format!("the key `{name}` cannot be used: {error}")
    })?;
    Ok(Key { family, id, key })
}
