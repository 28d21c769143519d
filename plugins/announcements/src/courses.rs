//! Who belongs to a course, and as what. What the backend told wins over the token: who teaches
//! ([`staff`]), and else who is enrolled (`enrollment-updated`), which is kept in a partition for each
//! user, `user:{id}`, under `course:{id}`.

use crate::{publishing::tell_pending, staff};
use serde::{Deserialize, Serialize};
use switchboard_plugin::{Ack, Cx, Error, Id, Joined, Kv, Result, log};

/// The prefix of the room of all who belong to a course.
pub(crate) const EVERYONE: &str = "announcements";
/// The prefix of the room of those who teach it. They are in the other one, too.
pub(crate) const EDUCATORS: &str = "announcements-educators";

/// Courses whose rooms a connection joins. Each takes an educator two of the 128 rooms that the host
/// allows a connection, and beyond those it would refuse them all.
const COURSES: usize = 50;
/// Enrolments of a user that are looked at.
const ENROLMENTS: u32 = 500;

/// Returns the room of all who belong to a course.
pub(crate) fn everyone(course: &Id) -> String {
    format!("{EVERYONE}:{course}")
}

/// Returns the room of those who teach a course.
pub(crate) fn educators(course: &Id) -> String {
    format!("{EDUCATORS}:{course}")
}

/// As what somebody belongs to a course.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Student,
    Educator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Enrolment {
    Active,
    Dropped,
}

fn enrolments(cx: &Cx, user: &Id) -> Kv {
    cx.kv(format!("user:{user}"))
}

fn key(course: &Id) -> String {
    format!("course:{course}")
}

/// Tells whether the user has a role that teaches at all.
fn may_teach(cx: &Cx) -> bool {
    matches!(cx.role(), "educator" | "admin")
}

/// Returns as what the user belongs to a course.
pub(crate) fn part(cx: &Cx, course: &Id) -> Result<Option<Part>> {
    let (user, teaches) = (cx.user()?, may_teach(cx));
    let told: Option<Enrolment> = enrolments(cx, &user).get(key(course))?;
    Ok(match told {
        _ if teaches && staff::names(cx, &user, course)? => Some(Part::Educator),
        Some(Enrolment::Dropped) => None,
        _ if teaches && cx.claimed_ids("taughtCourses").contains(course) => Some(Part::Educator),
        // One who teaches elsewhere can be a student here.
        _ if cx.claimed_ids("enrolledCourses").contains(course) => Some(Part::Student),
        Some(Enrolment::Active) if teaches => Some(Part::Educator),
        Some(Enrolment::Active) => Some(Part::Student),
        None => None,
    })
}

/// Refuses who may not announce in a course, whatever its rules say.
pub(crate) fn must_belong(cx: &Cx, course: &Id) -> Result<()> {
    match (cx.role(), part(cx, course)?) {
        ("admin", _) | (_, Some(Part::Educator)) => Ok(()),
        ("educator", _) => Err(Error::forbidden(format!(
            "you do not teach the course `{course}`"
        ))),
        (_, Some(Part::Student)) => Ok(()),
        (_, None) => Err(Error::forbidden(format!(
            "you do not belong to the course `{course}`"
        ))),
    }
}

/// Refuses who does not decide about the announcements of others in a course.
pub(crate) fn must_teach(cx: &Cx, course: &Id) -> Result<()> {
    if cx.role() == "admin" || part(cx, course)? == Some(Part::Educator) {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "only those who teach the course `{course}` decide about its announcements"
    )))
}

/// Puts a new connection into the rooms of its user's courses.
pub(crate) fn connected(cx: &mut Cx) -> Result<()> {
    let user = cx.user()?;
    let mut courses = cx.claimed_ids("taughtCourses");
    courses.extend(cx.claimed_ids("enrolledCourses"));
    for (key, told) in enrolments(cx, &user).list::<Enrolment>("course:", None, ENROLMENTS)? {
        if let Some(course) = key.strip_prefix("course:") {
            let course = Id::new(course)?;
            match told {
                Enrolment::Active => courses.insert(course),
                Enrolment::Dropped => courses.remove(&course),
            };
        }
    }
    if may_teach(cx) {
        courses.extend(staff::courses(cx, &user)?);
    }
    if courses.len() > COURSES {
        log::warn(format!(
            "the user `{user}` has {} courses, and hears of the first {COURSES}",
            courses.len()
        ));
    }
    for course in courses.iter().take(COURSES) {
        // By the name of the user, so that what finds no place is passed over by itself.
        cx.join_user(&user, everyone(course));
    }
    Ok(())
}

/// Handles a join that has taken effect: who teaches joins the room of those, too, and is told of what
/// waits there. An enrolment that ended after it was looked at, and before the user was in the room,
/// found nobody to put out.
pub(crate) fn joined(cx: &mut Cx, joined: Joined) -> Result<()> {
    let Some((prefix, course)) = joined.room.split_once(':') else {
        return Ok(());
    };
    let course = Id::new(course)?;
    match part(cx, &course)? {
        Some(Part::Educator) if prefix == EDUCATORS => tell_pending(cx, &course)?,
        Some(Part::Educator) => cx.join(educators(&course)),
        Some(Part::Student) if prefix == EVERYONE => {}
        _ => cx.leave(joined.room),
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnrollmentUpdated {
    user_id: Id,
    course_id: Id,
    status: Enrolment,
}

/// Handles `enrollment-updated`: who is dropped is out of the course's rooms at once, but for those who
/// teach it by the backend's word.
pub(crate) fn enrollment_updated(cx: &mut Cx, told: EnrollmentUpdated) -> Result<Ack> {
    let (user, course) = (told.user_id, told.course_id);
    enrolments(cx, &user).set(key(&course), &told.status)?;
    match told.status {
        Enrolment::Active => cx.join_user(&user, everyone(&course)),
        Enrolment::Dropped => {
            cx.leave_user(&user, everyone(&course));
            cx.leave_user(&user, educators(&course));
            if staff::names(cx, &user, &course)? {
                cx.join_user(&user, everyone(&course));
            }
        }
    }
    Ok(Ack::ok())
}
