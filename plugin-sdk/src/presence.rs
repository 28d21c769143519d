//! What a handler asks of presence.

use crate::{error::Fault, imports};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

type Faulty<T> = Result<T, Fault>;

/// How many users a page may have.
const PAGE: u32 = 1_000;

/// What a user is seen as. In JSON it is its name in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Connected, and active within some minutes.
    Online,
    /// Connected and not active for some minutes, or says so.
    Away,
    /// Says so.
    Busy,
    /// Connected nowhere, or wants to seem so.
    Offline,
}

impl Status {
    /// Returns its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Offline => "offline",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a user is seen as now.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Seen {
    /// Who.
    pub user: String,
    /// As what.
    pub status: Status,
    /// When the user was active last, in milliseconds since 1970 UTC, as far as it is known, and to some
    /// minutes; for who wants to seem offline, when that was said.
    #[serde(rename = "seen")]
    pub seen_ms: Option<u64>,
}

impl Seen {
    /// Returns when the user was active last as RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn timestamp(&self) -> Option<String> {
        self.seen_ms.map(crate::time::rfc_3339)
    }
}

/// What a user is seen as has changed. The context has no user: it is no connection's event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PresenceChanged {
    /// What the user is seen as now.
    #[serde(flatten)]
    pub now: Seen,
    /// What plugins were told before.
    pub before: Status,
    /// The plugin's rooms that the user is in, or was in until the last connection ended. None when the
    /// user has just come: of a room that is joined then [`Plugin::on_joined`](crate::Plugin::on_joined)
    /// tells.
    pub rooms: BTreeSet<String>,
}

/// What users are seen as, on all hosts: soft state that the host keeps. The first of these that holds:
///
/// - [`Offline`](Status::Offline) when no connection of the user is there, nor was 5 seconds ago;
/// - what the user has chosen;
/// - [`Online`](Status::Online) when some connection was active within 5 minutes: its client has sent an
///   event other than `heartbeat` and other than one that stops typing;
/// - [`Away`](Status::Away).
///
/// The operator may say otherwise about the times. [`Plugin::on_presence`](crate::Plugin::on_presence)
/// hears of each change once in the cluster. Needs the capability `presence`.
///
/// ```
/// # use serde_json::json;
/// # use switchboard_plugin::{Ack, Cx, Plugin, PresenceChanged, Result, Status};
/// fn set_status(cx: &mut Cx, status: Status) -> Result<Ack> {
///     cx.presence().choose(cx.user()?, status)?;
///     Ok(Ack::ok())
/// }
///
/// fn changed(cx: &mut Cx, change: PresenceChanged) -> Result<()> {
///     let news = json!({ "userId": change.now.user, "status": change.now.status });
///     cx.emit("status").to_rooms(change.rooms).send(&news)
/// }
///
/// let plugin = Plugin::new("chat")
///     .rooms(["chat"])
///     .needs(["presence"])
///     .on("set-status", set_status)
///     .on_presence(changed);
/// # drop(plugin);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Presence(pub(crate) ());

impl Presence {
    /// Returns what users are seen as, in the order asked for.
    ///
    /// # Errors
    /// When a user's id is none, or more than 1,000 are asked for.
    pub fn of<U: AsRef<str>>(&self, users: impl IntoIterator<Item = U>) -> Faulty<Vec<Seen>> {
        let users: Vec<String> = users
            .into_iter()
            .map(|user| user.as_ref().to_owned())
            .collect();
        read(&imports::presence_get(&users)?)
    }

    /// Returns what the users in a room are seen as, in order of their ids. For rooms of thousands take
    /// pages by [`Self::of_room_after`].
    ///
    /// # Errors
    /// When the room's prefix is not the plugin's.
    pub fn of_room(&self, room: impl AsRef<str>) -> Faulty<Vec<Seen>> {
        let mut all: Vec<Seen> = Vec::new();
        loop {
            let after = all.last().map(|seen| seen.user.clone());
            let page = self.of_room_after(room.as_ref(), after.as_deref(), PAGE)?;
            let done = page.len() < PAGE as usize;
            all.extend(page);
            if done {
                return Ok(all);
            }
        }
    }

    /// Returns the same of a page of the users.
    ///
    /// # Errors
    /// When the room's prefix is not the plugin's, or `limit` is not 1 to 1,000.
    pub fn of_room_after(
        &self,
        room: impl AsRef<str>,
        after: Option<&str>,
        limit: u32,
    ) -> Faulty<Vec<Seen>> {
        read(&imports::presence_of_room(room.as_ref(), after, limit)?)
    }

    /// Has a user seen as something from now on, or with [`Status::Online`] as what they are, until it is
    /// chosen otherwise or the user's last connection has ended. Takes effect after the instructions of
    /// the handler, and not at all when it fails.
    ///
    /// # Errors
    /// When the user's id is none, or it was called more than 100 times in one event.
    pub fn choose(&self, user: impl AsRef<str>, status: Status) -> Faulty<()> {
        imports::presence_choose(user.as_ref(), status.as_str())
    }
}

fn read(text: &str) -> Faulty<Vec<Seen>> {
    serde_json::from_str(text).map_err(|error| Fault::Invalid(format!("presence: {error}")))
}
