//! Clients entering and leaving courses, and the threads, lessons and quizzes that belong to them.

use crate::{
    catalogue::{self, Enrolment, Kind},
    confirm, presence,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use switchboard_plugin::{Ack, Cx, Error, Id, Joined, Result, Status};

/// Returns the room of a course.
pub(crate) fn course_room(id: &Id) -> String {
    format!("course:{id}")
}

/// Returns the room of a thread.
pub(crate) fn thread_room(id: &Id) -> String {
    format!("thread:{id}")
}

/// Returns the room in which one user takes a quiz.
pub(crate) fn quiz_room(id: &Id, user: &Id) -> String {
    format!("quiz:{id}:{user}")
}

/// Handles `join-course`.
pub(crate) fn join(cx: &mut Cx, id: Id) -> Result<Ack> {
    must_enter(cx, &id)?;
    let room = course_room(&id);
    let seen = cx.presence().of_room(&room)?.into_iter();
    let seen = seen.filter(|seen| seen.status != Status::Offline);
    let mut online: BTreeSet<String> = seen.map(|seen| seen.user).collect();
    online.insert(cx.user()?.to_string());
    cx.join(room);
    let joined = json!({ "courseId": id, "onlineUsers": online });
    confirm(cx, "joined-course", &joined)
}

/// Handles `leave-course`.
pub(crate) fn leave(cx: &mut Cx, id: Id) -> Result<Ack> {
    cx.leave(course_room(&id));
    confirm(cx, "left-course", &json!({ "courseId": id }))
}

/// Returns the handler of `join-thread`, `join-lesson` or `join-quiz`.
pub(crate) fn join_content(kind: Kind) -> impl Fn(&mut Cx, Id) -> Result<Ack> {
    move |cx, id| {
        let name = kind.name();
        let course = catalogue::course_of(cx, name, &id)?
            .ok_or_else(|| Error::not_found(format!("there is no {name} `{id}`")))?;
        must_enter(cx, &course)?;
        cx.join(content_room(cx, kind, &id)?);
        confirm(cx, format!("joined-{name}"), &named(kind, &id))
    }
}

/// Returns the handler of `leave-thread`, `leave-lesson` or `leave-quiz`.
pub(crate) fn leave_content(kind: Kind) -> impl Fn(&mut Cx, Id) -> Result<Ack> {
    move |cx, id| {
        cx.leave(content_room(cx, kind, &id)?);
        confirm(cx, format!("left-{}", kind.name()), &named(kind, &id))
    }
}

/// Handles a join that has taken effect. An enrolment that was dropped after it was looked at, and
/// before the user was in the room, found nobody to put out.
pub(crate) fn check_again(cx: &mut Cx, joined: Joined) -> Result<()> {
    if let Some(course) = catalogue::course_of_room(cx, &joined.room)?
        && !may_enter(cx, &course)?
    {
        cx.leave(joined.room);
        return Ok(());
    }
    presence::joined(cx, &joined)
}

fn content_room(cx: &Cx, kind: Kind, id: &Id) -> Result<String> {
    match kind {
        Kind::Thread => Ok(thread_room(id)),
        Kind::Lesson => Ok(format!("lesson:{id}")),
        Kind::Quiz => Ok(quiz_room(id, &cx.user()?)),
    }
}

fn named(kind: Kind, id: &Id) -> Value {
    json!({ (format!("{}Id", kind.name())): id })
}

fn must_enter(cx: &Cx, course: &Id) -> Result<()> {
    if may_enter(cx, course)? {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "the course `{course}` is for those who are enrolled in it or teach it"
    )))
}

fn may_enter(cx: &Cx, course: &Id) -> Result<bool> {
    let user = cx.user()?;
    match cx.role() {
        "admin" => return Ok(true),
        "educator"
            if cx.claimed_ids("taughtCourses").contains(course)
                || catalogue::educators(cx, course)?.contains(&user) =>
        {
            return Ok(true);
        }
        _ => {}
    }
    match catalogue::enrolment(cx, course, &user)? {
        Some(enrolment) => Ok(enrolment == Enrolment::Active),
        None => Ok(cx.claimed_ids("enrolledCourses").contains(course)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_plugin::{Plugin, TestHost};

    #[test]
    fn who_was_dropped_while_joining_is_out_again() {
        // Joins without looking, as a handler does that looked a moment before.
        let late = |cx: &mut Cx, room: String| {
            cx.join(room);
            Ok(Ack::ok())
        };
        let plugin = Plugin::new("lms")
            .needs(["rooms", "kv", "presence"])
            .rooms(["course", "thread", "quiz", "conversation", "role"])
            .on_joined(check_again)
            .on("late", late)
            .on_server_event("course-content", catalogue::course_content)
            .on_server_event("enrollment-updated", catalogue::enrollment_updated);
        let mut host = TestHost::new(plugin);
        let content = json!({ "courseId": "c1", "threads": ["t1"], "quizzes": ["q1"] });
        host.server_event("course-content", content).expect_ok();
        let told = |status| json!({ "userId": "ann", "courseId": "c1", "status": status });
        let ann = host.connect("ann");
        let others = ["conversation:ann:bob", "role:student"];
        let rooms = ["course:c1", "thread:t1", "quiz:q1:ann"];
        for (status, stays) in [("active", true), ("dropped", false)] {
            host.server_event("enrollment-updated", told(status))
                .expect_ok();
            for room in rooms.iter().chain(&others) {
                host.send(&ann, "late", room).expect_ok();
            }
            let now = host.rooms(&ann);
            assert!(others.iter().all(|room| now.contains(&(*room).to_owned())));
            assert_eq!(now.len(), if stays { 5 } else { 2 }, "{status}: {now:?}");
        }
    }
}
