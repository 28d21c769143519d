//! A JSON Web Key Set in a file (RFC 7517). The file is looked at now and then, and read again when
//! it has changed. A new file that cannot be used leaves the keys as they were.

use super::keys::{Family, Key, KeyError};
use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use std::{
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// How often the file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The same for tokens with a key id that is not known: five times a second.
const LOOK_FOR_UNKNOWN_EVERY: Duration = Duration::from_millis(200);

/// Bytes that the file may have.
const FILE_BYTES: u64 = 1 << 20;

/// The setting that names the file.
const WHAT: &str = "auth.jwks_file";

/// The keys of a file.
pub(super) struct KeySetFile {
    path: PathBuf,
    keys: ArcSwap<Vec<Key>>,
    looked: Mutex<Looked>,
}

struct Looked {
    at: Instant,
    for_unknown_at: Option<Instant>,
    stamp: Option<Stamp>,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
    inode: u64,
}

impl Stamp {
    /// Returns the stamp of a file, none where it is gone.
    fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self {
            modified: about.modified().ok()?,
            length: about.len(),
            inode: about.ino(),
        })
    }
}

impl KeySetFile {
    pub(super) fn open(path: &Path, now: Instant) -> Result<Self, KeyError> {
        // Before it is read: a change in between is seen at the next look.
        let stamp = Stamp::of(path);
        Ok(Self {
            path: path.to_owned(),
            keys: ArcSwap::from_pointee(read(path)?),
            looked: Mutex::new(Looked {
                at: now,
                for_unknown_at: None,
                stamp,
            }),
        })
    }

    /// Returns the keys as they were read last.
    pub(super) fn current(&self) -> Arc<Vec<Key>> {
        self.keys.load_full()
    }

    /// Returns the keys, after a look at the file where the last one is long ago.
    pub(super) fn keys(&self, now: Instant) -> Arc<Vec<Key>> {
        // Whoever finds the lock taken uses what is there.
        if let Some(mut looked) = self.looked.try_lock()
            && now.saturating_duration_since(looked.at) >= LOOK_EVERY
        {
            self.look(&mut looked, now);
        }
        self.current()
    }

    /// Returns the keys after a look at the file, unless there were too many such looks of late.
    pub(super) fn keys_for_unknown_id(&self, now: Instant) -> Arc<Vec<Key>> {
        // Waits for a look that is under way, which takes as long as reading a small file: it may
        // bring the very key.
        let mut looked = self.looked.lock();
        let due = looked
            .for_unknown_at
            .is_none_or(|at| now.saturating_duration_since(at) >= LOOK_FOR_UNKNOWN_EVERY);
        if due {
            looked.for_unknown_at = Some(now);
            self.look(&mut looked, now);
        }
        self.current()
    }

    fn look(&self, looked: &mut Looked, now: Instant) {
        looked.at = now;
        let stamp = Stamp::of(&self.path);
        if stamp == looked.stamp {
            return;
        }
        // Also where it cannot be used, so that this is said once.
        looked.stamp = stamp;
        match read(&self.path) {
            Ok(keys) => {
                tracing::info!(file = %self.path.display(), keys = keys.len(), "the key set was read again");
                self.keys.store(Arc::new(keys));
            }
            Err(error) => tracing::error!(%error, "the changed key set is not used"),
        }
    }
}

fn read(path: &Path) -> Result<Vec<Key>, KeyError> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| KeyError::Unreadable {
            what: WHAT,
            path: path.to_owned(),
            error,
        })?;
    let refuse = |why: String| KeyError::NotAKey {
        what: WHAT,
        path: path.to_owned(),
        why,
    };
    if bytes.len() as u64 > FILE_BYTES {
        return Err(refuse(format!("expected at most {FILE_BYTES} bytes")));
    }
    let (keys, unusable) = parse(&bytes).map_err(refuse)?;
    // An empty set is taken as it is: it withdraws all keys.
    if keys.is_empty() && !unusable.is_empty() {
        return Err(refuse(format!(
            "none of its keys can be used: {}",
            unusable.join("; ")
        )));
    }
    for why in unusable {
        tracing::warn!(file = %path.display(), "a key of the key set is not used: {why}");
    }
    Ok(keys)
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// The members of a key that matter, whatever its kind.
#[derive(Deserialize)]
struct Entry {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    k: String,
}

/// Returns the keys that can be used, and why the others cannot; those are ignored (RFC 7517, 5).
fn parse(bytes: &[u8]) -> Result<(Vec<Key>, Vec<String>), String> {
    let set: KeySet = serde_json::from_slice(bytes)
        .map_err(|error| format!("expected a JSON Web Key Set: {error}"))?;
    let mut keys = Vec::new();
    let mut unusable = Vec::new();
    for (index, entry) in set.keys.into_iter().enumerate() {
        let name = entry
            .get("kid")
            .and_then(Value::as_str)
            .map_or_else(|| format!("keys[{index}]"), |id| format!("`{id}`"));
        // Not the parser's own words: they may quote a value, and this may be a secret.
        let key = serde_json::from_value(entry)
            .map_err(|_| "a member of the wrong type, or no kty".to_owned())
            .and_then(key_of);
        match key {
            Ok(key) => keys.push(key),
            Err(why) => unusable.push(format!("{name}: {why}")),
        }
    }
    Ok((keys, unusable))
}

fn key_of(entry: Entry) -> Result<Key, String> {
    if entry.used_for.is_some_and(|used_for| used_for != "sig") {
        return Err("its use is not sig".to_owned());
    }
    if entry
        .key_ops
        .is_some_and(|operations| !operations.iter().any(|name| name == "verify"))
    {
        return Err("its key_ops are without verify".to_owned());
    }
    let only = match entry.alg.as_deref() {
        None => None,
        // Its newer name (RFC 9864).
        Some("Ed25519") => Some(Algorithm::EdDSA),
        Some(name) => {
            Some(Algorithm::from_str(name).map_err(|_| "its alg is not supported".to_owned())?)
        }
    };
    let (family, key) = match (entry.kty.as_str(), entry.crv.as_deref()) {
        ("oct", _) => (
            Family::Hmac,
            URL_SAFE_NO_PAD
                .decode(&entry.k)
                .ok()
                .map(|secret| DecodingKey::from_secret(&secret)),
        ),
        ("RSA", _) => (
            Family::Rsa,
            DecodingKey::from_rsa_components(&entry.n, &entry.e).ok(),
        ),
        ("EC", Some("P-256")) => (
            Family::P256,
            DecodingKey::from_ec_components(&entry.x, &entry.y).ok(),
        ),
        ("EC", Some("P-384")) => (
            Family::P384,
            DecodingKey::from_ec_components(&entry.x, &entry.y).ok(),
        ),
        ("OKP", Some("Ed25519")) => (
            Family::Ed25519,
            DecodingKey::from_ed_components(&entry.x).ok(),
        ),
        _ => return Err("its kty or crv is not supported".to_owned()),
    };
    let key = key.ok_or("its value is not base64url without padding")?;
    Key::new(family, key)?
        .described(entry.kid, only)
        .ok_or_else(|| "its alg is for another kind of key".to_owned())
}
