use super::*;

#[test]
fn configurations_that_cannot_work_are_named() {
    let problem = |config: AuthConfig| config.problems().join("; ");
    assert_eq!(problem(with_secret()), "");
    for (config, expected) in [
        (
            AuthConfig {
                secret: Some(Secret::new("short".to_owned())),
                ..AuthConfig::default()
            },
            "at least 32 bytes",
        ),
        (
            AuthConfig {
                algorithms: vec!["HS265".to_owned()],
                ..with_secret()
            },
            "did you mean `HS256`?",
        ),
        (
            AuthConfig {
                algorithms: vec!["RS256".to_owned()],
                ..with_secret()
            },
            "`RS256` needs auth.public_keys",
        ),
        (
            with_public_keys(&["rsa.pub.pem"], &["HS256"]),
            "no secret for the HS algorithms",
        ),
        (
            AuthConfig {
                more_secrets: vec![Secret::new("short".to_owned())],
                ..with_secret()
            },
            "auth.more_secrets[0]: expected at least 32 bytes",
        ),
        (
            AuthConfig {
                secret: Some(Secret::new(SECRET.to_owned())),
                ..with_public_keys(&["rsa.pub.pem"], &["RS256"])
            },
            "auth.secret: it is for HS256",
        ),
        (
            with_public_keys(&["ec.pub.pem"], &["ES384"]),
            "`ES384` needs auth.public_keys",
        ),
        (
            with_public_keys(&["rsa.pub.pem", "ec.pub.pem"], &["RS256"]),
            "has none for this EC P-256 key",
        ),
        (
            with_public_keys(&["rsa.pem"], &["RS256"]),
            "this is a private key",
        ),
        (
            with_public_keys(&["README.md"], &["RS256"]),
            "expected a public key in PEM",
        ),
        (
            with_public_keys(&["nowhere.pem"], &["RS256"]),
            "the file cannot be read",
        ),
        (
            AuthConfig {
                leeway: Duration::MAX,
                ..with_secret()
            },
            "auth.leeway",
        ),
    ] {
        let problem = problem(config);
        assert!(problem.contains(expected), "{problem}");
    }
    let missing = AuthConfig {
        public_keys: vec!["/nowhere.pem".into()],
        ..with_secret()
    };
    let error = TokenAuthenticator::new(&missing)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nowhere.pem"), "{error}");
}

#[test]
fn a_configuration_shows_no_secret() {
    let config = AuthConfig {
        more_secrets: vec![Secret::new(OTHER.to_owned())],
        ..with_secret()
    };
    let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!shown.contains(SECRET) && !shown.contains(OTHER), "{shown}");
    assert!(shown.contains("<redacted>"), "{shown}");
}
