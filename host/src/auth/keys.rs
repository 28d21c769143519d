//! The keys that tokens are verified with.
//!
//! Each key is for one family of algorithms, and only meets tokens of that family: a token that is
//! "signed" by HMAC with the text of a public key finds no such key. A key that could never verify
//! anything is refused when it is read, not when a token comes.

use super::{config::AuthConfig, key_set::KeySetFile};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, crypto};
use rsa::{BigUint, RsaPublicKey, pkcs1::DecodeRsaPublicKey, traits::PublicKeyParts};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// Bytes that a secret must have: as many as the shortest digest that it is used with (RFC 7518, 3.2).
pub(super) const SECRET_BYTES: usize = 32;

/// Bytes that the modulus of an RSA key must have (RFC 7518, 3.3). The library takes 512 at most.
const RSA_BYTES: usize = 256;

/// Bytes of a public key of Ed25519.
const ED_BYTES: usize = 32;

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
    P256,
    P384,
    Ed25519,
}

impl Family {
    pub(super) fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Self::Hmac,
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => Self::Rsa,
            Algorithm::ES256 => Self::P256,
            Algorithm::ES384 => Self::P384,
            Algorithm::EdDSA => Self::Ed25519,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hmac => "secret",
            Self::Rsa => "RSA",
            Self::P256 => "EC P-256",
            Self::P384 => "EC P-384",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// One key that can be used.
pub(super) struct Key {
    family: Family,
    key: DecodingKey,
    id: Option<String>,
    /// The one algorithm that its key set allows, where it says so.
    only: Option<Algorithm>,
    /// The file that it is alone in.
    path: Option<PathBuf>,
}

impl Key {
    /// Returns a key, or why it could never verify a token.
    pub(super) fn new(family: Family, key: DecodingKey) -> Result<Self, String> {
        match family {
            Family::Hmac => {
                let length = key.try_get_hmac_secret().map_or(0, <[u8]>::len);
                if length < SECRET_BYTES {
                    return Err(format!(
                        "a secret of {length} bytes, expected at least {SECRET_BYTES}"
                    ));
                }
            }
            Family::Rsa => check_rsa(&key)?,
            Family::P256 => check_point(&key, Algorithm::ES256)?,
            Family::P384 => check_point(&key, Algorithm::ES384)?,
            Family::Ed25519 => {
                // The library takes it for granted that there are so many.
                if raw(&key).len() != ED_BYTES {
                    return Err(format!("expected {ED_BYTES} bytes of an Ed25519 key"));
                }
                check_point(&key, Algorithm::EdDSA)?;
            }
        }
        Ok(Self {
            family,
            key,
            id: None,
            only: None,
            path: None,
        })
    }

    /// Returns the key with what a key set says of it; none where the algorithm is for other keys.
    pub(super) fn described(mut self, id: Option<String>, only: Option<Algorithm>) -> Option<Self> {
        if only.is_some_and(|only| Family::of(only) != self.family) {
            return None;
        }
        self.id = id;
        self.only = only;
        Some(self)
    }

    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.family == Family::of(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }

    fn has_signed(&self, signed: &Signed<'_>) -> bool {
        // An error is a signature that is not even well-formed.
        crypto::verify(
            signed.signature,
            signed.message.as_bytes(),
            &self.key,
            signed.algorithm,
        )
        .unwrap_or(false)
    }
}

fn raw(key: &DecodingKey) -> &[u8] {
    match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => bytes,
        DecodingKeyKind::RsaModulusExponent { .. } => &[],
    }
}

fn check_rsa(key: &DecodingKey) -> Result<(), String> {
    let public = match key.kind() {
        DecodingKeyKind::SecretOrDer(der) => {
            RsaPublicKey::from_pkcs1_der(der).map_err(|error| error.to_string())
        }
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            RsaPublicKey::new(BigUint::from_bytes_be(n), BigUint::from_bytes_be(e))
                .map_err(|error| error.to_string())
        }
    };
    let public = public.map_err(|error| {
        format!("not an RSA public key of 2048 to 4096 bits that can be used: {error}")
    })?;
    if public.size() < RSA_BYTES {
        return Err(format!(
            "an RSA key of {} bits, expected at least {}",
            public.n().bits(),
            RSA_BYTES * 8
        ));
    }
    Ok(())
}

/// Checks that the key is a point of the curve, by having the library read it.
fn check_point(key: &DecodingKey, algorithm: Algorithm) -> Result<(), String> {
    crypto::verify("", b"", key, algorithm)
        .map(|_| ())
        .map_err(|_| format!("not an {} public key", Family::of(algorithm)))
}

/// What a signature is checked over.
pub(super) struct Signed<'a> {
    pub(super) algorithm: Algorithm,
    /// The key's id that the token names.
    pub(super) id: Option<&'a str>,
    /// The token without its signature.
    pub(super) message: &'a str,
    /// In base64.
    pub(super) signature: &'a str,
}

/// Why no key has signed a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotSigned {
    /// No key has the id that the token names.
    UnknownId,
    /// None of those that may have, has.
    Mismatch,
}

/// All keys, the file's among them.
pub(super) struct Keys {
    fixed: Vec<Key>,
    file: Option<KeySetFile>,
}

impl Keys {
    pub(super) fn read(config: &AuthConfig, now: Instant) -> Result<Self, KeyError> {
        // How long a secret must be is for the configuration's check to say, by its setting.
        let secrets = config.secrets().map(|secret| Key {
            family: Family::Hmac,
            key: DecodingKey::from_secret(secret.expose().as_bytes()),
            id: None,
            only: None,
            path: None,
        });
        let mut fixed: Vec<Key> = secrets.collect();
        for path in &config.public_keys {
            fixed.push(read_pem(path)?);
        }
        let file = config
            .jwks_file
            .as_deref()
            .map(|path| KeySetFile::open(path, now))
            .transpose()?;
        Ok(Self { fixed, file })
    }

    /// Tells whether there is a key for an algorithm now. A key set's file may bring one later.
    pub(super) fn any_for(&self, algorithm: Algorithm) -> bool {
        let from_file = self.file.as_ref().map(KeySetFile::current);
        self.fixed
            .iter()
            .chain(from_file.iter().flat_map(|keys| keys.iter()))
            .any(|key| key.fits(algorithm))
    }

    /// Returns the files of keys that none of these algorithms is for, and what keys they are.
    pub(super) fn never_used(&self, accepted: &[Algorithm]) -> Vec<(&Path, Family)> {
        self.fixed
            .iter()
            .filter(|key| !accepted.iter().any(|algorithm| key.fits(*algorithm)))
            .filter_map(|key| Some((key.path.as_deref()?, key.family)))
            .collect()
    }

    /// Checks that one of the keys has signed a token: one with the id that the token names, or one
    /// without an id where none has it; any of them, where the token names none.
    pub(super) fn check(&self, signed: &Signed<'_>, now: Instant) -> Result<(), NotSigned> {
        let Some(file) = &self.file else {
            return self.check_by(&[], signed).map_err(|_| NotSigned::Mismatch);
        };
        let keys = file.keys(now);
        let known = |keys: &[Key]| {
            let mut fitting = keys.iter().filter(|key| key.fits(signed.algorithm));
            signed
                .id
                .is_none_or(|id| fitting.any(|key| key.id.as_deref() == Some(id)))
        };
        match self.check_by(&keys, signed) {
            // The key may be brand new.
            Err(_) if !known(&keys) => self.check_by(&file.keys_for_unknown_id(now), signed),
            outcome => outcome,
        }
    }

    fn check_by(&self, from_file: &[Key], signed: &Signed<'_>) -> Result<(), NotSigned> {
        let all = self.fixed.iter().chain(from_file);
        let fitting: Vec<&Key> = all.filter(|key| key.fits(signed.algorithm)).collect();
        let known = signed
            .id
            .filter(|id| fitting.iter().any(|key| key.id.as_deref() == Some(id)));
        let mut candidates = fitting
            .iter()
            .filter(|key| signed.id.is_none() || key.id.as_deref() == known)
            .peekable();
        if signed.id.is_some() && candidates.peek().is_none() {
            return Err(NotSigned::UnknownId);
        }
        match candidates.any(|key| key.has_signed(signed)) {
            true => Ok(()),
            false => Err(NotSigned::Mismatch),
        }
    }
}

fn read_pem(path: &Path) -> Result<Key, KeyError> {
    const WHAT: &str = "auth.public_keys";
    let text = fs::read_to_string(path).map_err(|error| KeyError::Unreadable {
        what: WHAT,
        path: path.to_owned(),
        error,
    })?;
    match parse_pem(&text) {
        Ok(mut key) => {
            key.path = Some(path.to_owned());
            Ok(key)
        }
        Err(why) => Err(KeyError::NotAKey {
            what: WHAT,
            path: path.to_owned(),
            why,
        }),
    }
}

fn parse_pem(text: &str) -> Result<Key, String> {
    if text.contains("PRIVATE KEY-----") {
        return Err(
            "this is a private key, which the host must not have; `openssl pkey -pubout` gives the public one"
                .to_owned(),
        );
    }
    if text.contains("CERTIFICATE-----") {
        return Err(
            "this is a certificate; `openssl x509 -pubkey -noout` gives its public key".to_owned(),
        );
    }
    let text = text.as_bytes();
    if let Ok(key) = DecodingKey::from_rsa_pem(text) {
        return Key::new(Family::Rsa, key);
    }
    if let Ok(key) = DecodingKey::from_ed_pem(text) {
        return Key::new(Family::Ed25519, key);
    }
    let point = DecodingKey::from_ec_pem(text)
        .map_err(|_| "expected a public key in PEM: RSA, EC or Ed25519".to_owned())?;
    Key::new(Family::P256, point.clone())
        .or_else(|_| Key::new(Family::P384, point))
        .map_err(|_| "an EC key of another curve, expected P-256 or P-384".to_owned())
}
