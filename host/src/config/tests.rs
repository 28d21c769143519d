use super::*;

const SECRET: &str = "a-secret-of-more-than-thirty-two-bytes";

fn load(file: &str, environment: &[(&str, &str)], flags: Flags) -> Result<Loaded, InvalidConfig> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("switchboard.toml");
    std::fs::write(&path, file).unwrap();
    let flags = Flags {
        config: Some(path),
        ..flags
    };
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(&flags, environment)
}

fn loaded(file: &str, environment: &[(&str, &str)]) -> Config {
    load(file, environment, Flags::default()).unwrap().config
}

fn problems(file: &str, environment: &[(&str, &str)]) -> Vec<String> {
    load(file, environment, Flags::default()).unwrap_err().0
}

#[test]
fn later_sources_win() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\n[limits]\nburst = 7\nmailbox = 8";
    let environment = [
        ("SWITCHBOARD_SERVER__LISTEN", "127.0.0.1:2"),
        ("SWITCHBOARD_LIMITS__BURST", "9"),
    ];
    let flags = Flags {
        listen: Some("127.0.0.1:3".to_owned()),
        ..Flags::default()
    };
    let config = load(file, &environment, flags).unwrap().config;
    assert_eq!(config.server.listen, "127.0.0.1:3");
    assert_eq!((config.limits.burst, config.limits.mailbox), (9, 8));
    assert_eq!(config.limits.depth, LimitsConfig::default().depth);
}

#[test]
fn the_names_of_the_source_documents_work() {
    let config = loaded(
        "",
        &[
            ("WEBSOCKET_PATH", "/live"),
            (
                "WEBSOCKET_CORS_ORIGIN",
                "https://a.example, https://b.example",
            ),
            ("WEBSOCKET_PING_TIMEOUT", "30000"),
            ("WEBSOCKET_PING_INTERVAL", "10s"),
            ("REDIS_HOST", "127.0.0.1"),
            ("REDIS_PORT", "6380"),
            ("REDIS_PASSWORD", "12345"),
            ("JWT_SECRET", SECRET),
            ("FRONTEND_URL", "https://c.example"),
        ],
    );
    assert_eq!(config.socket.path, "/live");
    assert_eq!(
        config.socket.cors_origin,
        ["https://a.example", "https://b.example"]
    );
    assert_eq!(config.socket.ping_timeout, Duration::from_secs(30));
    assert_eq!(config.socket.ping_interval, Duration::from_secs(10));
    assert_eq!(config.redis.port, Some(6380));
    assert!(config.redis.is_set() && config.auth.has_keys());
    let config = loaded("", &[("REDIS_URL", "rediss://redis.example")]);
    assert!(config.redis.is_set() && config.redis.is_encrypted());
    let config = loaded("", &[("FRONTEND_URL", "https://c.example")]);
    assert_eq!(config.socket.cors_origin, ["https://c.example"]);
}

#[test]
fn a_text_of_the_environment_is_read_as_what_is_expected() {
    let config = loaded(
        "",
        &[
            ("SWITCHBOARD_API__KEY", "1234567890123456"),
            (
                "SWITCHBOARD_SOCKET__CORS_ORIGIN",
                "https://a.example,https://b.example",
            ),
            ("SWITCHBOARD_AUTH__LATE", "false"),
            ("SWITCHBOARD_PLUGINS__QUARANTINE__FAULTS", "3"),
            ("SWITCHBOARD_PLUGIN__CHAT__NAMESPACE", "/chat"),
        ],
    );
    assert_eq!(config.api.keys().next(), Some("1234567890123456"));
    assert_eq!(config.socket.cors_origin.len(), 2);
    assert!(!config.auth.late);
    assert_eq!(config.plugins.quarantine.faults, 3);
    assert_eq!(config.plugin.len(), 1);
}

#[test]
fn unknown_keys_are_named_with_their_nearest_neighbour() {
    let problems = problems(
        "[sockets]\n[socket]\npaht = 1\n[limits]\nbrust = 2\n[plugin.chat]\nsetting = {}\n[plugins.quarantine]\nuser = 1",
        &[("SWITCHBOARD_AUTH__SECRETT", "x")],
    );
    for expected in [
        "unknown key `sockets`; did you mean `socket`?",
        "unknown key `socket.paht`; did you mean `path`?",
        "unknown key `limits.brust`; did you mean `burst`?",
        "unknown key `plugin.chat.setting`; did you mean `settings`?",
        "unknown key `plugins.quarantine.user`; did you mean `users`?",
        "environment SWITCHBOARD_AUTH__SECRETT: unknown key `auth.secrett`; did you mean `secret`?",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{expected}: {problems:#?}"
        );
    }
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("switchboard.toml: unknown key `socket.paht`"))
    );
}

#[test]
fn wrong_values_are_named_and_listed_together() {
    let problems = problems(
        "[limits]\nburst = \"many\"\n[socket]\nping_interval = 25",
        &[
            ("SWITCHBOARD_SOCKET__MAX_CONNECTIONS", "lots"),
            ("SWITCHBOARD_URL", "1"),
        ],
    );
    for expected in [
        "limits.burst: invalid type",
        "socket.ping_interval: invalid type",
        "environment SWITCHBOARD_SOCKET__MAX_CONNECTIONS: socket.max_connections: invalid type: string \"lots\"",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{expected}: {problems:#?}"
        );
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for (file, expected) in [
        ("[server]\nlisten = \"nowhere\"", "server.listen"),
        ("[socket]\npath = \"socket.io\"", "socket.path"),
        (
            "[socket]\ncors_origin = [\"example.org\"]",
            "socket.cors_origin",
        ),
        ("[limits]\nmailbox = 0", "limits.mailbox"),
        ("[api]\nkey = \"short\"", "api.key"),
        ("[auth]\nsecret = \"short\"", "auth.secret"),
        ("[plugins]\nmemory_mb = 0", "plugins.memory_mb"),
        ("[plugins]\norder = [\"Chat\"]", "plugins.order"),
    ] {
        let problems = problems(file, &[]);
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{expected}: {problems:?}"
        );
    }
    let missing = Flags {
        config: Some("/nowhere/switchboard.toml".into()),
        ..Flags::default()
    };
    let error = Config::load(&missing, []).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

#[test]
fn what_may_be_secret_is_not_repeated_where_it_is_wrong() {
    for (file, key) in [
        ("redis.password = 4711", "redis.password"),
        ("redis.password = 4711.5", "redis.password"),
        ("redis.password = { a = \"4711\" }", "redis.password"),
        (
            "redis.sentinel_password = [\"4711\"]",
            "redis.sentinel_password",
        ),
        ("redis.url = 4711", "redis.url"),
        ("redis.url = \"http://:4711@h\"", "redis.url"),
        ("redis.host = \"redis://:4711@h\"", "redis.host"),
        ("redis.host = \":4711@h\"", "redis.host"),
        ("redis.nodes = [\"redis://:4711@h:1\"]", "redis.nodes"),
        ("redis.nodes = [4711]", "redis.nodes"),
        ("redis.nodes = \"redis://:4711@h:1\"", "redis.nodes"),
        ("redis.sentinels = \":4711@h\"", "redis.sentinels"),
        ("redis = \"redis://:4711@h:1\"", "redis"),
        ("auth.secret = 4711", "auth.secret"),
        ("auth.more_secrets = \"4711\"", "auth.more_secrets"),
        ("auth.more_secrets = [4711]", "auth.more_secrets"),
        ("api.key = 4711", "api.key"),
        ("api.more_keys = 4711", "api.more_keys"),
    ] {
        let [problem] = &problems(file, &[])[..] else {
            panic!("{file}: one problem");
        };
        assert!(
            problem.contains(key) && problem.contains("expected"),
            "{file}: {problem}"
        );
        assert!(!problem.contains("4711"), "{file}: {problem}");
    }
    let environment = [("SWITCHBOARD_REDIS__NODES", "a:1,redis://:4711@b:2")];
    let shown = problems("redis.cluster = true", &environment).join(" ");
    assert!(
        shown.contains("SWITCHBOARD_REDIS__NODES") && !shown.contains("4711"),
        "{shown}"
    );
    // In the environment a number is a text, too.
    let config = loaded(
        "",
        &[("REDIS_HOST", "h"), ("SWITCHBOARD_REDIS__PASSWORD", "4711")],
    );
    assert_eq!(config.redis.password.unwrap().expose(), "4711");
}

#[test]
fn what_is_shown_says_where_it_comes_from_and_hides_secrets() {
    let file =
        format!("[limits]\nburst = 7\n[auth]\nsecret = \"{SECRET}\"\n[api]\nkey = \"{SECRET}\"");
    let loaded = load(
        &file,
        &[
            ("REDIS_URL", &format!("redis://ann:{SECRET}@redis.example")),
            ("WEBSOCKET_PATH", "/live"),
        ],
        Flags::default(),
    )
    .unwrap();
    let shown = format!("{} {:?}", loaded.show(), loaded.config);
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(
        shown.contains("path = \"/live\"  # environment WEBSOCKET_PATH"),
        "{shown}"
    );
    assert!(
        shown.contains("burst = 7  # ") && shown.contains("switchboard.toml"),
        "{shown}"
    );
    for name in ["REDIS_PASSWORD", "JWT_SECRET"] {
        let loaded = load("", &[(name, SECRET)], Flags::default()).unwrap();
        assert!(!loaded.show().contains(SECRET), "{name}");
    }
    // What is shown is a configuration again, apart from the secrets.
    let again: Table = loaded.show().parse().unwrap();
    assert!(again.contains_key("limits"));
}

#[test]
fn the_example_is_valid_and_complete() {
    let example = include_str!("../../../examples/switchboard.toml");
    let config = loaded(example, &[]);
    assert!(config.problems().is_empty());
}

#[test]
fn serving_needs_a_key_or_guests() {
    let problem = loaded("", &[]).problem_of_serving().unwrap();
    assert!(problem.contains("JWT_SECRET"), "{problem}");
    assert!(
        loaded("", &[("JWT_SECRET", SECRET)])
            .problem_of_serving()
            .is_none()
    );
    assert!(
        loaded("[auth]\nguests = true", &[])
            .problem_of_serving()
            .is_none()
    );
}

#[test]
fn what_could_not_work_is_refused_by_its_key() {
    for (file, expected) in [
        (
            "[socket]\npath = \"/api\"",
            "socket.path: `/api` would hide",
        ),
        (
            "[socket]\npath = \"/metrics\"",
            "would hide the host's own `/metrics`",
        ),
        (
            "[plugins]\nmemory_mb = 9999999",
            "plugins.memory_mb: expected at most 4096",
        ),
        (
            "[plugins]\norder = [\"a\", \"b\", \"a\"]",
            "plugins.order: `a` is there twice",
        ),
        (
            "[plugin.rooms]\ncapabilities = [\"files\"]",
            "plugin.rooms.capabilities: there is no capability `files`",
        ),
        (
            "[plugin.rooms]\nrooms = [\"user\"]",
            "plugin.rooms.rooms: `user` is the host's own",
        ),
    ] {
        let found = problems(file, &[]);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn channels_are_events_and_need_a_redis() {
    let file = "[channels.\"message:new\"]\nkey = \"roomId\"\n[channels.\"a b\"]\nevent = \"x\"\nplugin = \"chat\"\n\
                [plugin.chat]\nchannels = [\"message:*\"]";
    let redis = [("REDIS_HOST", "127.0.0.1")];
    let shown = load(file, &redis, Flags::default()).unwrap().show();
    for config in [loaded(file, &redis), loaded(&shown, &[])] {
        let events: Vec<_> = config.channels.values().flat_map(|it| &it.event).collect();
        assert_eq!(
            events.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
            ["x", "message:new"]
        );
        assert!(config.has_channels() && config.needs_redis());
    }
    for (file, environment, expected) in [
        (file, &[][..], "channels.\"a b\": channels need a Redis"),
        (
            "[channels.x]\nevnt = \"y\"",
            &redis[..],
            "unknown key `channels.x.evnt`; did you mean `event`?",
        ),
        (
            "[channels.\"switchboard:nodes\"]",
            &redis[..],
            "hosts themselves speak",
        ),
        (
            "[channels.'a\"b']",
            &redis[..],
            "say which event it becomes",
        ),
        ("[channels.\"\"]", &redis[..], "channel `` is not valid"),
        (
            "[plugin.chat]\nchannels = [\"*a\"]",
            &redis[..],
            "plugin.chat.channels",
        ),
    ] {
        let found = problems(file, environment).join("; ");
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn a_host_without_channels_needs_redis_for_other_things_only() {
    let redis = ("REDIS_HOST", "127.0.0.1");
    let alone = ("SWITCHBOARD_CLUSTER__ENABLED", "false");
    assert!(!loaded("", &[redis, alone]).needs_redis());
    assert!(loaded("[channels.x]", &[redis, alone]).needs_redis());
    assert!(loaded("[plugin.chat]\nchannels = [\"x\"]", &[redis, alone]).needs_redis());
    assert!(loaded("", &[redis]).has_channels());
    assert!(!loaded("", &[]).has_channels());
}
