//! What backends say: who hears it, in which form, and what is refused.

use lms::plugin;
use serde_json::{Value, json};
use switchboard_plugin::{Client, TestHost, User};

const NOON: &str = "2023-11-15T12:00:00.000Z";

fn host() -> TestHost {
    TestHost::new(plugin())
}

/// Connects a user who is enrolled in the course `c1`.
fn connect(host: &mut TestHost, id: &str) -> Client {
    host.connect(User::new(id).claim("enrolledCourses", ["c1"]))
}

fn told_of_content(host: &mut TestHost) {
    let content = json!({ "courseId": "c1", "threads": ["t1"], "quizzes": ["q1"] });
    host.server_event("course-content", content).expect_ok();
}

#[test]
fn notifications_reach_all_connections_of_those_named() {
    let mut host = host();
    let (ann, phone, bob, eve) = (
        host.connect("ann"),
        host.connect("ann"),
        host.connect("bob"),
        host.connect("eve"),
    );
    let told = json!({
        "userId": "ann", "userIds": ["ann", "bob"], "type": "grade", "title": "Graded",
        "content": "9 of 10", "notificationId": "n1", "priority": "urgent",
    });
    let ack = host.server_event("notification", told).expect_ok();
    assert_eq!(ack, json!({ "ok": true, "notificationId": "n1" }));
    for client in [&ann, &phone, &bob] {
        assert_eq!(
            host.take(client, "notification-received"),
            json!({
                "notificationId": "n1", "type": "grade", "title": "Graded",
                "content": "9 of 10", "priority": "urgent", "timestamp": NOON,
            })
        );
    }
    host.expect_silence(&eve);
}

#[test]
fn a_notification_gets_an_id_and_a_priority() {
    let mut host = host();
    let ann = host.connect("ann");
    let told = json!({ "userId": "ann", "type": "t", "title": "t", "content": "c" });
    let ids: Vec<Value> = (0..2)
        .map(|_| {
            let ack = host.server_event("notification", &told).expect_ok();
            let heard = host.take(&ann, "notification-received");
            assert_eq!(heard["priority"], "medium");
            assert_eq!(heard["notificationId"], ack["notificationId"]);
            heard["notificationId"].clone()
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn what_concerns_one_user_is_passed_on_without_their_id() {
    let mut host = host();
    let (ann, phone, bob) = (
        host.connect("ann"),
        host.connect("ann"),
        host.connect("bob"),
    );
    for (event, data) in [
        (
            "notification-read",
            json!({ "notificationId": "n1", "unreadCount": 2 }),
        ),
        ("unread-count", json!({ "count": 0 })),
        (
            "assignment-graded",
            json!({ "assignmentId": "a1", "courseId": "c1", "score": 8.5, "maxScore": 10 }),
        ),
        (
            "assignment-graded",
            json!({
                "assignmentId": "a1", "courseId": "c1", "score": 9, "maxScore": 10,
                "feedback": "well done", "gradedBy": "tom",
            }),
        ),
        (
            "lesson-completed",
            json!({ "courseId": "c1", "lessonId": "l1" }),
        ),
        ("course-completed", json!({ "courseId": "c1" })),
        (
            "certificate-issued",
            json!({ "courseId": "c1", "url": "https://example.org/1", "pages": [1, null] }),
        ),
        (
            "progress-updated",
            json!({ "courseId": "c1", "percent": 50 }),
        ),
    ] {
        let mut told = data.clone();
        told["userId"] = json!("ann");
        host.server_event(event, told).expect_ok();
        for client in [&ann, &phone] {
            assert_eq!(host.take(client, event), data);
        }
        host.expect_silence(&bob);
    }
}

#[test]
fn a_message_reaches_both_users_once_a_connection() {
    let mut host = host();
    let (ann, phone, bob, eve) = (
        host.connect("ann"),
        host.connect("ann"),
        host.connect("bob"),
        host.connect("eve"),
    );
    host.send(&ann, "join-conversation", "bob").expect_ok();
    host.send(&bob, "join-conversation", "ann").expect_ok();
    host.clear();
    let told =
        json!({ "from": "bob", "to": "ann", "content": "psst", "conversationId": "bob:ann" });
    let ack = host.server_event("message", told).expect_ok();
    assert_eq!(ack["conversationId"], "ann:bob");
    for client in [&ann, &phone, &bob] {
        assert_eq!(
            host.take(client, "message-received"),
            json!({
                "messageId": ack["messageId"], "conversationId": "ann:bob", "from": "bob",
                "to": "ann", "content": "psst", "timestamp": NOON,
            })
        );
    }
    host.expect_silence(&eve);
    let told = json!({ "from": "bob", "to": "ann", "content": "again", "messageId": "m2" });
    host.server_event("message", told).expect_ok();
    assert_eq!(host.take(&phone, "message-received")["messageId"], "m2");
}

#[test]
fn a_conversation_is_updated_for_both_users() {
    let mut host = host();
    let (ann, bob, eve) = (
        host.connect("ann"),
        host.connect("bob"),
        host.connect("eve"),
    );
    let told = json!({ "conversationId": "bob:ann", "topic": { "text": "tea" }, "unread": 1 });
    host.server_event("conversation-updated", told).expect_ok();
    for client in [&ann, &bob] {
        assert_eq!(
            host.take(client, "conversation-updated"),
            json!({ "conversationId": "ann:bob", "topic": { "text": "tea" }, "unread": 1 })
        );
    }
    host.expect_silence(&eve);
}

#[test]
fn a_post_is_heard_in_thread_and_course_once_a_connection() {
    let mut host = host();
    told_of_content(&mut host);
    let (both, course, thread, neither) = (
        connect(&mut host, "both"),
        connect(&mut host, "course"),
        connect(&mut host, "thread"),
        connect(&mut host, "neither"),
    );
    for client in [&both, &course] {
        host.send(client, "join-course", "c1").expect_ok();
    }
    for client in [&both, &thread] {
        host.send(client, "join-thread", "t1").expect_ok();
    }
    host.clear();
    let post = json!({
        "postId": "p1", "threadId": "t1", "courseId": "c1", "authorId": "tom", "content": "?",
    });
    host.server_event("discussion-post", &post).expect_ok();
    let mut heard = post.clone();
    heard["timestamp"] = json!(NOON);
    for client in [&both, &course, &thread] {
        assert_eq!(host.take(client, "discussion-post-created"), heard);
    }
    // What concerns the thread alone is not for the course.
    for (event, data) in [
        (
            "thread-updated",
            json!({ "threadId": "t1", "locked": true }),
        ),
        (
            "post-voted",
            json!({ "postId": "p1", "threadId": "t1", "score": -3, "userId": "eve" }),
        ),
    ] {
        host.server_event(event, &data).expect_ok();
        for client in [&both, &thread] {
            assert_eq!(host.take(client, event), data);
        }
        host.expect_silence(&course);
    }
    host.expect_silence(&neither);
}

#[test]
fn announcements_and_presence_are_heard_in_the_course() {
    let mut host = host();
    let inside = connect(&mut host, "inside");
    let outside = connect(&mut host, "outside");
    host.send(&inside, "join-course", "c1").expect_ok();
    host.clear();
    let told = json!({ "courseId": "c1", "title": "Exam", "content": "on Monday" });
    let ack = host.server_event("announcement", told).expect_ok();
    assert_eq!(
        host.take(&inside, "announcement-published"),
        json!({
            "announcementId": ack["announcementId"], "courseId": "c1", "title": "Exam",
            "content": "on Monday", "publishedAt": NOON,
        })
    );
    let told = json!({ "userId": "tom", "status": "away", "courseIds": ["c1", "c2"] });
    host.server_event("presence", told).expect_ok();
    assert_eq!(
        host.take(&inside, "user-presence"),
        json!({ "userId": "tom", "status": "away", "lastSeenAt": NOON })
    );
    host.expect_silence(&outside);
    let nowhere = json!({ "userId": "tom", "status": "online", "courseIds": [] });
    host.server_event("presence", nowhere).expect_ok();
    host.expect_silence(&inside);
}

#[test]
fn a_quiz_starts_for_those_named_who_have_joined_it() {
    let mut host = host();
    told_of_content(&mut host);
    let (ann, bob, late) = (
        connect(&mut host, "ann"),
        connect(&mut host, "bob"),
        connect(&mut host, "late"),
    );
    for client in [&ann, &bob] {
        host.send(client, "join-quiz", "q1").expect_ok();
    }
    host.clear();
    let told = json!({ "userIds": ["ann", "late"], "quizId": "q1", "title": "Week 1" });
    host.server_event("quiz-started", told).expect_ok();
    let heard = host.take(&ann, "quiz-started");
    assert_eq!(heard, json!({ "quizId": "q1", "title": "Week 1" }));
    host.expect_silence(&bob);
    host.expect_silence(&late);
}
