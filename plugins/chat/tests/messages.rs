//! Sending, editing, deleting, reacting, and reading what was said.

use chat::plugin;
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Client, TestHost, User};

const NOON: &str = "2023-11-15T12:00:00.000Z";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns a host with the conversation `c1` of ann, bob and cat, and `c2` of ann and bob.
fn host() -> TestHost {
    let mut host = TestHost::new(plugin());
    for (id, members) in [
        ("c1", vec!["ann", "bob", "cat"]),
        ("c2", vec!["ann", "bob"]),
    ] {
        let told = json!({ "conversationId": id, "members": members });
        let answer = host.server_event("conversation-create", told).expect_ok();
        assert_eq!(
            answer,
            json!({ "ok": true, "conversationId": id, "members": members })
        );
    }
    host
}

fn new(temp: &str, content: &str) -> Value {
    json!({ "tempId": temp, "conversationId": "c1", "content": content })
}

/// Sends a message to `c1`, and returns its id.
fn say(host: &mut TestHost, client: &Client, temp: &str) -> String {
    let answer = host
        .send(client, "message-send", new(temp, temp))
        .expect_ok();
    answer
        .get("messageId")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_message_reaches_all_members_on_all_devices_joined_or_not() {
    let mut host = host();
    let [ann, tablet, bob, phone, cat, eve] =
        ["ann", "ann", "bob", "bob", "cat", "eve"].map(|user| host.connect(user));
    host.send(&bob, "join-room", "c1").expect_ok();
    host.clear();
    let answer = host
        .send(&ann, "message-send", new("t1", "hello"))
        .expect_ok();
    let id = answer["messageId"].clone();
    assert_eq!(
        answer,
        json!({ "ok": true, "tempId": "t1", "messageId": id })
    );
    assert_eq!(
        host.take_args(&ann, "message-ack"),
        [json!("t1"), id.clone()]
    );
    let message = json!({
        "id": id, "conversationId": "c1", "senderId": "ann", "content": "hello",
        "replyTo": null, "createdAt": NOON, "editedAt": null, "deleted": false,
    });
    for client in [&tablet, &bob, &phone, &cat] {
        assert_eq!(host.take(client, "message-new"), message);
    }
    for client in [&ann, &tablet, &bob, &phone, &cat, &eve] {
        host.expect_silence(client);
    }
    // A uuid, version 7.
    let id = id.as_str().unwrap();
    let dashes: Vec<usize> = id.match_indices('-').map(|(at, _)| at).collect();
    assert_eq!((id.len(), dashes), (36, vec![8, 13, 18, 23]));
    assert_eq!((&id[14..15], &id[19..20]), ("7", "8"));
}

#[test]
fn the_same_temp_id_of_a_user_is_one_message_for_a_day() {
    let mut host = host();
    let (ann, tablet, bob) = (
        host.connect("ann"),
        host.connect("ann"),
        host.connect("bob"),
    );
    // The first answer does not arrive anywhere.
    host.tell(&ann, "message-send", new("t1", "hello"));
    let first = host.take(&bob, "message-new")["id"].clone();
    host.clear();
    // It is sent again, at last by another device after a reconnect.
    for client in [&ann, &tablet] {
        host.advance(DAY / 3);
        let again = host
            .send(client, "message-send", new("t1", "hello"))
            .expect_ok();
        assert_eq!(again["messageId"], first);
        assert_eq!(
            host.take_args(client, "message-ack"),
            [json!("t1"), first.clone()]
        );
        for client in [&ann, &tablet, &bob] {
            assert_eq!(host.take_all(client, "message-new"), Vec::<Value>::new());
        }
    }
    assert_eq!(host.history("chat:c1").len(), 1);
    // Another user's, or another conversation's, is another message.
    let bobs = say(&mut host, &bob, "t1");
    let mut elsewhere = new("t1", "hello");
    elsewhere["conversationId"] = json!("c2");
    let elsewhere = host.send(&ann, "message-send", elsewhere).expect_ok();
    assert_ne!(json!(bobs), first);
    assert_ne!(elsewhere["messageId"], first);
    host.advance(DAY / 3);
    let next = say(&mut host, &ann, "t1");
    assert_ne!(json!(next), first, "a day later");
    assert_eq!(host.history("chat:c1").len(), 3);
}

#[test]
fn a_message_can_answer_one_of_its_conversation() {
    let mut host = host();
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    let first = say(&mut host, &ann, "t1");
    host.clear();
    let mut reply = new("t2", "indeed");
    reply["replyTo"] = json!(first);
    host.send(&ann, "message-send", &reply).expect_ok();
    assert_eq!(host.take(&bob, "message-new")["replyTo"], json!(first));
    reply["conversationId"] = json!("c2");
    host.send(&ann, "message-send", &reply)
        .expect_error("NOT_FOUND");
    assert_eq!(host.history("chat:c2").len(), 0);
}

#[test]
fn authors_edit_and_everybody_hears() {
    let mut host = host();
    let [ann, tablet, bob, cat] = ["ann", "ann", "bob", "cat"].map(|user| host.connect(user));
    let id = say(&mut host, &ann, "t1");
    host.clear();
    host.advance(Duration::from_secs(1));
    let edit = json!({ "messageId": id, "content": "better" });
    let answer = host.send(&ann, "message-edit", &edit).expect_ok();
    assert_eq!(answer, json!({ "ok": true }));
    let message = json!({
        "id": id, "conversationId": "c1", "senderId": "ann", "content": "better",
        "replyTo": null, "createdAt": NOON, "editedAt": "2023-11-15T12:00:01.000Z",
        "deleted": false,
    });
    for client in [&ann, &tablet, &bob, &cat] {
        assert_eq!(host.take(client, "message-edited"), message);
    }
    let page = json!({ "conversationId": "c1" });
    let page = host.send(&bob, "conversation-history", page).expect_ok();
    assert_eq!(page["messages"], json!([message]));

    let admin = host.connect(User::new("bob").role("admin"));
    for client in [&bob, &cat, &admin] {
        host.send(client, "message-edit", &edit)
            .expect_error("FORBIDDEN");
    }
    let eve = host.connect("eve");
    host.send(&eve, "message-edit", &edit)
        .expect_error("FORBIDDEN");
    host.expect_silence(&cat);
}

#[test]
fn authors_and_admins_delete_and_the_content_is_gone() {
    let mut host = host();
    let [ann, bob, cat] = ["ann", "bob", "cat"].map(|user| host.connect(user));
    let root = host.connect(User::new("root").role("admin"));
    let (first, second) = (say(&mut host, &ann, "t1"), say(&mut host, &ann, "t2"));
    host.clear();
    for client in [&bob, &cat] {
        host.send(client, "message-delete", &first)
            .expect_error("FORBIDDEN");
    }
    for (client, id) in [(&ann, &first), (&root, &second)] {
        host.send(client, "message-delete", id).expect_ok();
        for client in [&ann, &bob, &cat] {
            assert_eq!(host.take_args(client, "message-deleted"), [json!(id)]);
        }
        host.expect_silence(&root);
    }
    let page = json!({ "conversationId": "c1", "limit": 1 });
    let page = host.send(&bob, "conversation-history", page).expect_ok();
    assert_eq!(
        page["messages"],
        json!([{
            "id": second, "conversationId": "c1", "senderId": "ann", "content": null,
            "replyTo": null, "createdAt": NOON, "editedAt": null, "deleted": true,
        }])
    );
    let stored = json!(host.history("chat:c1")).to_string();
    assert!(!stored.contains("t1") && !stored.contains("t2"), "{stored}");
    // An answer may have been lost; nobody hears of it twice.
    host.send(&ann, "message-delete", &first).expect_ok();
    host.expect_silence(&bob);
    let edit = json!({ "messageId": first, "content": "back" });
    host.send(&ann, "message-edit", edit)
        .expect_error("NOT_FOUND");
    let reaction = json!({ "messageId": first, "emoji": "+" });
    host.send(&bob, "reaction", reaction)
        .expect_error("NOT_FOUND");
}

#[test]
fn reactions_are_passed_on_to_members() {
    let mut host = host();
    let [ann, bob, cat, eve] = ["ann", "bob", "cat", "eve"].map(|user| host.connect(user));
    let id = say(&mut host, &ann, "t1");
    host.clear();
    let mut reaction = json!({ "messageId": id, "emoji": "👍" });
    for removed in [false, true] {
        host.send(&bob, "reaction", &reaction).expect_ok();
        for client in [&ann, &bob, &cat] {
            let heard = json!({
                "messageId": id, "userId": "bob", "emoji": "👍", "removed": removed,
            });
            assert_eq!(host.take_args(client, "reaction"), [heard]);
        }
        reaction["remove"] = json!(true);
    }
    host.send(&eve, "reaction", &reaction)
        .expect_error("FORBIDDEN");
    host.expect_silence(&eve);
}

#[test]
fn pages_neither_skip_nor_repeat_while_others_write() {
    let mut host = host();
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    let ids: Vec<String> = (0..7)
        .map(|n| say(&mut host, &ann, &format!("t{n}")))
        .collect();
    let mut read: Vec<Value> = Vec::new();
    let mut request = json!({ "conversationId": "c1", "limit": 3 });
    for (n, has_more) in [(0, true), (1, true), (2, false)] {
        let page = host
            .send(&bob, "conversation-history", &request)
            .expect_ok();
        assert_eq!(page["hasMore"], json!(has_more), "page {n}");
        let mut messages = page["messages"].as_array().unwrap().clone();
        request["before"] = messages[0]["id"].clone();
        messages.extend(read);
        read = messages;
        say(&mut host, &ann, &format!("later {n}"));
        host.send(&ann, "message-delete", &ids[n]).expect_ok();
    }
    let read: Vec<Value> = read
        .into_iter()
        .map(|message| message["id"].clone())
        .collect();
    assert_eq!(json!(read), json!(ids));
}

#[test]
fn a_page_has_50_messages_and_says_how_far_everybody_is() {
    let mut host = host();
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    let ids: Vec<String> = (0..51)
        .map(|n| say(&mut host, &ann, &format!("t{n}")))
        .collect();
    host.acknowledge(&bob, &ids[9], json!([]));
    host.send(&bob, "message-seen", &ids[5]).expect_ok();
    let request = json!({ "conversationId": "c1" });
    let page = host
        .send(&ann, "conversation-history", &request)
        .expect_ok();
    let read: Vec<&Value> = page["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| &message["id"])
        .collect();
    assert_eq!(json!(read), json!(ids[1..]));
    assert_eq!(page["hasMore"], true);
    let none = json!({ "delivered": null, "seen": null });
    assert_eq!(
        page["watermarks"],
        json!({ "ann": none, "bob": { "delivered": ids[9], "seen": ids[5] }, "cat": none })
    );
}

#[test]
fn what_is_not_there_or_not_ones_own_is_refused() {
    let mut host = host();
    let (ann, eve) = (host.connect("ann"), host.connect("eve"));
    let id = say(&mut host, &ann, "t1");
    let mut elsewhere = new("t2", "x");
    elsewhere["conversationId"] = json!("c2");
    let other = host.send(&ann, "message-send", elsewhere).expect_ok();
    host.clear();
    // The right token, and no such message.
    let unknown = format!("00000000{}", &id[8..]);
    for unknown in [unknown.as_str(), "m1", "-"] {
        for (event, argument) in [
            (
                "message-edit",
                json!({ "messageId": unknown, "content": "x" }),
            ),
            ("message-delete", json!(unknown)),
            ("message-seen", json!(unknown)),
            ("reaction", json!({ "messageId": unknown, "emoji": "x" })),
            (
                "conversation-history",
                json!({ "conversationId": "c1", "before": unknown }),
            ),
        ] {
            host.send(&ann, event, argument).expect_error("NOT_FOUND");
        }
    }
    let request = json!({ "conversationId": "c1", "before": other["messageId"] });
    host.send(&ann, "conversation-history", request)
        .expect_error("NOT_FOUND");
    for (event, argument) in [
        (
            "message-send",
            json!({ "tempId": "t", "conversationId": "ID", "content": "x" }),
        ),
        ("conversation-history", json!({ "conversationId": "ID" })),
        ("get-online-users", json!("ID")),
        ("typing-start", json!("ID")),
        ("typing-stop", json!("ID")),
        (
            "signal",
            json!({ "conversationId": "ID", "userId": "ann", "data": 1 }),
        ),
    ] {
        let with = |id: &str| -> Value {
            serde_json::from_str(&argument.to_string().replace("ID", id)).unwrap()
        };
        host.send(&eve, event, with("c1")).expect_error("FORBIDDEN");
        host.send(&eve, event, with("nowhere"))
            .expect_error("NOT_FOUND");
    }
    for event in ["message-delete", "message-seen"] {
        host.send(&eve, event, &id).expect_error("FORBIDDEN");
    }
    host.expect_silence(&ann);
    assert_eq!(host.history("chat:c1").len(), 1);
}

#[test]
fn what_is_malformed_is_refused_by_its_name() {
    let mut host = host();
    let ann = host.connect("ann");
    let id = say(&mut host, &ann, "t1");
    let long = "x".repeat(16_001);
    for (event, argument, name) in [
        (
            "message-send",
            json!({ "conversationId": "c1", "content": "x" }),
            "tempId",
        ),
        (
            "message-send",
            json!({ "tempId": "", "conversationId": "c1", "content": "x" }),
            "tempId",
        ),
        (
            "message-send",
            json!({ "tempId": "x".repeat(129), "conversationId": "c1", "content": "x" }),
            "tempId",
        ),
        (
            "message-send",
            json!({ "tempId": "a\nb", "conversationId": "c1", "content": "x" }),
            "tempId",
        ),
        (
            "message-send",
            json!({ "tempId": 7, "conversationId": "c1", "content": "x" }),
            "tempId",
        ),
        (
            "message-send",
            json!({ "tempId": "t", "content": "x" }),
            "conversationId",
        ),
        (
            "message-send",
            json!({ "tempId": "t", "conversationId": "c:1", "content": "x" }),
            "conversationId",
        ),
        (
            "message-send",
            json!({ "tempId": "t", "conversationId": "c1" }),
            "content",
        ),
        (
            "message-send",
            json!({ "tempId": "t", "conversationId": "c1", "content": "" }),
            "content",
        ),
        (
            "message-send",
            json!({ "tempId": "t", "conversationId": "c1", "content": long }),
            "content",
        ),
        (
            "message-send",
            json!({ "tempId": "t", "conversationId": "c1", "content": 7 }),
            "content",
        ),
        (
            "message-send",
            json!({ "tempId": "t", "conversationId": "c1", "content": "x", "replyTo": "a:b" }),
            "replyTo",
        ),
        ("message-edit", json!({ "content": "x" }), "messageId"),
        ("message-edit", json!({ "messageId": id }), "content"),
        (
            "message-edit",
            json!({ "messageId": id, "content": long }),
            "content",
        ),
        ("message-delete", json!(7), "argument 1"),
        ("message-seen", json!("a:b"), "argument 1"),
        ("reaction", json!({ "messageId": id }), "emoji"),
        ("reaction", json!({ "messageId": id, "emoji": "" }), "emoji"),
        (
            "reaction",
            json!({ "messageId": id, "emoji": "x".repeat(33) }),
            "emoji",
        ),
        (
            "reaction",
            json!({ "messageId": id, "emoji": "x", "remove": 1 }),
            "remove",
        ),
        (
            "conversation-history",
            json!({ "conversationId": "c1", "limit": 0 }),
            "limit",
        ),
        (
            "conversation-history",
            json!({ "conversationId": "c1", "limit": 201 }),
            "limit",
        ),
        (
            "conversation-history",
            json!({ "conversationId": "c1", "before": 7 }),
            "before",
        ),
        ("conversation-history", json!({}), "conversationId"),
        (
            "signal",
            json!({ "conversationId": "c1", "userId": "bob" }),
            "data",
        ),
        (
            "signal",
            json!({ "conversationId": "c1", "data": 1 }),
            "userId",
        ),
        ("join-room", json!("a:b"), "argument 1"),
        ("leave-room", json!(null), "argument 1"),
        ("get-online-users", json!({}), "argument 1"),
        ("typing-start", json!(""), "argument 1"),
        ("typing-stop", json!([]), "argument 1"),
        ("presence-update", json!("busy"), "argument 1"),
        ("presence-update", json!(null), "argument 1"),
    ] {
        let message = host
            .send(&ann, event, &argument)
            .expect_error("INVALID_PAYLOAD");
        assert!(message.contains(name), "{event} {argument}: {message}");
    }
    // At the bounds.
    let most =
        json!({ "tempId": "é".repeat(64), "conversationId": "c1", "content": "😀".repeat(16_000) });
    host.send(&ann, "message-send", most).expect_ok();
}
