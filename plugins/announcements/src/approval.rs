//! What a second person does with an announcement that waits for approval.

use crate::{
    announcement::{Announcement, Status, must_fit},
    courses::must_teach,
    publishing::{self, proceed},
    rules::Rules,
    schedule::Schedule,
};
use serde::Deserialize;
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

/// Characters of a reason.
const REASON: usize = 1_000;

/// Returns an announcement that the user may decide about.
fn of_another(cx: &Cx, id: &Id) -> Result<Announcement> {
    let announcement = Announcement::get(cx, id)?;
    must_teach(cx, &announcement.course_id)?;
    if announcement.author_id == cx.user()? {
        return Err(Error::forbidden(
            "it takes another than the author to approve or reject an announcement",
        ));
    }
    Ok(announcement)
}

/// Handles `announcement-approve`. Once more changes nothing.
pub(crate) fn approve(cx: &mut Cx, id: Id) -> Result<Ack> {
    let mut announcement = of_another(cx, &id)?;
    match (announcement.status, &announcement.approved_by) {
        (Status::PendingApproval, _) => {
            let course = announcement.course_id.clone();
            let rules = Rules::of(cx, &course)?;
            rules.must_allow(&announcement)?;
            announcement.approved_by = Some(cx.user()?);
            let mut schedule = Schedule::read(cx, &course)?;
            let ahead = schedule.due(cx.now_ms()).len();
            proceed(cx, &rules, &mut schedule, &mut announcement, ahead)?;
            schedule.save(cx, &course, rules.per_hour)?;
        }
        (Status::Scheduled | Status::Published, Some(_)) => {}
        _ => return Err(announcement.too_late()),
    }
    announcement.answer()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rejection {
    announcement_id: Id,
    reason: String,
}

/// Handles `announcement-reject`. Once more changes nothing.
pub(crate) fn reject(cx: &mut Cx, rejection: Rejection) -> Result<Ack> {
    must_fit("reason", &rejection.reason, REASON)?;
    let mut announcement = of_another(cx, &rejection.announcement_id)?;
    match announcement.status {
        Status::PendingApproval => {
            let course = announcement.course_id.clone();
            let mut schedule = Schedule::read(cx, &course)?;
            publishing::reject(cx, &mut schedule, &mut announcement, &rejection.reason)?;
            schedule.save(cx, &course, Rules::of(cx, &course)?.per_hour)?;
        }
        Status::Rejected => {}
        _ => return Err(announcement.too_late()),
    }
    announcement.answer()
}
