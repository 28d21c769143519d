use super::*;
use crate::{
    auth::{MintError, TokenMinter},
    core::secret::Secret,
};
use jsonwebtoken::{EncodingKey, encode};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const SECRET: &str = "a-secret-of-more-than-thirty-two-bytes";
const OTHER: &str = "another-secret-of-more-than-32-bytes!";

fn key_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/auth/testdata")
        .join(name)
}

fn key(name: &str) -> Vec<u8> {
    std::fs::read(key_file(name)).unwrap()
}

fn with_secret() -> AuthConfig {
    AuthConfig {
        secret: Some(Secret::new(SECRET.to_owned())),
        ..AuthConfig::default()
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn claims(changes: Value) -> Value {
    let mut claims = json!({ "userId": "ann", "role": "student", "exp": now() + 600 });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims
                .as_object_mut()
                .unwrap()
                .insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn signed(algorithm: Algorithm, key: &EncodingKey, kid: Option<&str>, claims: &Value) -> String {
    let mut header = jsonwebtoken::Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    encode(&header, claims, key).unwrap()
}

fn hs(secret: &str, changes: Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    signed(Algorithm::HS256, &key, None, &claims(changes))
}

/// A token with any header and any content, rightly signed.
fn signed_raw(header: &Value, content: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(&header.to_string()), part(content));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn verify(config: &AuthConfig, token: &str) -> Result<Identity, String> {
    let authenticator = TokenAuthenticator::new(config).unwrap();
    authenticator
        .identify(token, Moment::now())
        .map_err(|refused| {
            assert_eq!(refused.code, Code::AuthFailed);
            refused.message
        })
}

fn refusal(config: &AuthConfig, token: &str) -> String {
    verify(config, token).unwrap_err()
}

#[test]
fn a_right_token_says_who_it_is() {
    let token = hs(
        SECRET,
        json!({ "enrolledCourses": ["c1"], "jti": "7", "iat": 1 }),
    );
    let identity = verify(&with_secret(), &token).unwrap();
    assert_eq!(
        (identity.user.as_str(), identity.role.as_str()),
        ("ann", "student")
    );
    assert_eq!(
        serde_json::from_str::<Value>(&identity.claims).unwrap(),
        json!({ "enrolledCourses": ["c1"], "jti": "7" })
    );
    assert!(identity.expires_at.unwrap() > now());
    let by_sub = hs(SECRET, json!({ "userId": null, "sub": "ben" }));
    assert_eq!(
        verify(&with_secret(), &by_sub).unwrap().user.as_str(),
        "ben"
    );
}

#[test]
fn every_wrong_token_is_refused_for_what_is_wrong() {
    let config = with_secret();
    let none = {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!(
            "{}.{}.",
            part(json!({ "alg": "none", "typ": "JWT" })),
            part(claims(json!({})))
        )
    };
    let rsa = EncodingKey::from_rsa_pem(&key("rsa.pem")).unwrap();
    for (token, expected) in [
        (hs(SECRET, json!({ "exp": now() - 6 })), "token expired"),
        (
            hs(SECRET, json!({ "nbf": now() + 60 })),
            "token not yet valid",
        ),
        (hs(SECRET, json!({ "exp": null })), "token has no exp"),
        (hs(SECRET, json!({ "exp": "soon" })), "token has no exp"),
        (hs(OTHER, json!({})), "signature does not match"),
        (none, "algorithm not allowed"),
        (
            signed(Algorithm::RS256, &rsa, None, &claims(json!({}))),
            "algorithm not allowed",
        ),
        (
            hs(SECRET, json!({ "userId": "a:b" })),
            "token has no valid user id",
        ),
        (
            hs(SECRET, json!({ "userId": 7 })),
            "token has no valid user id",
        ),
        (
            hs(SECRET, json!({ "userId": null })),
            "token has no valid user id",
        ),
        (hs(SECRET, json!({ "role": null })), "token has no role"),
        (hs(SECRET, json!({ "role": "root" })), "role is not allowed"),
        (
            hs(SECRET, json!({ "role": ["admin"] })),
            "role is not allowed",
        ),
        (String::new(), "token is empty"),
        ("garbage".to_owned(), "not a JWT"),
        ("a.b.c".to_owned(), "not a JWT"),
        (format!("{}.x", hs(SECRET, json!({}))), "not a JWT"),
        (
            hs(SECRET, json!({}))
                .trim_end_matches(|c| c != '.')
                .to_owned(),
            "signature does not match",
        ),
        (signed_raw(&json!({ "alg": "HS256" }), "7"), "not a JWT"),
        (
            signed_raw(&json!({ "alg": "HS256", "kid": 7 }), "{}"),
            "not a JWT",
        ),
        (
            signed_raw(
                &json!({ "alg": "HS256", "crit": ["b64"], "b64": true }),
                &claims(json!({})).to_string(),
            ),
            "token has a critical header",
        ),
        (hs(SECRET, json!({ "nbf": "now" })), "token not yet valid"),
        (hs(SECRET, json!({ "exp": -1 })), "token expired"),
        ("x".repeat(100_000), "token too long"),
    ] {
        assert_eq!(refusal(&config, &token), expected, "{token:.80}");
    }
    assert!(
        verify(
            &config,
            &signed_raw(
                &json!({ "alg": "HS256", "v": 1 }),
                &claims(json!({})).to_string()
            )
        )
        .is_ok(),
        "a header may have members that nobody knows"
    );
}

#[test]
fn times_are_judged_with_the_leeway_and_not_a_moment_more() {
    let authenticator = TokenAuthenticator::new(&with_secret()).unwrap();
    let at = |token: &str, milliseconds: u64| {
        let now = Moment {
            wall: Duration::from_millis(milliseconds),
            steady: Instant::now(),
        };
        authenticator
            .identify(token, now)
            .map_err(|refused| refused.message)
    };
    let token = hs(SECRET, json!({ "nbf": 1_000, "exp": 2_000 }));
    assert_eq!(at(&token, 994_999).unwrap_err(), "token not yet valid");
    assert!(at(&token, 995_000).is_ok());
    assert_eq!(at(&token, 2_004_999).unwrap().expires_at, Some(2_000));
    assert_eq!(at(&token, 2_005_000).unwrap_err(), "token expired");
    let fraction = hs(SECRET, json!({ "exp": 1_999.5 }));
    assert!(at(&fraction, 2_004_499).is_ok());
    assert_eq!(at(&fraction, 2_004_500).unwrap_err(), "token expired");
}

#[test]
fn an_end_that_is_out_of_reach_overflows_nothing() {
    for end in [json!(u64::MAX), json!(1e300)] {
        let identity = verify(&with_secret(), &hs(SECRET, json!({ "exp": end }))).unwrap();
        assert_eq!(identity.expires_at, Some(LAST_SECOND));
    }
}

#[test]
fn audience_and_issuer_are_checked_where_they_are_set() {
    let config = AuthConfig {
        audience: Some("realtime".to_owned()),
        issuer: Some("login".to_owned()),
        ..with_secret()
    };
    let right = json!({ "aud": ["web", "realtime"], "iss": "login" });
    assert!(verify(&config, &hs(SECRET, right)).is_ok());
    for (changes, expected) in [
        (
            json!({ "aud": "web", "iss": "login" }),
            "audience does not match",
        ),
        (json!({ "iss": "login" }), "audience does not match"),
        (
            json!({ "aud": "realtime", "iss": "else" }),
            "issuer does not match",
        ),
        (
            json!({ "aud": "realtime", "iss": ["login"] }),
            "issuer does not match",
        ),
        (
            json!({ "aud": ["web", 7], "iss": "login" }),
            "audience does not match",
        ),
        (json!({ "aud": "realtime" }), "issuer does not match"),
    ] {
        assert_eq!(refusal(&config, &hs(SECRET, changes)), expected);
    }
    assert!(verify(&with_secret(), &hs(SECRET, json!({ "aud": "web" }))).is_ok());
}

fn with_public_keys(files: &[&str], algorithms: &[&str]) -> AuthConfig {
    AuthConfig {
        public_keys: files.iter().map(|file| key_file(file)).collect(),
        algorithms: algorithms.iter().map(|name| (*name).to_owned()).collect(),
        ..AuthConfig::default()
    }
}

#[test]
fn public_keys_verify_their_own_family_only() {
    let config = with_public_keys(
        &["rsa.pub.pem", "ec.pub.pem", "ec384.pub.pem", "ed.pub.pem"],
        &["RS256", "PS256", "ES256", "ES384", "EdDSA"],
    );
    assert_eq!(config.problems(), [""; 0]);
    let rsa = EncodingKey::from_rsa_pem(&key("rsa.pem")).unwrap();
    let ec = EncodingKey::from_ec_pem(&key("ec.pem")).unwrap();
    let ec384 = EncodingKey::from_ec_pem(&key("ec384.pem")).unwrap();
    let ed = EncodingKey::from_ed_pem(&key("ed.pem")).unwrap();
    for (algorithm, key) in [
        (Algorithm::RS256, &rsa),
        (Algorithm::PS256, &rsa),
        (Algorithm::ES256, &ec),
        (Algorithm::ES384, &ec384),
        (Algorithm::EdDSA, &ed),
    ] {
        let token = signed(algorithm, key, None, &claims(json!({})));
        assert!(verify(&config, &token).is_ok(), "{algorithm:?}");
    }
    let pinned = with_public_keys(&["rsa.pub.pem"], &["RS256"]);
    let token = signed(Algorithm::PS256, &rsa, None, &claims(json!({})));
    assert_eq!(refusal(&pinned, &token), "algorithm not allowed");
}

#[test]
fn a_public_key_is_never_a_secret() {
    // Signed by HMAC with the text of the public key, as an attacker who knows it would.
    let confused = EncodingKey::from_secret(&key("rsa.pub.pem"));
    let token = signed(Algorithm::HS256, &confused, None, &claims(json!({})));
    let config = with_public_keys(&["rsa.pub.pem"], &["RS256"]);
    assert_eq!(refusal(&config, &token), "algorithm not allowed");
    // Not even where HS tokens are accepted beside.
    let both = AuthConfig {
        secret: Some(Secret::new(SECRET.to_owned())),
        ..with_public_keys(&["rsa.pub.pem"], &["RS256", "HS256"])
    };
    assert_eq!(refusal(&both, &token), "signature does not match");
}

#[test]
fn secrets_can_be_rotated() {
    let config = AuthConfig {
        more_secrets: vec![Secret::new(OTHER.to_owned())],
        ..with_secret()
    };
    for secret in [SECRET, OTHER] {
        assert!(verify(&config, &hs(secret, json!({}))).is_ok());
    }
    assert_eq!(
        refusal(
            &config,
            &hs("neither-of-the-two-secrets-of-32-bytes", json!({}))
        ),
        "signature does not match"
    );
    // What is wrong is said of the key that fits.
    assert_eq!(
        refusal(&config, &hs(OTHER, json!({ "exp": 1 }))),
        "token expired"
    );
}

#[test]
fn roles_have_aliases_and_a_default() {
    let config = AuthConfig {
        role_aliases: [("teacher".to_owned(), "educator".to_owned())].into(),
        default_role: Some("student".to_owned()),
        ..with_secret()
    };
    assert_eq!(
        verify(&config, &hs(SECRET, json!({ "role": "teacher" })))
            .unwrap()
            .role,
        "educator"
    );
    assert_eq!(
        verify(&config, &hs(SECRET, json!({ "role": null })))
            .unwrap()
            .role,
        "student"
    );
}

#[test]
fn guests_are_only_where_they_are_allowed() {
    let request = GuestRequest {
        username: "Ann".to_owned(),
        email: Some("ann@example.org".to_owned()),
    };
    let guest = |guests| {
        let config = AuthConfig {
            guests,
            ..with_secret()
        };
        TokenAuthenticator::new(&config).unwrap().guest(&request)
    };
    assert!(guest(false).is_none());
    let (one, two) = (guest(true).unwrap(), guest(true).unwrap());
    assert_ne!(one.user, two.user);
    assert_eq!((one.role.as_str(), one.expires_at), ("guest", None));
    assert!(one.claims.contains("ann@example.org"));
}

#[test]
fn what_is_minted_is_accepted() {
    let config = AuthConfig {
        audience: Some("realtime".to_owned()),
        issuer: Some("dev".to_owned()),
        algorithms: vec!["HS512".to_owned()],
        ..with_secret()
    };
    let minter = TokenMinter::from_config(&config).unwrap();
    let mut more = Map::new();
    more.insert("name".to_owned(), "Ann".into());
    let token = minter
        .mint("ann", "admin", Duration::from_secs(60), more)
        .unwrap();
    let identity = verify(&config, &token).unwrap();
    assert_eq!(
        (identity.role.as_str(), identity.claims.as_str()),
        ("admin", r#"{"name":"Ann"}"#)
    );
    assert!(
        minter
            .mint("a:b", "admin", Duration::from_secs(60), Map::new())
            .is_err()
    );
    assert!(
        minter
            .mint("ann", "root", Duration::from_secs(60), Map::new())
            .is_err()
    );
    assert!(
        minter
            .mint("ann", "admin", Duration::MAX, Map::new())
            .is_ok()
    );
    let mut much = Map::new();
    much.insert("name".to_owned(), "x".repeat(TOKEN_BYTES).into());
    assert!(matches!(
        minter.mint("ann", "admin", Duration::from_secs(60), much),
        Err(MintError::TooLong(_))
    ));
}

mod configuration;
mod key_sets;
