use super::*;
use std::path::Path;

/// The host with a key set in a file, at times of the test's choosing.
struct Host {
    folder: tempfile::TempDir,
    authenticator: TokenAuthenticator,
    begin: Instant,
}

fn write(folder: &Path, text: &str) {
    // A new file in the old one's place, as those who write such files do it.
    let fresh = folder.join("fresh");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, folder.join("jwks.json")).unwrap();
}

fn config(folder: &Path, algorithms: &[&str]) -> AuthConfig {
    AuthConfig {
        jwks_file: Some(folder.join("jwks.json")),
        ..with_public_keys(&[], algorithms)
    }
}

impl Host {
    fn new(key_set: &Value, algorithms: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &key_set.to_string());
        let begin = Instant::now();
        let authenticator =
            TokenAuthenticator::new_at(&config(folder.path(), algorithms), begin).unwrap();
        Self {
            folder,
            authenticator,
            begin,
        }
    }

    fn write(&self, key_set: &Value) {
        write(self.folder.path(), &key_set.to_string());
    }

    /// Judges a token so many milliseconds after the start: an empty text where it is accepted.
    fn judge(&self, token: &str, milliseconds: u64) -> String {
        let now = Moment {
            steady: self.begin + Duration::from_millis(milliseconds),
            ..Moment::now()
        };
        match self.authenticator.identify(token, now) {
            Ok(_) => String::new(),
            Err(refused) => refused.message,
        }
    }
}

fn oct(id: &str, secret: &str) -> Value {
    json!({ "kty": "oct", "kid": id, "k": URL_SAFE_NO_PAD.encode(secret) })
}

fn set(keys: &[Value]) -> Value {
    json!({ "keys": keys })
}

fn token(secret: &str, id: Option<&str>) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    signed(Algorithm::HS256, &key, id, &claims(json!({})))
}

/// The public keys of the test's files, as a key set has them.
fn public(file: &str, algorithm: Algorithm) -> Value {
    let key = match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(&key(file)),
        _ => EncodingKey::from_ec_pem(&key(file)),
    };
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key.unwrap(), algorithm).unwrap();
    serde_json::to_value(jwk).unwrap()
}

fn with(mut key: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        key[name] = value.clone();
    }
    key
}

#[test]
fn the_id_of_a_key_is_honoured() {
    let host = Host::new(&set(&[oct("one", SECRET), oct("two", OTHER)]), &["HS256"]);
    assert_eq!(host.judge(&token(SECRET, Some("one")), 0), "");
    assert_eq!(host.judge(&token(OTHER, Some("two")), 0), "");
    for any in [SECRET, OTHER] {
        assert_eq!(host.judge(&token(any, None), 0), "", "all keys are tried");
    }
    assert_eq!(
        host.judge(&token(OTHER, Some("one")), 0),
        "signature does not match"
    );
    assert_eq!(
        host.judge(&token(SECRET, Some("three")), 0),
        "unknown key id"
    );
}

#[test]
fn a_key_without_an_id_may_have_signed_a_token_with_an_unknown_one() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &set(&[oct("one", OTHER)]).to_string());
    let config = AuthConfig {
        secret: Some(Secret::new(SECRET.to_owned())),
        ..config(folder.path(), &["HS256"])
    };
    assert!(verify(&config, &token(SECRET, Some("elsewhere"))).is_ok());
    assert_eq!(
        refusal(&config, &token(SECRET, Some("one"))),
        "signature does not match"
    );
    // Where there is no key set, an id says nothing.
    assert!(verify(&with_secret(), &token(SECRET, Some("elsewhere"))).is_ok());
}

#[test]
fn a_changed_file_is_read_within_a_second() {
    let host = Host::new(&set(&[oct("one", SECRET)]), &["HS256"]);
    host.write(&set(&[oct("one", OTHER)]));
    let (old, new) = (token(SECRET, Some("one")), token(OTHER, Some("one")));
    assert_eq!(host.judge(&old, 999), "");
    assert_eq!(host.judge(&old, 1_000), "signature does not match");
    assert_eq!(host.judge(&new, 1_000), "");
    // A set without keys withdraws them all.
    host.write(&set(&[]));
    assert_eq!(host.judge(&new, 2_000), "unknown key id");
}

#[test]
fn an_unknown_id_is_looked_for_at_once_and_five_times_a_second() {
    let host = Host::new(&set(&[oct("one", SECRET)]), &["HS256"]);
    host.write(&set(&[oct("one", SECRET), oct("two", OTHER)]));
    assert_eq!(host.judge(&token(OTHER, Some("two")), 1), "");
    host.write(&set(&[oct("three", OTHER)]));
    let three = token(OTHER, Some("three"));
    assert_eq!(host.judge(&three, 200), "unknown key id");
    assert_eq!(host.judge(&three, 201), "");
}

#[test]
fn a_file_that_cannot_be_used_leaves_the_keys() {
    let host = Host::new(&set(&[oct("one", SECRET)]), &["HS256"]);
    let one = token(SECRET, Some("one"));
    for (second, text) in [
        "{".to_owned(),
        "[]".to_owned(),
        set(&[oct("one", "short")]).to_string(),
        " ".repeat(2 << 20),
    ]
    .iter()
    .enumerate()
    {
        write(host.folder.path(), text);
        assert_eq!(
            host.judge(&one, 1_000 * (second as u64 + 1)),
            "",
            "{text:.40}"
        );
    }
    std::fs::remove_file(host.folder.path().join("jwks.json")).unwrap();
    assert_eq!(host.judge(&one, 10_000), "");
    host.write(&set(&[oct("one", OTHER)]));
    assert_eq!(host.judge(&one, 11_000), "signature does not match");
}

#[test]
fn public_keys_of_a_set_verify() {
    let cases = [
        ("rsa.pem", Algorithm::RS256),
        ("ec.pem", Algorithm::ES256),
        ("ec384.pem", Algorithm::ES384),
    ];
    let keys = cases.map(|(file, algorithm)| public(file, algorithm));
    let host = Host::new(&set(&keys), &["RS256", "RS512", "ES256", "ES384"]);
    for (file, algorithm) in cases {
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(&key(file)).unwrap(),
            _ => EncodingKey::from_ec_pem(&key(file)).unwrap(),
        };
        let token = signed(algorithm, &key, None, &claims(json!({})));
        assert_eq!(host.judge(&token, 0), "", "{file}");
    }
    // The set says that the key is for RS256.
    let rsa = EncodingKey::from_rsa_pem(&key("rsa.pem")).unwrap();
    let other = signed(Algorithm::RS512, &rsa, None, &claims(json!({})));
    assert_eq!(host.judge(&other, 0), "signature does not match");
}

#[test]
fn keys_that_cannot_be_used_are_ignored_and_spoil_nothing() {
    let rsa = public("rsa.pem", Algorithm::RS256);
    let ec = public("ec.pem", Algorithm::ES256);
    let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 31]) });
    let unusable = [
        (oct("empty", ""), "a secret of 0 bytes"),
        (oct("short", "0123456789"), "a secret of 10 bytes"),
        (with(ed, &json!({ "kid": "ed" })), "expected 32 bytes"),
        (with(rsa.clone(), &json!({ "use": "enc" })), "use"),
        (
            with(rsa.clone(), &json!({ "key_ops": ["encrypt"] })),
            "key_ops",
        ),
        (with(rsa.clone(), &json!({ "alg": "RSA-OAEP" })), "alg"),
        (with(rsa.clone(), &json!({ "alg": "ES256" })), "alg"),
        (with(rsa.clone(), &json!({ "n": "AQAB" })), "RSA"),
        (
            with(rsa.clone(), &json!({ "n": "not base64!" })),
            "base64url",
        ),
        (with(rsa, &json!({ "kid": 7 })), "wrong type"),
        (
            with(ec.clone(), &json!({ "crv": "secp256k1" })),
            "not supported",
        ),
        (with(ec.clone(), &json!({ "x": "AAAA" })), "EC P-256"),
        (with(ec, &json!({ "kty": "new" })), "not supported"),
        (json!(7), "wrong type"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (key, expected) in &unusable {
        write(folder.path(), &set(std::slice::from_ref(key)).to_string());
        let error = TokenAuthenticator::new(&config(folder.path(), &["HS256"]))
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut all: Vec<Value> = unusable.into_iter().map(|(key, _)| key).collect();
    all.push(oct("one", SECRET));
    let host = Host::new(&set(&all), &["HS256", "EdDSA"]);
    assert_eq!(host.judge(&token(SECRET, Some("one")), 0), "");
    assert_eq!(host.judge(&token("", Some("empty")), 0), "unknown key id");
    let ed = EncodingKey::from_ed_pem(&key("ed.pem")).unwrap();
    let ed = signed(Algorithm::EdDSA, &ed, Some("ed"), &claims(json!({})));
    assert_eq!(host.judge(&ed, 0), "unknown key id");
}

#[test]
fn a_key_set_without_secrets_is_none_for_hs_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let rsa = set(&[public("rsa.pem", Algorithm::RS256)]);
    write(folder.path(), &rsa.to_string());
    let problems = config(folder.path(), &["HS256"]).problems().join("; ");
    assert!(problems.contains("no secret for the HS"), "{problems}");
    assert_eq!(config(folder.path(), &["RS256"]).problems(), [""; 0]);
}
