//! What other services say in the name of users, and what they are told of clients.

use chat::plugin;
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Client, TestHost, User};

const NOON: &str = "2023-11-15T12:00:00.000Z";
const EVENTS: [&str; 7] = [
    "message:new",
    "message:edited",
    "message:deleted",
    "message:receipt",
    "presence:update",
    "typing:start",
    "typing:stop",
];

fn begin(mut host: TestHost) -> (TestHost, Client, Client) {
    let told = json!({ "conversationId": "c1", "members": ["ann", "bob"] });
    host.server_event("conversation-create", told).expect_ok();
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    for client in [&ann, &bob] {
        host.send(client, "join-room", "c1").expect_ok();
    }
    host.clear();
    (host, ann, bob)
}

/// Has a message sent by a client, and forgets who has heard of it; returns its id.
fn say(host: &mut TestHost, client: &Client) -> Value {
    let new = json!({ "tempId": "t1", "conversationId": "c1", "content": "hello" });
    let answer = host.send(client, "message-send", new).expect_ok();
    host.clear();
    answer.get("messageId").cloned().unwrap_or_default()
}

fn published(host: &mut TestHost) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    for event in EVENTS {
        let messages = host.take_published(event);
        all.extend(messages.into_iter().map(|message| (event, message)));
    }
    all
}

#[test]
fn others_say_what_users_do() {
    let (mut host, ann, bob) = begin(TestHost::new(plugin()));
    let new = json!({
        "userId": "ann", "tempId": "t1", "conversationId": "c1", "content": "hello",
    });
    let answer = host.channel_message("message:new", &new).expect_ok();
    let id = answer["messageId"].clone();
    let message = json!({
        "id": id, "conversationId": "c1", "senderId": "ann", "content": "hello",
        "replyTo": null, "createdAt": NOON, "editedAt": null, "deleted": false,
    });
    // The author's devices hear of it, too: none of them has sent it.
    for client in [&ann, &bob] {
        assert_eq!(host.take(client, "message-new"), message);
    }
    assert_eq!(
        host.take_args(&ann, "message-ack"),
        [json!("t1"), id.clone()]
    );
    let phone = host.connect("ann");
    host.clear();
    let again = host.server_event("message:new", &new).expect_ok();
    assert_eq!(
        again,
        json!({ "ok": true, "tempId": "t1", "messageId": id })
    );
    for client in [&ann, &phone] {
        assert_eq!(
            host.take_args(client, "message-ack"),
            [json!("t1"), id.clone()]
        );
        host.expect_silence(client);
    }
    host.expect_silence(&bob);
    host.disconnect(&phone);
    assert_eq!(host.history("chat:c1").len(), 1);

    let receipt = |kind: &str| json!({ "userId": "bob", "messageId": id, "type": kind });
    for (kind, is_news) in [
        ("delivered", true),
        ("seen", true),
        ("delivered", false),
        ("seen", false),
    ] {
        host.channel_message("message:receipt", receipt(kind))
            .expect_ok();
        if is_news {
            let heard = host.take_args(&ann, "receipt");
            assert_eq!(heard, [id.clone(), json!("bob"), json!(kind)]);
        }
        host.expect_silence(&ann);
    }

    // Without a `tempId` nothing answers the author, and each is a message of its own.
    let nameless = json!({ "userId": "ann", "conversationId": "c1", "content": "more" });
    for expected in 2..4 {
        let answer = host.channel_message("message:new", &nameless).expect_ok();
        assert_eq!(answer["tempId"], json!(null));
        assert_eq!(host.history("chat:c1").len(), expected);
        for client in [&ann, &bob] {
            assert_eq!(host.take(client, "message-new")["id"], answer["messageId"]);
            host.expect_silence(client);
        }
    }

    let edit = json!({ "userId": "ann", "messageId": id, "content": "better" });
    host.server_event("message:edited", &edit).expect_ok();
    for client in [&ann, &bob] {
        assert_eq!(host.take(client, "message-edited")["content"], "better");
    }
    let delete = |user: &str, role: &str| json!({ "userId": user, "role": role, "messageId": id });
    host.channel_message("message:deleted", delete("bob", "student"))
        .expect_error("FORBIDDEN");
    host.channel_message("message:deleted", delete("root", "admin"))
        .expect_ok();
    for client in [&ann, &bob] {
        assert_eq!(host.take(client, "message-deleted"), id);
        host.expect_silence(client);
    }
}

#[test]
fn presence_of_who_is_connected_elsewhere_is_passed_on() {
    let (mut host, ann, bob) = begin(TestHost::new(plugin()));
    host.disconnect(&bob);
    host.advance(Duration::from_secs(10));
    host.clear();
    let told = |user: &str, status: &str| json!({ "userId": user, "status": status });
    host.channel_message("presence:update", told("bob", "online"))
        .expect_ok();
    assert_eq!(
        host.take_args(&ann, "presence"),
        [json!("bob"), json!("online")]
    );
    // Of who is connected here the host knows best, and tells once.
    let bob = host.connect("bob");
    host.clear();
    for _ in 0..2 {
        host.channel_message("presence:update", told("bob", "away"))
            .expect_ok();
    }
    assert_eq!(
        host.take_args(&ann, "presence"),
        [json!("bob"), json!("away")]
    );
    host.send(&bob, "presence-update", "online").expect_ok();
    assert_eq!(
        host.take_args(&ann, "presence"),
        [json!("bob"), json!("online")]
    );
}

#[test]
fn typing_elsewhere_ends_by_itself() {
    let (mut host, ann, bob) = begin(TestHost::new(plugin()));
    let told = json!({ "userId": "bob", "conversationId": "c1" });
    let news = [json!("bob"), json!("c1")];
    host.channel_message("typing:start", &told).expect_ok();
    assert_eq!(host.take_args(&ann, "typing"), news);
    host.advance(Duration::from_secs(3));
    host.channel_message("typing:start", &told).expect_ok();
    host.advance(Duration::from_secs(4));
    host.expect_silence(&ann);
    host.advance(Duration::from_secs(1));
    assert_eq!(host.take_args(&ann, "typing-stop"), news);
    host.channel_message("typing:start", &told).expect_ok();
    assert_eq!(host.take_args(&ann, "typing"), news);
    for _ in 0..2 {
        host.channel_message("typing:stop", &told).expect_ok();
    }
    assert_eq!(host.take_args(&ann, "typing-stop"), news);
    host.advance(Duration::from_secs(10));
    for client in [&ann, &bob] {
        host.expect_silence(client);
    }
}

#[test]
fn others_are_told_what_clients_do_and_it_does_not_come_back() {
    let host = TestHost::new(plugin())
        .with_channels(["message:*", "presence:update", "typing:*"])
        .with_settings(json!({ "publish": true }));
    let (mut host, ann, bob) = begin(host);
    let _connected = published(&mut host);
    let new = json!({ "tempId": "t1", "conversationId": "c1", "content": "hello" });
    let answer = host.send(&ann, "message-send", &new).expect_ok();
    let id = answer["messageId"].clone();
    // Only the first of them is news.
    host.send(&ann, "message-send", &new).expect_ok();
    for _ in 0..2 {
        host.send(&bob, "message-seen", &id).expect_ok();
    }
    let edit = json!({ "messageId": id, "content": "better" });
    host.send(&ann, "message-edit", edit).expect_ok();
    let root = host.connect(User::new("root").role("admin"));
    for _ in 0..2 {
        host.send(&root, "message-delete", &id).expect_ok();
        host.send(&bob, "typing-start", "c1").expect_ok();
    }
    host.send(&bob, "typing-stop", "c1").expect_ok();
    host.send(&bob, "presence-update", "away").expect_ok();
    let mut all = published(&mut host);
    all.retain(|(_, message)| message["userId"] != "root" || message["messageId"] == id);
    let typist = json!({ "userId": "bob", "conversationId": "c1", "origin": "switchboard" });
    assert_eq!(
        all,
        [
            (
                "message:new",
                json!({
                    "userId": "ann", "tempId": "t1", "conversationId": "c1", "content": "hello",
                    "replyTo": null, "messageId": id, "createdAt": NOON, "origin": "switchboard",
                })
            ),
            (
                "message:edited",
                json!({
                    "userId": "ann", "messageId": id, "content": "better",
                    "conversationId": "c1", "editedAt": NOON, "origin": "switchboard",
                })
            ),
            (
                "message:deleted",
                json!({
                    "userId": "root", "role": "admin", "messageId": id, "conversationId": "c1",
                    "origin": "switchboard",
                })
            ),
            (
                "message:receipt",
                json!({
                    "userId": "bob", "messageId": id, "type": "seen", "conversationId": "c1",
                    "origin": "switchboard",
                })
            ),
            (
                "presence:update",
                json!({ "userId": "bob", "status": "away", "origin": "switchboard" })
            ),
            ("typing:start", typist.clone()),
            ("typing:stop", typist),
        ]
    );
    // All of it comes back where the channels are mapped.
    host.clear();
    host.advance(Duration::from_secs(2 * 24 * 60 * 60));
    host.clear();
    let before = host.history("chat:c1");
    for (event, message) in &all {
        host.channel_message(event, message).expect_ok();
    }
    for client in [&ann, &bob, &root] {
        host.expect_silence(client);
    }
    assert_eq!(host.history("chat:c1"), before);
    // What others say is not told them again, and what another origin says is done.
    let _settled = published(&mut host);
    for (event, message) in &all {
        let mut others = message.clone();
        others["origin"] = json!("elsewhere");
        let reply = host.channel_message(event, &others);
        match *event {
            "message:edited" => drop(reply.expect_error("NOT_FOUND")),
            _ => drop(reply.expect_ok()),
        }
    }
    assert_eq!(host.take(&bob, "message-new")["content"], "hello");
    let mut again = published(&mut host);
    // What presence is, the host tells, whoever has caused it.
    again.retain(|(event, _)| *event != "presence:update");
    assert_eq!(again, []);
}

#[test]
fn channels_and_origin_have_the_names_that_the_operator_gives() {
    let host = TestHost::new(plugin())
        .with_channels(["chat.*"])
        .with_settings(json!({
            "publish": true, "origin": "north", "channels": { "message:new": "chat.new" },
        }));
    let (mut host, ann, bob) = begin(host);
    let new = json!({ "tempId": "t1", "conversationId": "c1", "content": "hello" });
    host.send(&ann, "message-send", &new).expect_ok();
    let heard = host.take_published("chat.new");
    assert_eq!((heard.len(), &heard[0]["origin"]), (1, &json!("north")));
    host.clear();
    host.channel_message("message:new", &heard[0]).expect_ok();
    host.expect_silence(&bob);
    // An event of the server API is never what the plugin has published.
    host.server_event("message:new", &heard[0]).expect_ok();
    host.advance(Duration::from_secs(2 * 24 * 60 * 60));
    host.clear();
    host.server_event("message:new", &heard[0]).expect_ok();
    assert_eq!(host.take(&bob, "message-new")["content"], "hello");
}

#[test]
fn without_redis_or_a_grant_clients_go_on() {
    let on = json!({ "publish": true });
    for (host, is_told) in [
        (TestHost::new(plugin()), false),
        (TestHost::new(plugin()).without_redis(), false),
        (TestHost::new(plugin()).with_settings(on.clone()), true),
        (
            TestHost::new(plugin())
                .with_settings(on)
                .with_channels(["message:new"])
                .without_redis(),
            true,
        ),
    ] {
        let (mut host, ann, bob) = begin(host);
        let new = json!({ "tempId": "t1", "conversationId": "c1", "content": "hello" });
        host.send(&ann, "message-send", &new).expect_ok();
        host.send(&ann, "typing-start", "c1").expect_ok();
        assert_eq!(host.heard(&bob), ["message-new", "typing"]);
        let log = host.log().join("\n");
        assert_eq!(
            log.contains("`message:new` is not published"),
            is_told,
            "{log}"
        );
    }
}

#[test]
fn what_is_malformed_fails_with_a_code() {
    let (mut host, ann, bob) = begin(TestHost::new(plugin()));
    let whole = [
        (
            "message:new",
            json!({ "userId": "ann", "conversationId": "c1", "content": "x" }),
        ),
        (
            "message:edited",
            json!({ "userId": "ann", "messageId": "m", "content": "x" }),
        ),
        (
            "message:deleted",
            json!({ "userId": "ann", "messageId": "m" }),
        ),
        (
            "message:receipt",
            json!({ "userId": "ann", "messageId": "m", "type": "seen" }),
        ),
        (
            "presence:update",
            json!({ "userId": "ann", "status": "away" }),
        ),
        (
            "typing:start",
            json!({ "userId": "ann", "conversationId": "c1" }),
        ),
        (
            "typing:stop",
            json!({ "userId": "ann", "conversationId": "c1" }),
        ),
    ];
    for (event, message) in whole {
        for name in message.as_object().unwrap().keys() {
            let mut part = message.clone();
            part.as_object_mut().unwrap().remove(name);
            let why = host
                .channel_message(event, &part)
                .expect_error("INVALID_PAYLOAD");
            assert!(why.contains(name), "{event} without {name}: {why}");
        }
        for none in [json!("hello"), json!(null)] {
            host.channel_message(event, none)
                .expect_error("INVALID_PAYLOAD");
        }
    }
    let id = say(&mut host, &ann);
    for (event, message, code) in [
        (
            "message:new",
            json!({ "userId": "a:b", "conversationId": "c1", "content": "x" }),
            "INVALID_PAYLOAD",
        ),
        (
            "message:new",
            json!({ "userId": "ann", "conversationId": "c1", "content": "" }),
            "INVALID_PAYLOAD",
        ),
        (
            "message:receipt",
            json!({ "userId": "ann", "messageId": "m", "type": "read" }),
            "INVALID_PAYLOAD",
        ),
        (
            "presence:update",
            json!({ "userId": "ann", "status": "busy" }),
            "INVALID_PAYLOAD",
        ),
        (
            "message:new",
            json!({ "userId": "eve", "conversationId": "c1", "content": "x" }),
            "FORBIDDEN",
        ),
        (
            "message:edited",
            json!({ "userId": "bob", "messageId": id, "content": "x" }),
            "FORBIDDEN",
        ),
        (
            "message:deleted",
            json!({ "userId": "bob", "messageId": id }),
            "FORBIDDEN",
        ),
        (
            "message:receipt",
            json!({ "userId": "eve", "messageId": id, "type": "delivered" }),
            "FORBIDDEN",
        ),
        (
            "typing:start",
            json!({ "userId": "eve", "conversationId": "c1" }),
            "FORBIDDEN",
        ),
        (
            "typing:stop",
            json!({ "userId": "eve", "conversationId": "c1" }),
            "FORBIDDEN",
        ),
        (
            "message:new",
            json!({ "userId": "ann", "conversationId": "c9", "content": "x" }),
            "NOT_FOUND",
        ),
        (
            "message:edited",
            json!({ "userId": "ann", "messageId": "m", "content": "x" }),
            "NOT_FOUND",
        ),
        (
            "message:deleted",
            json!({ "userId": "ann", "messageId": "m" }),
            "NOT_FOUND",
        ),
        (
            "message:receipt",
            json!({ "userId": "ann", "messageId": "m", "type": "seen" }),
            "NOT_FOUND",
        ),
    ] {
        host.channel_message(event, &message).expect_error(code);
    }
    for client in [&ann, &bob] {
        host.expect_silence(client);
    }
}

#[test]
fn the_schema_names_every_channel() {
    let manifest = TestHost::new(plugin()).manifest();
    let schema = &manifest["settings"];
    assert_eq!(schema["additionalProperties"], false);
    let channels = &schema["properties"]["channels"];
    assert_eq!(channels["additionalProperties"], false);
    for event in EVENTS {
        assert_eq!(channels["properties"][event]["type"], "string", "{event}");
    }
}
