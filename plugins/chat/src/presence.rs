//! What members are seen as.

use crate::{
    actor::Actor,
    channels,
    directory::{Hidden, visit},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use switchboard_plugin::{Ack, Cx, Id, PresenceChanged, Result, Status, Timer};

/// The timer that goes on telling a user's partners.
pub(crate) const TELL: &str = "presence";

/// Partners that are told in one event, or as many more as are in one conversation.
const PARTNERS: usize = 5_000;

/// What a user is seen as in this dialect, which has no `busy`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shown {
    Online,
    Away,
    Offline,
}

impl From<Status> for Shown {
    fn from(status: Status) -> Self {
        match status {
            Status::Online => Self::Online,
            Status::Away | Status::Busy => Self::Away,
            Status::Offline => Self::Offline,
        }
    }
}

impl From<Shown> for Status {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Online => Self::Online,
            Shown::Away => Self::Away,
            Shown::Offline => Self::Offline,
        }
    }
}

/// Handles `presence-update`.
pub(crate) fn update(cx: &mut Cx, status: Shown) -> Result<Ack> {
    cx.presence().choose(cx.user()?, status.into())?;
    Ok(Ack::ok())
}

#[derive(Deserialize)]
pub(crate) struct Update {
    status: Shown,
}

/// Handles `presence:update`. Of a user who is connected here the host tells, by [`changed`]; who is
/// connected elsewhere is what the backend says.
pub(crate) fn told(cx: &mut Cx, actor: &Actor, update: Update) -> Result<Ack> {
    match cx.rooms().connections_of_user(&actor.user)?.is_empty() {
        false => cx.presence().choose(&actor.user, update.status.into())?,
        true => tell(cx, actor.user.clone(), update.status, None)?,
    }
    Ok(Ack::ok())
}

/// What a user is seen as has changed.
pub(crate) fn changed(cx: &mut Cx, change: PresenceChanged) -> Result<()> {
    let (user, status) = (Id::new(change.now.user)?, Shown::from(change.now.status));
    if status == Shown::from(change.before) {
        return Ok(());
    }
    let published = json!({ "userId": user, "status": status });
    channels::publish(cx, channels::PRESENCE, &published)?;
    tell(cx, user, status, None)
}

/// What is left to be told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Rest {
    user: Id,
    status: Shown,
    after: String,
}

pub(crate) fn go_on(cx: &mut Cx, timer: Timer<Rest>) -> Result<()> {
    let Rest {
        user,
        status,
        after,
    } = timer.payload;
    tell(cx, user, status, Some(&after))
}

/// Tells those who share a conversation with a user, joined or not. Where they are too many for an
/// event a timer goes on, in the place of one that was still telling of what the user was before.
fn tell(cx: &mut Cx, user: Id, status: Shown, after: Option<&str>) -> Result<()> {
    let mut partners = BTreeSet::new();
    let next = visit(cx, &user, after, |conversation| {
        partners.extend(conversation.members.into_keys());
        Ok(partners.len() > PARTNERS)
    })?;
    let hidden = Hidden::from(cx, &user)?;
    partners.retain(|partner| *partner != user && !hidden.hides(partner));
    cx.emit("presence")
        .to_users(&partners)
        .send_args(&(&user, status))?;
    if let Some(after) = next {
        let timers = cx.timers(format!("user:{user}"));
        let rest = Rest {
            user,
            status,
            after,
        };
        timers.after(Duration::ZERO, TELL, &rest)?;
    }
    Ok(())
}
