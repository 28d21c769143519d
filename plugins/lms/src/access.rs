//! Who may enter a course, and what belongs to it.
//!
//! Everything is stored in one partition, `courses`: `staff:{course}`, `enrolled:{course}:{user}`, and
//! for each thread, lesson and quiz the course that it belongs to. What a client says of that is
//! never trusted.

use serde::{Deserialize, Serialize};
use switchboard_plugin::{Cx, Error, Id, Kv, Result};

/// What belongs to a course, and has a room of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Thread,
    Lesson,
    Quiz,
}

impl Content {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Lesson => "lesson",
            Self::Quiz => "quiz",
        }
    }

    pub(crate) fn key(self, id: &str) -> String {
        format!("{}:{id}", self.name())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Enrollment {
    Active,
    Dropped,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    #[serde(default)]
    enrolled_courses: Vec<String>,
    #[serde(default)]
    taught_courses: Vec<String>,
}

pub(crate) fn state(cx: &Cx) -> Kv {
    cx.kv("courses")
}

pub(crate) fn staff_key(course: &Id) -> String {
    format!("staff:{course}")
}

pub(crate) fn enrollment_key(course: &Id, user: &Id) -> String {
    format!("enrolled:{course}:{user}")
}

/// Refuses a user who may not be in a course: neither admin, nor its educator, nor enrolled. What the
/// backend said of an enrolment wins over the token.
pub(crate) fn require_course(cx: &Cx, course: &Id) -> Result<()> {
    let (user, claims) = (cx.user()?, cx.claims::<Claims>()?);
    let lists = |courses: &[String]| courses.iter().any(|listed| course == listed.as_str());
    let allowed = match cx.role() {
        "admin" => true,
        "educator" if lists(&claims.taught_courses) => true,
        "educator" if staff(cx, course)?.contains(&user) => true,
        _ => match state(cx).get::<Enrollment>(enrollment_key(course, &user))? {
            Some(enrollment) => enrollment == Enrollment::Active,
            None => lists(&claims.enrolled_courses),
        },
    };
    if allowed {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "the course `{course}` is not yours"
    )))
}

fn staff(cx: &Cx, course: &Id) -> Result<Vec<Id>> {
    Ok(state(cx).get(staff_key(course))?.unwrap_or_default())
}

/// Refuses a user who may not be where something belongs.
pub(crate) fn require_content(cx: &Cx, content: Content, id: &Id) -> Result<()> {
    match course_of(cx, content, id.as_str())? {
        Some(course) => require_course(cx, &course),
        None => Err(Error::not_found(format!(
            "there is no {} `{id}`",
            content.name()
        ))),
    }
}

pub(crate) fn course_of(cx: &Cx, content: Content, id: &str) -> Result<Option<Id>> {
    Ok(state(cx).get(content.key(id))?)
}
