//! The plugin `lms`: the realtime side of a course platform. See its README for the events.

mod access;
mod backend;
mod clients;
#[cfg(test)]
mod tests;

use backend::{
    AssignmentGraded, CertificateIssued, CourseCompleted, LessonCompleted, NotificationRead,
    PostVoted, ProgressUpdated, ThreadUpdated, UnreadCount, to_thread, to_user,
};
use switchboard_plugin::{Plugin, export};

fn plugin() -> Plugin {
    Plugin::new("lms")
        .version(env!("CARGO_PKG_VERSION"))
        .rooms(["course", "conversation", "thread", "lesson", "quiz", "role"])
        .needs(["rooms", "kv"])
        .on_connected(clients::connected)
        .on("join-course", clients::join_course)
        .on("leave-course", clients::leave_course)
        .on("join-conversation", clients::join_conversation)
        .on("leave-conversation", clients::leave_conversation)
        .on("join-thread", clients::join_thread)
        .on("leave-thread", clients::leave_thread)
        .on("join-lesson", clients::join_lesson)
        .on("leave-lesson", clients::leave_lesson)
        .on("join-quiz", clients::join_quiz)
        .on("leave-quiz", clients::leave_quiz)
        .on_server_event("notification", backend::notification)
        .on_server_event(
            "notification-read",
            to_user::<NotificationRead>("notification-read"),
        )
        .on_server_event("unread-count", to_user::<UnreadCount>("unread-count"))
        .on_server_event("message", backend::message)
        .on_server_event("conversation-updated", backend::conversation_updated)
        .on_server_event("discussion-post", backend::discussion_post)
        .on_server_event(
            "thread-updated",
            to_thread::<ThreadUpdated>("thread-updated"),
        )
        .on_server_event("post-voted", to_thread::<PostVoted>("post-voted"))
        .on_server_event("announcement", backend::announcement)
        .on_server_event(
            "assignment-graded",
            to_user::<AssignmentGraded>("assignment-graded"),
        )
        .on_server_event("enrollment-updated", backend::enrollment_updated)
        .on_server_event(
            "lesson-completed",
            to_user::<LessonCompleted>("lesson-completed"),
        )
        .on_server_event(
            "course-completed",
            to_user::<CourseCompleted>("course-completed"),
        )
        .on_server_event(
            "certificate-issued",
            to_user::<CertificateIssued>("certificate-issued"),
        )
        .on_server_event(
            "progress-updated",
            to_user::<ProgressUpdated>("progress-updated"),
        )
        .on_server_event("presence", backend::presence)
        .on_server_event("quiz-started", backend::quiz_started)
        .on_server_event("course-content", backend::course_content)
        .on_server_event("course-staff", backend::course_staff)
}

export!(plugin);
