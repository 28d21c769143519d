//! What is known of a session, its rooms, and who may do what.
//!
//! All of a session is in one partition, which has the name of its room:
//!
//! | key | value |
//! |---|---|
//! | `session` | the session, as long as it has not ended |
//! | `participants` | those who joined: their role, and the presence that they chose |
//! | `groups` · `activity` | what an educator said last |
//! | `sequence` | the number of the last change of the transcript |
//! | `line:{session id}:{line id}` | whose line it is and whether it is final; for 12 hours |
//! | history | the messages |

use crate::text::Text;
use serde::{Deserialize, Serialize};
use switchboard_plugin::{Cx, Error, Id, Kv, Result};

/// How many people a session may have. What is known of them is one value, of 65,536 bytes at most.
pub(crate) const PEOPLE: usize = 300;

const SESSION: &str = "session";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Session {
    /// A code may be used again; this is not.
    pub(crate) session_id: String,
    pub(crate) session_code: Id,
    pub(crate) title: Option<Text<1, 200>>,
    pub(crate) educators: Vec<Id>,
    pub(crate) participants: Vec<Id>,
    pub(crate) open: bool,
    pub(crate) created_at: String,
}

impl Session {
    pub(crate) fn find(cx: &Cx, code: &Id) -> Result<Option<Self>> {
        Ok(state(cx, code).get(SESSION)?)
    }

    pub(crate) fn get(cx: &Cx, code: &Id) -> Result<Self> {
        Self::find(cx, code)?
            .ok_or_else(|| Error::not_found(format!("there is no session `{code}`")))
    }

    pub(crate) fn store(&self, cx: &Cx) -> Result<()> {
        Ok(state(cx, &self.session_code).set(SESSION, self)?)
    }

    /// Forgets the session and all that is known of it. What may be left of the transcript goes by
    /// itself, and no other session of this code sees it.
    pub(crate) fn forget(&self, cx: &Cx) -> Result<()> {
        let state = state(cx, &self.session_code);
        for key in [SESSION, "participants", "groups", "activity", "sequence"] {
            state.delete(key)?;
        }
        Ok(cx.history(room(&self.session_code)).keep(Some(0), None)?)
    }

    pub(crate) fn admits(&self, user: &Id) -> bool {
        self.open || self.participants.contains(user) || self.educators.contains(user)
    }

    /// Returns the role of the event's user in this session: the backend says who its educators are.
    pub(crate) fn role<'a>(&self, cx: &'a Cx) -> Result<&'a str> {
        match self.educators.contains(&cx.user()?) {
            true => Ok("educator"),
            false => Ok(cx.role()),
        }
    }
}

/// Returns what is stored of a session.
pub(crate) fn state(cx: &Cx, code: &Id) -> Kv {
    cx.kv(room(code))
}

/// Returns the room of a session.
pub(crate) fn room(code: &Id) -> String {
    format!("session:{code}")
}

/// Returns the session that a room is of; none for the room of a group.
pub(crate) fn session_of(room: &str) -> Result<Option<Id>> {
    room.strip_prefix("session:").map(Id::new).transpose()
}

/// Returns the room of a session that this connection has joined.
pub(crate) fn joined_room(cx: &Cx, code: &Id) -> Result<String> {
    let room = room(code);
    if cx.rooms().has_connection(&room, cx.connection())? {
        return Ok(room);
    }
    Err(Error::not_in_room(format!(
        "join the session `{code}` first"
    )))
}

/// Returns a session that this connection has joined and the user is an educator of.
pub(crate) fn taught(cx: &Cx, code: &Id) -> Result<Session> {
    joined_room(cx, code)?;
    let session = Session::get(cx, code)?;
    if session.educators.contains(&cx.user()?) {
        return Ok(session);
    }
    Err(Error::forbidden(format!(
        "this is for the educators of the session `{code}`"
    )))
}
