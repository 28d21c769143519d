//! Who types where.

use crate::{
    actor::Actor,
    channels,
    directory::{Conversation, Hidden},
    rooms::of_room,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Error, Id, Result, Timer, TypingChanged};

/// The timer that ends the typing of somebody who is not connected here.
pub(crate) const SILENCE: &str = "typing";

/// After how long it ends, unless it is said again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Handles `typing-start`.
pub(crate) fn start(cx: &mut Cx, id: Id) -> Result<Ack> {
    let room = joined(cx, &id)?;
    cx.typing().start(room)?;
    Ok(Ack::ok())
}

/// Handles `typing-stop`.
pub(crate) fn stop(cx: &mut Cx, id: Id) -> Result<Ack> {
    let room = joined(cx, &id)?;
    cx.typing().stop(room)?;
    Ok(Ack::ok())
}

fn joined(cx: &Cx, id: &Id) -> Result<String> {
    let room = Conversation::of_member(cx, id, &cx.user()?)?.room();
    if cx.rooms().has_connection(&room, cx.connection())? {
        return Ok(room);
    }
    Err(Error::not_in_room(format!(
        "join the conversation `{id}` first"
    )))
}

/// A user has begun to type, or has stopped.
pub(crate) fn changed(cx: &mut Cx, change: TypingChanged) -> Result<()> {
    let user = cx.user()?;
    let Some(conversation) = of_room(cx, &change.room)? else {
        return Ok(());
    };
    let published = json!({ "userId": user, "conversationId": conversation.id });
    let event = match change.typing {
        true => channels::TYPING_START,
        false => channels::TYPING_STOP,
    };
    channels::publish(cx, event, &published)?;
    tell(cx, &conversation, &user, change.typing)
}

/// The others who have joined hear of it.
fn tell(cx: &mut Cx, conversation: &Conversation, user: &Id, typing: bool) -> Result<()> {
    let hidden = Hidden::from(cx, user)?;
    let members = conversation.members.keys();
    let event = if typing { "typing" } else { "typing-stop" };
    members
        .filter(|member| hidden.hides(member))
        .fold(cx.emit(event), |emit, member| emit.except_user(member))
        .to_room(conversation.room())
        .except_user(user)
        .send_args(&(user, &conversation.id))
}

// ---- by backends -------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    conversation_id: Id,
}

fn timer_of(user: &Id) -> String {
    format!("{SILENCE}:{user}")
}

/// Handles `typing:start`; said again in time it is no news. As the user has no connection that types
/// here, a timer watches over it.
pub(crate) fn told_start(cx: &mut Cx, actor: &Actor, at: Place) -> Result<Ack> {
    let user = &actor.user;
    let conversation = Conversation::of_member(cx, &at.conversation_id, user)?;
    let timers = cx.timers(conversation.room());
    let begins = timers.get::<IgnoredAny>(timer_of(user))?.is_none();
    timers.after(TIMEOUT, timer_of(user), &(&conversation.id, user))?;
    if begins {
        tell(cx, &conversation, user, true)?;
    }
    Ok(Ack::ok())
}

/// Handles `typing:stop`.
pub(crate) fn told_stop(cx: &mut Cx, actor: &Actor, at: Place) -> Result<Ack> {
    let user = &actor.user;
    let conversation = Conversation::of_member(cx, &at.conversation_id, user)?;
    let timers = cx.timers(conversation.room());
    if timers.get::<IgnoredAny>(timer_of(user))?.is_some() {
        timers.cancel(timer_of(user))?;
        tell(cx, &conversation, user, false)?;
    }
    Ok(Ack::ok())
}

pub(crate) fn silent(cx: &mut Cx, timer: Timer<(Id, Id)>) -> Result<()> {
    let (id, user) = timer.payload;
    match Conversation::find(cx, &id)? {
        Some(conversation) => tell(cx, &conversation, &user, false),
        None => Ok(()),
    }
}
