//! What clients and backends say, what they are answered, and who hears of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backend;
mod groups;
mod messages;
mod participants;
mod presence;
mod relays;
mod transcript;

use serde_json::{Value, json};
use switchboard_plugin::{Client, TestHost, User};

/// When every test begins.
const NOON: &str = "2023-11-15T12:00:00.000Z";

/// Returns a host with the session `S1`, of the educator `tom`, and `ann`, `bea` and `cem`.
fn host() -> TestHost {
    let mut host = TestHost::new(classroom::plugin());
    let session = json!({
        "sessionCode": "S1", "educators": ["tom"], "participants": ["ann", "bea", "cem"],
    });
    host.server_event("session-create", session).expect_ok();
    host
}

/// Connects a user, who joins `S1`; everybody forgets what they heard of it.
fn joined(host: &mut TestHost, user: impl Into<User>) -> Client {
    let client = host.connect(user);
    host.send(&client, "joinSession", "S1").expect_ok();
    host.clear();
    client
}

fn tom() -> User {
    User::new("tom").role("educator")
}

/// Sends an event with the code of `S1` added to its argument.
fn in_s1(host: &mut TestHost, client: &Client, event: &str, mut argument: Value) -> Value {
    argument["sessionCode"] = json!("S1");
    host.send(client, event, argument).expect_ok()
}

/// Asserts that an event with this argument is refused, and nobody hears of it.
fn refused(
    host: &mut TestHost,
    client: &Client,
    event: &str,
    mut argument: Value,
    code: &str,
) -> String {
    if let Some(argument) = argument.as_object_mut() {
        argument.entry("sessionCode").or_insert(json!("S1"));
    }
    host.clear();
    let message = host.send(client, event, argument).expect_error(code);
    host.expect_silence_everywhere();
    message
}

/// Returns what `S1` looks like to one who joins it now.
fn scene(host: &mut TestHost, user: impl Into<User>) -> Value {
    let late = host.connect(user);
    host.send(&late, "joinSession", "S1").expect_ok();
    host.take(&late, "sessionJoined")
}

#[test]
fn whoever_has_not_joined_can_do_nothing() {
    let mut host = host();
    let tom_inside = joined(&mut host, tom());
    let tom_outside = host.connect(tom());
    let one = json!({ "userId": "tom", "messageId": "m", "emoji": "x", "message": "x", "data": 1,
        "status": "away", "groups": [], "activity": 1, "state": 1, "lineId": "l", "text": "x",
        "final": true, "isTyping": true });
    for event in [
        "sendMessage",
        "updatePresence",
        "assignGroups",
        "syncActivity",
        "transcript",
        "react",
        "typingInSession",
        "messageRead",
        "signal",
    ] {
        refused(&mut host, &tom_outside, event, one.clone(), "NOT_IN_ROOM");
        host.expect_silence(&tom_inside);
    }
    let file = json!({ "sessionCode": "S1", "name": "n", "mime": "m", "data": { "_placeholder": true, "num": 0 } });
    host.send_binary(&tom_outside, "file", [file], vec![vec![1]])
        .expect_error("NOT_IN_ROOM");
    host.send(&tom_outside, "leaveSession", "S1")
        .expect_error("NOT_IN_ROOM");
    host.expect_silence(&tom_inside);
}

#[test]
fn a_code_names_no_other_room() {
    let mut host = host();
    let ann = joined(&mut host, "ann");
    for wrong in [
        json!("S1:x"),
        json!(""),
        json!("S 1"),
        json!("x".repeat(129)),
        json!(7),
        json!({ "sessionCode": "S1" }),
        Value::Null,
    ] {
        for event in ["joinSession", "leaveSession"] {
            let message = host
                .send(&ann, event, &wrong)
                .expect_error("INVALID_PAYLOAD");
            assert!(message.starts_with("argument 1"), "{message}");
        }
        let message = json!({ "sessionCode": wrong, "message": "hello" });
        let why = host
            .send(&ann, "sendMessage", message)
            .expect_error("INVALID_PAYLOAD");
        assert!(why.contains("`sessionCode`"), "{why}");
    }
    assert_eq!(host.rooms(&ann), ["session:S1"]);
}

#[test]
fn an_operator_is_told_of_settings_by_their_names() {
    let manifest = host().manifest();
    let settings = json!({
        "type": "object",
        "properties": {
            "keepMessages": { "type": "integer", "minimum": 1, "maximum": 200 },
            "maxParticipants": { "type": "integer", "minimum": 1, "maximum": 300 },
            "maxFileBytes": { "type": "integer", "minimum": 1, "maximum": 1_000_000 },
        },
        "additionalProperties": false,
    });
    assert_eq!(manifest["settings"], settings);
    assert_eq!(manifest["rooms"], json!(["session", "session-group"]));
}
