//! Announcements to courses, under rules that the operator sets. See its README for the events.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@self`] | the table of events: who handles what |
//! | `courses` | who belongs to a course, and as what; the rooms |
//! | `staff` | who teaches by the backend's word |
//! | `announcement` | an announcement, and where it is kept |
//! | `authors` | what authors do: announce, cancel |
//! | `approval` | what a second person does: approve, reject |
//! | `publishing` | publishing at once, later, or not |
//! | `schedule` | of a course: what was published in the last hour, and what waits |
//! | `rules` | the operator's rules, course by course |
//! | `quiet` | quiet hours in a time zone |
//! | `words` | words that are not allowed |
//! | `readers` | who has read it |
//!
//! What is stored: announcements and the courses' schedules in the one partition `announcements`,
//! because both change in one transaction, and an announcement is found by its id alone; courses do
//! not wait for each other there, since their handlers read different keys. What comes in numbers is
//! apart: readers in a partition for each announcement, enrolments in one for each user; staff in one of its own.

mod announcement;
mod approval;
mod authors;
mod courses;
mod publishing;
mod quiet;
mod readers;
mod rules;
mod schedule;
mod staff;
mod words;

use switchboard_plugin::{Plugin, export};

/// Returns the plugin: every event it takes, and the function that handles it.
pub fn plugin() -> Plugin {
    Plugin::new("announcements")
        .version(env!("CARGO_PKG_VERSION"))
        .rooms([courses::EVERYONE, courses::EDUCATORS])
        .needs(["kv", "timers"])
        .settings_schema(rules::schema())
        .on_connected(courses::connected)
        .on_joined(courses::joined)
        .on("announce", authors::announce)
        .on("announcement-cancel", authors::cancel)
        .on("announcement-approve", approval::approve)
        .on("announcement-reject", approval::reject)
        .on("announcement-read", readers::read)
        .on_server_event("course-staff", staff::course_staff)
        .on_server_event("enrollment-updated", courses::enrollment_updated)
        .on_timer(schedule::PUBLISH, publishing::publish_due)
        .on_timer(readers::STATS, readers::tell_author)
}

export!(plugin);
