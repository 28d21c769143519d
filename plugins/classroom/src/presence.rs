//! Whether participants are active, idle or away.
//!
//! A user says so of each session. Who says nothing, or `active`, is idle while the host sees them as
//! away; that is not stored, so it cannot be wrong.

use crate::{
    participants,
    session::{Session, joined_room, session_of},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchboard_plugin::{Ack, Cx, Id, PresenceChanged, Result, Status};

/// What a participant is seen as in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Presence {
    Active,
    Idle,
    Away,
}

/// Returns what one is in a session who has not chosen anything there.
pub(crate) fn by_host(status: Status) -> Presence {
    match status {
        Status::Online | Status::Busy => Presence::Active,
        Status::Away | Status::Offline => Presence::Idle,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Update {
    session_code: Id,
    status: Presence,
}

/// Handles `updatePresence`.
pub(crate) fn update(cx: &mut Cx, update: Update) -> Result<Ack> {
    let Update {
        session_code: code,
        status,
    } = update;
    let room = joined_room(cx, &code)?;
    Session::get(cx, &code)?;
    let user = cx.user()?;
    let mut known = participants::known(cx, &code)?;
    if let Some(own) = known.get_mut(&user) {
        own.chosen = Some(status).filter(|status| *status != Presence::Active);
        participants::store(cx, &code, &known)?;
    }
    tell(cx, room, &code, user.as_str(), status)?;
    Ok(Ack::ok())
}

/// The host sees a user as something else. Who has gone leaves the session, which is told elsewhere.
pub(crate) fn changed(cx: &mut Cx, change: PresenceChanged) -> Result<()> {
    let (user, now) = (Id::new(change.now.user)?, by_host(change.now.status));
    if now == by_host(change.before) {
        return Ok(());
    }
    for room in change.rooms {
        let Some(code) = session_of(&room)? else {
            continue;
        };
        let has_chosen = participants::known(cx, &code)?
            .get(&user)
            .is_some_and(|participant| participant.chosen.is_some());
        if !has_chosen && cx.rooms().has_user(&room, &user)? {
            tell(cx, room, &code, user.as_str(), now)?;
        }
    }
    Ok(())
}

fn tell(cx: &mut Cx, room: String, code: &Id, user: &str, status: Presence) -> Result<()> {
    let news = json!({ "sessionCode": code, "userId": user, "status": status });
    cx.emit("presenceUpdated").to_room(room).send(&news)
}
