//! Whether participants are active, idle or away.

use crate::{host, in_s1, joined, refused, scene, tom};
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Status, TestHost};

const IDLE: Duration = Duration::from_secs(300);

fn news(user: &str, status: &str) -> Value {
    json!({ "sessionCode": "S1", "userId": user, "status": status })
}

fn status(host: &mut TestHost, user: &str) -> Value {
    let told = scene(host, tom());
    let all = told["participants"].as_array().unwrap();
    all.iter().find(|one| one["userId"] == user).unwrap()["status"].clone()
}

#[test]
fn everybody_hears_what_a_participant_says_of_themselves() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    for said in ["active", "idle", "away", "active"] {
        let ack = in_s1(&mut host, &ann, "updatePresence", json!({ "status": said }));
        assert_eq!(ack, json!({ "ok": true }));
        for client in [&teacher, &ann] {
            assert_eq!(host.take(client, "presenceUpdated"), news("ann", said));
            host.expect_silence(client);
        }
        assert_eq!(status(&mut host, "ann"), said);
    }
    for wrong in [json!("online"), json!(7), Value::Null] {
        let why = refused(
            &mut host,
            &ann,
            "updatePresence",
            json!({ "status": wrong }),
            "INVALID_PAYLOAD",
        );
        assert!(why.contains("`status`"), "{why}");
    }
    let why = refused(
        &mut host,
        &ann,
        "updatePresence",
        json!({}),
        "INVALID_PAYLOAD",
    );
    assert!(why.contains("`status`"), "{why}");
}

#[test]
fn whoever_does_nothing_is_idle_until_they_do_something_in_every_session() {
    let mut host = host();
    let other = json!({ "sessionCode": "S2", "educators": ["tom"], "open": true });
    host.server_event("session-create", other).expect_ok();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    for client in [&teacher, &ann] {
        host.send(client, "joinSession", "S2").expect_ok();
    }
    let also = json!({ "sessionCode": "S2", "userId": "ann", "status": "idle" });
    host.advance(IDLE / 2);
    // Tom does something, and stays.
    in_s1(
        &mut host,
        &teacher,
        "typingInSession",
        json!({ "isTyping": true }),
    );
    host.clear();
    host.advance(IDLE / 2);
    let heard = host.take_all(&teacher, "presenceUpdated");
    assert_eq!(heard, [news("ann", "idle"), also]);
    assert_eq!(status(&mut host, "ann"), "idle");
    host.clear();
    in_s1(
        &mut host,
        &ann,
        "typingInSession",
        json!({ "isTyping": true }),
    );
    let heard = host.take_all(&teacher, "presenceUpdated");
    assert_eq!(heard[0], news("ann", "active"));
    assert_eq!((heard.len(), &heard[1]["sessionCode"]), (2, &json!("S2")));
    assert_eq!(status(&mut host, "ann"), "active");
}

#[test]
fn what_one_says_of_a_session_holds_there_whatever_the_host_sees() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    for said in ["away", "idle"] {
        in_s1(&mut host, &ann, "updatePresence", json!({ "status": said }));
        host.clear();
        host.advance(IDLE);
        assert_eq!(status(&mut host, "ann"), said);
        in_s1(
            &mut host,
            &ann,
            "sendMessage",
            json!({ "message": "here I am" }),
        );
        assert_eq!(status(&mut host, "ann"), said);
        let heard = host.take_all(&teacher, "presenceUpdated");
        assert!(
            heard.iter().all(|news| news["userId"] == "tom"),
            "{heard:?}"
        );
    }
    // Who says `active` is as the host sees them.
    in_s1(
        &mut host,
        &ann,
        "updatePresence",
        json!({ "status": "active" }),
    );
    host.clear();
    host.advance(IDLE);
    assert_eq!(status(&mut host, "ann"), "idle");
}

#[test]
fn whoever_was_idle_and_goes_only_leaves() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    host.advance(IDLE);
    host.clear();
    host.disconnect(&ann);
    host.advance(Duration::from_secs(5));
    assert_eq!(host.take(&teacher, "participantLeft")["userId"], "ann");
    host.expect_silence(&teacher);
    // Nor is anybody told who goes while they are active.
    let bea = joined(&mut host, "bea");
    host.disconnect(&bea);
    host.advance(Duration::from_secs(5));
    assert_eq!(host.take(&teacher, "participantLeft")["userId"], "bea");
    host.expect_silence(&teacher);
}

#[test]
fn what_a_user_is_seen_as_elsewhere_is_active_or_idle_here() {
    let choose = |cx: &mut Cx, status: Status| {
        cx.presence().choose(cx.user()?, status)?;
        Ok(Ack::ok())
    };
    let mut host = TestHost::new(classroom::plugin().on("choose", choose));
    let open = json!({ "sessionCode": "S1", "educators": ["tom"], "open": true });
    host.server_event("session-create", open).expect_ok();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    for (chosen, told) in [
        ("busy", None),
        ("away", Some("idle")),
        ("offline", None),
        ("busy", Some("active")),
        ("online", None),
        ("offline", Some("idle")),
        ("online", Some("active")),
    ] {
        host.send(&ann, "choose", chosen).expect_ok();
        if let Some(told) = told {
            assert_eq!(
                host.take(&teacher, "presenceUpdated"),
                news("ann", told),
                "{chosen}"
            );
        }
        host.expect_silence(&teacher);
    }
}
