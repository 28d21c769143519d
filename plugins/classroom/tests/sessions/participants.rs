//! Joining and leaving, and what one who joins is told.

use crate::{NOON, host, in_s1, joined, scene, tom};
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, TestHost, User};

const GRACE: Duration = Duration::from_secs(5);

fn participant(user: &str, role: &str, status: &str) -> Value {
    json!({ "userId": user, "role": role, "status": status })
}

#[test]
fn whoever_joins_is_told_of_all_and_the_others_of_them() {
    let mut host = host();
    let teacher = host.connect(tom());
    let ack = host.send(&teacher, "joinSession", "S1").expect_ok();
    assert_eq!(ack, json!({ "ok": true, "sessionCode": "S1" }));
    let empty = json!({
        "sessionCode": "S1",
        "participants": [participant("tom", "educator", "active")],
        "groups": [],
        "activity": null,
        "recentMessages": [],
    });
    assert_eq!(host.take(&teacher, "sessionJoined"), empty);
    host.expect_silence(&teacher);
    let ann = host.connect("ann");
    host.send(&ann, "joinSession", "S1").expect_ok();
    let news = json!({ "sessionCode": "S1", "userId": "ann", "role": "student" });
    assert_eq!(host.take(&teacher, "participantJoined"), news);
    host.expect_silence(&teacher);
    let both = json!([
        participant("ann", "student", "active"),
        participant("tom", "educator", "active")
    ]);
    assert_eq!(host.take(&ann, "sessionJoined")["participants"], both);
    host.expect_silence(&ann);
}

#[test]
fn a_late_joiner_is_told_of_everything_that_is_there() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    let groups = json!([{ "name": "red", "userIds": ["ann", "bea"] }]);
    in_s1(
        &mut host,
        &teacher,
        "assignGroups",
        json!({ "groups": groups }),
    );
    for page in 1..=3 {
        let activity = json!({ "activity": "quiz", "state": { "page": page } });
        in_s1(&mut host, &teacher, "syncActivity", activity);
    }
    in_s1(
        &mut host,
        &ann,
        "updatePresence",
        json!({ "status": "away" }),
    );
    let mut messages = Vec::new();
    for (client, user, text) in [(&ann, "ann", "first"), (&teacher, "tom", "second")] {
        let ack = in_s1(&mut host, client, "sendMessage", json!({ "message": text }));
        messages.push(json!({
            "sessionCode": "S1", "messageId": ack["messageId"], "userId": user, "message": text,
            "timestamp": NOON,
        }));
    }
    let told = json!({
        "sessionCode": "S1",
        "participants": [
            participant("ann", "student", "away"),
            participant("bea", "student", "active"),
            participant("tom", "educator", "active"),
        ],
        "groups": groups,
        "activity": { "activity": "quiz", "state": { "page": 3 }, "version": 3 },
        "recentMessages": messages,
    });
    let bea = host.connect("bea");
    host.send(&bea, "joinSession", "S1").expect_ok();
    assert_eq!(host.take(&bea, "sessionJoined"), told);
    assert_eq!(host.rooms(&bea), ["session-group:S1:red", "session:S1"]);
    // Whoever asks again is told again, and nobody else hears of it.
    host.clear();
    let ack = host.send(&bea, "joinSession", "S1").expect_ok();
    assert_eq!(ack, json!({ "ok": true, "sessionCode": "S1" }));
    assert_eq!(host.take(&bea, "sessionJoined"), told);
    host.expect_silence(&ann);
}

#[test]
fn a_participant_comes_with_the_first_device_and_leaves_with_the_last() {
    let mut host = host();
    let (teacher, laptop) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    let phone = host.connect("ann");
    host.send(&phone, "joinSession", "S1").expect_ok();
    host.expect_silence(&teacher);
    host.expect_silence(&laptop);
    assert_eq!(
        host.take(&phone, "sessionJoined")["participants"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let ack = host.send(&phone, "leaveSession", "S1").expect_ok();
    assert_eq!(ack, json!({ "ok": true }));
    assert!(host.rooms(&phone).is_empty());
    host.expect_silence(&teacher);
    host.send(&laptop, "leaveSession", "S1").expect_ok();
    let gone = json!({ "sessionCode": "S1", "userId": "ann" });
    assert_eq!(host.take(&teacher, "participantLeft"), gone);
    host.expect_silence(&laptop);
    assert_eq!(scene(&mut host, "bea")["participants"][1]["userId"], "tom");
}

#[test]
fn whoever_is_lost_leaves_when_the_grace_is_over() {
    let mut host = host();
    let (teacher, laptop, phone) = (
        joined(&mut host, tom()),
        joined(&mut host, "ann"),
        joined(&mut host, "ann"),
    );
    host.disconnect(&laptop);
    host.advance(GRACE);
    host.expect_silence(&teacher);
    host.disconnect(&phone);
    host.advance(GRACE - Duration::from_millis(1));
    host.expect_silence(&teacher);
    // A late joiner has to know of whoever may come back without a word.
    let told = scene(&mut host, "bea");
    assert_eq!(
        told["participants"][0],
        participant("ann", "student", "active")
    );
    host.clear();
    host.advance(Duration::from_millis(1));
    assert_eq!(
        host.take(&teacher, "participantLeft"),
        json!({ "sessionCode": "S1", "userId": "ann" })
    );
    host.expect_silence(&teacher);
}

#[test]
fn whoever_comes_back_in_time_was_never_gone() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    in_s1(
        &mut host,
        &ann,
        "updatePresence",
        json!({ "status": "away" }),
    );
    host.clear();
    host.disconnect(&ann);
    host.advance(GRACE / 2);
    let back = host.connect("ann");
    host.send(&back, "joinSession", "S1").expect_ok();
    let told = host.take(&back, "sessionJoined");
    assert_eq!(
        told["participants"][0],
        participant("ann", "student", "away")
    );
    host.advance(GRACE);
    host.expect_silence(&teacher);
}

#[test]
fn whoever_leaves_and_joins_again_begins_anew() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    in_s1(
        &mut host,
        &ann,
        "updatePresence",
        json!({ "status": "away" }),
    );
    host.send(&ann, "leaveSession", "S1").expect_ok();
    host.clear();
    host.send(&ann, "joinSession", "S1").expect_ok();
    assert_eq!(host.take(&teacher, "participantJoined")["userId"], "ann");
    let told = host.take(&ann, "sessionJoined");
    assert_eq!(
        told["participants"][0],
        participant("ann", "student", "active")
    );
}

#[test]
fn a_session_is_for_those_on_its_list() {
    let mut host = host();
    let teacher = joined(&mut host, tom());
    for stranger in [
        User::new("eve"),
        User::new("ted").role("educator"),
        User::new("root").role("admin"),
    ] {
        let stranger = host.connect(stranger);
        host.send(&stranger, "joinSession", "S1")
            .expect_error("FORBIDDEN");
        host.send(&stranger, "joinSession", "S2")
            .expect_error("NOT_FOUND");
        assert!(host.rooms(&stranger).is_empty());
        host.expect_silence(&stranger);
    }
    host.expect_silence(&teacher);
}

#[test]
fn an_open_session_is_for_everybody_and_has_its_own_educators() {
    let mut host = host();
    let open = json!({ "sessionCode": "S2", "educators": ["tina"], "open": true });
    host.server_event("session-create", open).expect_ok();
    for (user, role) in [
        (User::new("eve"), "student"),
        (User::new("obs").role("observer"), "observer"),
        // By the backend's word, whatever the token says.
        (User::new("tina"), "educator"),
    ] {
        let client = host.connect(user);
        host.send(&client, "joinSession", "S2").expect_ok();
        let told = host.take(&client, "sessionJoined");
        let participants = told["participants"].as_array().unwrap();
        assert!(participants.iter().any(|one| one["role"] == role), "{told}");
    }
}

#[test]
fn a_session_has_so_many_places_and_they_become_free() {
    let mut host =
        TestHost::new(classroom::plugin()).with_settings(json!({ "maxParticipants": 2 }));
    let open = json!({ "sessionCode": "S1", "educators": [], "open": true });
    host.server_event("session-create", open).expect_ok();
    let (ann, bea) = (joined(&mut host, "ann"), joined(&mut host, "bea"));
    let cem = host.connect("cem");
    host.send(&cem, "joinSession", "S1")
        .expect_error("CONFLICT");
    assert!(host.rooms(&cem).is_empty());
    // Another device of one who is there is no other participant.
    let phone = joined(&mut host, "ann");
    host.send(&bea, "leaveSession", "S1").expect_ok();
    host.send(&cem, "joinSession", "S1").expect_ok();
    let there = json!([
        participant("ann", "student", "active"),
        participant("cem", "student", "active")
    ]);
    assert_eq!(host.take(&cem, "sessionJoined")["participants"], there);
    host.send(&bea, "joinSession", "S1")
        .expect_error("CONFLICT");
    // Whoever may come back keeps the place.
    for device in [&ann, &phone] {
        host.disconnect(device);
    }
    host.send(&bea, "joinSession", "S1")
        .expect_error("CONFLICT");
    host.advance(GRACE);
    host.send(&bea, "joinSession", "S1").expect_ok();
}

#[test]
fn whoever_has_no_room_left_does_not_join() {
    let mut host = host();
    let ann = host.connect("ann");
    for number in 0..128 {
        let code = format!("full-{number}");
        let open = json!({ "sessionCode": code, "educators": [], "open": true });
        host.server_event("session-create", open).expect_ok();
        host.send(&ann, "joinSession", code).expect_ok();
    }
    host.clear();
    host.send(&ann, "joinSession", "S1")
        .expect_error("RATE_LIMITED");
    host.expect_silence(&ann);
    assert_eq!(host.stored("session:S1", "participants"), None);
}

/// Returns a host where several things can happen before the plugin is told of any of them.
fn host_that_is_behind() -> TestHost {
    let put_out = |cx: &mut Cx| {
        let user = cx.user()?;
        cx.leave_user(user, "session:S1");
        Ok(Ack::ok())
    };
    let go_and_come = |cx: &mut Cx| {
        cx.leave("session:S1");
        cx.join("session:S1");
        Ok(Ack::ok())
    };
    let plugin = classroom::plugin()
        .on("put-out", put_out)
        .on("go-and-come", go_and_come);
    let mut host = TestHost::new(plugin);
    let open = json!({ "sessionCode": "S1", "educators": ["tom"], "open": true });
    host.server_event("session-create", open).expect_ok();
    host
}

#[test]
fn whoever_leaves_on_all_devices_at_once_leaves_once() {
    let mut host = host_that_is_behind();
    let teacher = joined(&mut host, tom());
    let (phone, _laptop) = (joined(&mut host, "ann"), joined(&mut host, "ann"));
    host.send(&phone, "put-out", ()).expect_ok();
    assert_eq!(host.take(&teacher, "participantLeft")["userId"], "ann");
}

#[test]
fn whoever_is_back_before_the_leave_is_told_of_has_not_left() {
    let mut host = host_that_is_behind();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    host.send(&ann, "go-and-come", ()).expect_ok();
    assert_eq!(host.take(&teacher, "participantJoined")["userId"], "ann");
    host.expect_silence(&teacher);
}
