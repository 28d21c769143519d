//! Rooms, presence, typing and signals among members; what backends say of them; and who is apart.

use chat::plugin;
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Client, TestHost};

const SECOND: Duration = Duration::from_secs(1);

/// Returns a host with the conversation `c1` of ann, bob and cat, and `c2` of ann and bob.
fn host() -> TestHost {
    let mut host = TestHost::new(plugin());
    for (id, members) in [
        ("c1", vec!["ann", "bob", "cat"]),
        ("c2", vec!["ann", "bob"]),
    ] {
        let told = json!({ "conversationId": id, "members": members });
        host.server_event("conversation-create", told).expect_ok();
    }
    host
}

/// Connects users, all of whom join both conversations as far as they may.
fn connect<const N: usize>(host: &mut TestHost, users: [&str; N]) -> [Client; N] {
    let clients = users.map(|user| host.connect(user));
    for client in &clients {
        for id in ["c1", "c2"] {
            host.tell(client, "join-room", id);
        }
    }
    host.clear();
    clients
}

fn block(host: &mut TestHost, event: &str, user: &str, other: &str) {
    let told = json!({ "userId": user, "blockedId": other });
    assert_eq!(
        host.server_event(event, told).expect_ok(),
        json!({ "ok": true })
    );
}

fn say(host: &mut TestHost, client: &Client, conversation: &str) -> switchboard_plugin::Reply {
    let new = json!({ "tempId": "t", "conversationId": conversation, "content": "hello" });
    host.send(client, "message-send", new)
}

#[test]
fn members_join_and_leave() {
    let mut host = host();
    let (ann, eve) = (host.connect("ann"), host.connect("eve"));
    let room = json!({ "conversationId": "c1" });
    for (event, confirmed, rooms) in [
        ("join-room", "room-joined", vec!["chat:c1"]),
        ("leave-room", "room-left", vec![]),
        ("leave-room", "room-left", vec![]),
    ] {
        let answer = host.send(&ann, event, "c1").expect_ok();
        assert_eq!(answer, json!({ "ok": true, "conversationId": "c1" }));
        assert_eq!(host.take(&ann, confirmed), room);
        assert_eq!(host.rooms(&ann), rooms);
    }
    host.send(&eve, "join-room", "c1")
        .expect_error("JOIN_ROOM_FAILED");
    host.send(&ann, "join-room", "nowhere")
        .expect_error("JOIN_ROOM_FAILED");
    host.send(&ann, "join-room", "c:1")
        .expect_error("INVALID_PAYLOAD");
    host.tell(&eve, "join-room", "c1");
    assert_eq!(host.take(&eve, "error")["code"], "JOIN_ROOM_FAILED");
    assert!(host.rooms(&eve).is_empty());
}

#[test]
fn who_is_taken_out_is_out_at_once_on_all_devices() {
    let mut host = host();
    let [ann, bob, phone] = connect(&mut host, ["ann", "bob", "bob"]);
    let told = json!({ "conversationId": "c1", "userId": "bob" });
    for _ in 0..2 {
        host.server_event("member-remove", &told).expect_ok();
        for client in [&bob, &phone] {
            assert_eq!(host.rooms(client), ["chat:c2"]);
        }
    }
    say(&mut host, &ann, "c1").expect_ok();
    for client in [&bob, &phone] {
        host.expect_silence(client);
    }
    host.send(&bob, "join-room", "c1")
        .expect_error("JOIN_ROOM_FAILED");
    say(&mut host, &bob, "c1").expect_error("FORBIDDEN");
    for _ in 0..2 {
        host.server_event("member-add", &told).expect_ok();
    }
    host.send(&bob, "join-room", "c1").expect_ok();
    say(&mut host, &bob, "c1").expect_ok();
}

#[test]
fn online_are_members_who_do_not_seem_offline() {
    let mut host = host();
    let [ann, bob] = ["ann", "bob"].map(|user| host.connect(user));
    host.connect("eve");
    let online = |host: &mut TestHost| {
        let answer = host.send(&ann, "get-online-users", "c1").expect_ok();
        let heard = host.take(&ann, "online-users");
        assert_eq!(heard["conversationId"], "c1");
        assert_eq!(answer["users"], heard["users"]);
        heard["users"].clone()
    };
    assert_eq!(online(&mut host), json!(["ann", "bob"]));
    host.send(&bob, "presence-update", "away").expect_ok();
    assert_eq!(online(&mut host), json!(["ann", "bob"]));
    host.send(&bob, "presence-update", "offline").expect_ok();
    assert_eq!(online(&mut host), json!(["ann"]));
    host.connect("cat");
    assert_eq!(online(&mut host), json!(["ann", "cat"]));
}

#[test]
fn partners_hear_what_one_is_seen_as_joined_or_not() {
    let mut host = host();
    let [ann, cat, eve] = ["ann", "cat", "eve"].map(|user| host.connect(user));
    host.clear();
    let bob = host.connect("bob");
    let heard = |host: &mut TestHost, status: &str| {
        for client in [&ann, &cat] {
            assert_eq!(
                host.take_args(client, "presence"),
                [json!("bob"), json!(status)]
            );
        }
        host.expect_silence(&eve);
    };
    heard(&mut host, "online");
    for status in ["away", "offline", "online"] {
        let answer = host.send(&bob, "presence-update", status).expect_ok();
        assert_eq!(answer, json!({ "ok": true }));
        host.send(&bob, "presence-update", status).expect_ok();
        heard(&mut host, status);
        host.expect_silence(&bob);
    }
    host.disconnect(&bob);
    host.advance(4 * SECOND);
    host.expect_silence(&ann);
    host.advance(SECOND);
    heard(&mut host, "offline");
}

#[test]
fn busy_is_shown_as_away() {
    // Another plugin of the same host lets users choose it.
    let chooses = |cx: &mut switchboard_plugin::Cx, status: switchboard_plugin::Status| {
        cx.presence().choose(cx.user()?, status)?;
        Ok(switchboard_plugin::Ack::ok())
    };
    let mut host = TestHost::new(plugin().on("choose", chooses));
    let told = json!({ "conversationId": "c1", "members": ["ann", "bob"] });
    host.server_event("conversation-create", told).expect_ok();
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    host.clear();
    host.send(&bob, "choose", "busy").expect_ok();
    assert_eq!(
        host.take_args(&ann, "presence"),
        [json!("bob"), json!("away")]
    );
    host.send(&bob, "choose", "away").expect_ok();
    host.expect_silence(&ann);
}

#[test]
fn a_heartbeat_is_answered_and_is_no_activity() {
    let mut host = host();
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    host.clear();
    for _ in 0..6 {
        host.advance(60 * SECOND);
        host.send_args(&bob, "heartbeat", json!([])).expect_ok();
        assert_eq!(host.take_args(&bob, "heartbeat-ack"), Vec::<Value>::new());
        host.send(&ann, "get-online-users", "c1").expect_ok();
    }
    assert_eq!(
        host.take_args(&ann, "presence"),
        [json!("bob"), json!("away")]
    );
}

#[test]
fn typing_is_heard_by_others_who_have_joined() {
    let mut host = host();
    let [ann, phone, bob] = connect(&mut host, ["ann", "ann", "bob"]);
    let cat = host.connect("cat");
    host.clear();
    let news = [json!("ann"), json!("c1")];
    host.send(&ann, "typing-start", "c1").expect_ok();
    assert_eq!(host.take_args(&bob, "typing"), news);
    host.advance(3 * SECOND);
    host.send(&ann, "typing-start", "c1").expect_ok();
    host.advance(3 * SECOND);
    host.expect_silence(&bob);
    host.advance(2 * SECOND);
    assert_eq!(host.take_args(&bob, "typing-stop"), news);
    for ends in ["typing-stop", "leave-room"] {
        host.send(&ann, "typing-start", "c1").expect_ok();
        assert_eq!(host.take_args(&bob, "typing"), news);
        host.send(&ann, ends, "c1").expect_ok();
        assert_eq!(host.take_args(&bob, "typing-stop"), news);
    }
    for client in [&phone, &cat, &bob] {
        host.expect_silence(client);
    }
    for event in ["typing-start", "typing-stop"] {
        host.send(&cat, event, "c1").expect_error("NOT_IN_ROOM");
    }
}

#[test]
fn a_signal_is_for_one_member() {
    let mut host = host();
    let [ann, bob, phone, cat, eve] = connect(&mut host, ["ann", "bob", "bob", "cat", "eve"]);
    let data = json!({ "sdp": [{ "_placeholder": true, "num": 0 }] });
    let signal = json!({ "conversationId": "c1", "userId": "bob", "data": data });
    host.send_binary(&ann, "signal", [&signal], vec![vec![1, 2]])
        .expect_ok();
    for client in [&bob, &phone] {
        let heard = json!({ "conversationId": "c1", "from": "ann", "data": data });
        assert_eq!(
            host.take_binary(client, "signal"),
            (vec![heard], vec![vec![1, 2]])
        );
    }
    for client in [&ann, &cat, &eve] {
        host.expect_silence(client);
    }
    let mut stray = signal;
    stray["data"] = json!(1);
    stray["userId"] = json!("eve");
    host.send(&ann, "signal", &stray).expect_error("NOT_FOUND");
    stray["userId"] = json!("ann");
    host.send(&eve, "signal", &stray).expect_error("FORBIDDEN");
}

// ---- blocking ----------------------------------------------------------------------------------

#[test]
fn in_a_conversation_of_two_nothing_is_said_either_way() {
    let mut host = host();
    let [ann, bob, cat] = connect(&mut host, ["ann", "bob", "cat"]);
    let before = say(&mut host, &ann, "c2").expect_ok()["messageId"].clone();
    // Whoever has blocked whom; a second block outlives the end of the first.
    for (event, user, other, apart) in [
        ("block", "bob", "ann", true),
        ("block", "ann", "bob", true),
        ("unblock", "bob", "ann", true),
        ("block", "ann", "bob", true),
        ("unblock", "ann", "bob", false),
        ("block", "ann", "bob", true),
    ] {
        block(&mut host, event, user, other);
        host.advance(48 * 3_600 * SECOND);
        host.clear();
        for client in [&ann, &bob] {
            match apart {
                true => drop(say(&mut host, client, "c2").expect_error("FORBIDDEN")),
                false => drop(say(&mut host, client, "c2").expect_ok()),
            }
        }
        assert_eq!(host.heard(&bob).is_empty(), apart, "{event} {user} {other}");
    }
    host.clear();
    for (client, event, argument) in [
        (
            &ann,
            "message-edit",
            json!({ "messageId": before, "content": "x" }),
        ),
        (
            &bob,
            "reaction",
            json!({ "messageId": before, "emoji": "x" }),
        ),
        (
            &ann,
            "signal",
            json!({ "conversationId": "c2", "userId": "bob", "data": 1 }),
        ),
        (
            &bob,
            "signal",
            json!({ "conversationId": "c1", "userId": "ann", "data": 1 }),
        ),
    ] {
        host.send(client, event, argument).expect_error("FORBIDDEN");
    }
    host.expect_silence(&ann);
    host.expect_silence(&bob);
    // Among several they hear each other.
    say(&mut host, &ann, "c1").expect_ok();
    for client in [&bob, &cat] {
        assert_eq!(host.take(client, "message-new")["content"], "hello");
    }
}

#[test]
fn between_the_two_presence_typing_and_receipts_are_hidden_everywhere() {
    for (user, other) in [("ann", "bob"), ("bob", "ann")] {
        let mut host = host();
        block(&mut host, "block", user, other);
        let [ann, bob, cat] = connect(&mut host, ["ann", "bob", "cat"]);
        host.advance(6 * SECOND);
        host.clear();
        let id = say(&mut host, &ann, "c1").expect_ok()["messageId"].clone();
        let id = id.as_str().unwrap();
        host.clear();
        // Bob does things of which cat hears, and ann does not.
        host.acknowledge(&bob, id, json!([]));
        host.send(&bob, "message-seen", id).expect_ok();
        host.expect_silence(&ann);
        for (event, argument, heard) in [
            ("typing-start", "c1", "typing"),
            ("typing-stop", "c1", "typing-stop"),
            ("typing-start", "c2", ""),
            ("presence-update", "away", "presence"),
        ] {
            host.send(&bob, event, argument).expect_ok();
            host.expect_silence(&ann);
            if !heard.is_empty() {
                assert_eq!(host.take(&cat, heard), "bob");
            }
        }
        // And the other way.
        for (event, argument) in [("typing-start", "c1"), ("presence-update", "offline")] {
            host.send(&ann, event, argument).expect_ok();
        }
        host.expect_silence(&bob);
        host.send(&ann, "presence-update", "online").expect_ok();
        host.send(&ann, "get-online-users", "c1").expect_ok();
        assert_eq!(
            host.take(&ann, "online-users")["users"],
            json!(["ann", "cat"])
        );
        let page = json!({ "conversationId": "c1" });
        let page = host.send(&ann, "conversation-history", page).expect_ok();
        let none = json!({ "delivered": null, "seen": null });
        assert_eq!(page["watermarks"], json!({ "ann": none, "cat": none }));
        // What was hidden is not made up for.
        block(&mut host, "unblock", user, other);
        host.send(&bob, "message-seen", id).expect_ok();
        host.expect_silence(&ann);
        let page = json!({ "conversationId": "c1" });
        let page = host.send(&ann, "conversation-history", page).expect_ok();
        assert_eq!(
            page["watermarks"]["bob"],
            json!({ "delivered": id, "seen": id })
        );
    }
}

#[test]
fn who_is_apart_from_very_many_is_hidden_from_all() {
    let mut host = host();
    let [ann, bob] = connect(&mut host, ["ann", "bob"]);
    for n in 0..300 {
        block(&mut host, "block", &format!("u{n}"), "ann");
    }
    host.send(&ann, "typing-start", "c1").expect_ok();
    host.send(&ann, "presence-update", "away").expect_ok();
    host.expect_silence(&bob);
    block(&mut host, "unblock", "u7", "ann");
    host.send(&ann, "presence-update", "offline").expect_ok();
    assert_eq!(
        host.take_args(&bob, "presence"),
        [json!("ann"), json!("offline")]
    );
}

// ---- what backends say of members --------------------------------------------------------------

#[test]
fn conversations_are_made_once_and_have_a_bound() {
    let mut host = host();
    let told = json!({ "members": ["ann", "bob", "ann"] });
    let answer = host.server_event("conversation-create", told).expect_ok();
    assert_eq!(answer["members"], json!(["ann", "bob"]));
    let ann = host.connect("ann");
    host.send(&ann, "join-room", &answer["conversationId"])
        .expect_ok();
    let again = json!({ "conversationId": "c1", "members": ["eve"] });
    host.server_event("conversation-create", again)
        .expect_error("CONFLICT");
    let users: Vec<String> = (0..401).map(|n| format!("{n:0128}")).collect();
    for members in [&users[..], &[]] {
        let told = json!({ "members": members });
        host.server_event("conversation-create", told)
            .expect_error("INVALID_PAYLOAD");
    }
    let told = json!({ "conversationId": "full", "members": users[..400] });
    host.server_event("conversation-create", told).expect_ok();
    let member = json!({ "conversationId": "full", "userId": users[400] });
    host.server_event("member-add", member)
        .expect_error("CONFLICT");
}

#[test]
fn what_backends_say_wrongly_is_answered_so() {
    let mut host = host();
    let unknown = json!({ "conversationId": "nowhere", "userId": "ann" });
    for event in ["member-add", "member-remove", "typing:start", "typing:stop"] {
        host.server_event(event, &unknown).expect_error("NOT_FOUND");
    }
    for (event, data) in [
        ("conversation-create", json!({})),
        ("conversation-create", json!({ "members": ["a:b"] })),
        (
            "conversation-create",
            json!({ "conversationId": "c:3", "members": ["ann"] }),
        ),
        ("member-add", json!({ "conversationId": "c1" })),
        ("member-add", json!({ "userId": "ann" })),
        (
            "member-remove",
            json!({ "conversationId": "c1", "userId": 7 }),
        ),
        ("block", json!({ "userId": "ann" })),
        ("block", json!({ "userId": "ann", "blockedId": "ann" })),
        ("unblock", json!({ "blockedId": "ann" })),
        ("unblock", json!([])),
    ] {
        let reply = host.server_event(event, &data);
        let message = reply.expect_error("INVALID_PAYLOAD");
        assert!(!message.is_empty(), "{event} {data}");
    }
}

#[test]
fn a_group_of_the_largest_size_works() {
    let mut host = TestHost::new(plugin());
    let users: Vec<String> = (0..400).map(|n| format!("{n:0128}")).collect();
    let told = json!({ "conversationId": "full", "members": users });
    host.server_event("conversation-create", told).expect_ok();
    let (first, last) = (
        host.connect(users[0].as_str()),
        host.connect(users[399].as_str()),
    );
    for n in 0..20 {
        let new = json!({ "tempId": format!("t{n}"), "conversationId": "full", "content": "x" });
        host.send(&first, "message-send", new).expect_ok();
    }
    let page = json!({ "conversationId": "full", "limit": 200 });
    let page = host.send(&last, "conversation-history", page).expect_ok();
    assert_eq!(page["watermarks"].as_object().unwrap().len(), 400);
    host.send(&last, "message-seen", &page["messages"][19]["id"])
        .expect_ok();
    assert_eq!(host.take_all(&first, "receipt").len(), 1);
    for client in [&first, &last] {
        host.send(client, "join-room", "full").expect_ok();
        host.send(client, "get-online-users", "full").expect_ok();
        host.send(client, "presence-update", "away").expect_ok();
    }
    host.send(&first, "typing-start", "full").expect_ok();
    assert_eq!(host.take_all(&last, "typing"), [json!(users[0])]);
}

#[test]
fn presence_reaches_partners_in_any_number_of_conversations() {
    let mut host = TestHost::new(plugin());
    for n in 0..160 {
        let other = format!("u{n:03}");
        let told = json!({ "conversationId": format!("c{n:03}"), "members": ["ann", other] });
        host.server_event("conversation-create", told).expect_ok();
    }
    let partners = ["u000", "u149", "u150", "u159"].map(|user| host.connect(user));
    host.clear();
    host.connect("ann");
    host.advance(Duration::ZERO);
    for client in &partners {
        assert_eq!(
            host.take_args(client, "presence"),
            [json!("ann"), json!("online")]
        );
    }
}
