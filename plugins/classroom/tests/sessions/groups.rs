//! Educators putting participants into groups, and keeping them on the same activity.

use crate::{host, in_s1, joined, refused, scene, tom};
use serde_json::{Value, json};
use switchboard_plugin::{Client, TestHost, User};

fn assign(host: &mut TestHost, teacher: &Client, groups: &Value) {
    let ack = in_s1(host, teacher, "assignGroups", json!({ "groups": groups }));
    assert_eq!(ack, json!({ "ok": true }));
}

#[test]
fn participants_are_moved_at_once_on_all_their_devices_in_the_session() {
    let mut host = host();
    let (teacher, ann, phone, bea) = (
        joined(&mut host, tom()),
        joined(&mut host, "ann"),
        joined(&mut host, "ann"),
        joined(&mut host, "bea"),
    );
    let elsewhere = host.connect("ann");
    let first = json!([{ "name": "red", "userIds": ["ann"] }, { "name": "blue", "userIds": ["bea", "cem"] }]);
    assign(&mut host, &teacher, &first);
    for client in [&teacher, &ann, &phone, &bea] {
        let heard = host.take(client, "groupsUpdated");
        assert_eq!(heard, json!({ "sessionCode": "S1", "groups": first }));
        host.expect_silence(client);
    }
    host.expect_silence(&elsewhere);
    for client in [&ann, &phone] {
        assert_eq!(host.rooms(client), ["session-group:S1:red", "session:S1"]);
    }
    assert!(
        host.rooms(&elsewhere).is_empty(),
        "a device that is not in the session"
    );
    assert_eq!(host.rooms(&bea), ["session-group:S1:blue", "session:S1"]);
    assert_eq!(host.rooms(&teacher), ["session:S1"]);

    let second =
        json!([{ "name": "blue", "userIds": ["ann"] }, { "name": "green", "userIds": [] }]);
    assign(&mut host, &teacher, &second);
    for client in [&ann, &phone] {
        assert_eq!(host.rooms(client), ["session-group:S1:blue", "session:S1"]);
    }
    assert_eq!(host.rooms(&bea), ["session:S1"], "in no group any more");

    // Whoever leaves the session leaves the group with that device.
    host.send(&phone, "leaveSession", "S1").expect_ok();
    assert!(host.rooms(&phone).is_empty());
    assert_eq!(host.rooms(&ann), ["session-group:S1:blue", "session:S1"]);
    assign(&mut host, &teacher, &json!([]));
    assert_eq!(host.rooms(&ann), ["session:S1"]);
}

#[test]
fn late_joiners_and_other_devices_come_into_their_group() {
    let mut host = host();
    let teacher = joined(&mut host, tom());
    assign(
        &mut host,
        &teacher,
        &json!([{ "name": "red", "userIds": ["ann"] }]),
    );
    let (ann, phone, bea) = (
        joined(&mut host, "ann"),
        joined(&mut host, "ann"),
        joined(&mut host, "bea"),
    );
    for client in [&ann, &phone] {
        assert_eq!(host.rooms(client), ["session-group:S1:red", "session:S1"]);
    }
    assert_eq!(host.rooms(&bea), ["session:S1"]);
    // One who has left the session is not drawn into a group of it.
    host.send(&bea, "leaveSession", "S1").expect_ok();
    assign(
        &mut host,
        &teacher,
        &json!([{ "name": "red", "userIds": ["bea"] }]),
    );
    assert!(host.rooms(&bea).is_empty());
    host.send(&bea, "joinSession", "S1").expect_ok();
    assert_eq!(host.rooms(&bea), ["session-group:S1:red", "session:S1"]);
}

#[test]
fn groups_that_make_no_sense_are_refused() {
    let mut host = host();
    let teacher = joined(&mut host, tom());
    let many = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|n| json!({ "name": format!("g{n}"), "userIds": [] }))
            .collect()
    };
    for (groups, why) in [
        (
            json!([{ "name": "a:b", "userIds": [] }]),
            "`groups[0].name`",
        ),
        (
            json!([{ "name": "a", "userIds": [7] }]),
            "`groups[0].userIds[0]`",
        ),
        (json!([{ "name": "a" }]), "`userIds`"),
        (json!("red"), "`groups`"),
        (
            json!([{ "name": "a", "userIds": [] }, { "name": "a", "userIds": [] }]),
            "two groups `a`",
        ),
        (
            json!([{ "name": "a", "userIds": ["ann"] }, { "name": "b", "userIds": ["ann"] }]),
            "`ann` is named twice",
        ),
        (
            json!([{ "name": "a", "userIds": ["eve"] }]),
            "`eve` is not on",
        ),
        (json!(many(101)), "at most 100"),
    ] {
        let message = refused(
            &mut host,
            &teacher,
            "assignGroups",
            json!({ "groups": groups }),
            "INVALID_PAYLOAD",
        );
        assert!(
            message.contains(why) && message.contains("groups"),
            "{message}"
        );
    }
    assert_eq!(host.stored("session:S1", "groups"), None);
    assign(&mut host, &teacher, &json!(many(100)));
}

#[test]
fn groups_of_an_open_session_are_bounded_too() {
    let mut host = TestHost::new(classroom::plugin());
    let open = json!({ "sessionCode": "S1", "educators": ["tom"], "open": true });
    host.server_event("session-create", open).expect_ok();
    let teacher = joined(&mut host, tom());
    let everybody = |count: usize| -> Value {
        let users: Vec<String> = (0..count).map(|n| format!("{n:x>128}")).collect();
        json!([{ "name": "all", "userIds": users }])
    };
    assign(&mut host, &teacher, &everybody(300));
    refused(
        &mut host,
        &teacher,
        "assignGroups",
        json!({ "groups": everybody(301) }),
        "INVALID_PAYLOAD",
    );
}

#[test]
fn an_activity_has_a_version_that_only_grows() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    for (version, activity) in [
        (
            1,
            json!({ "activity": "quiz-7", "state": { "page": 1.50 } }),
        ),
        (2, json!({ "activity": { "kind": "video" }, "state": null })),
        // A version of the sender's own means nothing.
        (
            3,
            json!({ "activity": "quiz-7", "state": [], "version": 1 }),
        ),
    ] {
        let ack = in_s1(&mut host, &teacher, "syncActivity", activity.clone());
        assert_eq!(ack, json!({ "ok": true, "version": version }));
        let heard = json!({
            "sessionCode": "S1", "activity": activity["activity"], "state": activity["state"],
            "version": version,
        });
        for client in [&teacher, &ann] {
            assert_eq!(host.take(client, "activitySynced"), heard);
            host.expect_silence(client);
        }
    }
    let current = json!({ "activity": "quiz-7", "state": [], "version": 3 });
    assert_eq!(scene(&mut host, "bea")["activity"], current);
}

#[test]
fn an_activity_is_bounded_and_stays_what_it_is_when_refused() {
    let mut host = host();
    let teacher = joined(&mut host, tom());
    for (wrong, name) in [
        (json!({ "activity": "a" }), "`state`"),
        (json!({ "state": 1 }), "`activity`"),
        (
            json!({ "activity": "x".repeat(4_095), "state": 1 }),
            "`activity`",
        ),
        (
            json!({ "activity": 1, "state": "x".repeat(59_999) }),
            "`state`",
        ),
    ] {
        let message = refused(
            &mut host,
            &teacher,
            "syncActivity",
            wrong,
            "INVALID_PAYLOAD",
        );
        assert!(message.contains(name), "{message}");
    }
    let binary =
        json!({ "sessionCode": "S1", "activity": 1, "state": { "_placeholder": true, "num": 0 } });
    host.send_binary(&teacher, "syncActivity", [binary], vec![vec![1]])
        .expect_error("INVALID_PAYLOAD");
    assert_eq!(host.stored("session:S1", "activity"), None);
    let most = json!({ "activity": "x".repeat(4_094), "state": "x".repeat(59_998) });
    assert_eq!(
        in_s1(&mut host, &teacher, "syncActivity", most)["version"],
        1
    );
}

#[test]
fn groups_and_activities_are_the_educators_of_the_session() {
    let mut host = host();
    let open = json!({ "sessionCode": "S2", "educators": ["tom"], "open": true });
    host.server_event("session-create", open).expect_ok();
    let (ann, ted) = (
        joined(&mut host, "ann"),
        host.connect(User::new("ted").role("educator")),
    );
    host.send(&ted, "joinSession", "S2").expect_ok();
    for (client, code) in [(&ann, "S1"), (&ted, "S2")] {
        let anything = json!({ "sessionCode": code, "groups": [], "activity": 1, "state": 1 });
        for event in ["assignGroups", "syncActivity"] {
            refused(&mut host, client, event, anything.clone(), "FORBIDDEN");
        }
    }
}
