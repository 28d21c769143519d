//! Creating, ending and asking for sessions.

use crate::{NOON, host, in_s1, joined, refused, scene, tom};
use serde_json::{Value, json};
use switchboard_plugin::{Ack, Client, Cx, Id, TestHost};

fn of_s1() -> Value {
    json!({ "sessionCode": "S1" })
}

#[test]
fn a_session_is_created_once() {
    let mut host = TestHost::new(classroom::plugin());
    let asked = json!({ "sessionCode": "ABC123", "title": "Owls", "educators": ["tom"], "participants": ["ann"] });
    let answer = host.server_event("session-create", &asked).expect_ok();
    let session = json!({
        "sessionId": answer["session"]["sessionId"], "sessionCode": "ABC123", "title": "Owls",
        "educators": ["tom"], "participants": ["ann"], "open": false, "createdAt": NOON,
    });
    assert_eq!(answer, json!({ "ok": true, "session": session }));
    assert!(session["sessionId"].is_string());
    host.server_event("session-create", &asked)
        .expect_error("CONFLICT");
    let got = host
        .server_event("session-get", json!({ "sessionCode": "ABC123" }))
        .expect_ok();
    let all = json!({
        "ok": true, "session": session, "participants": [], "groups": [], "activity": null,
        "recentMessages": [],
    });
    assert_eq!(got, all);
    let open = json!({ "sessionCode": "ABC124", "educators": [], "open": true });
    let open = host.server_event("session-create", open).expect_ok();
    assert_eq!(
        (&open["session"]["title"], &open["session"]["open"]),
        (&Value::Null, &json!(true))
    );
}

#[test]
fn what_a_backend_says_wrongly_is_refused_by_name() {
    let mut host = TestHost::new(classroom::plugin());
    let many = |count: usize| -> Vec<String> { (0..count).map(|n| format!("{n:x>128}")).collect() };
    for (wrong, name) in [
        (json!({ "educators": [] }), "`sessionCode`"),
        (
            json!({ "sessionCode": "a:b", "educators": [] }),
            "`sessionCode`",
        ),
        (json!({ "sessionCode": "S1" }), "`educators`"),
        (
            json!({ "sessionCode": "S1", "educators": ["a b"] }),
            "`educators[0]`",
        ),
        (
            json!({ "sessionCode": "S1", "educators": [], "title": "" }),
            "`title`",
        ),
        (
            json!({ "sessionCode": "S1", "educators": [], "title": "x".repeat(201) }),
            "`title`",
        ),
        (
            json!({ "sessionCode": "S1", "educators": [], "open": "yes" }),
            "`open`",
        ),
        (
            json!({ "sessionCode": "S1", "educators": many(1), "participants": many(300) }),
            "`participants`",
        ),
    ] {
        let why = host
            .server_event("session-create", wrong)
            .expect_error("INVALID_PAYLOAD");
        assert!(why.contains(name), "{why}");
    }
    let largest = json!({
        "sessionCode": "S1", "educators": many(1), "participants": many(299), "title": "🦉".repeat(200),
    });
    host.server_event("session-create", largest).expect_ok();
    for event in ["session-get", "session-end"] {
        host.server_event(event, json!({ "sessionCode": "nowhere" }))
            .expect_error("NOT_FOUND");
        host.server_event(event, json!({}))
            .expect_error("INVALID_PAYLOAD");
    }
}

#[test]
fn a_backend_sees_who_is_there_and_what_they_do() {
    let mut host = host();
    let teacher = joined(&mut host, tom());
    in_s1(
        &mut host,
        &teacher,
        "syncActivity",
        json!({ "activity": "quiz", "state": 1 }),
    );
    in_s1(
        &mut host,
        &teacher,
        "sendMessage",
        json!({ "message": "hello" }),
    );
    let got = host.server_event("session-get", of_s1()).expect_ok();
    assert_eq!(
        got["participants"],
        json!([{ "userId": "tom", "role": "educator", "status": "active" }])
    );
    assert_eq!(
        got["activity"],
        json!({ "activity": "quiz", "state": 1, "version": 1 })
    );
    assert_eq!(got["recentMessages"][0]["message"], "hello");
    assert_eq!(got["session"]["participants"], json!(["ann", "bea", "cem"]));
}

#[test]
fn the_end_is_heard_by_everybody_who_is_put_out_and_stays_so() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    let outside = host.connect("bea");
    let groups = json!({ "groups": [{ "name": "red", "userIds": ["ann"] }] });
    in_s1(&mut host, &teacher, "assignGroups", groups);
    host.clear();
    assert_eq!(
        host.server_event("session-end", of_s1()).expect_ok(),
        json!({ "ok": true })
    );
    for client in [&teacher, &ann] {
        assert_eq!(host.take(client, "sessionEnded"), of_s1());
        host.expect_silence(client);
        assert!(host.rooms(client).is_empty());
        host.send(client, "joinSession", "S1")
            .expect_error("NOT_FOUND");
        host.send(
            client,
            "sendMessage",
            json!({ "sessionCode": "S1", "message": "still here" }),
        )
        .expect_error("NOT_IN_ROOM");
    }
    host.expect_silence(&outside);
    for event in ["session-end", "session-get"] {
        host.server_event(event, of_s1()).expect_error("NOT_FOUND");
    }
}

#[test]
fn a_code_that_is_used_again_shows_nothing_of_before() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    in_s1(
        &mut host,
        &teacher,
        "assignGroups",
        json!({ "groups": [{ "name": "red", "userIds": ["ann"] }] }),
    );
    in_s1(
        &mut host,
        &teacher,
        "syncActivity",
        json!({ "activity": "quiz", "state": 1 }),
    );
    in_s1(
        &mut host,
        &ann,
        "updatePresence",
        json!({ "status": "away" }),
    );
    for _ in 0..3 {
        in_s1(&mut host, &ann, "sendMessage", json!({ "message": "old" }));
    }
    host.server_event("session-end", of_s1()).expect_ok();
    assert_eq!(host.history("session:S1"), Vec::<Value>::new());
    for key in ["session", "participants", "groups", "activity", "sequence"] {
        assert_eq!(host.stored("session:S1", key), None, "{key}");
    }
    let again = json!({ "sessionCode": "S1", "educators": [], "participants": ["ann"] });
    host.server_event("session-create", again).expect_ok();
    // The list is another one, too.
    host.send(&teacher, "joinSession", "S1")
        .expect_error("FORBIDDEN");
    let anew = json!({
        "sessionCode": "S1", "participants": [{ "userId": "ann", "role": "student", "status": "active" }],
        "groups": [], "activity": null, "recentMessages": [],
    });
    assert_eq!(scene(&mut host, "ann"), anew);
    let ann = joined(&mut host, "ann");
    in_s1(&mut host, &ann, "sendMessage", json!({ "message": "new" }));
    let told = scene(&mut host, "ann");
    assert_eq!(told["recentMessages"].as_array().unwrap().len(), 1);
}

/// Joins without looking, as a handler does that looked a moment before.
fn with_late_joins() -> (TestHost, Client) {
    let late = |cx: &mut Cx, room: String| {
        cx.join(room);
        Ok(Ack::ok())
    };
    let mut host = TestHost::new(classroom::plugin().on("late", late));
    let session = json!({ "sessionCode": "S1", "educators": ["tom"], "participants": ["ann"] });
    host.server_event("session-create", session).expect_ok();
    let ann = host.connect("ann");
    (host, ann)
}

#[test]
fn who_joins_while_the_session_ends_is_out_again() {
    let (mut host, ann) = with_late_joins();
    host.send(&ann, "late", "session:S1").expect_ok();
    assert_eq!(host.rooms(&ann), ["session:S1"]);
    host.server_event("session-end", of_s1()).expect_ok();
    host.clear();
    host.send(&ann, "late", "session:S1").expect_ok();
    assert!(host.rooms(&ann).is_empty());
    host.expect_silence(&ann);
    // Or while it becomes another one.
    let another = json!({ "sessionCode": "S1", "educators": [], "participants": ["bea"] });
    host.server_event("session-create", another).expect_ok();
    host.send(&ann, "late", "session:S1").expect_ok();
    assert!(host.rooms(&ann).is_empty());
}

#[test]
fn who_joins_a_group_while_groups_are_assigned_is_in_the_right_one() {
    let (mut host, ann) = with_late_joins();
    let teacher = joined(&mut host, tom());
    host.send(&ann, "joinSession", "S1").expect_ok();
    in_s1(
        &mut host,
        &teacher,
        "assignGroups",
        json!({ "groups": [{ "name": "red", "userIds": ["ann"] }] }),
    );
    for wrong in ["session-group:S1:blue", "session-group:S2:red"] {
        host.send(&ann, "late", wrong).expect_ok();
        assert_eq!(host.rooms(&ann), ["session-group:S1:red", "session:S1"]);
    }
}

#[test]
fn what_is_said_before_a_join_takes_effect_is_told() {
    let (mut host, ann) = with_late_joins();
    let teacher = joined(&mut host, tom());
    in_s1(
        &mut host,
        &teacher,
        "sendMessage",
        json!({ "message": "in between" }),
    );
    host.send(&ann, "late", "session:S1").expect_ok();
    let told = host.take(&ann, "sessionJoined");
    assert_eq!(told["recentMessages"][0]["message"], "in between");
}

#[test]
fn what_is_said_while_the_session_ends_is_not_kept() {
    // Ends it and has not put anybody out yet.
    let end = |cx: &mut Cx, code: Id| {
        cx.kv(format!("session:{code}")).delete("session")?;
        Ok(Ack::ok())
    };
    let mut host = TestHost::new(classroom::plugin().on("end", end));
    let open = json!({ "sessionCode": "S1", "educators": ["tom"], "open": true });
    host.server_event("session-create", open).expect_ok();
    let teacher = joined(&mut host, tom());
    host.send(&teacher, "end", "S1").expect_ok();
    let one = json!({ "message": "x", "status": "away", "groups": [], "activity": 1, "state": 1,
        "lineId": "l", "text": "x", "final": true });
    for event in [
        "sendMessage",
        "updatePresence",
        "assignGroups",
        "syncActivity",
        "transcript",
    ] {
        refused(&mut host, &teacher, event, one.clone(), "NOT_FOUND");
    }
    assert!(host.history("session:S1").is_empty());
}
