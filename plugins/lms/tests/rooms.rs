//! What clients say: entering and leaving, and who may.

use lms::plugin;
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Client, TestHost, User};

/// Returns a host that has been told of the course `c1` with one of everything.
fn host() -> TestHost {
    let mut host = TestHost::new(plugin());
    let content =
        json!({ "courseId": "c1", "threads": ["t1"], "lessons": ["l1"], "quizzes": ["q1"] });
    host.server_event("course-content", content).expect_ok();
    host
}

fn enrolled(id: &str) -> User {
    User::new(id).claim("enrolledCourses", ["c1"])
}

fn own_rooms(host: &TestHost, client: &Client) -> Vec<String> {
    let mut rooms = host.rooms(client);
    rooms.retain(|room| !room.starts_with("role:"));
    rooms
}

#[test]
fn everybody_is_in_the_room_of_their_role() {
    let mut host = host();
    let teacher = host.connect(User::new("tom").role("educator"));
    assert_eq!(host.rooms(&teacher), ["role:educator"]);
}

#[test]
fn a_course_confirms_with_who_is_there_each_user_once() {
    let mut host = host();
    let (bea, ann, phone) = (
        host.connect(enrolled("bea")),
        host.connect(enrolled("ann")),
        host.connect(enrolled("ann")),
    );
    for (client, online) in [
        (&bea, json!(["bea"])),
        (&ann, json!(["ann", "bea"])),
        (&phone, json!(["ann", "bea"])),
        (&phone, json!(["ann", "bea"])),
    ] {
        let ack = host.send(client, "join-course", "c1").expect_ok();
        assert_eq!(
            ack,
            json!({ "ok": true, "courseId": "c1", "onlineUsers": online })
        );
        let heard = host.take(client, "joined-course");
        assert_eq!(heard, json!({ "courseId": "c1", "onlineUsers": online }));
    }
    assert_eq!(host.take(&bea, "user-presence")["userId"], "ann");
    host.expect_silence(&bea);
    let ack = host.send(&phone, "leave-course", "c1").expect_ok();
    assert_eq!(ack, json!({ "ok": true, "courseId": "c1" }));
    assert_eq!(
        host.take(&phone, "left-course"),
        json!({ "courseId": "c1" })
    );
    assert_eq!(own_rooms(&host, &ann), ["course:c1"]);
    assert!(own_rooms(&host, &phone).is_empty());
}

#[test]
fn content_confirms_with_its_id() {
    let mut host = host();
    let ann = host.connect(enrolled("ann"));
    for (kind, id, room) in [
        ("thread", "t1", "thread:t1"),
        ("lesson", "l1", "lesson:l1"),
        ("quiz", "q1", "quiz:q1:ann"),
    ] {
        let named = json!({ (format!("{kind}Id")): id });
        let mut acknowledged = named.clone();
        acknowledged["ok"] = json!(true);
        let ack = host.send(&ann, &format!("join-{kind}"), id).expect_ok();
        assert_eq!(ack, acknowledged);
        assert_eq!(host.take(&ann, &format!("joined-{kind}")), named);
        assert_eq!(own_rooms(&host, &ann), [room]);
        let ack = host.send(&ann, &format!("leave-{kind}"), id).expect_ok();
        assert_eq!(ack, acknowledged);
        assert_eq!(host.take(&ann, &format!("left-{kind}")), named);
        assert!(own_rooms(&host, &ann).is_empty());
    }
}

#[test]
fn a_stranger_enters_nothing_of_a_course() {
    let mut host = host();
    let eve = host.connect(User::new("eve").claim("enrolledCourses", ["c2"]));
    for (event, id) in [
        ("join-course", "c1"),
        ("join-thread", "t1"),
        ("join-lesson", "l1"),
        ("join-quiz", "q1"),
    ] {
        host.send(&eve, event, id).expect_error("FORBIDDEN");
    }
    assert!(own_rooms(&host, &eve).is_empty());
    host.expect_silence(&eve);
}

#[test]
fn content_nobody_told_of_is_not_found_and_kinds_are_not_mixed_up() {
    let mut host = host();
    let ann = host.connect(enrolled("ann"));
    for (event, id) in [
        ("join-thread", "t2"),
        ("join-lesson", "t1"),
        ("join-quiz", "l1"),
    ] {
        host.send(&ann, event, id).expect_error("NOT_FOUND");
    }
}

#[test]
fn ids_name_no_other_room() {
    let mut host = host();
    let root = host.connect(User::new("root").role("admin"));
    let long = "x".repeat(129);
    for event in ["course", "thread", "lesson", "quiz"] {
        for wrong in [
            json!("q1:ann"),
            json!("course:c1"),
            json!(""),
            json!("a b"),
            json!(long),
            json!(7),
            json!(["c1"]),
            json!({ "courseId": "c1" }),
            Value::Null,
        ] {
            for verb in ["join", "leave"] {
                host.send(&root, &format!("{verb}-{event}"), &wrong)
                    .expect_error("INVALID_PAYLOAD");
            }
        }
    }
    let nothing: [(); 0] = [];
    host.send_args(&root, "join-course", nothing)
        .expect_error("INVALID_PAYLOAD");
    assert_eq!(host.rooms(&root), ["role:admin"]);
}

#[test]
fn staff_enter_by_role_and_by_course() {
    let mut host = host();
    let teaches = |id: &str| User::new(id).claim("taughtCourses", ["c1"]);
    let (claiming, named, other, posing, root) = (
        host.connect(teaches("tom").role("educator")),
        host.connect(User::new("tina").role("educator")),
        host.connect(User::new("ted").role("educator")),
        host.connect(teaches("eve")),
        host.connect(User::new("root").role("admin")),
    );
    host.send(&named, "join-course", "c1")
        .expect_error("FORBIDDEN");
    let staff = json!({ "courseId": "c1", "educators": ["tina", "eve"] });
    host.server_event("course-staff", staff).expect_ok();
    for client in [&claiming, &named, &root] {
        host.send(client, "join-course", "c1").expect_ok();
        host.send(client, "join-thread", "t1").expect_ok();
    }
    for client in [&other, &posing] {
        host.send(client, "join-course", "c1")
            .expect_error("FORBIDDEN");
    }
    // Off the list is out, and those who were never on it stay.
    let nobody = json!({ "courseId": "c1", "educators": [] });
    host.server_event("course-staff", nobody).expect_ok();
    assert!(own_rooms(&host, &named).is_empty());
    assert_eq!(own_rooms(&host, &claiming), ["course:c1", "thread:t1"]);
    host.send(&named, "join-course", "c1")
        .expect_error("FORBIDDEN");
}

#[test]
fn a_claim_that_is_no_list_opens_nothing() {
    let mut host = host();
    let odd = host.connect(User::new("odd").claim("enrolledCourses", "c1"));
    host.send(&odd, "join-course", "c1")
        .expect_error("FORBIDDEN");
}

#[test]
fn a_conversation_has_one_name_for_its_two_users() {
    let mut host = host();
    let ann = host.connect("ann");
    let bob = host.connect("bob");
    for (client, named, with) in [
        (&bob, "ann", "ann"),
        (&ann, "bob", "bob"),
        (&ann, "bob:ann", "bob"),
        (&ann, "ann:bob", "bob"),
    ] {
        let ack = host.send(client, "join-conversation", named).expect_ok();
        let joined = json!({ "conversationId": "ann:bob", "with": with });
        assert_eq!(host.take(client, "joined-conversation"), joined);
        assert_eq!(
            ack,
            json!({ "ok": true, "conversationId": "ann:bob", "with": with })
        );
        assert_eq!(own_rooms(&host, client), ["conversation:ann:bob"]);
    }
    let ack = host.send(&ann, "leave-conversation", "bob").expect_ok();
    assert_eq!(ack, json!({ "ok": true, "conversationId": "ann:bob" }));
    let left = host.take(&ann, "left-conversation");
    assert_eq!(left, json!({ "conversationId": "ann:bob" }));
    assert!(own_rooms(&host, &ann).is_empty());
}

#[test]
fn a_conversation_is_closed_to_others() {
    let mut host = host();
    let eve = host.connect("eve");
    for event in ["join-conversation", "leave-conversation"] {
        host.send(&eve, event, "ann:bob").expect_error("FORBIDDEN");
        for crafted in [
            json!("eve:ann:bob"),
            json!("eve:"),
            json!(":eve"),
            json!(":"),
            json!(""),
            json!("eve"),
            json!("eve:eve"),
            json!("an n"),
            json!(7),
            Value::Null,
        ] {
            host.send(&eve, event, &crafted)
                .expect_error("INVALID_PAYLOAD");
        }
    }
    assert!(own_rooms(&host, &eve).is_empty());
}

#[test]
fn who_types_is_heard_by_the_others_in_rooms_that_one_has_joined() {
    let mut host = host();
    let (ann, bea) = (host.connect(enrolled("ann")), host.connect(enrolled("bea")));
    for client in [&ann, &bea] {
        host.send(client, "join-course", "c1").expect_ok();
        host.send(client, "join-thread", "t1").expect_ok();
    }
    host.send(&ann, "join-conversation", "bea").expect_ok();
    host.send(&bea, "join-conversation", "ann").expect_ok();
    for room in ["course:c1", "thread:t1", "conversation:ann:bea"] {
        host.clear();
        for (event, is_typing) in [("start-typing", true), ("stop-typing", false)] {
            host.send(&ann, event, room).expect_ok();
            let news = json!({ "userId": "ann", "room": room, "isTyping": is_typing });
            assert_eq!(host.take(&bea, "user-typing"), news);
            host.expect_silence(&ann);
        }
        // It ends by itself, too, 5 seconds after it was said last.
        for _ in 0..2 {
            host.send(&ann, "start-typing", room).expect_ok();
            host.advance(Duration::from_secs(4));
        }
        assert_eq!(host.take(&bea, "user-typing")["isTyping"], true);
        host.expect_silence(&bea);
        host.advance(Duration::from_secs(1));
        let news = json!({ "userId": "ann", "room": room, "isTyping": false });
        assert_eq!(host.take(&bea, "user-typing"), news);
    }
    host.clear();
    for event in ["start-typing", "stop-typing"] {
        for room in ["conversation:bea:cem", "course:c2", "thread:t2"] {
            host.send(&ann, event, room).expect_error("NOT_IN_ROOM");
        }
        for wrong in [
            json!("lesson:l1"),
            json!("user:bea"),
            json!("c1"),
            json!(""),
            json!(7),
            Value::Null,
        ] {
            host.send(&ann, event, wrong)
                .expect_error("INVALID_PAYLOAD");
        }
    }
    host.expect_silence(&bea);
}

#[test]
fn what_one_is_seen_as_is_heard_in_courses_and_conversations() {
    let mut host = host();
    let (ann, bea) = (host.connect(enrolled("ann")), host.connect(enrolled("bea")));
    host.send(&ann, "join-course", "c1").expect_ok();
    host.clear();
    host.send(&bea, "join-course", "c1").expect_ok();
    let now = "2023-11-15T12:00:00.000Z";
    let seen = |status| json!({ "userId": "bea", "status": status, "lastSeenAt": now });
    assert_eq!(host.take(&ann, "user-presence"), seen("online"));
    for status in ["busy", "away", "offline", "online"] {
        host.clear();
        host.send(&bea, "set-presence", status).expect_ok();
        assert_eq!(host.take(&ann, "user-presence"), seen(status));
        host.expect_silence(&bea);
    }
    let wrong = host.send(&bea, "set-presence", "invisible");
    wrong.expect_error("INVALID_PAYLOAD");
    // Who seems offline is not among those who are online, and does not come.
    host.send(&bea, "set-presence", "offline").expect_ok();
    host.send(&bea, "leave-course", "c1").expect_ok();
    host.clear();
    host.send(&bea, "join-course", "c1").expect_ok();
    host.expect_silence(&ann);
    let ack = host.send(&ann, "join-course", "c1").expect_ok();
    assert_eq!(ack["onlineUsers"], json!(["ann"]));
    host.send(&bea, "set-presence", "busy").expect_ok();
    host.clear();
    host.disconnect(&bea);
    host.expect_silence(&ann);
    host.advance(Duration::from_secs(5));
    let gone = host.take(&ann, "user-presence");
    assert_eq!(gone["status"], "offline");
}

#[test]
fn presence_is_told_of_those_with_whom_one_shares_a_room() {
    let mut host = host();
    let (ann, bea) = (host.connect(enrolled("ann")), host.connect(enrolled("bea")));
    host.connect(enrolled("cem"));
    for client in [&ann, &bea] {
        host.send(client, "join-course", "c1").expect_ok();
    }
    host.send(&bea, "set-presence", "busy").expect_ok();
    let asked = json!([["cem", "bea", "ann", "nobody"]]);
    let ack = host.send_args(&ann, "get-presence", asked).expect_ok();
    let now = "2023-11-15T12:00:00.000Z";
    let seen = |user, status| json!({ "userId": user, "status": status, "lastSeenAt": now });
    let presence = json!([seen("bea", "busy"), seen("ann", "online")]);
    assert_eq!(ack, json!({ "ok": true, "presence": presence }));
    let many: Vec<String> = (0..101).map(|number| format!("user-{number}")).collect();
    for wrong in [
        json!([many]),
        json!([]),
        json!(["bea"]),
        json!([{ "userIds": ["bea"] }]),
        json!([null]),
        json!([["a:b"]]),
        json!([[7]]),
    ] {
        host.send_args(&ann, "get-presence", wrong)
            .expect_error("INVALID_PAYLOAD");
    }
    let nobody: [Vec<String>; 1] = [Vec::new()];
    let ack = host.send_args(&ann, "get-presence", nobody).expect_ok();
    assert_eq!(ack, json!({ "ok": true, "presence": [] }));
}
