//! An announcement, and where it is kept.

use crate::courses::{educators, everyone};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Emit, Error, Id, Kv, Result, rfc_3339};

/// How long an announcement is kept after it was published, rejected or cancelled.
pub(crate) const KEEP: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Where announcements and schedules are kept.
pub(crate) const PARTITION: &str = "announcements";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Priority {
    Low,
    #[default]
    Medium,
    High,
    Urgent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Audience {
    #[default]
    All,
    Students,
    Educators,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    PendingApproval,
    /// Waits for its time, for the end of quiet hours, or for place in the course's hour.
    Scheduled,
    Published,
    Rejected,
    Cancelled,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Announcement {
    #[serde(rename = "announcementId")]
    pub(crate) id: Id,
    pub(crate) course_id: Id,
    pub(crate) author_id: Id,
    /// The author's role when it was written; the rules may have changed when it is to be published.
    pub(crate) author_role: String,
    pub(crate) title: String,
    pub(crate) content: String,
    pub(crate) priority: Priority,
    pub(crate) audience: Audience,
    /// As the author asked, in milliseconds since 1970 UTC.
    pub(crate) publish_at: Option<u64>,
    pub(crate) status: Status,
    pub(crate) approved_by: Option<Id>,
}

/// The partition of announcements and schedules.
pub(crate) fn stored(cx: &Cx) -> Kv {
    cx.kv(PARTITION)
}

fn key(id: &Id) -> String {
    format!("announcement:{id}")
}

impl Announcement {
    /// Returns the announcement of an id, if there is one.
    pub(crate) fn find(cx: &Cx, id: &Id) -> Result<Option<Self>> {
        Ok(stored(cx).get(key(id))?)
    }

    /// Returns the announcement of an id.
    pub(crate) fn get(cx: &Cx, id: &Id) -> Result<Self> {
        Self::find(cx, id)?
            .ok_or_else(|| Error::not_found(format!("there is no announcement `{id}`")))
    }

    /// Keeps it as it is now; for a time only, when nothing more can become of it.
    pub(crate) fn save(&self, cx: &Cx) -> Result<()> {
        let key = key(&self.id);
        match self.status {
            Status::PendingApproval | Status::Scheduled => stored(cx).set(key, self)?,
            _ => stored(cx).set_for(key, self, KEEP)?,
        }
        Ok(())
    }

    /// Answers who has done something with it.
    pub(crate) fn answer(&self) -> Result<Ack> {
        Ack::with(&json!({ "announcementId": self.id, "status": self.status }))
    }

    /// Returns what is told of it while it waits for approval.
    pub(crate) fn pending(&self) -> Value {
        json!({
            "announcementId": self.id,
            "courseId": self.course_id,
            "authorId": self.author_id,
            "title": self.title,
            "content": self.content,
            "priority": self.priority,
            "audience": self.audience,
            "publishAt": self.publish_at.map(rfc_3339),
        })
    }

    /// Refuses what cannot be done with it any more.
    pub(crate) fn too_late(&self) -> Error {
        let why = "the announcement does not wait for that: see `details.status`";
        Error::conflict(why).details(json!({ "status": self.status }))
    }

    /// Addresses an event to its audience.
    pub(crate) fn to_audience<'a>(&self, news: Emit<'a>) -> Emit<'a> {
        let (everyone, educators) = (everyone(&self.course_id), educators(&self.course_id));
        match self.audience {
            Audience::All => news.to_room(everyone),
            Audience::Students => news.to_room(everyone).except_room(educators),
            Audience::Educators => news.to_room(educators),
        }
    }
}

/// Refuses a text that is blank or too long.
pub(crate) fn must_fit(name: &str, text: &str, most: usize) -> Result<()> {
    if text.trim().is_empty() || text.chars().count() > most {
        return Err(Error::invalid_payload(format!(
            "`{name}`: expected 1 to {most} characters, not all of them blank"
        )));
    }
    Ok(())
}
