//! Enrolments that the backend tells of: who may enter then, and who is put out.

use lms::plugin;
use serde_json::json;
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
fn an_enrolment_wins_over_the_token() {
    let mut host = host();
    let ann = host.connect(enrolled("ann"));
    let new = host.connect("new");
    let told =
        |user: &str, status: &str| json!({ "userId": user, "courseId": "c1", "status": status });
    host.server_event("enrollment-updated", told("new", "active"))
        .expect_ok();
    let heard = host.take(&new, "enrollment-updated");
    assert_eq!(heard, json!({ "courseId": "c1", "status": "active" }));
    host.expect_silence(&ann);
    assert!(
        own_rooms(&host, &new).is_empty(),
        "entering is the client's"
    );
    host.send(&new, "join-course", "c1").expect_ok();
    host.server_event("enrollment-updated", told("ann", "dropped"))
        .expect_ok();
    host.send(&ann, "join-course", "c1")
        .expect_error("FORBIDDEN");
    host.send(&ann, "join-quiz", "q1").expect_error("FORBIDDEN");
    host.server_event("enrollment-updated", told("ann", "active"))
        .expect_ok();
    host.send(&ann, "join-course", "c1").expect_ok();
}

#[test]
fn who_is_dropped_is_out_of_the_course_on_all_devices_and_of_nothing_else() {
    let mut host = host();
    let other = json!({ "courseId": "c2", "threads": ["t2"] });
    host.server_event("course-content", other).expect_ok();
    let user = || User::new("ann").claim("enrolledCourses", ["c1", "c2"]);
    let (ann, phone, bea) = (
        host.connect(user()),
        host.connect(user()),
        host.connect(enrolled("bea")),
    );
    for (event, id) in [
        ("join-course", "c1"),
        ("join-lesson", "l1"),
        ("join-quiz", "q1"),
        ("join-course", "c2"),
        ("join-thread", "t2"),
        ("join-conversation", "bea"),
    ] {
        host.send(&ann, event, id).expect_ok();
    }
    for client in [&phone, &bea] {
        host.send(client, "join-thread", "t1").expect_ok();
    }
    host.clear();
    let dropped = json!({ "userId": "ann", "courseId": "c1", "status": "dropped" });
    host.server_event("enrollment-updated", dropped).expect_ok();
    assert_eq!(
        own_rooms(&host, &ann),
        ["conversation:ann:bea", "course:c2", "thread:t2"]
    );
    assert!(own_rooms(&host, &phone).is_empty());
    assert_eq!(own_rooms(&host, &bea), ["thread:t1"]);
    for client in [&ann, &phone] {
        let heard = host.take(client, "enrollment-updated");
        assert_eq!(heard, json!({ "courseId": "c1", "status": "dropped" }));
    }
    host.expect_silence(&bea);
}
