use super::plugin;
use serde_json::{Value, json};
use switchboard_plugin::{Client, TestHost, User};

/// A host with the course `c1`, a thread, a lesson and a quiz in it, and another course.
fn host() -> TestHost {
    let mut host = TestHost::new(plugin());
    let content =
        json!({ "courseId": "c1", "threads": ["t1"], "lessons": ["l1"], "quizzes": ["q1"] });
    host.server_event("course-content", content).expect_ok();
    host.server_event(
        "course-content",
        json!({ "courseId": "c2", "threads": ["t2"] }),
    )
    .expect_ok();
    host
}

fn student(host: &mut TestHost, id: &str) -> Client {
    host.connect(User::new(id).claim("enrolledCourses", ["c1"]))
}

#[test]
fn everybody_is_in_the_room_of_their_role() {
    let mut host = host();
    let ann = host.connect(User::new("ann").role("educator"));
    assert_eq!(host.rooms(&ann), ["role:educator"]);
}

#[test]
fn who_is_enrolled_enters_a_course() {
    let mut host = host();
    let (ann, ben) = (student(&mut host, "ann"), student(&mut host, "ben"));
    host.send(&ben, "join-course", "c1").expect_ok();
    let answer = host.send(&ann, "join-course", "c1").expect_ok();
    let confirmation = json!({ "courseId": "c1", "onlineUsers": ["ann", "ben"] });
    assert_eq!(host.take(&ann, "joined-course"), confirmation);
    assert_eq!(answer["onlineUsers"], confirmation["onlineUsers"]);
    host.send(&ann, "leave-course", "c1").expect_ok();
    assert_eq!(host.take(&ann, "left-course"), json!({ "courseId": "c1" }));
    assert_eq!(host.rooms(&ann), ["role:student"]);
    let stranger = host.connect("stranger");
    host.send(&stranger, "join-course", "c1")
        .expect_error("FORBIDDEN");
    host.send(&ann, "join-course", "c2")
        .expect_error("FORBIDDEN");
    for wrong in [json!("a:b"), json!(""), json!(7), Value::Null] {
        host.send(&ann, "join-course", wrong)
            .expect_error("INVALID_PAYLOAD");
    }
}

#[test]
fn educators_enter_what_they_teach_and_admins_everything() {
    let mut host = host();
    let by_token = host.connect(
        User::new("eve")
            .role("educator")
            .claim("taughtCourses", ["c1"]),
    );
    let by_backend = host.connect(User::new("flo").role("educator"));
    let admin = host.connect(User::new("root").role("admin"));
    let posing = host.connect(User::new("posing").claim("taughtCourses", ["c1"]));
    host.send(&by_token, "join-course", "c1").expect_ok();
    host.send(&by_backend, "join-course", "c1")
        .expect_error("FORBIDDEN");
    host.server_event(
        "course-staff",
        json!({ "courseId": "c1", "educators": ["flo", "posing"] }),
    )
    .expect_ok();
    host.send(&by_backend, "join-course", "c1").expect_ok();
    host.send(&admin, "join-course", "c2").expect_ok();
    host.send(&posing, "join-course", "c1")
        .expect_error("FORBIDDEN");
}

#[test]
fn what_the_backend_says_of_an_enrolment_wins() {
    let mut host = host();
    let (ann, phone, ben) = (
        student(&mut host, "ann"),
        student(&mut host, "ann"),
        student(&mut host, "ben"),
    );
    for (event, id) in [
        ("join-course", "c1"),
        ("join-thread", "t1"),
        ("join-lesson", "l1"),
        ("join-quiz", "q1"),
    ] {
        for client in [&ann, &phone, &ben] {
            host.send(client, event, id).expect_ok();
        }
    }
    host.send(&ann, "join-conversation", "ben").expect_ok();
    host.clear();
    let dropped = json!({ "userId": "ann", "courseId": "c1", "status": "dropped" });
    host.server_event("enrollment-updated", dropped).expect_ok();
    assert_eq!(host.rooms(&ann), ["conversation:ann:ben", "role:student"]);
    assert_eq!(host.rooms(&phone), ["role:student"]);
    assert_eq!(host.rooms(&ben).len(), 5, "others stay");
    assert_eq!(
        host.take(&phone, "enrollment-updated"),
        json!({ "courseId": "c1", "status": "dropped" })
    );
    host.send(&ann, "join-course", "c1")
        .expect_error("FORBIDDEN");
    host.send(&ann, "join-thread", "t1")
        .expect_error("FORBIDDEN");
    let newcomer = host.connect("newcomer");
    let active = json!({ "userId": "newcomer", "courseId": "c1", "status": "active" });
    host.server_event("enrollment-updated", active).expect_ok();
    host.send(&newcomer, "join-course", "c1").expect_ok();
}

#[test]
fn threads_lessons_and_quizzes_belong_to_their_course() {
    let mut host = host();
    let ann = student(&mut host, "ann");
    for (kind, id, room) in [
        ("thread", "t1", "thread:t1"),
        ("lesson", "l1", "lesson:l1"),
        ("quiz", "q1", "quiz:q1:ann"),
    ] {
        host.send(&ann, &format!("join-{kind}"), id).expect_ok();
        assert_eq!(
            host.take(&ann, &format!("joined-{kind}")),
            json!({ format!("{kind}Id"): id })
        );
        assert!(host.rooms(&ann).contains(&room.to_owned()));
        host.send(&ann, &format!("leave-{kind}"), id).expect_ok();
        assert_eq!(
            host.take(&ann, &format!("left-{kind}")),
            json!({ format!("{kind}Id"): id })
        );
        host.send(&ann, &format!("join-{kind}"), "unknown")
            .expect_error("NOT_FOUND");
        host.send(&ann, &format!("join-{kind}"), format!("{id}:ben"))
            .expect_error("INVALID_PAYLOAD");
    }
    host.send(&ann, "join-thread", "t2")
        .expect_error("FORBIDDEN");
    assert_eq!(host.rooms(&ann), ["role:student"]);
}

#[test]
fn a_conversation_is_for_its_two_users() {
    let mut host = host();
    let (ann, ben, eve) = (
        host.connect("ann"),
        host.connect("ben"),
        host.connect("eve"),
    );
    host.send(&ben, "join-conversation", "ann").expect_ok();
    assert_eq!(
        host.take(&ben, "joined-conversation"),
        json!({ "conversationId": "ann:ben", "with": "ann" })
    );
    host.send(&ann, "join-conversation", "ben:ann").expect_ok();
    assert_eq!(
        host.take(&ann, "joined-conversation"),
        json!({ "conversationId": "ann:ben", "with": "ben" })
    );
    host.send(&eve, "join-conversation", "ann:ben")
        .expect_error("FORBIDDEN");
    for crafted in ["ann:ben:eve", "eve:", ":eve", "", "eve:ann:ben", "an n"] {
        host.send(&eve, "join-conversation", crafted)
            .expect_error("INVALID_PAYLOAD");
    }
    host.send(&ann, "leave-conversation", "ben").expect_ok();
    assert_eq!(
        host.take(&ann, "left-conversation"),
        json!({ "conversationId": "ann:ben" })
    );
}

#[test]
fn a_message_is_heard_once_on_every_connection_of_the_two() {
    let mut host = host();
    let (ann, ben, eve) = (
        host.connect("ann"),
        host.connect("ben"),
        host.connect("eve"),
    );
    let phone = host.connect("ben");
    host.send(&ben, "join-conversation", "ann").expect_ok();
    host.clear();
    let answer = host
        .server_event(
            "message",
            json!({ "from": "ann", "to": "ben", "content": "hi" }),
        )
        .expect_ok();
    for client in [&ann, &ben, &phone] {
        let message = host.take(client, "message-received");
        assert_eq!(
            (&message["messageId"], &message["conversationId"]),
            (&answer["messageId"], &json!("ann:ben"))
        );
    }
    host.expect_silence(&eve);
    let updated = json!({ "conversationId": "ben:ann", "muted": true });
    host.server_event("conversation-updated", updated)
        .expect_ok();
    assert_eq!(
        host.take(&phone, "conversation-updated"),
        json!({ "conversationId": "ann:ben", "muted": true })
    );
}

#[test]
fn what_concerns_a_course_is_heard_there() {
    let mut host = host();
    let (ann, ben) = (student(&mut host, "ann"), student(&mut host, "ben"));
    host.send(&ann, "join-course", "c1").expect_ok();
    host.send(&ann, "join-thread", "t1").expect_ok();
    host.clear();
    let post = json!({ "postId": "p1", "threadId": "t1", "courseId": "c1", "authorId": "x", "content": "?" });
    host.server_event("discussion-post", post).expect_ok();
    assert_eq!(host.take(&ann, "discussion-post-created")["postId"], "p1");
    let voted = json!({ "postId": "p1", "threadId": "t1", "score": 3, "userId": "x" });
    host.server_event("post-voted", &voted).expect_ok();
    assert_eq!(host.take(&ann, "post-voted"), voted);
    host.server_event(
        "thread-updated",
        json!({ "threadId": "t1", "locked": true }),
    )
    .expect_ok();
    assert_eq!(
        host.take(&ann, "thread-updated"),
        json!({ "threadId": "t1", "locked": true })
    );
    host.server_event(
        "announcement",
        json!({ "courseId": "c1", "title": "t", "content": "c" }),
    )
    .expect_ok();
    assert_eq!(host.take(&ann, "announcement-published")["title"], "t");
    let presence = json!({ "userId": "x", "status": "away", "courseIds": ["c1", "c2"] });
    host.server_event("presence", presence).expect_ok();
    assert_eq!(host.take(&ann, "user-presence")["status"], "away");
    host.expect_silence(&ben);
}

#[test]
fn what_concerns_a_user_is_heard_by_that_user() {
    let mut host = host();
    let (ann, ben) = (student(&mut host, "ann"), student(&mut host, "ben"));
    for (event, data) in [
        (
            "notification-read",
            json!({ "notificationId": "n1", "unreadCount": 2 }),
        ),
        ("unread-count", json!({ "count": 2 })),
        (
            "assignment-graded",
            json!({ "assignmentId": "a1", "courseId": "c1", "score": 9, "maxScore": 9.5, "feedback": "!" }),
        ),
        (
            "lesson-completed",
            json!({ "courseId": "c1", "lessonId": "l1" }),
        ),
        ("course-completed", json!({ "courseId": "c1" })),
        (
            "certificate-issued",
            json!({ "courseId": "c1", "certificateId": "x" }),
        ),
        (
            "progress-updated",
            json!({ "courseId": "c1", "percent": 50 }),
        ),
    ] {
        let mut told = data.clone();
        told["userId"] = json!("ann");
        host.server_event(event, told).expect_ok();
        assert_eq!(host.take(&ann, event), data, "{event}");
        host.server_event(event, json!({ "userId": "ann" }))
            .expect_error("INVALID_PAYLOAD");
    }
    let notification =
        json!({ "userIds": ["ann", "ben"], "type": "grade", "title": "t", "content": "c" });
    host.server_event("notification", notification).expect_ok();
    let heard = host.take(&ann, "notification-received");
    assert_eq!(heard["priority"], "medium");
    assert_eq!(host.take(&ben, "notification-received"), heard);
    host.send(&ann, "join-quiz", "q1").expect_ok();
    host.clear();
    let started = json!({ "quizId": "q1", "userIds": ["ann", "ben"], "title": "x" });
    host.server_event("quiz-started", started).expect_ok();
    assert_eq!(
        host.take(&ann, "quiz-started"),
        json!({ "quizId": "q1", "title": "x" })
    );
    host.expect_silence(&ben);
}

#[test]
fn server_events_that_are_wrong() {
    let mut host = host();
    for (event, data) in [
        (
            "notification",
            json!({ "type": "t", "title": "t", "content": "c" }),
        ),
        (
            "notification",
            json!({ "userId": "a", "type": "t", "title": "t", "content": "c", "priority": "extreme" }),
        ),
        (
            "message",
            json!({ "from": "a", "to": "b:c", "content": "x" }),
        ),
        (
            "message",
            json!({ "from": "a", "to": "b", "content": "x", "conversationId": "a:c" }),
        ),
        (
            "conversation-updated",
            json!({ "conversationId": "nonsense" }),
        ),
        ("discussion-post", json!({ "postId": "p" })),
        (
            "announcement",
            json!({ "courseId": "c1", "title": 7, "content": "c" }),
        ),
        (
            "enrollment-updated",
            json!({ "userId": "a", "courseId": "c", "status": "perhaps" }),
        ),
        ("course-content", json!({ "courseId": 7 })),
        ("course-staff", json!({ "courseId": "c" })),
        (
            "presence",
            json!({ "userId": "a", "status": "asleep", "courseIds": ["c"] }),
        ),
        (
            "presence",
            json!({ "userId": "a", "status": "away", "courseIds": [] }),
        ),
        ("quiz-started", json!({ "quizId": "q", "userIds": [] })),
    ] {
        host.server_event(event, data)
            .expect_error("INVALID_PAYLOAD");
    }
}
