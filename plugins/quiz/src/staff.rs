//! Who teaches a course: by the token, and by the backend's word, `course-staff`. Both sides of that
//! change in one transaction, so all is in the one partition `staff`:
//!
//! | key | value |
//! |---|---|
//! | `course:{courseId}` | the ids of those who teach it |
//! | `user:{userId}:{courseId}` | the course, which the user teaches |

use crate::{EDUCATORS, educators_room, question::within};
use serde::Deserialize;
use std::{collections::BTreeSet, ops::RangeInclusive};
use switchboard_plugin::{Ack, Cx, Id, Joined, Kv, Result};

/// Those who teach a course: with as many before them, an event's writes are enough.
const STAFF: RangeInclusive<usize> = 0..=400;
/// Courses of a user that are looked at.
const LISTED: u32 = 500;
/// Courses whose rooms an educator joins at connect: half of what a connection may be in.
const COURSES: usize = 64;

fn staff(cx: &Cx) -> Kv {
    cx.kv("staff")
}

fn key(user: &Id, course: &Id) -> String {
    format!("user:{user}:{course}")
}

/// The claim of the token that lists the courses that the user teaches.
const TAUGHT: &str = "taughtCourses";

/// Tells whether the user teaches a course.
pub(crate) fn teaches(cx: &Cx, course: &Id) -> Result<bool> {
    Ok(match cx.role() {
        "admin" => true,
        "educator" if cx.claimed_ids(TAUGHT).contains(course) => true,
        "educator" => staff(cx).get::<Id>(key(&cx.user()?, course))?.is_some(),
        _ => false,
    })
}

/// Has a new connection of one who teaches hear how the quizzes of their courses go: by the user's name, too,
/// so that what finds no place is passed over by itself.
pub(crate) fn hear(cx: &mut Cx) -> Result<()> {
    if !matches!(cx.role(), "educator" | "admin") {
        return Ok(());
    }
    let (user, mut courses) = (cx.user()?, cx.claimed_ids(TAUGHT));
    let listed = staff(cx).list(format!("user:{user}:"), None, LISTED)?;
    courses.extend(listed.into_iter().map(|(_, course): (_, Id)| course));
    for course in courses.iter().take(COURSES) {
        cx.join_user(&user, educators_room(course));
    }
    Ok(())
}

/// Handles a join that has taken effect: other connections of a user may have another role, and who
/// taught a moment before may not do so any more.
pub(crate) fn joined(cx: &mut Cx, joined: Joined) -> Result<()> {
    if let Some((EDUCATORS, course)) = joined.room.split_once(':')
        && !teaches(cx, &Id::new(course)?)?
    {
        cx.leave(joined.room);
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CourseStaff {
    course_id: Id,
    educators: BTreeSet<Id>,
}

/// Handles `course-staff`: all who teach a course. Who does not any more is out at once, and in again
/// where the token says that they do.
pub(crate) fn course_staff(cx: &mut Cx, told: CourseStaff) -> Result<Ack> {
    let (course, now) = (told.course_id, told.educators);
    within("educators", now.len(), STAFF, "users")?;
    let listed = format!("course:{course}");
    let before: BTreeSet<Id> = staff(cx).get(&listed)?.unwrap_or_default();
    staff(cx).set(listed, &now)?;
    for user in before.difference(&now) {
        staff(cx).delete(key(user, &course))?;
        cx.leave_user(user, educators_room(&course));
        cx.join_user(user, educators_room(&course));
    }
    for user in now.difference(&before) {
        staff(cx).set(key(user, &course), &course)?;
        cx.join_user(user, educators_room(&course));
    }
    Ok(Ack::ok())
}
