//! What backends say that cannot be done, and what a course is told twice.

use lms::plugin;
use serde_json::{Value, json};
use switchboard_plugin::{TestHost, User};

fn host() -> TestHost {
    TestHost::new(plugin())
}

#[test]
fn content_is_added_and_belongs_to_one_course() {
    let mut host = host();
    let content = json!({ "courseId": "c1", "threads": ["t1"] });
    host.server_event("course-content", content).expect_ok();
    let more = json!({ "courseId": "c1", "threads": ["t2", "t1"] });
    host.server_event("course-content", more).expect_ok();
    let ann = host.connect(User::new("ann").claim("enrolledCourses", ["c1"]));
    for thread in ["t1", "t2"] {
        host.send(&ann, "join-thread", thread).expect_ok();
    }
    let stolen = json!({ "courseId": "c2", "threads": ["t3", "t1"] });
    host.server_event("course-content", stolen)
        .expect_error("CONFLICT");
    assert_eq!(host.stored("content", "thread:t3"), None);
    assert_eq!(host.stored("content", "thread:t1"), Some(json!("c1")));
}

#[test]
fn content_comes_in_events_that_the_host_can_commit() {
    let mut host = host();
    let content = |count: usize| {
        let threads: Vec<String> = (0..count).map(|n| format!("t{n}")).collect();
        json!({ "courseId": "c1", "threads": threads })
    };
    host.server_event("course-content", content(1_000))
        .expect_ok();
    host.server_event("course-content", content(1_001))
        .expect_error("INVALID_PAYLOAD");
    let staff = |count: u32| {
        let educators: Vec<String> = (0..count).map(|n| format!("e{n}")).collect();
        json!({ "courseId": "c", "educators": educators })
    };
    host.server_event("course-staff", staff(400)).expect_ok();
    host.server_event("course-staff", staff(401))
        .expect_error("INVALID_PAYLOAD");
}

#[test]
fn every_required_member_is_missed_by_name() {
    let mut host = host();
    for (event, complete) in [
        (
            "notification",
            json!({ "userId": "a", "type": "t", "title": "t", "content": "c" }),
        ),
        (
            "notification-read",
            json!({ "userId": "a", "notificationId": "n", "unreadCount": 1 }),
        ),
        ("unread-count", json!({ "userId": "a", "count": 1 })),
        ("message", json!({ "from": "a", "to": "b", "content": "c" })),
        ("conversation-updated", json!({ "conversationId": "a:b" })),
        (
            "discussion-post",
            json!({
                "postId": "p", "threadId": "t", "courseId": "c", "authorId": "a", "content": "c",
            }),
        ),
        ("thread-updated", json!({ "threadId": "t" })),
        (
            "post-voted",
            json!({ "postId": "p", "threadId": "t", "score": 1, "userId": "a" }),
        ),
        (
            "announcement",
            json!({ "courseId": "c", "title": "t", "content": "c" }),
        ),
        (
            "assignment-graded",
            json!({
                "userId": "a", "assignmentId": "a", "courseId": "c", "score": 1, "maxScore": 2,
            }),
        ),
        (
            "enrollment-updated",
            json!({ "userId": "a", "courseId": "c", "status": "active" }),
        ),
        (
            "lesson-completed",
            json!({ "userId": "a", "courseId": "c" }),
        ),
        (
            "course-completed",
            json!({ "userId": "a", "courseId": "c" }),
        ),
        (
            "certificate-issued",
            json!({ "userId": "a", "courseId": "c" }),
        ),
        (
            "progress-updated",
            json!({ "userId": "a", "courseId": "c", "percent": 1 }),
        ),
        (
            "presence",
            json!({ "userId": "a", "status": "busy", "courseIds": ["c"] }),
        ),
        ("quiz-started", json!({ "userIds": ["a"], "quizId": "q" })),
        ("course-content", json!({ "courseId": "c" })),
        ("course-staff", json!({ "courseId": "c", "educators": [] })),
    ] {
        host.server_event(event, &complete).expect_ok();
        host.server_event(event, Value::Null)
            .expect_error("INVALID_PAYLOAD");
        let members = complete.as_object().unwrap();
        for missing in members.keys() {
            let mut told = members.clone();
            told.remove(missing);
            let message = host
                .server_event(event, &told)
                .expect_error("INVALID_PAYLOAD");
            assert!(message.contains(&format!("`{missing}`")), "{message}");
            // And none of them can be an object.
            told.insert(missing.clone(), json!({ "a": 1 }));
            host.server_event(event, &told)
                .expect_error("INVALID_PAYLOAD");
        }
    }
}

#[test]
fn values_outside_the_dialect_are_refused() {
    let mut host = host();
    for (event, told) in [
        (
            "notification",
            json!({ "userId": "a", "type": "t", "title": "t", "content": "c", "priority": "extreme" }),
        ),
        (
            "notification",
            json!({ "userIds": ["a", "b:c"], "type": "t", "title": "t", "content": "c" }),
        ),
        (
            "notification",
            json!({ "userIds": [], "type": "t", "title": "t", "content": "c" }),
        ),
        ("unread-count", json!({ "userId": "a", "count": -1 })),
        (
            "message",
            json!({ "from": "a", "to": "b:c", "content": "c" }),
        ),
        ("message", json!({ "from": "a", "to": "a", "content": "c" })),
        (
            "message",
            json!({ "from": "a", "to": "b", "content": "c", "conversationId": "a:c" }),
        ),
        ("conversation-updated", json!({ "conversationId": "ab" })),
        ("conversation-updated", json!({ "conversationId": "a:b:c" })),
        (
            "announcement",
            json!({ "courseId": "a:b", "title": "t", "content": "c" }),
        ),
        (
            "enrollment-updated",
            json!({ "userId": "a", "courseId": "c", "status": "perhaps" }),
        ),
        (
            "presence",
            json!({ "userId": "a", "status": "asleep", "courseIds": ["c"] }),
        ),
        (
            "quiz-started",
            json!({ "userIds": ["a"], "quizId": "q1:b" }),
        ),
        (
            "course-content",
            json!({ "courseId": "c", "threads": ["t:u"] }),
        ),
        (
            "course-staff",
            json!({ "courseId": "c", "educators": "tom" }),
        ),
    ] {
        host.server_event(event, &told)
            .expect_error("INVALID_PAYLOAD");
    }
}
