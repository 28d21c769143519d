//! Handlers and emissions: what a plugin's functions are given, and what becomes of what they want.

use serde::Deserialize;
use serde_json::{Value, json};
use switchboard_plugin::{
    Ack, Acknowledged, Binary, Cx, Error, Id, Json, Plugin, Result, TestHost, User, log,
};

fn host(plugin: Plugin) -> TestHost {
    TestHost::new(plugin.rooms(["chat"]).needs(["rooms", "kv"]))
}

fn new() -> Plugin {
    Plugin::new("test")
}

fn enter(cx: &mut Cx, room: String) -> Result<Ack> {
    cx.join(format!("chat:{room}"));
    Ok(Ack::ok())
}

// ---- handlers ----------------------------------------------------------------------------------

#[test]
fn handlers_take_up_to_four_arguments() {
    let plugin = new()
        .on("none", |_: &mut Cx| Ok(Ack::ok()))
        .on("two", |_: &mut Cx, a: String, b: u32| Ack::raw(&(a, b)))
        .on("four", |_: &mut Cx, a: u8, b: u8, c: u8, d: Option<u8>| {
            Ack::raw(&[Some(a), Some(b), Some(c), d])
        });
    let mut host = host(plugin);
    let ann = host.connect("ann");
    let nothing: [u8; 0] = [];
    host.send_args(&ann, "none", nothing).expect_ok();
    host.send_args(&ann, "none", (1, 2)).expect_ok();
    let two = host.send_args(&ann, "two", ("x", 7)).expect_args();
    assert_eq!(two, [json!("x"), json!(7)]);
    let four = host.send_args(&ann, "four", [1, 2, 3]).expect_args();
    assert_eq!(four, [json!(1), json!(2), json!(3), Value::Null]);
    let message = host.send(&ann, "two", "x").expect_error("INVALID_PAYLOAD");
    assert_eq!(message, "argument 2: it is missing");
    let message = host
        .send_args(&ann, "two", ("x", "y"))
        .expect_error("INVALID_PAYLOAD");
    assert!(message.starts_with("argument 2: invalid type"), "{message}");
    host.send(&ann, "five", 1).expect_error("UNKNOWN_EVENT");
}

#[test]
fn answers_and_verdicts_reach_the_sender_as_they_are() {
    let plugin = new()
        .on("silent", |_: &mut Cx| Ok(Ack::none()))
        .on("with", |_: &mut Cx| Ack::with(&json!({ "id": 7 })))
        .on("bare", |_: &mut Cx| Ack::with(&json!({})))
        .on("wrong", |_: &mut Cx| Ack::with(&7))
        .on("refuse", |_: &mut Cx| -> Result<Ack> {
            Err(Error::new("CLOSED", "come back").details(json!({ "at": 9 })))
        })
        .on("limited", |_: &mut Cx| -> Result<Ack> {
            Err(Error::rate_limited("slower", 50))
        })
        .on("odd", |_: &mut Cx| -> Result<Ack> {
            Err(Error::new("not a code", ""))
        });
    let mut host = host(plugin);
    let ann = host.connect("ann");
    let mut ask = |event: &str| host.send(&ann, event, Value::Null);
    assert_eq!(ask("silent").expect_ok(), json!({ "ok": true }));
    assert_eq!(ask("with").expect_ok(), json!({ "ok": true, "id": 7 }));
    assert_eq!(ask("bare").expect_ok(), json!({ "ok": true }));
    ask("wrong").expect_error("PLUGIN_FAILED");
    let refused = json!({ "code": "CLOSED", "message": "come back", "details": { "at": 9 } });
    assert_eq!(ask("refuse").expect_failure("CLOSED"), refused);
    let limited = ask("limited").expect_failure("RATE_LIMITED");
    assert_eq!(limited["details"], json!({ "retryAfterMs": 50 }));
    let odd = ask("odd").expect_failure("PLUGIN_FAILED").to_string();
    assert!(odd.contains("UPPER_SNAKE_CASE"), "{odd}");
    host.tell(&ann, "refuse", Value::Null);
    let told = host.take(&ann, "error");
    assert_eq!(
        (&told["code"], &told["event"]),
        (&json!("CLOSED"), &json!("refuse"))
    );
    host.tell(&ann, "with", Value::Null);
    host.expect_silence(&ann);
}

#[test]
fn a_handler_knows_whose_event_it_is() {
    #[derive(Deserialize)]
    struct Claims {
        name: String,
    }
    fn who(cx: &mut Cx) -> Result<Ack> {
        let name = cx.claims::<Claims>()?.name;
        let who = json!({
            "user": cx.user()?, "role": cx.role(), "name": name, "claim": cx.claim("name"),
            "none": cx.claim("none"), "connection": cx.connection(), "namespace": cx.namespace(),
            "waits": cx.wants_ack(), "now": cx.now_ms(), "at": cx.timestamp(), "event": cx.event_id(),
            "ids": [cx.new_id(), cx.new_id()],
            "claimed": [cx.claimed_ids("courses"), cx.claimed_ids("name"), cx.claimed_ids("none")],
        });
        Ack::with(&who)
    }
    let mut host = host(new().on("who", who).on_server_event("who", who));
    let eve = host.connect(
        User::new("eve")
            .role("educator")
            .claim("name", "Eve")
            .claim("courses", json!(["c2", "c1", 7, "a:b", "c1"])),
    );
    let who = host.send(&eve, "who", Value::Null).expect_ok();
    assert_eq!(who["connection"], eve.id());
    let expected = [
        ("user", json!("eve")),
        ("role", json!("educator")),
        ("name", json!("Eve")),
        ("claim", json!("Eve")),
        ("none", Value::Null),
        ("claimed", json!([["c1", "c2"], [], []])),
        ("namespace", json!("/")),
        ("waits", json!(true)),
        ("now", json!(1_700_049_600_000_u64)),
        ("at", json!("2023-11-15T12:00:00.000Z")),
    ];
    for (member, value) in expected {
        assert_eq!(who[member], value, "{member}");
    }
    assert_ne!(who["ids"][0], who["ids"][1]);
    let later = host.send(&eve, "who", Value::Null).expect_ok();
    assert_ne!(
        (&later["event"], &later["ids"]),
        (&who["event"], &who["ids"])
    );
    let plain = host.connect("plain");
    host.send(&plain, "who", Value::Null)
        .expect_error("INVALID_PAYLOAD");
    host.server_event("who", Value::Null)
        .expect_error("PLUGIN_FAILED");
}

#[test]
fn settings_are_the_operators() {
    #[derive(Deserialize)]
    #[serde(default)]
    struct Settings {
        most: u32,
    }
    impl Default for Settings {
        fn default() -> Self {
            Self { most: 3 }
        }
    }
    fn most(cx: &mut Cx) -> Result<Ack> {
        Ack::raw(&(cx.settings::<Settings>()?.most,))
    }
    for (settings, most_is) in [
        (json!({}), Some(3)),
        (json!({ "most": 9 }), Some(9)),
        (json!({ "most": "x" }), None),
    ] {
        let mut host = host(new().on("most", most)).with_settings(settings);
        let ann = host.connect("ann");
        let reply = host.send(&ann, "most", Value::Null);
        match most_is {
            Some(most) => assert_eq!(reply.expect_ok(), most),
            None => {
                reply.expect_error("PLUGIN_FAILED");
                assert!(host.log()[0].contains("settings"), "{:?}", host.log());
            }
        }
    }
}

#[test]
fn the_manifest_says_what_the_plugin_takes_and_needs() {
    let plugin = Plugin::new("chat")
        .version("1.2.3")
        .rooms(["chat", "call"])
        .needs(["kv"])
        .settings_schema(json!({ "type": "object" }))
        .state_versions([1, 2], 2)
        .on("say", enter)
        .on_server_event("create", enter)
        .on_connected(|_| Ok(()))
        .on_joined(|_, _| Ok(()))
        .on_left(|_, _| Ok(()))
        .on_acknowledged(|_, _| Ok(()))
        .on_disconnected(|_, _| Ok(()));
    let expected = json!({
        "name": "chat",
        "version": "1.2.3",
        "subscriptions": {
            "messages": ["say"],
            "notices": ["connected", "joined", "left", "acknowledged", "disconnected"],
            "server": ["create"],
        },
        "rooms": ["chat", "call"],
        "capabilities": ["kv"],
        "settings": { "type": "object" },
        "state": { "reads": [1, 2], "writes": 2 },
    });
    assert_eq!(TestHost::new(plugin).manifest(), expected);
}

// ---- emissions ---------------------------------------------------------------------------------

#[test]
fn emissions_reach_whom_they_name_once() {
    fn say(cx: &mut Cx, how: String, who: String) -> Result<Ack> {
        let emit = cx.emit("said");
        let emit = match how.as_str() {
            "self" => emit.to_self(),
            "room" => emit.to_room("chat:a"),
            "room and user" => emit.to_room("chat:a").to_user(&who),
            "rooms" => emit.to_rooms(["chat:a", "chat:b"]),
            "users" => emit.to_users(["ann", "ben"]),
            "nobody" => emit.to_users(Vec::<Id>::new()),
            "connection" => emit.to_connection(&who),
            "others" => emit.to_everyone().except_self(),
            "not the room" => emit.to_everyone().except_room("chat:a"),
            "not the user" => emit.to_room("chat:a").except_user(&who),
            "not the connection" => emit.to_everyone().except_connection(&who),
            _ => emit,
        };
        emit.send(&how)?;
        Ok(Ack::ok())
    }
    let mut host = host(new().on("enter", enter).on("say", say));
    let names = ["ann", "ben", "ben", "cat"];
    let clients = names.map(|name| host.connect(name));
    let [ann, phone, laptop, _] = &clients;
    for (client, room) in [(ann, "a"), (phone, "a"), (laptop, "b")] {
        host.send(client, "enter", room).expect_ok();
    }
    for (how, who, heard) in [
        ("self", "", [1, 0, 0, 0]),
        ("room", "", [1, 1, 0, 0]),
        ("room and user", "ben", [1, 1, 1, 0]),
        ("rooms", "", [1, 1, 1, 0]),
        ("users", "", [1, 1, 1, 0]),
        ("nobody", "", [0, 0, 0, 0]),
        ("connection", laptop.id(), [0, 0, 1, 0]),
        ("others", "", [0, 1, 1, 1]),
        ("not the room", "", [0, 0, 1, 1]),
        ("not the user", "ben", [1, 0, 0, 0]),
        ("not the connection", ann.id(), [0, 1, 1, 1]),
    ] {
        host.send_args(ann, "say", (how, who)).expect_ok();
        let counted: Vec<usize> = clients
            .iter()
            .map(|client| host.take_all(client, "said").len())
            .collect();
        assert_eq!(counted, heard, "{how}");
    }
    host.send_args(ann, "say", ("to whom?", ""))
        .expect_error("PLUGIN_FAILED");
    assert!(host.log()[0].contains("say to whom"), "{:?}", host.log());
}

#[test]
fn emissions_have_any_number_of_arguments() {
    fn say(cx: &mut Cx) -> Result<Ack> {
        cx.emit("none").to_self().send_nothing()?;
        cx.emit("one").to_self().volatile().send(&[1, 2])?;
        cx.emit("two").to_self().send_args(&("a", 2))?;
        Ok(Ack::ok())
    }
    let mut host = host(new().on("say", say));
    let ann = host.connect("ann");
    host.send(&ann, "say", Value::Null).expect_ok();
    assert_eq!(host.heard(&ann), ["none", "one", "two"]);
    assert_eq!(host.take(&ann, "none"), Value::Null);
    assert_eq!(host.take_args(&ann, "one"), [json!([1, 2])]);
    assert_eq!(host.take_args(&ann, "two"), [json!("a"), json!(2)]);
}

#[test]
fn binary_data_goes_on_and_out() {
    #[derive(Deserialize)]
    struct File {
        name: String,
        data: Binary,
    }
    fn share(cx: &mut Cx, file: File, more: Json) -> Result<Ack> {
        let size = file.data.size();
        let reversed = Binary::Bytes(file.data.read().into_iter().rev().collect());
        cx.emit("shared")
            .to_self()
            .send_args(&(&reversed, &file.data, more))?;
        Ack::with(&json!({ "name": file.name, "size": size }))
    }
    fn keep(cx: &mut Cx, file: Json) -> Result<Ack> {
        cx.kv("files").set("last", &file)?;
        Ok(Ack::ok())
    }
    let mut host = host(new().on("share", share).on("keep", keep));
    let ann = host.connect("ann");
    let stands = |number: u32| json!({ "_placeholder": true, "num": number });
    let args = json!([{ "name": "x", "data": stands(1) }, { "deep": [stands(0)] }]);
    let answer = host
        .send_binary(&ann, "share", args, vec![vec![9], vec![1, 2]])
        .expect_ok();
    assert_eq!(answer, json!({ "ok": true, "name": "x", "size": 2 }));
    let (args, attachments) = host.take_binary(&ann, "shared");
    assert_eq!(args, [stands(0), stands(1), json!({ "deep": [stands(2)] })]);
    assert_eq!(attachments, [vec![2, 1], vec![1, 2], vec![9]]);
    let message = host
        .send_args(&ann, "share", (json!({ "name": "x", "data": "text" }), 1))
        .expect_error("INVALID_PAYLOAD");
    assert_eq!(message, "argument 1, `data`: expected binary data");
    host.send_binary(&ann, "keep", json!([stands(0)]), vec![vec![1]])
        .expect_error("INVALID_PAYLOAD");
    host.send(&ann, "keep", json!({ "plain": true }))
        .expect_ok();
    assert_eq!(host.stored("files", "last"), Some(json!({ "plain": true })));
}

#[test]
fn clients_answer_or_do_not() {
    fn ask(cx: &mut Cx) -> Result<Ack> {
        cx.emit("ready?")
            .to_everyone()
            .ask("round-1")
            .send_nothing()?;
        Ok(Ack::ok())
    }
    fn answered(cx: &mut Cx, answer: Acknowledged) -> Result<()> {
        log::info(format!(
            "{} {} {:?} {:?}",
            cx.user()?,
            answer.token,
            answer.args,
            answer.error
        ));
        Ok(())
    }
    let mut host = host(new().on("ask", ask).on_acknowledged(answered));
    let [ann, ben, cat] = ["ann", "ben", "cat"].map(|name| host.connect(name));
    host.send(&ann, "ask", Value::Null).expect_ok();
    host.acknowledge(&ann, "round-1", ["yes"]);
    host.let_time_out(&ben, "round-1");
    host.disconnect(&cat);
    assert_eq!(
        host.log(),
        [
            r#"ann round-1 Some([String("yes")]) None"#,
            r#"ben round-1 None Some("timeout")"#,
            r#"cat round-1 None Some("disconnected")"#,
        ]
    );
}
