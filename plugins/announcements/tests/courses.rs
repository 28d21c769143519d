//! Who is in the rooms of a course: by the token, and by what the backend tells.

mod campus;

use campus::{Campus, educator, student};
use serde_json::json;
use switchboard_plugin::User;

const EVERYONE: &str = "announcements:c1";
const EDUCATORS: &str = "announcements-educators:c1";

fn told(user: &str, status: &str) -> serde_json::Value {
    json!({ "userId": user, "courseId": "c1", "status": status })
}

#[test]
fn rooms_are_joined_at_connect_by_the_token() {
    let mut campus = Campus::new(json!({}));
    assert_eq!(campus.rooms(&campus.tom), [EDUCATORS, EVERYONE]);
    assert_eq!(campus.rooms(&campus.ann), [EVERYONE]);
    let both = student("bo")
        .claim("taughtCourses", ["c2"])
        .role("educator");
    let both = campus.connect(both);
    let expected = [EVERYONE, "announcements-educators:c2", "announcements:c2"];
    let mut expected = expected.map(str::to_owned);
    expected.sort();
    assert_eq!(campus.rooms(&both), expected);
    let odd = User::new("odd").claim("enrolledCourses", json!(["a:b", 7, "", "c1"]));
    let odd = campus.connect(odd.claim("taughtCourses", "c2"));
    assert_eq!(campus.rooms(&odd), [EVERYONE]);
    let posing = campus.connect(User::new("eve").claim("taughtCourses", ["c1"]));
    assert!(campus.rooms(&posing).is_empty());
}

#[test]
fn an_enrolment_wins_over_the_token_now_and_at_later_connects() {
    let mut campus = Campus::new(json!({}));
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    let phone = campus.connect(student("ann"));
    let new = campus.connect("new");
    let dropped = campus.server_event("enrollment-updated", told("ann", "dropped"));
    assert_eq!(dropped.expect_ok(), json!({ "ok": true }));
    let active = campus.server_event("enrollment-updated", told("new", "active"));
    active.expect_ok();
    let id = campus.announced(&tom, json!({}), "published");
    for out in [ann, phone, campus.connect(student("ann"))] {
        assert!(campus.rooms(&out).is_empty());
        campus.expect_silence(&out);
        campus
            .send(&out, "announcement-read", &id)
            .expect_error("FORBIDDEN");
    }
    assert_eq!(campus.published(&new), [id.as_str()]);
    let again = campus.connect("new");
    assert_eq!(campus.rooms(&again), [EVERYONE]);
    campus.send(&again, "announcement-read", &id).expect_ok();
}

#[test]
fn who_teaches_is_put_out_and_let_in_as_such() {
    let mut campus = Campus::new(json!({}));
    let tom = campus.tom.clone();
    let new = campus.connect(User::new("ned").role("educator"));
    campus.announce(&new, json!({})).expect_error("FORBIDDEN");
    campus
        .server_event("enrollment-updated", told("ned", "active"))
        .expect_ok();
    assert_eq!(campus.rooms(&new), [EDUCATORS, EVERYONE]);
    campus.announced(&new, json!({}), "published");
    campus
        .server_event("enrollment-updated", told("tom", "dropped"))
        .expect_ok();
    assert!(campus.rooms(&tom).is_empty());
    campus.announce(&tom, json!({})).expect_error("FORBIDDEN");
    let later = campus.connect(educator("tom"));
    assert!(campus.rooms(&later).is_empty());
    // As a student, where the token says so.
    let learns = User::new("gus")
        .role("educator")
        .claim("enrolledCourses", ["c1"]);
    let learns = campus.connect(learns);
    campus
        .server_event("enrollment-updated", told("gus", "active"))
        .expect_ok();
    assert_eq!(campus.rooms(&learns), [EVERYONE]);
}

fn staff(educators: &[&str]) -> serde_json::Value {
    json!({ "courseId": "c1", "educators": educators })
}

#[test]
fn who_teaches_by_the_backends_word_does_so_at_once_and_at_later_connects() {
    let mut campus = Campus::new(json!({ "approval": true }));
    let named = |claim: &str| User::new("ned").role("educator").claim(claim, ["c1"]);
    let (ned, learning, unlike) = (
        campus.connect(User::new("ned").role("educator")),
        campus.connect(named("enrolledCourses")),
        campus.connect("ned"),
    );
    let tom = campus.tom.clone();
    let id = campus.announced(&tom, json!({}), "pending-approval");
    campus.clear();
    let answer = campus.server_event("course-staff", staff(&["ned", "ned"]));
    assert_eq!(answer.expect_ok(), json!({ "ok": true }));
    let later = campus.connect(User::new("ned").role("educator"));
    for client in [&ned, &learning, &later] {
        assert_eq!(campus.rooms(client), [EDUCATORS, EVERYONE]);
        assert_eq!(
            campus.take(client, "announcement-pending")["announcementId"],
            id
        );
        campus.expect_silence(client);
    }
    assert!(campus.rooms(&unlike).is_empty(), "a student's role");
    campus.send(&ned, "announcement-approve", &id).expect_ok();
    // Whatever is said of enrolments; and what is said again is no news.
    campus
        .server_event("enrollment-updated", told("ned", "dropped"))
        .expect_ok();
    campus.clear();
    campus
        .server_event("course-staff", staff(&["ned"]))
        .expect_ok();
    campus.expect_silence_everywhere();
    assert_eq!(campus.rooms(&ned), [EDUCATORS, EVERYONE]);
    campus.announced(&ned, json!({}), "pending-approval");
}

#[test]
fn who_is_not_listed_any_more_is_what_the_token_says() {
    let mut campus = Campus::new(json!({}));
    let plain = || User::new("ned").role("educator");
    let clients = [
        (campus.connect(plain()), vec![]),
        (
            campus.connect(plain().claim("enrolledCourses", ["c1"])),
            vec![EVERYONE],
        ),
        (
            campus.connect(plain().claim("taughtCourses", ["c1"])),
            vec![EDUCATORS, EVERYONE],
        ),
    ];
    campus
        .server_event("course-staff", staff(&["ned", "other"]))
        .expect_ok();
    for (client, _) in &clients {
        assert_eq!(campus.rooms(client), [EDUCATORS, EVERYONE]);
    }
    campus
        .server_event("course-staff", staff(&["other"]))
        .expect_ok();
    for (client, rooms) in &clients {
        assert_eq!(campus.rooms(client), *rooms);
    }
    let out = clients[0].0.clone();
    campus.announce(&out, json!({})).expect_error("FORBIDDEN");
    let later = campus.connect(plain());
    assert!(campus.rooms(&later).is_empty());
}

#[test]
fn a_list_of_staff_is_bounded_and_replaced_as_a_whole() {
    let mut campus = Campus::new(json!({}));
    let list = |word: &str, count: usize| {
        let educators: Vec<String> = (0..count).map(|n| format!("{word:x<124}{n:04}")).collect();
        json!({ "courseId": "c1", "educators": educators })
    };
    for word in ["a", "b"] {
        campus
            .server_event("course-staff", list(word, 400))
            .expect_ok();
    }
    for (wrong, member) in [
        (list("c", 401), "`educators`"),
        (json!({ "courseId": "c1" }), "`educators`"),
        (staff(&["a:b"]), "`educators"),
        (json!({ "educators": [] }), "`courseId`"),
    ] {
        let why = campus
            .server_event("course-staff", wrong)
            .expect_error("INVALID_PAYLOAD");
        assert!(why.contains(member), "{member}: {why}");
    }
}

#[test]
fn a_token_with_very_many_courses_is_heard_in_the_first() {
    let mut campus = Campus::new(json!({}));
    let courses: Vec<String> = (0..70).map(|n| format!("c{n:02}")).collect();
    let busy = campus.connect(
        User::new("busy")
            .role("educator")
            .claim("taughtCourses", courses),
    );
    let rooms = campus.rooms(&busy);
    assert_eq!(rooms.len(), 100);
    assert!(
        rooms.contains(&"announcements-educators:c49".to_owned()),
        "{rooms:?}"
    );
    assert!(
        campus
            .log()
            .iter()
            .any(|line| line.contains("`busy` has 70 courses"))
    );
}

#[test]
fn enrolments_that_cannot_be_read_are_refused() {
    let mut campus = Campus::new(json!({}));
    for wrong in [
        json!({}),
        told("ann", "perhaps"),
        told("a:b", "active"),
        json!({ "userId": "ann", "courseId": "c1:x", "status": "active" }),
    ] {
        campus
            .server_event("enrollment-updated", wrong)
            .expect_error("INVALID_PAYLOAD");
    }
}
