//! What the backend told of courses: which content belongs to them, who teaches, who is enrolled.
//!
//! | partition | key | value |
//! |---|---|---|
//! | `content` | `thread:{id}`, `lesson:{id}`, `quiz:{id}` | the id of the course it belongs to |
//! | `course:{id}` | `educators` | the ids of those who teach it |
//! | `course:{id}` | `enrolled:{user}` | `active` or `dropped` |
//!
//! Content has a partition of its own, because it is asked for without knowing the course, and an
//! event can write one partition only.

use serde::{Deserialize, Serialize};
use serde_json::json;
use switchboard_plugin::{Ack, Cx, Error, Id, Kv, Result};

/// How much content one event can bring; the host's limit of writes an event.
const CONTENT: usize = 1_000;
/// Those who teach a course.
const STAFF: usize = 400;

/// What belongs to a course and has rooms of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Thread,
    Lesson,
    Quiz,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Lesson => "lesson",
            Self::Quiz => "quiz",
        }
    }
}

/// Whether a student is in a course, by the backend's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Enrolment {
    Active,
    Dropped,
}

fn content(cx: &Cx) -> Kv {
    cx.kv("content")
}

fn course(cx: &Cx, id: impl AsRef<str>) -> Kv {
    cx.kv(format!("course:{}", id.as_ref()))
}

/// Returns the course that content belongs to.
pub(crate) fn course_of(cx: &Cx, kind: &str, id: impl AsRef<str>) -> Result<Option<Id>> {
    Ok(content(cx).get(format!("{kind}:{}", id.as_ref()))?)
}

/// Returns the course that a room belongs to; none for a conversation or a role.
pub(crate) fn course_of_room(cx: &Cx, room: &str) -> Result<Option<Id>> {
    let mut parts = room.split(':');
    match (parts.next(), parts.next()) {
        (Some("course"), Some(id)) => Id::new(id).map(Some),
        (Some(kind @ ("thread" | "lesson" | "quiz")), Some(id)) => course_of(cx, kind, id),
        _ => Ok(None),
    }
}

/// Returns those who teach a course, by the backend's word.
pub(crate) fn educators(cx: &Cx, of: &Id) -> Result<Vec<Id>> {
    Ok(course(cx, of).get("educators")?.unwrap_or_default())
}

/// Returns whether a user is enrolled; none where the backend told nothing.
pub(crate) fn enrolment(cx: &Cx, of: &Id, user: &Id) -> Result<Option<Enrolment>> {
    Ok(course(cx, of).get(format!("enrolled:{user}"))?)
}

// ---- server events -----------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CourseContent {
    course_id: Id,
    #[serde(default)]
    threads: Vec<Id>,
    #[serde(default)]
    lessons: Vec<Id>,
    #[serde(default)]
    quizzes: Vec<Id>,
}

/// Adds content to a course.
pub(crate) fn course_content(cx: &mut Cx, told: CourseContent) -> Result<Ack> {
    let all: Vec<(Kind, Id)> = [
        (Kind::Thread, told.threads),
        (Kind::Lesson, told.lessons),
        (Kind::Quiz, told.quizzes),
    ]
    .into_iter()
    .flat_map(|(kind, ids)| ids.into_iter().map(move |id| (kind, id)))
    .collect();
    if all.len() > CONTENT {
        return Err(Error::invalid_payload(format!(
            "{} threads, lessons and quizzes, of at most {CONTENT} an event: send several events",
            all.len()
        )));
    }
    for (kind, id) in all {
        let kind = kind.name();
        // Who is in its rooms was let in because of the course it belongs to.
        if let Some(other) = course_of(cx, kind, &id)?
            && other != told.course_id
        {
            return Err(Error::conflict(format!(
                "the {kind} `{id}` belongs to the course `{other}`"
            )));
        }
        content(cx).set(format!("{kind}:{id}"), &told.course_id)?;
    }
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CourseStaff {
    course_id: Id,
    educators: Vec<Id>,
}

/// Says who teaches a course. Who does not any more is out of its rooms at once, and can come back
/// where the token says so.
pub(crate) fn course_staff(cx: &mut Cx, told: CourseStaff) -> Result<Ack> {
    if told.educators.len() > STAFF {
        return Err(Error::invalid_payload(format!(
            "`educators`: expected at most {STAFF} users, got {}",
            told.educators.len()
        )));
    }
    let before = educators(cx, &told.course_id)?;
    course(cx, &told.course_id).set("educators", &told.educators)?;
    for user in before {
        if !told.educators.contains(&user) {
            put_out(cx, &user, &told.course_id)?;
        }
    }
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnrollmentUpdated {
    user_id: Id,
    course_id: Id,
    status: Enrolment,
}

/// Enrols a user in a course, or drops them: they are out of its rooms at once.
pub(crate) fn enrollment_updated(cx: &mut Cx, told: EnrollmentUpdated) -> Result<Ack> {
    let (user, id) = (told.user_id, told.course_id);
    course(cx, &id).set(format!("enrolled:{user}"), &told.status)?;
    if told.status == Enrolment::Dropped {
        put_out(cx, &user, &id)?;
    }
    cx.emit("enrollment-updated")
        .to_user(&user)
        .send(&json!({ "courseId": id, "status": told.status }))?;
    Ok(Ack::ok())
}

fn put_out(cx: &mut Cx, user: &Id, of: &Id) -> Result<()> {
    for room in cx.rooms().of_user(user)? {
        if course_of_room(cx, &room)?.as_ref() == Some(of) {
            cx.leave_user(user, room);
        }
    }
    Ok(())
}
