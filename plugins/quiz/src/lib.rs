//! Quizzes that end when the host's clock says so. See the README for the events.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@self`] | the table of events: who handles what |
//! | `question` | questions: what may be asked, what may be answered, what is right |
//! | `quiz` | what all takers of a quiz have in common: the partition `quiz:{quizId}` |
//! | `sheet` | what one user has answered: the partition `user:{userId}` |
//! | `start` | starting a quiz, and dealing it to its takers, each by a timer |
//! | `staff` | who teaches a course, and hears of its quizzes |
//! | `taking` | answering, submitting, coming back, and the end |
//! | `progress` | what educators hear, at most once a second |
//! | `results` | what backends ask |
//! | `settings` | what the operator decides |
//!
//! Whatever must be consistent for one user is in one value of that user's partition, the sheet; so
//! users never wait for each other, and of an answer, a submission and the deadline that meet, one
//! comes first.

mod progress;
mod question;
mod quiz;
mod results;
mod settings;
mod sheet;
mod staff;
mod start;
mod taking;

use switchboard_plugin::{Id, Plugin, export};

/// The prefix of the rooms of those who hear how a course's quizzes go.
const EDUCATORS: &str = "quiz-educators";

/// Returns the plugin: every event it takes, and the function that handles it.
pub fn plugin() -> Plugin {
    Plugin::new("quiz")
        .version(env!("CARGO_PKG_VERSION"))
        .needs(["rooms", "kv", "timers"])
        .rooms(["quiz-session", EDUCATORS])
        .settings_schema(settings::schema())
        .on_connected(taking::connected)
        .on_joined(staff::joined)
        .on("quiz-start", start::by_educator)
        .on("quiz-answer", taking::answer)
        .on("quiz-submit", taking::submit)
        .on("quiz-resume", taking::resume)
        .on_server_event("course-staff", staff::course_staff)
        .on_server_event("quiz-start", start::by_backend)
        .on_server_event("quiz-results", results::of_quiz)
        .on_timer(start::OPEN, start::open)
        .on_timer(start::DEAL, start::deal)
        .on_timer(sheet::CLOSE, taking::close)
        .on_timer(progress::COUNT, progress::count)
        .on_timer(progress::TELL, progress::tell)
        .on_timer(progress::REST, progress::rest)
}

export!(plugin);

/// Returns the room in which one user takes a quiz, on all devices.
fn session_room(quiz: &Id, user: &Id) -> String {
    format!("quiz-session:{quiz}:{user}")
}

/// Returns the room of those who hear how a course's quizzes go.
fn educators_room(course: &Id) -> String {
    format!("{EDUCATORS}:{course}")
}
