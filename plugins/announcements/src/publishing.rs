//! Publishing: at once, when the time has come, or not.

use crate::{
    announcement::{Announcement, Status},
    courses::educators,
    rules::Rules,
    schedule::Schedule,
};
use serde_json::json;
use switchboard_plugin::{Cx, Id, Result, Timer};

/// Announcements that a timer publishes in one go. Its writes are bounded; the rest follow at once.
const AT_ONCE: usize = 20;

/// What those who teach a course hear of what waits for approval.
const PENDING: &str = "announcement-pending";
/// Announcements that one who connects is told of, in each course.
const TOLD: usize = 50;

/// Publishes an announcement that needs no approval any more, after so many others that are due; or
/// has it wait for its time, the end of quiet hours, or place in the course's hour.
pub(crate) fn proceed(
    cx: &mut Cx,
    rules: &Rules,
    schedule: &mut Schedule,
    announcement: &mut Announcement,
    ahead: usize,
) -> Result<()> {
    let now = cx.now_ms();
    let due = rules.due(announcement, now);
    if due > now || schedule.free_at(rules.per_hour, ahead, now) > now {
        announcement.status = Status::Scheduled;
        schedule.wait(&announcement.id, Some(due), now)?;
        return announcement.save(cx);
    }
    announcement.status = Status::Published;
    schedule.publish(&announcement.id, now);
    announcement.save(cx)?;
    let published = json!({
        "announcementId": announcement.id,
        "courseId": announcement.course_id,
        "title": announcement.title,
        "content": announcement.content,
        "priority": announcement.priority,
        "publishedAt": cx.timestamp(),
    });
    let news = cx.emit("announcement-published");
    announcement.to_audience(news).send(&published)
}

/// Has an announcement wait for approval. Those who teach the course hear of it.
pub(crate) fn ask_approval(
    cx: &mut Cx,
    schedule: &mut Schedule,
    announcement: &mut Announcement,
) -> Result<()> {
    announcement.status = Status::PendingApproval;
    schedule.wait(&announcement.id, None, cx.now_ms())?;
    announcement.save(cx)?;
    cx.emit(PENDING)
        .to_room(educators(&announcement.course_id))
        .send(&announcement.pending())
}

/// Tells one who has come to teach a course of what waits there for approval, the oldest first.
pub(crate) fn tell_pending(cx: &mut Cx, course: &Id) -> Result<()> {
    for id in Schedule::read(cx, course)?.pending().take(TOLD) {
        if let Some(announcement) = Announcement::find(cx, id)? {
            cx.emit(PENDING).to_self().send(&announcement.pending())?;
        }
    }
    Ok(())
}

/// Rejects an announcement that waits. Its author hears why.
pub(crate) fn reject(
    cx: &mut Cx,
    schedule: &mut Schedule,
    announcement: &mut Announcement,
    reason: &str,
) -> Result<()> {
    announcement.status = Status::Rejected;
    schedule.remove(&announcement.id);
    announcement.save(cx)?;
    let rejected = json!({
        "announcementId": announcement.id,
        "courseId": announcement.course_id,
        "reason": reason,
    });
    cx.emit("announcement-rejected")
        .to_user(&announcement.author_id)
        .send(&rejected)
}

/// Handles the timer of a course: what is due is looked at again, by the rules as they are now. What
/// finds no place in the hour waits in its order until there is.
pub(crate) fn publish_due(cx: &mut Cx, timer: Timer<Id>) -> Result<()> {
    let (course, now) = (timer.payload, cx.now_ms());
    let rules = Rules::of(cx, &course)?;
    let mut schedule = Schedule::read(cx, &course)?;
    for id in schedule.due(now).iter().take(AT_ONCE) {
        if schedule.free_at(rules.per_hour, 0, now) > now {
            break;
        }
        let Some(mut announcement) = Announcement::find(cx, id)? else {
            // An operator can delete it from the state.
            schedule.remove(id);
            continue;
        };
        if let Err(refused) = rules.must_allow(&announcement) {
            reject(cx, &mut schedule, &mut announcement, &refused.message)?;
        } else if rules.approval && announcement.approved_by.is_none() {
            ask_approval(cx, &mut schedule, &mut announcement)?;
        } else {
            proceed(cx, &rules, &mut schedule, &mut announcement, 0)?;
        }
    }
    schedule.save(cx, &course, rules.per_hour)
}
