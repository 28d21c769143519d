//! Messages, and what is said about them.

use crate::{NOON, host, in_s1, joined, refused, scene, tom};
use serde_json::{Value, json};
use switchboard_plugin::TestHost;

#[test]
fn a_message_is_heard_by_everybody_in_the_session() {
    let mut host = host();
    let (ann, phone, bea) = (
        joined(&mut host, "ann"),
        joined(&mut host, "ann"),
        joined(&mut host, "bea"),
    );
    let ack = in_s1(
        &mut host,
        &ann,
        "sendMessage",
        json!({ "message": "Hello class!" }),
    );
    let id = ack["messageId"].as_str().unwrap();
    assert_eq!(ack, json!({ "ok": true, "messageId": id }));
    for client in [&ann, &phone, &bea] {
        let heard = json!({
            "sessionCode": "S1", "messageId": id, "userId": "ann", "message": "Hello class!",
            "timestamp": NOON,
        });
        assert_eq!(host.take(client, "messageReceived"), heard);
        host.expect_silence(client);
    }
}

#[test]
fn a_message_has_1_to_4000_characters_whatever_they_take() {
    let mut host = host();
    let ann = joined(&mut host, "ann");
    for wrong in [json!(""), json!("x".repeat(4_001)), json!(7), Value::Null] {
        let why = refused(
            &mut host,
            &ann,
            "sendMessage",
            json!({ "message": wrong }),
            "INVALID_PAYLOAD",
        );
        assert!(why.contains("`message`"), "{why}");
    }
    assert_eq!(host.history("session:S1"), Vec::<Value>::new());
    for right in ["x".to_owned(), "🦉".repeat(4_000), "\u{1}".repeat(4_000)] {
        in_s1(&mut host, &ann, "sendMessage", json!({ "message": right }));
    }
}

fn say(host: &mut TestHost, count: usize) -> Vec<Value> {
    let ann = joined(host, "ann");
    let ids = (1..=count).map(|number| {
        let text = format!("message {number}");
        in_s1(host, &ann, "sendMessage", json!({ "message": text }))["messageId"].clone()
    });
    ids.collect()
}

#[test]
fn the_last_200_are_kept() {
    let mut host = host();
    let ids = say(&mut host, 203);
    let told = scene(&mut host, "bea");
    let messages = told["recentMessages"].as_array().unwrap();
    let kept: Vec<Value> = messages
        .iter()
        .map(|message| message["messageId"].clone())
        .collect();
    assert_eq!(kept, ids[3..]);
    assert_eq!(messages[0]["message"], "message 4");
}

#[test]
fn an_operator_may_keep_fewer() {
    let mut host = TestHost::new(classroom::plugin()).with_settings(json!({ "keepMessages": 2 }));
    let open = json!({ "sessionCode": "S1", "educators": [], "open": true });
    host.server_event("session-create", open).expect_ok();
    let ids = say(&mut host, 3);
    let told = scene(&mut host, "bea");
    assert_eq!(told["recentMessages"].as_array().unwrap().len(), 2);
    assert_eq!(told["recentMessages"][0]["messageId"], ids[1]);
}

#[test]
fn everybody_hears_of_reactions_and_reading() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    let id = in_s1(
        &mut host,
        &teacher,
        "sendMessage",
        json!({ "message": "hello" }),
    )["messageId"]
        .clone();
    host.clear();
    let ack = in_s1(
        &mut host,
        &ann,
        "react",
        json!({ "messageId": id, "emoji": "👩‍🏫" }),
    );
    assert_eq!(ack, json!({ "ok": true }));
    let ack = in_s1(&mut host, &ann, "messageRead", json!({ "messageId": id }));
    assert_eq!(ack, json!({ "ok": true }));
    for client in [&teacher, &ann] {
        let reacted =
            json!({ "sessionCode": "S1", "messageId": id, "userId": "ann", "emoji": "👩‍🏫" });
        assert_eq!(host.take(client, "reacted"), reacted);
        let read = json!({ "sessionCode": "S1", "messageId": id, "userId": "ann" });
        assert_eq!(host.take(client, "readUpdated"), read);
        host.expect_silence(client);
    }
    for (event, mut wrong, name) in [
        ("react", json!({ "emoji": "x" }), "`messageId`"),
        ("react", json!({ "messageId": id }), "`emoji`"),
        ("react", json!({ "messageId": id, "emoji": "" }), "`emoji`"),
        (
            "react",
            json!({ "messageId": id, "emoji": "x".repeat(33) }),
            "`emoji`",
        ),
        ("messageRead", json!({ "messageId": 7 }), "`messageId`"),
    ] {
        let why = refused(&mut host, &ann, event, wrong.take(), "INVALID_PAYLOAD");
        assert!(why.contains(name), "{why}");
    }
}

#[test]
fn what_nobody_said_here_cannot_be_reacted_to() {
    let mut host = host();
    let other = json!({ "sessionCode": "S2", "educators": [], "open": true });
    host.server_event("session-create", other).expect_ok();
    let ids = say(&mut host, 201);
    let ann = joined(&mut host, "ann");
    host.send(&ann, "joinSession", "S2").expect_ok();
    for (code, id) in [
        ("S1", json!("nobodys")),
        ("S2", ids[200].clone()),
        ("S1", ids[0].clone()),
    ] {
        let about = json!({ "sessionCode": code, "messageId": id, "emoji": "x" });
        for event in ["react", "messageRead"] {
            refused(&mut host, &ann, event, about.clone(), "NOT_FOUND");
        }
    }
}
