use super::plugin;
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Ack, Client, Cx, Status, TestHost, User};

fn host() -> TestHost {
    TestHost::new(plugin())
}

fn joined(host: &mut TestHost, user: impl Into<User>, room: &str) -> Client {
    let client = host.connect(user);
    host.send(&client, "room:join", json!({ "roomId": room }))
        .expect_ok();
    client
}

#[test]
fn a_user_joins_a_room_that_the_first_join_makes() {
    let mut host = host();
    let ann = joined(
        &mut host,
        User::new("ann").claim("username", "Ann"),
        "lobby",
    );
    assert_eq!(host.rooms(&ann), ["room:lobby"]);
    host.expect_silence(&ann);
    let ben = host.connect("ben");
    let answer = host
        .send(&ben, "room:join", json!({ "roomId": "lobby" }))
        .expect_ok();
    assert_eq!(
        answer,
        json!({ "ok": true, "room": { "id": "lobby", "name": "lobby", "metadata": {}, "memberCount": 2 } })
    );
    let news = host.take(&ann, "user:joined");
    assert_eq!(
        (&news["roomId"], &news["userId"], &news["username"]),
        (&json!("lobby"), &json!("ben"), &json!("ben"))
    );
    let answer = host
        .send(&ben, "room:leave", json!({ "roomId": "lobby" }))
        .expect_ok();
    assert_eq!(answer["room"]["memberCount"], 1);
    assert_eq!(host.take(&ann, "user:left")["userId"], "ben");
    host.expect_silence(&ben);
    host.disconnect(&ann);
}

#[test]
fn a_user_joins_with_the_first_and_leaves_with_the_last_connection() {
    let mut host = host();
    let ann = joined(&mut host, "ann", "lobby");
    let phone = joined(&mut host, "ben", "lobby");
    let laptop = joined(&mut host, "ben", "lobby");
    assert_eq!(host.heard(&ann), ["user:joined", "user:status"]);
    assert_eq!(host.take(&ann, "user:joined")["userId"], "ben");
    host.clear();
    let again = host
        .send(&phone, "room:join", json!({ "roomId": "lobby" }))
        .expect_ok();
    assert_eq!(again["room"]["memberCount"], 2);
    let left = host
        .send(&phone, "room:leave", json!({ "roomId": "lobby" }))
        .expect_ok();
    assert_eq!(left["room"]["memberCount"], 2, "ben is still there");
    host.disconnect(&phone);
    host.expect_silence(&ann);
    host.disconnect(&laptop);
    host.expect_silence(&ann);
    host.advance(Duration::from_secs(5));
    assert_eq!(host.take(&ann, "user:left")["userId"], "ben");
    let gone = json!({ "userId": "ben", "status": "offline" });
    assert_eq!(host.take(&ann, "user:status"), gone);
    host.expect_silence(&ann);
}

#[test]
fn who_shares_a_room_hears_what_a_user_is_seen_as() {
    let minute = Duration::from_secs(60);
    for (setting, everyone) in [("shared", false), ("everyone", true)] {
        let mut host = host().with_settings(json!({ "presence": setting }));
        let ann = joined(&mut host, "ann", "lobby");
        let stranger = host.connect("eve");
        host.clear();
        let ben = joined(&mut host, "ben", "lobby");
        let online = json!({ "userId": "ben", "status": "online" });
        let came = host.take_all(&stranger, "user:status");
        assert_eq!(
            came,
            everyone.then_some(online).into_iter().collect::<Vec<_>>()
        );
        host.clear();
        for _ in 0..5 {
            host.advance(minute);
            for awake in [&ann, &stranger] {
                let _ = host.send(awake, "history", json!({ "roomId": "lobby" }));
            }
        }
        let away = json!({ "userId": "ben", "status": "away" });
        assert_eq!(host.take(&ann, "user:status"), away);
        assert_eq!(
            host.take_all(&stranger, "user:status").len(),
            usize::from(everyone)
        );
        host.expect_silence(&ben);
    }
}

#[test]
fn who_is_in_a_room_hears_what_who_comes_is_seen_as() {
    let choose = |cx: &mut Cx, status: Status| {
        cx.presence().choose(cx.user()?, status)?;
        Ok(Ack::ok())
    };
    let lobby = json!({ "roomId": "lobby" });
    for (setting, told) in [("shared", true), ("everyone", false)] {
        let mut host = TestHost::new(plugin().on("choose", choose))
            .with_settings(json!({ "presence": setting }));
        let ann = joined(&mut host, "ann", "lobby");
        let ben = host.connect("ben");
        for (status, is_heard) in [("online", true), ("busy", true), ("offline", false)] {
            host.send(&ben, "choose", status).expect_ok();
            host.clear();
            host.send(&ben, "room:join", &lobby).expect_ok();
            host.take(&ann, "user:joined");
            if told && is_heard {
                let news = json!({ "userId": "ben", "status": status });
                assert_eq!(host.take(&ann, "user:status"), news);
            }
            // Not by another device, and not told twice.
            joined(&mut host, "ben", "lobby");
            host.expect_silence(&ann);
            host.expect_silence(&ben);
            host.server_event("room-delete", &lobby).expect_ok();
            host.send(&ann, "room:join", &lobby).expect_ok();
        }
    }
}

#[test]
fn who_comes_back_is_online_again() {
    let mut host = host();
    let ann = joined(&mut host, "ann", "lobby");
    let status = |status| json!({ "userId": "ben", "status": status });
    for _ in 0..2 {
        let ben = joined(&mut host, "ben", "lobby");
        assert_eq!(host.take_all(&ann, "user:status"), [status("online")]);
        host.disconnect(&ben);
        host.advance(Duration::from_secs(5));
        assert_eq!(host.take_all(&ann, "user:status"), [status("offline")]);
    }
}

#[test]
fn rooms_that_may_not_be_entered() {
    let mut host = host().with_settings(json!({ "createOnJoin": false }));
    let ann = host.connect("ann");
    host.send(&ann, "room:join", json!({ "roomId": "lobby" }))
        .expect_error("NOT_FOUND");
    let private =
        json!({ "roomId": "staff", "name": "Staff", "visibility": "private", "members": ["ben"] });
    host.server_event("room-create", private).expect_ok();
    host.send(&ann, "room:join", json!({ "roomId": "staff" }))
        .expect_error("FORBIDDEN");
    assert!(host.rooms(&ann).is_empty());
    joined(&mut host, "ben", "staff");
    for crafted in [
        json!({ "roomId": "a:b" }),
        json!({ "roomId": 7 }),
        json!({}),
        json!("lobby"),
    ] {
        host.send(&ann, "room:join", crafted)
            .expect_error("INVALID_PAYLOAD");
    }
}

#[test]
fn everybody_in_the_room_hears_a_message() {
    let mut host = host();
    let ann = joined(&mut host, User::new("ann").claim("name", "Ann"), "lobby");
    let ben = joined(&mut host, "ben", "lobby");
    let outsider = joined(&mut host, "cat", "elsewhere");
    host.clear();
    let sent = json!({ "roomId": "lobby", "content": "hello", "metadata": { "edited": false } });
    let answer = host.send(&ann, "message", sent).expect_ok();
    let heard = host.take(&ann, "message");
    assert_eq!(host.take(&ben, "message"), heard);
    host.expect_silence(&outsider);
    let expected = json!({
        "id": answer["id"], "roomId": "lobby", "userId": "ann", "username": "Ann", "content": "hello",
        "type": "text", "metadata": { "edited": false }, "timestamp": answer["timestamp"],
    });
    assert_eq!(heard, expected);
}

#[test]
fn messages_that_are_refused() {
    let mut host = host();
    let ann = joined(&mut host, "ann", "lobby");
    let message = |changes: Value| {
        let mut message = json!({ "roomId": "lobby", "content": "hello" });
        message
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        message
    };
    for (changes, code) in [
        (json!({ "roomId": "elsewhere" }), "NOT_IN_ROOM"),
        (json!({ "content": "" }), "INVALID_PAYLOAD"),
        (json!({ "content": "é".repeat(16_001) }), "INVALID_PAYLOAD"),
        (json!({ "content": 7 }), "INVALID_PAYLOAD"),
        (json!({ "type": "video" }), "INVALID_PAYLOAD"),
        (json!({ "type": "system" }), "INVALID_PAYLOAD"),
        (json!({ "metadata": [] }), "INVALID_PAYLOAD"),
        (json!({ "metadata": null }), "INVALID_PAYLOAD"),
    ] {
        host.send(&ann, "message", message(changes))
            .expect_error(code);
    }
    host.expect_silence(&ann);
    for fits in [
        json!({ "content": "é".repeat(16_000) }),
        json!({ "content": "", "type": "image" }),
        json!({ "content": "", "type": "file" }),
    ] {
        host.send(&ann, "message", message(fits)).expect_ok();
    }
    host.send(&ann, "room:leave", json!({ "roomId": "lobby" }))
        .expect_ok();
    host.send(&ann, "room:leave", json!({ "roomId": "lobby" }))
        .expect_error("NOT_IN_ROOM");
    host.send(&ann, "message", message(json!({})))
        .expect_error("NOT_IN_ROOM");
}

#[test]
fn metadata_goes_on_as_it_came_and_holds_no_binary_data() {
    let mut host = host();
    let ann = joined(&mut host, "ann", "lobby");
    let say = |metadata: Value| json!({ "roomId": "lobby", "content": "x", "metadata": metadata });
    let odd = json!({ "a": [{ "": 1.5 }, null], "b": "\"_placeholder\":true" });
    host.send(&ann, "message", say(odd.clone())).expect_ok();
    assert_eq!(host.take(&ann, "message")["metadata"], odd);
    let binary = json!([say(json!({ "file": { "_placeholder": true, "num": 0 } }))]);
    host.send_binary(&ann, "message", binary, vec![vec![1]])
        .expect_error("INVALID_PAYLOAD");
    host.expect_silence(&ann);
    let of_room = json!({ "roomId": "lobby" });
    let stats = host.server_event("room-stats", of_room).expect_ok();
    assert_eq!(stats["messageCount"], 1);
}

#[test]
fn edits_are_relayed_as_they_came() {
    let mut host = host();
    let ann = joined(&mut host, "ann", "doc");
    let ben = joined(&mut host, "ben", "doc");
    host.clear();
    let delta = json!({ "_placeholder": true, "num": 0 });
    let edit = json!([{ "roomId": "doc", "changes": [delta], "cursor": { "line": 3 } }]);
    host.send_binary(&ann, "document:edit", edit, vec![vec![1, 2, 3]])
        .expect_ok();
    let (args, attachments) = host.take_binary(&ben, "document:edit");
    assert_eq!(
        args,
        [json!({ "roomId": "doc", "userId": "ann", "changes": [delta], "cursor": { "line": 3 } })]
    );
    assert_eq!(attachments, [vec![1, 2, 3]]);
    host.expect_silence(&ann);
    let text = json!({ "roomId": "doc", "changes": "+a" });
    host.send(&ann, "document:edit", text).expect_ok();
    assert_eq!(host.take(&ben, "document:edit")["cursor"], Value::Null);
    let outside = json!({ "roomId": "other", "changes": "+a" });
    host.send(&ann, "document:edit", outside)
        .expect_error("NOT_IN_ROOM");
}

#[test]
fn backends_keep_rooms() {
    let mut host = host();
    let wanted = json!({ "name": "General", "createdBy": "ann", "metadata": { "topic": "all" } });
    let room = host.server_event("room-create", wanted).expect_ok()["room"].clone();
    let id = room["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&room["name"], &room["namespace"], &room["visibility"]),
        (&json!("General"), &json!("default"), &json!("public"))
    );
    let of_room = json!({ "roomId": id });
    assert_eq!(
        host.server_event("room-get", &of_room).expect_ok()["room"],
        room
    );
    host.server_event("room-create", json!({ "roomId": id, "name": "x" }))
        .expect_error("CONFLICT");
    host.server_event("room-create", json!({ "roomId": "x" }))
        .expect_error("INVALID_PAYLOAD");
    let ann = joined(&mut host, "ann", &id);
    host.server_event("room-delete", &of_room).expect_ok();
    assert!(host.rooms(&ann).is_empty());
    for event in ["room-get", "room-delete", "room-members", "room-stats"] {
        host.server_event(event, &of_room).expect_error("NOT_FOUND");
    }
}

#[test]
fn rooms_are_listed_in_pages() {
    let mut host = host();
    for number in 0..7 {
        let namespace = if number % 2 == 0 { "even" } else { "odd" };
        let wanted = json!({ "roomId": format!("r{number}"), "name": "x", "namespace": namespace });
        host.server_event("room-create", wanted).expect_ok();
    }
    let mut page = |request: Value| {
        let answer = host.server_event("room-list", request).expect_ok();
        let ids: Vec<String> = answer["rooms"]
            .as_array()
            .unwrap()
            .iter()
            .map(|room| room["id"].as_str().unwrap().to_owned())
            .collect();
        (ids.join(" "), answer["after"].clone())
    };
    assert_eq!(
        page(json!({})),
        ("r0 r1 r2 r3 r4 r5 r6".to_owned(), Value::Null)
    );
    assert_eq!(
        page(json!({ "namespace": "even", "limit": 2 })),
        ("r0 r2".to_owned(), json!("r2"))
    );
    assert_eq!(
        page(json!({ "namespace": "even", "after": "r2" })),
        ("r4 r6".to_owned(), Value::Null)
    );
    assert_eq!(
        page(json!({ "namespace": "none" })),
        (String::new(), Value::Null)
    );
    host.server_event("room-list", json!({ "limit": 0 }))
        .expect_error("INVALID_PAYLOAD");
}

#[test]
fn members_and_numbers_of_a_room() {
    let mut host = host();
    let ann = joined(&mut host, "ann", "lobby");
    joined(&mut host, "ann", "lobby");
    joined(&mut host, "ben", "lobby");
    let of_room = json!({ "roomId": "lobby" });
    let before = host.server_event("room-stats", &of_room).expect_ok();
    assert_eq!(
        (&before["memberCount"], &before["messageCount"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(before["lastActivity"], before["createdAt"]);
    let got = host.server_event("room-get", &of_room).expect_ok();
    let listed = host.server_event("room-list", json!({})).expect_ok();
    assert_eq!(
        (&got["room"]["memberCount"], &listed["rooms"]),
        (&json!(2), &json!([got["room"]]))
    );
    host.advance(std::time::Duration::from_secs(60));
    for _ in 0..3 {
        host.send(
            &ann,
            "message",
            json!({ "roomId": "lobby", "content": "x" }),
        )
        .expect_ok();
    }
    let after = host.server_event("room-stats", &of_room).expect_ok();
    assert_eq!(after["messageCount"], 3);
    assert_ne!(after["lastActivity"], after["createdAt"]);
    let members = host.server_event("room-members", &of_room).expect_ok()["members"].clone();
    assert_eq!(
        (
            &members[0]["userId"],
            members[0]["connections"].as_array().unwrap().len()
        ),
        (&json!("ann"), 2)
    );
    assert_eq!(members[1]["userId"], "ben");
}

#[test]
fn a_room_made_again_begins_with_no_messages() {
    let mut host = host();
    let of_room = json!({ "roomId": "lobby" });
    for _ in 0..2 {
        let ann = joined(&mut host, "ann", "lobby");
        for count in 1..=3 {
            let message = json!({ "roomId": "lobby", "content": "x" });
            host.send(&ann, "message", message).expect_ok();
            let stats = host.server_event("room-stats", &of_room).expect_ok();
            assert_eq!(stats["messageCount"], count);
        }
        host.server_event("room-delete", &of_room).expect_ok();
        host.advance(std::time::Duration::from_secs(1));
    }
    let wanted = json!({ "roomId": "lobby", "name": "Lobby" });
    host.server_event("room-create", wanted).expect_ok();
    let stats = host.server_event("room-stats", &of_room).expect_ok();
    assert_eq!(stats["messageCount"], 0);
    assert_eq!(stats["lastActivity"], stats["createdAt"]);
}

#[test]
fn server_events_that_are_wrong() {
    let mut host = host();
    for (event, data) in [
        ("room-create", json!({ "name": "x", "roomId": "a:b" })),
        (
            "room-create",
            json!({ "name": "x", "visibility": "secret" }),
        ),
        ("room-create", json!({ "name": "x", "members": ["a b"] })),
        ("room-create", json!({ "name": "x".repeat(65_536) })),
        ("room-get", json!({})),
        ("room-delete", json!({})),
        ("room-delete", json!({ "roomId": "a:b" })),
        ("room-members", json!({})),
        ("room-members", json!({ "roomId": 7 })),
        ("room-stats", json!({})),
        ("room-stats", json!({ "roomId": "a:b" })),
        ("message-page", json!({})),
        ("message-page", json!({ "roomId": "r", "limit": 0 })),
        ("message-page", json!({ "roomId": "r", "offset": -1 })),
        ("message-page", json!({ "roomId": "r", "before": 7 })),
        ("room-list", json!({ "limit": 101 })),
        ("room-list", json!({ "after": "a:b" })),
        ("message-send", json!({ "roomId": "r", "userId": "u" })),
        ("notification", json!({ "title": "to nobody" })),
        ("notification", json!({ "userIds": ["a:b"] })),
        ("system-announcement", json!({})),
    ] {
        host.server_event(event, data)
            .expect_error("INVALID_PAYLOAD");
    }
    let nowhere = json!({ "roomId": "nowhere" });
    host.server_event("message-page", nowhere)
        .expect_error("NOT_FOUND");
}

#[test]
fn client_events_that_are_wrong() {
    let mut host = host();
    let ann = joined(&mut host, "ann", "lobby");
    let ben = joined(&mut host, "ben", "lobby");
    host.clear();
    for (event, data) in [
        ("typing", json!({ "isTyping": true })),
        ("typing", json!({ "roomId": "lobby" })),
        ("typing", json!({ "roomId": "lobby", "isTyping": "yes" })),
        ("document:edit", json!({ "roomId": "lobby", "cursor": 1 })),
        ("document:edit", json!({ "changes": "+a" })),
        ("room:leave", json!({})),
        ("room:leave", json!({ "roomId": "a:b" })),
        ("room:leave", json!("lobby")),
        ("history", json!({ "roomId": "lobby", "offset": -1 })),
    ] {
        host.send(&ann, event, data).expect_error("INVALID_PAYLOAD");
    }
    host.expect_silence(&ben);
    assert_eq!(host.rooms(&ann), ["room:lobby"]);
}

#[test]
fn backends_speak() {
    let mut host = host();
    let ann = joined(&mut host, "ann", "lobby");
    let ben = host.connect("ben");
    let message =
        json!({ "roomId": "lobby", "userId": "bot", "content": "closing soon", "type": "system" });
    host.server_event("message-send", message).expect_ok();
    let heard = host.take(&ann, "message");
    assert_eq!(
        (&heard["type"], &heard["userId"]),
        (&json!("system"), &json!("bot"))
    );
    let nowhere = json!({ "roomId": "nowhere", "userId": "bot", "content": "x" });
    host.server_event("message-send", nowhere)
        .expect_error("NOT_FOUND");
    let notification =
        json!({ "userIds": ["ben", "cat"], "type": "friend_request", "from": "Ann" });
    host.server_event("notification", notification).expect_ok();
    assert_eq!(
        host.take(&ben, "notification"),
        json!({ "type": "friend_request", "from": "Ann" })
    );
    host.server_event("notification", json!({ "userIds": [] }))
        .expect_error("INVALID_PAYLOAD");
    host.expect_silence(&ann);
    let announcement = json!({ "message": "maintenance", "except": [ben.id()] });
    host.server_event("system-announcement", announcement)
        .expect_ok();
    assert_eq!(
        host.take(&ann, "system:announcement")["message"],
        "maintenance"
    );
    host.expect_silence(&ben);
}

#[test]
fn who_joins_a_room_that_was_deleted_meanwhile_is_out_again() {
    // Joins without looking, as a handler does that looked a moment before.
    let late = |cx: &mut Cx, room: String| {
        cx.join(room);
        Ok(Ack::ok())
    };
    let mut host = TestHost::new(plugin().on("late", late));
    let room = |members: &[&str]| json!({ "name": "R", "roomId": "r", "visibility": "private", "members": members });
    host.server_event("room-create", room(&["ann", "ben"]))
        .expect_ok();
    let (ann, ben) = (host.connect("ann"), host.connect("ben"));
    host.send(&ann, "late", "room:r").expect_ok();
    assert_eq!(host.rooms(&ann), ["room:r"]);
    host.server_event("room-delete", json!({ "roomId": "r" }))
        .expect_ok();
    host.send(&ben, "late", "room:r").expect_ok();
    assert!(host.rooms(&ben).is_empty(), "there is no such room");
    host.server_event("room-create", room(&["ann"])).expect_ok();
    host.send(&ben, "late", "room:r").expect_ok();
    assert!(host.rooms(&ben).is_empty(), "the new one is for others");
}

#[test]
fn the_others_hear_who_types_until_it_is_not_said_any_more() {
    let mut host = host();
    let ann = joined(&mut host, "ann", "lobby");
    let phone = joined(
        &mut host,
        User::new("ben").claim("username", "Ben"),
        "lobby",
    );
    let laptop = joined(&mut host, "ben", "lobby");
    host.clear();
    let typing = |host: &mut TestHost, client: &Client, is_typing: bool| {
        let types = json!({ "roomId": "lobby", "isTyping": is_typing });
        host.send(client, "typing", types).expect_ok();
    };
    let second = Duration::from_secs(1);
    typing(&mut host, &phone, true);
    let news = json!({ "roomId": "lobby", "userId": "ben", "username": "Ben", "isTyping": true });
    assert_eq!(host.take(&ann, "typing"), news);
    host.expect_silence(&laptop);
    // Said again, and by another device, nobody hears anything new.
    host.advance(4 * second);
    typing(&mut host, &phone, true);
    typing(&mut host, &laptop, true);
    host.advance(4 * second);
    typing(&mut host, &laptop, false);
    host.expect_silence(&ann);
    host.advance(second);
    assert_eq!(host.take(&ann, "typing")["isTyping"], false);
    // Leaving and going away end it, before the others hear of that.
    typing(&mut host, &phone, true);
    host.take(&ann, "typing");
    host.disconnect(&phone);
    assert_eq!(host.take(&ann, "typing")["isTyping"], false);
    typing(&mut host, &laptop, true);
    host.take(&ann, "typing");
    host.send(&laptop, "room:leave", json!({ "roomId": "lobby" }))
        .expect_ok();
    assert_eq!(host.heard(&ann), ["typing", "user:left"]);
    let away = json!({ "roomId": "lobby", "isTyping": true });
    host.send(&laptop, "typing", away)
        .expect_error("NOT_IN_ROOM");
}
