//! What authors do.

use crate::{
    announcement::{Announcement, Audience, Priority, Status, must_fit},
    courses::must_belong,
    publishing::{ask_approval, proceed},
    rules::Rules,
    schedule::Schedule,
};
use jiff::Timestamp;
use serde::Deserialize;
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

/// Characters of a title and of a content.
const TITLE: usize = 200;
const CONTENT: usize = 10_000;

/// How far ahead one can announce.
const AHEAD: Duration = Duration::from_secs(366 * 24 * 60 * 60);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Announce {
    course_id: Id,
    title: String,
    content: String,
    #[serde(default)]
    priority: Priority,
    publish_at: Option<Timestamp>,
    #[serde(default)]
    audience: Audience,
}

/// Handles `announce`.
pub(crate) fn announce(cx: &mut Cx, request: Announce) -> Result<Ack> {
    let (course, now) = (request.course_id, cx.now_ms());
    let rules = Rules::of(cx, &course)?;
    rules.must_allow_role(cx.role())?;
    must_belong(cx, &course)?;
    must_fit("title", &request.title, TITLE)?;
    must_fit("content", &request.content, CONTENT)?;
    let mut announcement = Announcement {
        id: Id::new(cx.new_id())?,
        course_id: course.clone(),
        author_id: cx.user()?,
        author_role: cx.role().to_owned(),
        title: request.title,
        content: request.content,
        priority: request.priority,
        audience: request.audience,
        publish_at: request.publish_at.map(|at| soon(at, now)).transpose()?,
        status: Status::Scheduled,
        approved_by: None,
    };
    rules.must_allow(&announcement)?;
    let mut schedule = Schedule::read(cx, &course)?;
    if rules.approval {
        ask_approval(cx, &mut schedule, &mut announcement)?;
    } else {
        let ahead = schedule.due(now).len();
        let free = schedule.free_at(rules.per_hour, ahead, now);
        if free > now && rules.due(&announcement, now) <= now {
            let message = format!("this course has {} announcements an hour", rules.per_hour);
            return Err(Error::rate_limited(message, free - now));
        }
        proceed(cx, &rules, &mut schedule, &mut announcement, ahead)?;
    }
    schedule.save(cx, &course, rules.per_hour)?;
    announcement.answer()
}

fn soon(at: Timestamp, now_ms: u64) -> Result<u64> {
    let at = u64::try_from(at.as_millisecond()).unwrap_or_default();
    if at.saturating_sub(now_ms) > AHEAD.as_millis() as u64 {
        return Err(Error::invalid_payload(
            "`publishAt`: expected a time within a year from now",
        ));
    }
    Ok(at)
}

/// Handles `announcement-cancel`.
pub(crate) fn cancel(cx: &mut Cx, id: Id) -> Result<Ack> {
    let mut announcement = Announcement::get(cx, &id)?;
    if announcement.author_id != cx.user()? && cx.role() != "admin" {
        return Err(Error::forbidden("only its author cancels an announcement"));
    }
    match announcement.status {
        Status::PendingApproval | Status::Scheduled => {
            let course = announcement.course_id.clone();
            let mut schedule = Schedule::read(cx, &course)?;
            schedule.remove(&id);
            announcement.status = Status::Cancelled;
            announcement.save(cx)?;
            schedule.save(cx, &course, Rules::of(cx, &course)?.per_hour)?;
        }
        Status::Cancelled => {}
        Status::Published | Status::Rejected => return Err(announcement.too_late()),
    }
    announcement.answer()
}
