//! Who teaches a course by the backend's word, `course-staff`. Both sides of it change in one
//! transaction, so all is in the one partition `staff`:
//!
//! | key | value |
//! |---|---|
//! | `course:{course}` | the ids of those who teach it |
//! | `user:{user}:{course}` | the course, which the user teaches |

use crate::courses::{educators, everyone};
use serde::Deserialize;
use std::collections::BTreeSet;
use switchboard_plugin::{Ack, Cx, Error, Id, Kv, Result};

/// Those who teach a course: with as many before them, an event's writes are enough.
const EDUCATORS: usize = 400;
/// Courses of a user that are looked at.
const COURSES: u32 = 500;

fn staff(cx: &Cx) -> Kv {
    cx.kv("staff")
}

fn key(user: &Id, course: &Id) -> String {
    format!("user:{user}:{course}")
}

/// Tells whether the backend named a user as one who teaches a course.
pub(crate) fn names(cx: &Cx, user: &Id, course: &Id) -> Result<bool> {
    Ok(staff(cx).get::<Id>(key(user, course))?.is_some())
}

/// Returns the courses that the backend named a user for.
pub(crate) fn courses(cx: &Cx, user: &Id) -> Result<Vec<Id>> {
    let listed = staff(cx).list(format!("user:{user}:"), None, COURSES)?;
    Ok(listed.into_iter().map(|(_, course)| course).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CourseStaff {
    course_id: Id,
    educators: BTreeSet<Id>,
}

/// Handles `course-staff`: all who teach a course. Who does not any more is out of its rooms at once,
/// and in again as what the token or an enrolment says.
pub(crate) fn course_staff(cx: &mut Cx, told: CourseStaff) -> Result<Ack> {
    let (course, now) = (told.course_id, told.educators);
    if now.len() > EDUCATORS {
        return Err(Error::invalid_payload(format!(
            "`educators`: expected at most {EDUCATORS}, got {}",
            now.len()
        )));
    }
    let listed = format!("course:{course}");
    let before: BTreeSet<Id> = staff(cx).get(&listed)?.unwrap_or_default();
    staff(cx).set(listed, &now)?;
    for user in before.difference(&now) {
        staff(cx).delete(key(user, &course))?;
        cx.leave_user(user, educators(&course));
        cx.leave_user(user, everyone(&course));
        cx.join_user(user, everyone(&course));
    }
    for user in now.difference(&before) {
        staff(cx).set(key(user, &course), &course)?;
        cx.join_user(user, everyone(&course));
        cx.join_user(user, educators(&course));
    }
    Ok(Ack::ok())
}
