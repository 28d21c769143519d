//! The course platform's dialect: rooms of courses and what belongs to them, conversations of two,
//! and the events that its backend sends to them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@self`] | the table of events: who handles what |
//! | `courses` | clients entering and leaving courses, threads, lessons and quizzes, and who may |
//! | `conversations` | clients entering and leaving conversations, and their names |
//! | `catalogue` | what the backend told of courses: content, staff, enrolments; the only state |
//! | `relays` | what the backend sends and clients hear in another form, or in several places |
//! | `typing` | who types where |
//! | `presence` | what users are seen as |
//! | `passed_on` | what the backend sends and clients hear by the same name |

mod catalogue;
mod conversations;
mod courses;
mod passed_on;
mod presence;
mod relays;
mod typing;

use catalogue::Kind::{Lesson, Quiz, Thread};
use passed_on::{Grade, More, OfCourse, Progress, Read, UnreadCount, Vote, to_thread, to_user};
use serde::Serialize;
use switchboard_plugin::{Ack, Cx, Plugin, Result, export};

/// Returns the plugin: every event it takes, and the function that handles it.
pub fn plugin() -> Plugin {
    Plugin::new("lms")
        .version(env!("CARGO_PKG_VERSION"))
        .needs(["rooms", "kv", "typing", "presence"])
        .rooms(["course", "conversation", "thread", "lesson", "quiz", "role"])
        .on_connected(join_role)
        .on_joined(courses::check_again)
        .on("join-course", courses::join)
        .on("leave-course", courses::leave)
        .on("join-thread", courses::join_content(Thread))
        .on("leave-thread", courses::leave_content(Thread))
        .on("join-lesson", courses::join_content(Lesson))
        .on("leave-lesson", courses::leave_content(Lesson))
        .on("join-quiz", courses::join_content(Quiz))
        .on("leave-quiz", courses::leave_content(Quiz))
        .on("join-conversation", conversations::join)
        .on("leave-conversation", conversations::leave)
        .on("start-typing", typing::start)
        .on("stop-typing", typing::stop)
        .on_typing(typing::changed)
        .on("set-presence", presence::set)
        .on("get-presence", presence::get)
        .on_presence(presence::changed)
        .on_server_event("course-content", catalogue::course_content)
        .on_server_event("course-staff", catalogue::course_staff)
        .on_server_event("enrollment-updated", catalogue::enrollment_updated)
        .on_server_event("notification", relays::notification)
        .on_server_event("message", relays::message)
        .on_server_event("conversation-updated", relays::conversation_updated)
        .on_server_event("discussion-post", relays::discussion_post)
        .on_server_event("announcement", relays::announcement)
        .on_server_event("presence", relays::presence)
        .on_server_event("quiz-started", relays::quiz_started)
        .on_server_event("thread-updated", to_thread::<More>("thread-updated"))
        .on_server_event("post-voted", to_thread::<Vote>("post-voted"))
        .on_server_event("notification-read", to_user::<Read>("notification-read"))
        .on_server_event("unread-count", to_user::<UnreadCount>("unread-count"))
        .on_server_event("assignment-graded", to_user::<Grade>("assignment-graded"))
        .on_server_event("lesson-completed", to_user::<OfCourse>("lesson-completed"))
        .on_server_event("course-completed", to_user::<OfCourse>("course-completed"))
        .on_server_event(
            "certificate-issued",
            to_user::<OfCourse>("certificate-issued"),
        )
        .on_server_event("progress-updated", to_user::<Progress>("progress-updated"))
}

export!(plugin);

fn join_role(cx: &mut Cx) -> Result<()> {
    let room = format!("role:{}", cx.role());
    cx.join(room);
    Ok(())
}

/// Confirms by an event to this connection and by the acknowledgement: clients wait for either.
fn confirm(cx: &mut Cx, event: impl Into<String>, what: &impl Serialize) -> Result<Ack> {
    cx.emit(event).to_self().send(what)?;
    Ack::with(what)
}
