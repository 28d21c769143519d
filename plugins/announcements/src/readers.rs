//! Who has read an announcement: a partition for each, so that readers wait for nobody else.
//!
//! | key | value |
//! |---|---|
//! | `reader:{user}` | whether the user has read it |
//! | `count` | how many have |
//! | `told` | when the author was told last, in milliseconds since 1970 UTC |

use crate::{
    announcement::{Announcement, Audience, KEEP, Status},
    courses::{Part, part},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Error, Id, Result, Timer};

/// The timer that tells the author.
pub(crate) const STATS: &str = "stats";

/// How long it is at least from one word to the author to the next.
const PAUSE: u64 = Duration::from_secs(1).as_millis() as u64;

/// Of which announcement whom to tell.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stats {
    announcement: Id,
    author: Id,
}

fn partition(id: &Id) -> String {
    format!("readers:{id}")
}

/// Handles `announcement-read`. Each user counts once, on whatever device.
pub(crate) fn read(cx: &mut Cx, id: Id) -> Result<Ack> {
    let announcement = Announcement::get(cx, &id)?;
    match (part(cx, &announcement.course_id)?, announcement.audience) {
        (Some(_), Audience::All)
        | (Some(Part::Student), Audience::Students)
        | (Some(Part::Educator), Audience::Educators) => {}
        _ => return Err(Error::forbidden("the announcement is for others")),
    }
    if announcement.status != Status::Published {
        return Err(Error::not_found(format!(
            "the announcement `{id}` is not published"
        )));
    }
    let (readers, timers) = (cx.kv(partition(&id)), cx.timers(partition(&id)));
    let reader = format!("reader:{}", cx.user()?);
    if readers.get::<bool>(&reader)?.is_none() {
        readers.set_for(reader, &true, KEEP)?;
        readers.add("count", 1)?;
        // One word tells of all who read it until then.
        if timers.get::<Stats>(STATS)?.is_none() {
            let told: u64 = readers.get("told")?.unwrap_or_default();
            let stats = Stats {
                announcement: id,
                author: announcement.author_id.clone(),
            };
            timers.at(told + PAUSE, STATS, &stats)?;
        }
    }
    announcement.answer()
}

/// Tells the author how many have read it.
pub(crate) fn tell_author(cx: &mut Cx, timer: Timer<Stats>) -> Result<()> {
    let Stats {
        announcement,
        author,
    } = timer.payload;
    let readers = cx.kv(timer.partition);
    let count: u64 = readers.get("count")?.unwrap_or_default();
    // Written again, so that it goes when the readers do.
    readers.set_for("count", &count, KEEP)?;
    readers.set_for("told", &cx.now_ms(), KEEP)?;
    let stats = json!({ "announcementId": announcement, "readers": count });
    cx.emit("announcement-stats").to_user(author).send(&stats)
}
