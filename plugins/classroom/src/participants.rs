//! Joining and leaving, and what one who joins is told.

use crate::{
    activity::{self, Activity},
    groups::{self, Group},
    messages::{self, Message},
    presence::{self, Presence},
    session::{PEOPLE, Session, joined_room, room, session_of, state},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use switchboard_plugin::{Ack, Cx, Error, Id, Joined, Left, Result};

const PARTICIPANTS: &str = "participants";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    max_participants: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_participants: PEOPLE,
        }
    }
}

/// What is known of those who joined. They stay here when they leave: who is in the session is the
/// host's knowledge.
pub(crate) type Participants = BTreeMap<Id, Participant>;

#[derive(Serialize, Deserialize)]
pub(crate) struct Participant {
    role: String,
    /// What the user wants to be seen as; none is as the host sees them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chosen: Option<Presence>,
}

pub(crate) fn known(cx: &Cx, code: &Id) -> Result<Participants> {
    Ok(state(cx, code).get(PARTICIPANTS)?.unwrap_or_default())
}

pub(crate) fn store(cx: &Cx, code: &Id, known: &Participants) -> Result<()> {
    Ok(state(cx, code).set(PARTICIPANTS, known)?)
}

/// Handles `joinSession`. What there is in the session is told once the connection is in it
/// ([`joined`]): whatever happens after that is heard, so nothing is missed in between.
pub(crate) fn join(cx: &mut Cx, code: Id) -> Result<Ack> {
    let session = Session::get(cx, &code)?;
    let user = cx.user()?;
    if !session.admits(&user) {
        return Err(Error::forbidden(format!(
            "the session `{code}` is for those on its list"
        )));
    }
    if cx.rooms().has_connection(room(&code), cx.connection())? {
        tell_scene(cx, &code)?;
    } else {
        take_note(cx, &session, &user)?;
        if let Some(group) = groups::of_user(&groups::of(cx, &code)?, &user) {
            cx.join(group.room(&code));
        }
        cx.join(room(&code));
    }
    Ack::with(&json!({ "sessionCode": code }))
}

/// Takes note of who joins, before they are in the room: so an assignment of groups at the same time
/// knows of them, or is run again.
fn take_note(cx: &Cx, session: &Session, user: &Id) -> Result<()> {
    let code = &session.session_code;
    let mut known = known(cx, code)?;
    let is_known = known.contains_key(user);
    if is_known && cx.rooms().has_user(room(code), user)? {
        return Ok(());
    }
    let Settings { max_participants } = cx.settings()?;
    if !is_known && known.len() >= max_participants {
        let present = cx.rooms().users(room(code))?;
        known.retain(|user, _| present.iter().any(|present| user == present.as_str()));
        if known.len() >= max_participants {
            return Err(Error::conflict(format!(
                "the session `{code}` is full: it has {max_participants} participants"
            )));
        }
    }
    let participant = Participant {
        role: session.role(cx)?.to_owned(),
        chosen: None,
    };
    known.insert(user.clone(), participant);
    store(cx, code, &known)
}

/// Handles a join that has taken effect. The session may have ended while it was under way, or be
/// another one by now: then the connection is out again.
pub(crate) fn joined(cx: &mut Cx, joined: Joined) -> Result<()> {
    let Some(code) = session_of(&joined.room)? else {
        return groups::check_again(cx, joined.room);
    };
    let user = cx.user()?;
    let session = Session::find(cx, &code)?;
    let Some(session) = session.filter(|session| session.admits(&user)) else {
        cx.leave(joined.room);
        return Ok(());
    };
    if joined.first {
        let role = session.role(cx)?;
        let news = json!({ "sessionCode": code, "userId": user, "role": role });
        cx.emit("participantJoined")
            .to_room(joined.room)
            .except_user(&user)
            .send(&news)?;
    }
    tell_scene(cx, &code)
}

/// Handles `leaveSession`.
pub(crate) fn leave(cx: &mut Cx, code: Id) -> Result<Ack> {
    let room = joined_room(cx, &code)?;
    let groups = groups::rooms_of(&code);
    for joined in cx.rooms().of_connection(cx.connection())? {
        if joined.starts_with(&groups) {
            cx.leave(joined);
        }
    }
    cx.leave(room);
    Ok(Ack::ok())
}

/// A user leaves with the last connection; of a lost one the host tells when its grace is over.
pub(crate) fn left(cx: &mut Cx, left: Left) -> Result<()> {
    let user = cx.user()?;
    let Some(code) = session_of(&left.room)? else {
        return Ok(());
    };
    // Whoever has come back by now is there.
    if !left.last || cx.rooms().has_user(&left.room, &user)? {
        return Ok(());
    }
    let news = json!({ "sessionCode": code, "userId": user });
    cx.emit("participantLeft").to_room(left.room).send(&news)
}

/// What there is in a session now.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Scene {
    participants: Vec<Present>,
    groups: Vec<Group>,
    activity: Option<Activity>,
    recent_messages: Vec<Message>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Present {
    user_id: String,
    role: String,
    status: Presence,
}

impl Scene {
    pub(crate) fn of(cx: &Cx, code: &Id) -> Result<Self> {
        let mut known = known(cx, code)?;
        let mut participants = Vec::new();
        // Those among them who have lost the connection and may come back: nobody would tell of that.
        for seen in cx.presence().of_room(room(code))? {
            if let Some(participant) = known.remove(&Id::new(seen.user.as_str())?) {
                participants.push(Present {
                    user_id: seen.user,
                    role: participant.role,
                    status: participant.chosen.unwrap_or(presence::by_host(seen.status)),
                });
            }
        }
        Ok(Self {
            participants,
            groups: groups::of(cx, code)?,
            activity: activity::current(cx, code)?,
            recent_messages: messages::recent(cx, code)?,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionJoined<'a> {
    session_code: &'a Id,
    #[serde(flatten)]
    scene: Scene,
}

fn tell_scene(cx: &mut Cx, code: &Id) -> Result<()> {
    let scene = Scene::of(cx, code)?;
    cx.emit("sessionJoined").to_self().send(&SessionJoined {
        session_code: code,
        scene,
    })
}
