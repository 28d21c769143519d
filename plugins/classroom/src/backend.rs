//! Creating, ending and asking for sessions.

use crate::{
    groups,
    participants::Scene,
    session::{PEOPLE, Session, room},
    text::Text,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Create {
    session_code: Id,
    title: Option<Text<1, 200>>,
    educators: Vec<Id>,
    #[serde(default)]
    participants: Vec<Id>,
    #[serde(default)]
    open: bool,
}

/// Handles `session-create`.
pub(crate) fn create(cx: &mut Cx, told: Create) -> Result<Ack> {
    let people = told.educators.len() + told.participants.len();
    if people > PEOPLE {
        return Err(Error::invalid_payload(format!(
            "`educators` and `participants`: expected at most {PEOPLE}, got {people}"
        )));
    }
    if Session::find(cx, &told.session_code)?.is_some() {
        return Err(Error::conflict(format!(
            "there is a session `{}` already",
            told.session_code
        )));
    }
    let session = Session {
        session_id: cx.new_id(),
        session_code: told.session_code,
        title: told.title,
        educators: told.educators,
        participants: told.participants,
        open: told.open,
        created_at: cx.timestamp(),
    };
    session.store(cx)?;
    Ack::with(&json!({ "session": session }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfSession {
    session_code: Id,
}

/// Handles `session-end`: everybody hears it and is put out.
pub(crate) fn end(cx: &mut Cx, told: OfSession) -> Result<Ack> {
    let session = Session::get(cx, &told.session_code)?;
    let room = room(&session.session_code);
    cx.emit("sessionEnded")
        .to_room(&room)
        .send(&json!({ "sessionCode": session.session_code }))?;
    for group in groups::of(cx, &session.session_code)? {
        cx.empty(group.room(&session.session_code));
    }
    cx.empty(room);
    session.forget(cx)?;
    Ok(Ack::ok())
}

#[derive(Serialize)]
struct Got {
    session: Session,
    #[serde(flatten)]
    scene: Scene,
}

/// Handles `session-get`.
pub(crate) fn get(cx: &mut Cx, told: OfSession) -> Result<Ack> {
    let session = Session::get(cx, &told.session_code)?;
    let scene = Scene::of(cx, &session.session_code)?;
    Ack::with(&Got { session, scene })
}
